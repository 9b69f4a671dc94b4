"""Inputs that the label set keeps are read in place of images, and give the same bytes."""

import hashlib
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import PIL
import pytest

from pipeline.extraction import run as extraction
from pipeline.extraction.compute import Compute
from pipeline.extraction.options import ExtractOptions
from pipeline.extraction.plan import plan_models
from pipeline.labels import input_pixels
from pipeline.labels.stored_inputs import stored_inputs
from pipeline.recipe import FeatureRecipe
from pipeline.rows.pixels import read_tiles
from pipeline.views.noise import Noise
from pipeline.workspace import Workspace, read_samples
from stores import Store
from stores.specs import FrameSpec
from tests.pipeline.tiny import TINY, recipe, write_camvid

CPU = Compute("cpu", batch_size=4, threads=1)
LAST = FeatureRecipe(layers=(-1,), input_pixels=True)
SMALLER = FrameSpec(input=32, tile=40, edge="shift-last")
SECOND = TINY.model_copy(update={"title": "second", "seed": 8})


@pytest.fixture(scope="module")
def extracted(tmp_path_factory):
    root = tmp_path_factory.mktemp("inputs")
    write_camvid(root / "data" / "camvid", n_train=3, n_val=1)
    extract(root, TINY)
    return root


@pytest.fixture
def root(extracted, tmp_path):
    shutil.copytree(extracted, tmp_path / "here")
    return tmp_path / "here"


def wanted(model, **changes):
    return recipe(model, **({"features": LAST, "frame": SMALLER} | changes))


def extract(root, model, options=None, **changes):
    place = Workspace(Store(root / "store"), root / "data", root)
    return extraction.extract_recipe(wanted(model, **changes), place, CPU, options or ExtractOptions())


def contents(report):
    return [
        (one.set.digest, dict(one.set.content), hashlib.sha256(one.set[name][:].tobytes()).hexdigest())
        for one in report.outcomes
        for name in one.set.arrays
    ]


def samples_of(root):
    place = Workspace(Store(root / "store"), root / "data", root)
    return read_samples(wanted(TINY), place), place.store


def opened(monkeypatch):
    """Return a list that gets the name of every image that is decoded."""
    names = []

    def watching(samples, interpolation, start, stop):
        names.append(samples.tiles[start][0])
        return read_tiles(samples, interpolation, start, stop)

    for module in ("pipeline.extraction.job", "pipeline.labels.stored_inputs", "pipeline.labels.input_pixels"):
        monkeypatch.setattr(f"{module}.read_tiles", watching)
    return names


def test_a_second_model_opens_no_image_and_gets_the_same_bytes(root, tmp_path, monkeypatch):
    shutil.copytree(root / "data", tmp_path / "alone" / "data")
    decoded = extract(tmp_path / "alone", SECOND)
    names = opened(monkeypatch)
    read = extract(root, SECOND)
    assert names == []
    assert read.outcomes[0].rows_made == len(read.labels.samples)
    assert contents(read) == contents(decoded)


def test_a_run_that_goes_on_from_stored_inputs_gets_the_same_bytes(root, tmp_path):
    shutil.copytree(root / "data", tmp_path / "alone" / "data")
    decoded = extract(tmp_path / "alone", SECOND)
    extract(root, SECOND, ExtractOptions(shard=(0, 2)))
    for path in (root / "store" / "labels").glob("*/inputs/*/c.*"):
        path.write_bytes(b"")
    assert contents(extract(root, SECOND, ExtractOptions(shard=(1, 2)))) == contents(decoded)


@pytest.mark.parametrize("threads", [1, 4])
def test_all_rows_are_those_that_are_decoded(root, threads):
    samples, store = samples_of(root)
    stored = stored_inputs(samples, "bicubic", store)
    rows = list(range(len(samples.tiles))) * 3
    with ThreadPoolExecutor(threads) as pool:
        for row, (pixels, stats) in zip(rows, pool.map(lambda row: stored.read(row, row + 1), rows), strict=True):
            np.testing.assert_array_equal(pixels, read_tiles(samples, "bicubic", row, row + 1)[0])
            assert stats == {}
    n_tiles = sum(name == samples.tiles[0][0] for name, _ in samples.tiles)
    np.testing.assert_array_equal(stored.read(0, n_tiles)[0], read_tiles(samples, "bicubic", 0, n_tiles)[0])


