"""One evaluation with every figure, from planted sets of two models."""

from dataclasses import replace

from evaluate.analyses.agreement import Agreement
from evaluate.analyses.association import Association
from evaluate.analyses.attention import Attention
from evaluate.analyses.feature_geometry import FeatureGeometry
from evaluate.analyses.feature_treatments import FeatureTreatments
from evaluate.analyses.frequency import Frequency
from evaluate.analyses.global_context import GlobalContext
from evaluate.analyses.gram_drift import GramDrift
from evaluate.analyses.image_classification import ImageClassification
from evaluate.analyses.image_knn import ImageKnn
from evaluate.analyses.in_context_segmentation import InContextSegmentation
from evaluate.analyses.information import Information
from evaluate.analyses.intrinsic_dimension import IntrinsicDimension
from evaluate.analyses.invariance import Invariance
from evaluate.analyses.label_maps import LabelMaps
from evaluate.analyses.lidar import Lidar
from evaluate.analyses.object_positions import ObjectPositions
from evaluate.analyses.overclustering import Overclustering
from evaluate.analyses.patch_classification import PatchClassification
from evaluate.analyses.ranking_overlap import RankingOverlap
from evaluate.analyses.reconstruction import Reconstruction
from evaluate.analyses.retrieval import Retrieval
from evaluate.analyses.robustness import Robustness
from evaluate.analyses.similarity import Similarity
from evaluate.analyses.token_geometry import TokenGeometry
from evaluate.analyses.token_pictures import TokenPictures
from evaluate.analyses.tracking import Tracking
from evaluate.analyses.variance_spectrum import VarianceSpectrum
from evaluate.registry import EvaluationSettings
from evaluate.results.table import ResultStore, long_table
from evaluate.runner import Evaluation, evaluate
from evaluate.selection import SelectionRule
from evaluate.settings import Selection
from tests.evaluate.planted import planted
from tests.evaluate.planted_captures import write_captures
from tests.evaluate.planted_images import planted_images
from tests.evaluate.planted_reconstruction import LinearDecoder, planted_reconstruction
from tests.evaluate.planted_similarity import compared, related
from tests.evaluate.planted_video import videos
from tests.evaluate.planted_views import viewed_sets

SELECTION = Selection(train=SelectionRule(split="train"), validation=SelectionRule(split="val"))
NOISE = ((10, 0.5), (20, 1.5), (40, 4.0))
FRAMES = Selection(train=SelectionRule(split="val"), validation=SelectionRule(split="val"))
TITLES = ("MAE ViT-B/16 (planted)", '<b>&" DINO ViT-B/16')


def with_mlp(layers):
    """Add the outputs of each MLP: what the block adds, made up as half of its output."""
    return layers | {(block, "mlp"): tokens / 2 for (block, _), tokens in layers.items()}


