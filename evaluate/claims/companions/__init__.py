"""Claims of the two companion papers: "Objectives Matter" (B) and "What Do Self-Supervised ViTs Learn?" (C)."""

from evaluate.claims.claim import Claim
from evaluate.claims.companions import attention, depth, similarity, transfer
from evaluate.claims.gate import by_any_probe

B, C = "arXiv 2304.13089", "arXiv 2305.00729"
ANALYSES = (
    *("similarity", "attention", "frequency", "token-geometry", "image-classification", "agreement", "information"),
    *("invariance", "object-positions", "gram-drift"),
)
"""Analyses of the companion papers: without any of them their claims are left out."""
_JOINT = ("dinov2", "ibot", "mocov3")
"""Joint-embedding models beside DINO."""

COMPANION_CLAIMS = (
    Claim(
        21,
        "Features of masked reconstruction and of joint embedding are less alike than those of two joint-embedding "
        "models.",
        ("mae", "dino"),
        ("simmim", *_JOINT),
        similarity.objectives,
        by_any_probe,
        B,
    ),
    Claim(
        22,
        "Models of one objective and two architectures are more alike than models of two objectives and one "
        "architecture.",
        ("mae", "dino"),
        (),
        similarity.architectures,
        by_any_probe,
        B,
    ),
    Claim(
        23,
        "MAE and DINO part early: half of the loss of similarity lies in the first half of the blocks.",
        ("mae", "dino"),
        (),
        similarity.early,
        by_any_probe,
        B,
    ),
    Claim(
        24,
        "Attention and norms differ more between MAE and DINO than the MLPs do.",
        ("mae", "dino"),
        (),
        similarity.sublayers,
        by_any_probe,
        B,
    ),
    Claim(
        25,
        "DINO transfers better to linear probes of images, from few features too, and is more invariant to its views "
        "than MAE.",
        ("mae", "dino"),
        (),
        transfer.joint_embedding,
        by_any_probe,
        B,
        ("image-classification", "information", "invariance"),
    ),
    Claim(
        26,
        "Where spatial detail counts the order is reversed: MAE tells number and place of objects better than DINO.",
        ("mae", "dino"),
        (),
        transfer.spatial_detail,
        by_any_probe,
        B,
        ("object-positions",),
    ),
    Claim(
        27,
        "Fine-tuning makes MAE more like DINO.",
        ("mae", "mae-finetuned", "dino"),
        (),
        similarity.fine_tuning,
        by_any_probe,
        B,
    ),
    Claim(
        28,
        "In the last third of the blocks contrastive models attend further than masked ones.",
        ("dino", "mae"),
        ("mocov3", "simmim"),
        attention.distance,
        by_any_probe,
        C,
    ),
    Claim(
        29,
        "In the last third of the blocks the attention of contrastive models depends less on the query.",
        ("dino", "mae"),
        ("mocov3", "simmim"),
        attention.collapse,
        by_any_probe,
        C,
    ),
    Claim(
        30,
        "Contrastive models keep low frequencies and masked ones high: their last tokens have the larger amplitude at "
        "the highest frequency.",
        ("dino", "mae"),
        ("mocov3", "simmim"),
        attention.frequencies,
        by_any_probe,
        C,
    ),
    Claim(
        31,
        "In the last third of the blocks heads, and patches of one image, are more alike in contrastive models.",
        ("dino", "mae"),
        ("mocov3", "simmim"),
        attention.diversity,
        by_any_probe,
        C,
    ),
    Claim(
        32,
        "By linear probes of images contrastive models are best in the last layers and SimMIM in the middle.",
        ("dino", "simmim"),
        ("mocov3",),
        depth.profiles,
        by_any_probe,
        C,
        ("image-classification",),
    ),
    Claim(
        33,
        "By linear probes of images DINO and MoCo v3 > MAE > SimMIM.",
        ("dino", "mae"),
        ("mocov3", "simmim"),
        depth.linear_order,
        by_any_probe,
        C,
        ("image-classification",),
    ),
    Claim(
        34,
        "Noise of low frequencies hurts contrastive models more, and noise of high frequencies masked ones.",
        ("dino", "mae"),
        ("mocov3", "simmim"),
        depth.frequency_noise,
        by_any_probe,
        C,
        ("image-classification", "robustness"),
    ),
    Claim(
        35,
        "A loss that joins both objectives gives models better than either.",
        (),
        (),
        depth.needs_training,
        None,
        C,
    ),
    Claim(
        36,
        "Contrastive models rely on shape, masked ones on texture.",
        (),
        (),
        depth.needs_stylised_images,
        None,
        C,
    ),
)
"""Claims 21 to 27 are findings of "Objectives Matter", 28 to 36 of "What Do Self-Supervised ViTs Learn?"."""
