"""Inputs kept as pixels: the bytes a model is given, stored once, beside labels that they leave as they were."""

import numpy as np
import pytest
import xarray
from PIL import Image

from pipeline.extraction import run
from pipeline.extraction.compute import Compute
from pipeline.extraction.model_pass.running import ModelPass
from pipeline.extraction.plan import plan_models
from pipeline.extraction.recomputing.repair import repair_recipe
from pipeline.labels import input_pixels
from pipeline.labels.label_set import PIXELS, label_spec
from pipeline.recipe import DecoderRecipe, FeatureRecipe, ModelRecipe
from pipeline.views import CLEAN
from pipeline.views.noise import Noise
from stores import Store
from stores.specs import FrameSpec
from tests.pipeline.tiny import TINY, recipe, write_camvid

CPU = Compute("cpu", batch_size=4, threads=1)
NAME = "inputs/pixels.bicubic"
LAST = FeatureRecipe(layers=(-1,), input_pixels=True)
SMALLER = FrameSpec(input=32, tile=40, edge="shift-last")
"""Tiles that are resized, so that filters differ."""


@pytest.fixture
def site(tmp_path):
    write_camvid(tmp_path / "data" / "camvid", n_train=2, n_val=1)
    return run.Workspace(Store(tmp_path / "store"), tmp_path / "data", tmp_path)


def extract(wanted, site):
    return run.extract_recipe(wanted, site, CPU)


def plans(wanted, site):
    return list(plan_models(wanted, site, run.read_samples(wanted, site), CPU, timed=False))


