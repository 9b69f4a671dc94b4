"""One filter for all models where the experiment asks it, and corruptions that keep within their memory."""

import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.extraction import run
from pipeline.extraction.compute import Compute
from pipeline.extraction.job import feature_spec
from pipeline.frame_recipe import FrameRecipe
from pipeline.models import build_model
from pipeline.models.known import KNOWN
from pipeline.models.own_module import own_model
from pipeline.recipe import ModelRecipe, Recipe
from pipeline.rows import under_view
from pipeline.rows.frames import tiles
from pipeline.rows.under_view import for_view
from pipeline.views.blur import box_blur
from pipeline.views.contract import CLEAN
from stores import Store
from stores.specs import FrameSpec, Size
from tests.pipeline.tiny import TINY, recipe, write_camvid

CPU = Compute("cpu", batch_size=4, threads=1)
SIZE = Size(height=32, width=32)


def with_frame(**frame):
    return Recipe.model_validate({**recipe().model_dump(), "frame": {"input": 32, "tile": 32, **frame}})


def test_the_frame_s_filter_is_that_of_all_models_but_those_with_their_own():
    plain = {"dataset": {"name": "camvid"}, "frame": {"input": 32}, "models": [{"name": "test_vit"}]}
    two = [{"name": "test_vit"}, {"name": "test_vit", "title": "other", "interpolation": "box"}]
    chosen = Recipe.model_validate({**plain, "frame": {"input": 32, "interpolation": "bilinear"}, "models": two})
    assert [model.interpolation for model in chosen.models] == ["bilinear", "box"]
    assert Recipe.model_validate(plain).models[0].interpolation is None


def test_no_digest_changes_where_no_filter_is_set(tmp_path):
    frame = FrameSpec(input=SIZE, tile=SIZE, edge="shift-last")
    assert FrameRecipe.model_validate(frame.model_dump()).canonical() == frame.canonical()
    assert FrameRecipe.model_validate(frame.model_dump()).spec == frame
    assert "interpolation" not in TINY.model_dump(exclude_none=True)
    # The key of an experiment's sets in a store's index, as it was before there was a choice of filters.
    assert recipe().model_key(TINY) == "98136c5cbd442cadb52b07f079d1b996aef4e914b5386738a2d5c5ba9426f100"


def test_sets_record_the_filter_that_was_used(tmp_path):
    write_camvid(tmp_path / "data" / "camvid", n_train=1, n_val=1)
    where = run.Workspace(Store(tmp_path / "store"), tmp_path / "data", tmp_path)
    own, chosen = (
        run.extract_recipe(with_frame(tile=40, **more), where, CPU).outcomes[0].set
        for more in ({}, {"interpolation": "nearest"})
    )
    assert own.spec.model.interpolation == "bicubic"
    assert chosen.spec.model.interpolation == "nearest"
    assert chosen.spec.frame == own.spec.frame
    assert chosen.digest != own.digest
    assert not np.array_equal(chosen["block.5.norm"][:], own["block.5.norm"][:])


def test_the_frame_s_filter_is_that_of_own_modules_too(tmp_path):
    module = build_model(TINY, SIZE, tmp_path).module
    mine = own_model(module, name="mine", layers=["blocks.0"], input=32, n_prefix=1)
    where = run.Workspace(Store(tmp_path / "store"), tmp_path, tmp_path, own={"mine": mine})
    asked = ModelRecipe(name="mine", weights="own", interpolation="bilinear")
    assert where.model(asked, SIZE).record.interpolation == "bilinear"
    assert where.model(asked.model_copy(update={"interpolation": None}), SIZE).record == mine.record


@pytest.mark.parametrize("family", ["dino", "ibot"])
def test_dino_and_ibot_resample_positions_as_their_own_code_does(family):
    assert {known.position_embedding for known in KNOWN.values() if known.family == family} == {"hub"}


def view(name, **changes):
    wanted = Recipe.model_validate({**recipe().model_dump(), "views": [{"name": name, **changes}]})
    shown, _ = list(wanted.all_views())[1]
    return shown


@pytest.mark.parametrize("factor", [1.1, 1.2])
def test_enlarged_views_of_a_box_filter_hold_no_copies_of_pixels(factor):
    frame = FrameSpec(input=SIZE, tile=SIZE)
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    cells = tiles(frame, SIZE)
    scale = view("scale", levels=[factor])
    made = {name: under_view.pixels(scale, frame, "a.png", cells, image, name)[0][0] for name in ("box", "bicubic")}
    np.testing.assert_array_equal(made["box"], made["bicubic"])
    smaller = view("scale", levels=[0.8])
    box, bicubic = (under_view.pixels(smaller, frame, "a.png", cells, image, name)[0] for name in ("box", "bicubic"))
    assert not np.array_equal(box, bicubic)  # shrinking stays by area