def test_rows_of_several_chunks_are_put_together(root):
    samples, store = samples_of(root)
    stored = stored_inputs(samples, "bicubic", store)
    stored.chunk_rows = 3
    assert list(stored._parts(2, 8)) == [(0, 2, 3), (1, 3, 6), (2, 6, 8)]


def test_damaged_inputs_are_decoded(root, tmp_path, monkeypatch):
    shutil.copytree(root / "data", tmp_path / "alone" / "data")
    decoded = extract(tmp_path / "alone", SECOND)
    (chunk,) = (root / "store" / "labels").glob("*/inputs/*/c.0.*")
    data = bytearray(chunk.read_bytes())
    data[100] ^= 1
    chunk.write_bytes(data)
    names = opened(monkeypatch)
    assert contents(extract(root, SECOND)) == contents(decoded)
    assert set(names) == set(samples_of(root)[0].sources)


def test_other_filters_views_and_frames_decode(root, monkeypatch):
    samples, store = samples_of(root)
    assert stored_inputs(samples, "bicubic", store) is not None
    assert stored_inputs(samples, "bilinear", store) is None
    names = opened(monkeypatch)
    plain = FeatureRecipe(layers=(-1,))
    extract(root, SECOND, features=plain, frame=FrameSpec(input=32, tile=32, edge="shift-last"))
    assert names
    names.clear()
    extract(root, SECOND, features=plain, views=(Noise(name="noise", levels=(20.0,), layers=(-1,)),))
    assert len(names) >= 1, "the view needs the source"


def test_rows_whose_labels_are_bad_are_decoded(root):
    samples, store = samples_of(root)
    stored = stored_inputs(samples, "bicubic", store)
    name = samples.tiles[0][0]
    samples.bad_labels[name] = "torn"
    samples.__dict__.pop("bad", None)
    stored._readers = []
    np.testing.assert_array_equal(stored.read(0, 1)[0], read_tiles(samples, "bicubic", 0, 1)[0])


def test_inputs_of_another_decoder_are_not_read(root, monkeypatch):
    samples, store = samples_of(root)
    monkeypatch.setattr(PIL, "__version__", "0.0")
    assert stored_inputs(samples, "bicubic", store) is None


def test_inputs_that_two_runs_made_are_not_read(tmp_path, monkeypatch):
    """The first may have had another version of Pillow."""
    write_camvid(tmp_path / "data" / "camvid", n_train=3, n_val=1)
    layout = input_pixels_in_ranges(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        extract(tmp_path, TINY)
    monkeypatch.undo()
    assert layout["stopped"]
    extract(tmp_path, TINY)
    samples, store = samples_of(tmp_path)
    assert stored_inputs(samples, "bicubic", store) is None


def input_pixels_in_ranges(monkeypatch):
    """Let label sets have ranges of four rows, and a kill come in the second range of inputs."""
    from pipeline.labels import label_set, making_labels

    state = {"stopped": False}
    plan, make = making_labels.plan_layout, label_set.input_pixels

    def stopping(samples, interpolation, start, stop):
        if start:
            state["stopped"] = True
            raise KeyboardInterrupt
        return make(samples, interpolation, start, stop)

    monkeypatch.setattr(making_labels, "plan_layout", lambda rows, size: plan(rows, size, range_bytes=4 * size))
    monkeypatch.setattr(label_set, "input_pixels", stopping)
    return state


def test_the_plan_states_the_memory_of_the_chunks(root):
    place = Workspace(Store(root / "store"), root / "data", root)

    def memory():
        (one,) = plan_models(wanted(SECOND), place, read_samples(wanted(SECOND), place), CPU, timed=False)
        return one.memory_bytes

    samples, store = samples_of(root)
    stored = stored_inputs(samples, "bicubic", store)
    with_inputs = memory()
    for path in (root / "store" / "sources").iterdir():
        path.unlink()
    assert with_inputs - memory() == stored.n_bytes == 3 * stored.chunk_rows * 32 * 32 * 3
    assert input_pixels.input_array(samples, "bicubic").row_bytes == 32 * 32 * 3
