"""A run with nothing to do: no model is built and no weights are read, unless something may have changed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
from PIL import Image

import pipeline.models
from pipeline.extraction import run as extraction
from pipeline.extraction.compute import Compute
from pipeline.recipe import FeatureRecipe, ModelRecipe
from pipeline.recorded import complete
from pipeline.recorded.complete import CompleteNotes, read_note
from pipeline.views.noise import Noise
from pipeline.workspace import Workspace, read_samples
from stores import Store
from stores.errors import UserError
from stores.specs import Size
from stores.storage.local import LocalObjects
from tests.pipeline.tiny import TINY, recipe, write_camvid

CPU = Compute("cpu", batch_size=4, threads=1)
MINE = TINY.model_copy(update={"weights": "mine.safetensors"})
LAST = FeatureRecipe(layers=(-1,), input_pixels=True)


class BuiltError(Exception):
    """A model was built."""


def write_weights(folder, seed):
    model = pipeline.models.build_model(TINY.model_copy(update={"seed": seed}), Size(height=32, width=32), folder)
    safetensors.torch.save_file(model.module.state_dict(), folder / "mine.safetensors")


@pytest.fixture(scope="module")
def extracted(tmp_path_factory):
    root = tmp_path_factory.mktemp("complete")
    write_camvid(root / "data" / "camvid", n_train=2, n_val=1)
    write_weights(root, 1)
    place = workspace(root)
    extraction.extract_recipe(wanted(), place, CPU)
    return root


@pytest.fixture
def root(extracted, tmp_path):
    """A copy of an extracted store with its data and weights."""
    shutil.copytree(extracted, tmp_path / "here")
    extraction.extract_recipe(wanted(), workspace(tmp_path / "here"), CPU)  # files of a copy have other inodes
    return tmp_path / "here"


def workspace(root):
    return Workspace(Store(root / "store"), root / "data", root)


def wanted(**changes):
    return recipe(MINE, **({"features": LAST} | changes))


def explode(*arguments):
    raise BuiltError


def again(monkeypatch, root, **changes):
    with monkeypatch.context() as patched:
        patched.setattr(pipeline.models, "build_model", explode)
        return extraction.extract_recipe(wanted(**changes), workspace(root), CPU)


def state(root):
    return {path: path.stat().st_mtime_ns for path in sorted(root.rglob("*")) if path.is_file()}


def test_complete_sets_are_reported_without_building_a_model(root, monkeypatch):
    full = extraction.extract_recipe(wanted(), workspace(root), CPU)
    before = state(root)
    report = again(monkeypatch, root)
    assert [(one.title, one.set.digest) for one in report.outcomes] == [
        (one.title, one.set.digest) for one in full.outcomes
    ]
    (outcome,) = report.outcomes
    assert (outcome.rows_made, outcome.rows_reused) == (0, len(full.labels.samples))
    assert (outcome.missing, outcome.notes) == ({}, [])
    assert (report.labels.digest, report.label_rows_made) == (full.labels.digest, 0)
    assert state(root) == before


def test_one_complete_model_is_not_built_beside_one_that_is_new(root, monkeypatch):
    other = TINY.model_copy(update={"title": "other", "seed": 9})
    built = []
    build = pipeline.models.build_model

    def counting(one, *rest):
        built.append(one.display)
        return build(one, *rest)

    monkeypatch.setattr(pipeline.models, "build_model", counting)
    report = extraction.extract_recipe(recipe(MINE, other, features=LAST), workspace(root), CPU)
    assert built == ["other"]
    assert [outcome.rows_made > 0 for outcome in report.outcomes] == [False, True]


def remove(pattern):
    def change(root):
        found = list((root / "store").glob(pattern))
        assert found
        for path in found:
            path.unlink()

    return change


def tear_notes(root):
    for path in (root / "store" / "sources").iterdir():
        path.write_bytes(path.read_bytes()[:-9])


def change_image(root):
    path = next((root / "data" / "camvid" / "train").glob("*.png"))
    pixels = np.asarray(Image.open(path)).copy()
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(path)


def change_label(root):
    path = next((root / "data" / "camvid" / "trainannot").glob("*.png"))
    classes = np.asarray(Image.open(path)).copy()
    classes[:4] = (classes[:4] + 1) % 11
    Image.fromarray(classes).save(path)


def change_weights_in_place(root):
    """Change one byte, and restore size and time of modification; the time of change cannot be."""
    path = root / "mine.safetensors"
    status, data = path.stat(), bytearray(path.read_bytes())
    data[-1] ^= 1
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda root: write_weights(root, 2), id="other weights"),
        pytest.param(change_weights_in_place, id="weights changed in place"),
        pytest.param(lambda root: (root / "mine.safetensors").unlink(), id="no weights"),
        pytest.param(change_image, id="image"),
        pytest.param(change_label, id="label"),
        pytest.param(tear_notes, id="torn note"),
        pytest.param(remove("sources/*.json"), id="no note"),
        pytest.param(remove("index/*.json"), id="no note of the index"),
        pytest.param(remove("features/*/seals/*"), id="no seal of features"),
        pytest.param(remove("labels/*/seals/*inputs*"), id="no seal of labels"),
        pytest.param(remove("labels/*/summary.json"), id="no summary"),
        pytest.param(lambda root: shutil.rmtree(root / "store" / "features"), id="no features"),
    ],
)
def test_after_any_change_the_model_is_built(root, monkeypatch, change):
    again(monkeypatch, root)
    change(root)
    with pytest.raises(BuiltError):
        again(monkeypatch, root)


@pytest.mark.parametrize(
    "changes",
    [
        {"features": FeatureRecipe(layers=(-1,), norm="both", input_pixels=True)},
        {"features": FeatureRecipe(layers=(-1,), means=True, input_pixels=True)},
        {"views": (Noise(name="noise", levels=(20.0,), layers=(-1,)),)},
    ],
)
def test_other_arrays_and_views_build_the_model_and_are_then_complete(root, monkeypatch, changes):
    with pytest.raises(BuiltError):
        again(monkeypatch, root, **changes)
    made = extraction.extract_recipe(wanted(**changes), workspace(root), CPU)
    found = again(monkeypatch, root, **changes)
    assert [one.set.digest for one in found.outcomes] == [one.set.digest for one in made.outcomes]
    assert [one.title for one in found.outcomes] == [one.title for one in made.outcomes]


def test_other_code_builds_the_model(root, monkeypatch):
    monkeypatch.setattr(complete, "code_digest", lambda: "0" * 64)
    with pytest.raises(BuiltError):
        again(monkeypatch, root)


def test_the_versions_of_libraries_are_part_of_the_code(monkeypatch):
    before = complete.code_digest.__wrapped__()
    version = complete._version
    monkeypatch.setattr(complete, "_version", lambda name: "0.0" if name == "timm" else version(name))
    assert complete.code_digest.__wrapped__() != before


def test_weights_that_were_only_touched_build_nothing(root, monkeypatch):
    os.utime(root / "mine.safetensors", ns=(1, 1))
    again(monkeypatch, root)


def test_weights_that_change_while_they_are_read_are_not_noted(root, monkeypatch):
    for path in (root / "store" / "sources").iterdir():
        path.unlink()
    build = pipeline.models.build_model

    def changing(*arguments):
        model = build(*arguments)
        change_weights_in_place(root)
        return model

    with monkeypatch.context() as patched:
        patched.setattr(pipeline.models, "build_model", changing)
        extraction.extract_recipe(wanted(), workspace(root), CPU)
    assert read_note(Store(root / "store"), wanted().model_key(MINE)) is None


def test_a_part_of_a_set_is_not_noted(root):
    from pipeline.extraction.options import ExtractOptions

    two = TINY.model_copy(update={"seed": 5})
    place = workspace(root)
    extraction.extract_recipe(recipe(two), place, CPU, ExtractOptions(shard=(0, 2)))
    assert read_note(place.store, recipe(two).model_key(two)) is None
    extraction.extract_recipe(recipe(two), place, CPU, ExtractOptions(shard=(1, 2)))
    assert read_note(place.store, recipe(two).model_key(two)) is not None


def test_a_store_that_may_only_be_read_is_enough(root, monkeypatch):
    def refuse(*arguments):
        raise UserError("the file system is read-only: choose another --store")

    for name in ("put", "stage", "remove"):
        if hasattr(LocalObjects, name):
            monkeypatch.setattr(LocalObjects, name, refuse)
    assert again(monkeypatch, root).outcomes[0].rows_reused
    # Without notes the model is built, and what is complete is still not written again.
    monkeypatch.setattr(complete, "read_note", lambda *arguments: None)
    assert extraction.extract_recipe(wanted(), workspace(root), CPU).outcomes[0].rows_reused


def test_cached_weights_are_named_by_their_file(root, monkeypatch):
    model = ModelRecipe(name="test_vit", weights="pretrained")
    place = workspace(root)
    notes = CompleteNotes(recipe(model), place, read_samples(recipe(model), place))
    cached = ("timm/test_vit.r160_in1k", "model.safetensors")
    found = {cached: str(root / "mine.safetensors")}
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *name: found.get(name))
    first = notes.weights(model, cached)
    assert first == notes.weights(MINE)
    assert notes.weights(model, ()) is None
    change_weights_in_place(root)
    assert notes.weights(model, cached) != first
    found.clear()
    assert notes.weights(model, cached) is None


EXPERIMENT = """
[dataset]
name = "camvid"
[frame]
tile = 32
input = 32
edge = "shift-last"
[[models]]
name = "test_vit"
weights = "mine.safetensors"
[selection.train]
split = "train"
[selection.validation]
split = "val"
[[analyses]]
kind = "patch-classification"
"""


def test_the_command_does_not_load_torch(root, run, monkeypatch):
    """In a process of its own, in which importing torch or timm raises."""
    monkeypatch.chdir(root)
    (root / "tiny.toml").write_text(EXPERIMENT)
    assert run("extract", "tiny.toml")[0] == 0
    code = (
        "import sys\nsys.modules['torch'] = sys.modules['timm'] = None\n"
        "sys.argv = ['patchbank', 'extract', 'tiny.toml']\nimport cli\ncli.main()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("made    0 rows of features, 0 of labels\nreused  12 rows of features\nwhere ")
    assert run("extract", "tiny.toml")[1] == done.stdout
    assert "device 'gpu' cannot be used" in run("extract", "tiny.toml", "--device", "gpu")[2]


def test_analyses_are_checked_as_before(root, run, monkeypatch):
    monkeypatch.chdir(root)
    (root / "tiny.toml").write_text(EXPERIMENT)
    assert run("extract", "tiny.toml")[0] == 0
    monkeypatch.setattr(pipeline.models, "build_on_meta", explode)
    (root / "tiny.toml").write_text(f"{EXPERIMENT}layers = [40]\n")
    code, _, err = run("extract", "tiny.toml")
    assert code == 2
    assert "`patchbank evaluate` would refuse tiny.toml" in err