def test_the_digest_of_box_filtered_moved_views_tells_the_new_rule(tmp_path):
    write_camvid(tmp_path / "data" / "camvid", n_train=1, n_val=1)
    where = run.Workspace(Store(tmp_path / "store"), tmp_path / "data", tmp_path)
    samples = run.read_samples(recipe(), where)
    for filter_name, shown, new in (
        ("box", view("scale"), True),
        ("bicubic", view("scale"), False),
        ("box", view("noise"), False),
        ("box", CLEAN, False),
    ):
        asked = TINY.model_copy(update={"interpolation": filter_name})
        model = build_model(asked, SIZE, tmp_path)
        seen = samples if shown is CLEAN else for_view(samples, shown)
        assert ("enlarging" in feature_spec(model, seen, recipe().features).revisions) == new


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "box"])
def test_the_noise_that_reaches_the_model_is_recorded(interpolation):
    """White noise of 20 grey levels; Pillow's filter, applied by hand to noise without clipping, says what is left."""
    frame = FrameSpec(input=Size(height=28, width=28), tile=Size(height=32, width=32))
    image = np.full((64, 64, 3), 128, np.uint8)
    cells = tiles(frame, Size(height=64, width=64))
    noisy = view("noise", levels=[20.0])
    inputs, stats = under_view.pixels(noisy, frame, "a.png", cells, image, interpolation)
    expected = np.square(inputs.astype(float) - 128).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(stats["noise_energy_input"], expected, rtol=0.02)
    assert (stats["noise_energy_input"] < stats["noise_energy"]).all()
    same = replace_input(frame, 32)
    _, unresized = under_view.pixels(noisy, same, "a.png", cells, image, interpolation)
    np.testing.assert_allclose(unresized["noise_energy_input"], unresized["noise_energy"], rtol=1e-5)


def test_the_header_of_an_experiment_says_how_much_of_the_noise_reaches_the_models():
    page = (Path(__file__).parents[2] / "experiments" / "cityscapes-robustness.toml").read_text()
    told = re.search(r"of its energy (\d+), (\d+), (\d+) and (\d+) % reach", page).groups()
    frame = FrameSpec(input=Size(height=224, width=224), tile=Size(height=256, width=256))
    image, cells = np.full((512, 512, 3), 128, np.uint8), tiles(frame, Size(height=512, width=512))
    shares = []
    for level in (0.125, 0.375, 0.625, 0.875):
        noisy = view("frequency-noise", levels=[level])
        _, stats = under_view.pixels(noisy, frame, "a.png", cells, image, "bicubic")
        shares.append(stats["noise_energy_input"].mean() / stats["noise_energy"].mean())
    np.testing.assert_allclose([float(share) / 100 for share in told], shares, atol=0.01)


def replace_input(frame, side):
    return frame.model_copy(update={"input": Size(height=side, width=side)})


def whole_blur(pixels, kernel):
    """Box blur of the whole image at once with running sums of 64 bits, as it was computed before slabs."""
    before = kernel // 2
    sums = pixels.astype(np.int64)
    for axis in (0, 1):
        pads = [(0, 0)] * 3
        pads[axis] = (before, kernel - 1 - before)
        padded = np.pad(sums, pads, mode="reflect")
        pads[axis] = (1, 0)
        running = np.pad(np.cumsum(padded, axis=axis), pads)
        extent = pixels.shape[axis]
        upper = np.take(running, range(kernel, kernel + extent), axis=axis)
        sums = upper - np.take(running, range(extent), axis=axis)
    return np.rint(sums / (kernel * kernel)).astype(np.uint8)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 150), st.integers(1, 40), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_slabs_give_the_bytes_of_the_whole(height, width, kernel, slab, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("pipeline.views.blur._VALUES_AT_ONCE", 3 * width * slab)
        made = box_blur(pixels, kernel)
    np.testing.assert_array_equal(made, whole_blur(pixels, kernel))


@pytest.mark.slow
def test_running_sums_that_wrap_around_are_no_harm():
    pixels = np.full((1030, 20_000, 3), 255, np.uint8)  # a row of windows sums up to 5e9
    assert (box_blur(pixels, 1024) == 255).all()


@pytest.mark.parametrize(("name", "level"), [("blur", 40), ("gaussian-blur", 40), ("greyscale", 1.0)])
def test_views_of_a_large_source_take_little_memory(name, level):
    """Beside the source and the result, in bytes a pixel; blur took 147."""
    pixels = np.random.default_rng(0).integers(0, 256, (1500, 2000, 3)).astype(np.uint8)
    change = view(name, levels=[level]).change
    tracemalloc.start()
    try:
        change(pixels, np.random.default_rng(0))
        peak = tracemalloc.get_traced_memory()[1] / pixels[:, :, 0].size
    finally:
        tracemalloc.stop()
    assert peak < {"blur": 20, "gaussian-blur": 36, "greyscale": 12}[name]