def test_stored_inputs_are_the_resized_tiles(site):
    labels = extract(recipe(features=LAST, frame=SMALLER), site).labels
    array = labels.arrays[NAME]
    assert (array.dtype, array.row_shape) == ("uint8", (32, 32, 3))
    assert labels.sealed(NAME)
    stored = labels[NAME][:]
    for row, line in enumerate(labels.samples.itertuples()):
        image = Image.open(site.data / "camvid" / line.source).convert("RGB")
        tile = image.crop((line.left, line.top, line.right, line.bottom)).resize((32, 32), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(stored[row], np.asarray(tile))
    with xarray.open_zarr(f"{site.store.objects.url}/{labels.prefix}/inputs", consolidated=False) as inputs:
        assert inputs["pixels.bicubic"].dims == ("sample", "height", "width", "colour")


def test_inputs_are_added_without_touching_labels_or_running_a_model(site, monkeypatch):
    plain = extract(recipe(features=FeatureRecipe(layers=(-1,))), site)
    assert NAME not in plain.labels
    content, features = dict(plain.labels.content), plain.outcomes[0].set.digest
    monkeypatch.setattr(ModelPass, "__call__", lambda *arguments: pytest.fail("a model was run"))
    report = extract(recipe(features=LAST), site)
    assert report.labels.digest == plain.labels.digest
    assert report.outcomes[0].set.digest == features
    assert {name: report.labels.content[name] for name in content} == content
    assert set(report.labels.content) - set(content) == {NAME}
    assert report.label_rows_made == len(report.labels.samples)
    assert extract(recipe(features=LAST), site).label_rows_made == 0


def test_models_of_another_filter_have_inputs_of_their_own(site):
    arguments = {"embed_dim": 24, "depth": 1, "num_heads": 2}
    bilinear = ModelRecipe(name="supervised-base", weights="random", arguments=arguments)
    report = extract(recipe(TINY, bilinear, features=LAST, frame=SMALLER), site)
    labels = site.store.open(report.labels.digest)
    assert sorted(name for name in labels.arrays if name.startswith("inputs/")) == [NAME, "inputs/pixels.bilinear"]
    line = labels.samples.iloc[2]
    image = Image.open(site.data / "camvid" / line.source).convert("RGB")
    tile = image.crop((line.left, line.top, line.right, line.bottom)).resize((32, 32), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(labels["inputs/pixels.bilinear"][2], np.asarray(tile))
    assert (labels[NAME][2] != labels["inputs/pixels.bilinear"][2]).any()


def test_the_plan_counts_inputs_once_and_while_they_are_missing(site):
    second = TINY.model_copy(update={"title": "two", "seed": 4})
    plain = plans(recipe(TINY, second, features=FeatureRecipe(layers=(-1,))), site)
    wanted = recipe(TINY, second, features=LAST)
    first, other = plans(wanted, site)
    of_inputs = first.rows * 32 * 32 * 3
    assert [first.bytes - plain[0].bytes, first.bytes_missing - plain[0].bytes_missing] == [of_inputs, of_inputs]
    assert (other.bytes, other.bytes_missing) == (plain[1].bytes, plain[1].bytes_missing)
    assert first.arrays == plain[0].arrays + 1
    extract(recipe(TINY, second, features=FeatureRecipe(layers=(-1,))), site)
    first, other = plans(wanted, site)
    assert (first.state, first.bytes_missing) == ("partial", of_inputs)
    assert (other.state, other.bytes_missing) == ("sealed", 0)
    extract(wanted, site)
    assert [(one.state, one.bytes_missing) for one in plans(wanted, site)] == [("sealed", 0)] * 2


def test_views_keep_no_inputs_and_never_replace_the_clean_ones(site):
    noisy = Noise(name="noise", levels=(20.0,), layers=(-1,))
    wanted = recipe(features=LAST, views=(noisy,))
    report = extract(wanted, site)
    assert [shown.input_pixels for _, shown in wanted.all_views()] == [True, False]
    assert {one.set.spec.view.name for one in report.outcomes} == {"clean", "noise"}
    before = report.labels[NAME][:]

    # Repair knows the label set by the view that is asked for; what it shares with the clean one is the clean one's.
    (chunk,) = (site.data.parent / "store" / report.labels.prefix / NAME).glob("c.0.*")
    whole = chunk.read_bytes()
    chunk.write_bytes(b"")
    noted = site.store.recall(wanted.model_key(TINY))
    views = [view for view, _ in wanted.all_views() if view is not CLEAN]
    recorded = [run.Recorded(TINY, view, noted["features"], noted["labels"]) for view in views]
    repaired = repair_recipe(wanted, site, recorded, lambda: CPU)
    assert repaired[0].remade == {NAME: [0]}
    assert chunk.read_bytes() == whole
    np.testing.assert_array_equal(site.store.open(report.labels.digest)[NAME][:], before)


def test_repair_accepts_new_inputs_beside_the_patch_labels(site, monkeypatch):
    wanted = recipe(features=LAST)
    labels = extract(wanted, site).labels
    (chunk,) = (site.data.parent / "store" / labels.prefix / NAME).glob("c.0.*")
    chunk.write_bytes(b"")
    read = run.read_samples(wanted, site)
    assert label_spec(read).digest == labels.digest
    tiles = input_pixels.read_tiles
    monkeypatch.setattr(input_pixels, "read_tiles", lambda *some: (tiles(*some)[0] ^ 1, {}))
    noted = site.store.recall(wanted.model_key(TINY))
    recorded = [run.Recorded(TINY, CLEAN, noted["features"], noted["labels"])]
    (one, _) = repair_recipe(wanted, site, recorded, lambda: CPU)
    assert one.report.lost == {NAME: [0]}
    (one, _) = repair_recipe(wanted, site, recorded, lambda: CPU, accept_new=True)
    assert one.accepted_new == {NAME: [0]}
    again = site.store.open(labels.digest)
    assert again.content[PIXELS] == labels.content[PIXELS]
    assert again.content[NAME] != labels.content[NAME]


def test_neither_inputs_nor_decoders_rename_what_was_extracted():
    plain = recipe()
    decoded = TINY.model_copy(update={"decoder": DecoderRecipe(target="normalised", width=64)})
    asked = recipe(decoded, features=FeatureRecipe(norm="both", input_pixels=True))
    assert asked.model_key(decoded) == plain.model_key(TINY)