def all_figures(folder):
    """Return the results folder, an evaluation that holds numbers for every figure, and its models."""
    results = ResultStore(folder / "results")
    patches = [
        replace(planted(folder / f"patches{n}", planted=3 - 3 * n, layers=3, seed=n), title=title)
        for n, title in enumerate(TITLES)
    ]
    views = [
        replace(
            viewed_sets(folder / f"views{n}", n_images=24, own=1.0 - 0.6 * n, noise=NOISE, seed=n, pictures=True),
            title=title,
        )
        for n, title in enumerate(TITLES)
    ]
    tracks = [
        replace(videos(folder / f"videos{n}", noise=1.0 + 2.0 * n, seed=n), title=title)
        for n, title in enumerate(TITLES)
    ]
    drawn = [
        replace(planted_reconstruction(folder / f"drawn{n}", noise=0.3 + 0.4 * n, seed=n), title=title)
        for n, title in enumerate(TITLES)
    ]
    inside = [write_captures(folder / f"inside{n}", seed=n, title=title)[0] for n, title in enumerate(TITLES)]
    images = planted_images(folder / "images")
    alike = [
        compared(folder / f"alike{n}", title, with_mlp(related(n, n_rows=40, n_layers=2)), size=4, range_bytes=1 << 11)
        for n, title in enumerate((*TITLES, "Third"))
    ]
    other = replace(planted(folder / "other", planted=3, layers=3, seed=2), title=TITLES[0])
    asked = [
        (
            patches,
            SELECTION,
            (
                VarianceSpectrum(kind="variance-spectrum", top=(3,)),
                RankingOverlap(
                    kind="ranking-overlap", m=(3, 8), layers="all", experiments=("other.toml",), resamples=50
                ),
                PatchClassification(kind="patch-classification", remove=(0, 1, 3), penalties=(1e-2,)),
                PatchClassification(kind="patch-classification", classifiers=("knn",), layers="all"),
                InContextSegmentation(
                    kind="in-context-segmentation",
                    k=3,
                    remove=(0, 3),
                    treatments=("centre", "pca-k"),
                    kept_components=(6,),
                ),
                Overclustering(kind="overclustering", clusters=("classes", 4), draws=1, patches=100),
                PatchClassification(kind="patch-classification", classifiers=("knn",), train_per_group=(2, 4)),
                FeatureTreatments(
                    kind="feature-treatments",
                    m=(3,),
                    draws=2,
                    penalties=(1e-2,),
                    experiments=("other.toml",),
                    parts=("scores", "removed"),
                    references=("none", "remove-top"),
                    resamples=50,
                ),
                GlobalContext(kind="global-context", classes=("road", "tree"), m=3, draws=1, resamples=50),
                LabelMaps(kind="label-maps", images=2, remove=(0, 3)),
            ),
        ),
        (
            views,
            SELECTION,
            (
                Robustness(kind="robustness", remove=(0, 4), penalties=(1e-2,), resamples=50),
                Retrieval(kind="retrieval", remove=(0, 4), resamples=50),
                ImageKnn(kind="image-knn", remove=(0, 4), k=3, resamples=50),
                Lidar(kind="lidar", pooled=("mean-patch",)),
            ),
        ),
        (
            tracks,
            FRAMES,
            (
                Tracking(kind="tracking", gaps=(1, 2, 3, 5), remove=(0, 4), resamples=50),
                Association(kind="association", remove=(0, 4), resamples=50),
            ),
        ),
        (
            [replace(model, title=title) for model, title in zip(images, TITLES, strict=True)],
            SELECTION,
            (
                ImageClassification(kind="image-classification", k=(5,), penalties=(1e-2,), resamples=50),
                Agreement(kind="agreement", classifier="knn", k=5, resamples=50),
                Information(kind="information", features=(1, 4), draws=1, penalties=(1e-2,), resamples=50),
                Invariance(kind="invariance", resamples=50),
                ObjectPositions(kind="object-positions", layers=(-1,), resamples=50),
                Robustness(kind="robustness", classes="images", image_k=5, penalties=(1e-2,), resamples=50),
                Similarity(kind="similarity", tokens=("mean-patch",), layers=(-1,), views=None, minibatch=4),
            ),
        ),
        (
            [replace(planted(folder / f"drift{n}", layers=3, seed=n), title=title) for n, title in enumerate(TITLES)],
            None,
            (
                GramDrift(kind="gram-drift", resamples=50),
                FeatureGeometry(kind="feature-geometry", resamples=50),
                IntrinsicDimension(kind="intrinsic-dimension", resamples=50),
            ),
        ),
        (alike, None, (Similarity(kind="similarity", points=("mlp", "output"), resamples=50),)),
        (drawn, SELECTION, (Reconstruction(kind="reconstruction", m=6, draws=2, pictures=2, resamples=50),)),
        (
            inside,
            SELECTION,
            (
                Attention(kind="attention", pictures=2, resamples=50),
                Frequency(kind="frequency", resamples=50),
                TokenGeometry(kind="token-geometry", layers="all", norm="none", map_images=2, resamples=50),
                TokenPictures(kind="token-pictures", norm="none", images=2),
            ),
        ),
    ]
    whole = Evaluation(long_table([]))
    rows = []
    for models, selection, analyses in asked:
        settings = EvaluationSettings(selection=selection, analyses=analyses)
        part = evaluate(
            "planted", models, settings, results, other_experiments={"other.toml": [(other, SELECTION)]},
            decoders=dict.fromkeys(TITLES, LinearDecoder),
        )  # fmt: skip
        rows += part.table.to_dict("records")
        whole.results |= part.results
    whole.table = long_table(rows)
    results.write_experiment("planted", whole.table)
    return results, whole, patches
