"""Official checkpoints through our loaders give, layer by layer, what the papers' architectures compute."""

import pytest
import timm
import torch

from pipeline.models import FAMILIES, build_model
from pipeline.models.known import KNOWN
from pipeline.models.known_model import HALF, IMAGENET_MEAN, IMAGENET_STD
from pipeline.models.loading.weights import random_weights
from pipeline.recipe import ModelRecipe
from stores.errors import UserError
from stores.specs import Size
from tests.pipeline.layer_comparison import SMALL, compare, pixels
from tests.pipeline.official_files import CASES, drawn, write
from tests.pipeline.reference_models.plain import PlainViT


@pytest.mark.parametrize("kind", CASES)
def test_every_layer_equals_the_paper_s_architecture(tmp_path, kind):
    case = CASES[kind]
    reference = drawn(case.reference(**case.options))
    write(case.save(dict(reference.state_dict())), tmp_path / "official.pth")
    heads = {} if "heads" in case.options else {"num_heads": 4}  # MoCo v3's 12 heads must come from our table
    recipe = ModelRecipe(name=case.name, weights="official.pth", arguments={**SMALL, **heads})
    model = build_model(recipe, Size(height=32, width=32), tmp_path)
    assert model.record.position_embedding == "native"
    if case.name in KNOWN:
        assert model.record.family == KNOWN[case.name].family
        assert model.n_prefix == KNOWN[case.name].n_prefix
    compare(model, reference, pixels(32, 32))


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["mae", "dino-full", "ibot", "mocov3", "dinov2", "dinov3", "simmim", "beit", "supervised"]
)
def test_full_size(tmp_path, kind):
    case = CASES[kind]
    known = KNOWN[case.name]
    size = {"image": 224, "patch": known.patch, "width": known.width, "depth": known.depth, "heads": known.heads}
    reference = drawn(case.reference(**{**size, **case.options}))
    write(case.save(dict(reference.state_dict())), tmp_path / "official.pth")
    model = build_model(ModelRecipe(name=case.name, weights="official.pth"), Size(height=224, width=224), tmp_path)
    assert (model.width, model.n_patches) == (known.width, (224 // known.patch) ** 2)
    compare(model, reference, pixels(224, 224, count=1))


def test_the_table_says_what_timm_builds():
    """Every row against the module itself, on the meta device; families and files exist."""
    for known in KNOWN.values():
        assert known.family in FAMILIES
        with torch.device("meta"):
            module = timm.create_model(known.architecture, num_classes=0, **known.arguments)
        facts = (known.patch, known.width, known.depth, known.n_prefix)
        assert facts == (
            module.patch_embed.patch_size[0],
            module.embed_dim,
            len(module.blocks),
            module.num_prefix_tokens,
        ), known.name
        assert known.heads == module.blocks[0].attn.num_heads, known.name
        if known.tag is not None:
            configuration = timm.get_pretrained_cfg(known.tag)
            assert configuration is not None, known.tag
            assert timm.is_model_pretrained(known.tag), known.tag
            assert tuple(configuration.mean) == known.mean, known.name
            assert tuple(configuration.std) == known.std, known.name
            assert configuration.interpolation == known.interpolation, known.name


def test_pixel_statistics_are_the_family_s_or_the_recipe_s(tmp_path):
    small = {**SMALL, "num_heads": 4}
    size = Size(height=32, width=32)
    beit = build_model(ModelRecipe(name="beit-base", weights="random", arguments=small), size, tmp_path)
    assert beit.record.mean == beit.record.std == HALF
    mae = build_model(ModelRecipe(name="mae-base", weights="random", arguments=small), size, tmp_path)
    assert (mae.record.mean, mae.record.std) == (IMAGENET_MEAN, IMAGENET_STD)
    mine = ModelRecipe(name="mae-base", weights="random", arguments=small, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    model = build_model(mine, size, tmp_path)
    assert (model.record.mean, model.record.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    images = pixels(32, 32)
    expected = (images / 255 - torch.tensor([0.1, 0.2, 0.3])) / torch.tensor([0.4, 0.5, 0.6])
    torch.testing.assert_close(model.normalise(images), expected.permute(0, 3, 1, 2))
    supervised = build_model(ModelRecipe(name="supervised-base", weights="random", arguments=small), size, tmp_path)
    assert supervised.record.interpolation == "bilinear"


def test_a_fine_tuned_model_says_where_its_norm_stands(tmp_path):
    recipe = ModelRecipe(name="mae-finetuned-base", weights="random", arguments={**SMALL, "num_heads": 4})
    model = build_model(recipe, Size(height=32, width=32), tmp_path)
    assert model.norm is model.module.fc_norm
    assert "fc_norm" in model.notes[0]
    plain = recipe.model_copy(update={"name": "mae-base"})
    assert build_model(plain, Size(height=32, width=32), tmp_path).notes == ()


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("simmim-base", "pretrained", "download simmim_pretrain__vit_base__img224__800ep.pth from microsoft/SimMIM"),
        ("mae-base", "wide.pth", r"of another shape \(such as blocks.0"),
        ("beit-base", "wide.pth", r"missing \(such as .*too many \(such as "),
        ("mae-base", "patches.pth", "its patches have 4x4 pixels, those of mae-base 8x8"),
        ("vit_base_patch16_224", "patches.pth", "its patches have 4x4 pixels"),
        ("mae-base", "nan.pth", r"1 of 2,304 values of blocks.1.attn.proj.weight in .*nan.pth are NaN"),
        ("vit_base_patch16_224", "nan.pth", "blocks.1.attn.proj.weight"),
        ("simim-base", "random", "did you mean simmim-base"),
        ("mae-bsae", "random", "did you mean mae-base"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, name, weights, message):
    torch.save({"model": PlainViT(width=64).state_dict()}, tmp_path / "wide.pth")
    torch.save({"model": PlainViT(image=16, patch=4).state_dict()}, tmp_path / "patches.pth")
    spoilt = PlainViT()
    with torch.no_grad():
        spoilt.blocks[1].attn.proj.weight[3, 4] = float("nan")
    torch.save({"model": spoilt.state_dict()}, tmp_path / "nan.pth")
    recipe = ModelRecipe(name=name, weights=weights, arguments={**SMALL, "num_heads": 4})
    with pytest.raises(UserError, match=message):
        build_model(recipe, Size(height=32, width=32), tmp_path)


GOLDEN = {
    "mae": (1, "e3cff5adb5655d8b"),
    "mae-with-decoder": (1, "e3cff5adb5655d8b"),
    "mae-finetuned": (1, "3813be8cc50d70be"),
    "dino": (1, "e3cff5adb5655d8b"),
    "dino-full": (1, "e3cff5adb5655d8b"),
    "ibot": (1, "e3cff5adb5655d8b"),
    "ibot-full": (1, "e3cff5adb5655d8b"),
    "mocov3": (1, "e3cff5adb5655d8b"),
    "mocov3-small": (1, "e3cff5adb5655d8b"),
    "dinov2": (1, "8ed92426ef2c1b5b"),
    "dinov2-chunked": (1, "8ed92426ef2c1b5b"),
    "dinov2-registers": (1, "753176da21a171c1"),
    "simmim": (1, "08398a083ed2470c"),
    "beit": (1, "08398a083ed2470c"),
    "beit-deepspeed": (1, "08398a083ed2470c"),
    "beit-finetuned": (1, "36160b59194a2e76"),
    "supervised": (1, "24578dd2a2ef1908"),
    "supervised-old": (1, "24578dd2a2ef1908"),
}
"""Revision of the family, and the digest of what it makes of weights that never change. DINOv3's drawn biases are not
zero, which its loader refuses."""


@pytest.mark.parametrize("kind", GOLDEN)
def test_another_key_map_needs_another_revision(tmp_path, kind):
    case = CASES[kind]
    reference = case.reference(**case.options)
    random_weights(reference, 0)
    write(case.save(dict(reference.state_dict())), tmp_path / "official.pth")
    heads = {} if "heads" in case.options else {"num_heads": 4}
    recipe = ModelRecipe(name=case.name, weights="official.pth", arguments={**SMALL, **heads})
    record = build_model(recipe, Size(height=32, width=32), tmp_path).record
    assert (record.revision, record.weights[:16]) == GOLDEN[kind], "raise the family's REVISION"
