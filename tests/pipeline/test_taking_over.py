"""Rows that another set of the store holds under an equal recipe are taken over; only new images meet the model."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pipeline.dataset_recipe import DatasetRecipe
from pipeline.extraction import run
from pipeline.extraction.compute import Compute
from pipeline.extraction.model_pass.running import ModelPass
from pipeline.extraction.options import ExtractOptions
from pipeline.extraction.plan import plan_models
from pipeline.recipe import StorageRecipe
from pipeline.source_choice import SourceChoice
from stores import Store
from stores.specs import FrameSpec
from tests.pipeline.tiny import recipe

CPU = Compute("cpu", batch_size=16, threads=1)


def write_photos(folder, names):
    """Write one noisy 32 x 32 image a name, the same for the same name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        rng = np.random.default_rng([ord(char) for char in name])
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / name)


def write_manifest(data, names):
    with (data / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["image"], *([f"photos/{name}"] for name in names)])


def photos(**changes):
    """Ranges hold 128 rows."""
    settings = {
        "dataset": DatasetRecipe(name="manifest", file="list.csv"),
        "frame": FrameSpec(input=32),
        "storage": StorageRecipe(range_megabytes=0.1),
    }
    return recipe(**(settings | changes))


def extract_photos(site, wanted=None, compute=CPU, store="store", **options):
    where = run.Workspace(Store(site / store), site, site)
    return run.extract_recipe(wanted or photos(), where, compute, ExtractOptions(**options)).outcomes


@pytest.fixture
def model_rows(monkeypatch):
    """Count the different images that meet the model; those in ``refused`` (by their bytes) end the test."""

    class Counted:
        def __init__(self):
            self.seen, self.refused = set(), set()

    counted = Counted()
    original = ModelPass.__call__

    def call(self, pixels, tile_ids, rows):
        names = {name for name, _ in tile_ids}
        assert not names & counted.refused, f"the model was run on {sorted(names & counted.refused)[:3]}"
        counted.seen |= names
        return original(self, pixels, tile_ids, rows)

    monkeypatch.setattr(ModelPass, "__call__", call)
    return counted


def names(start, stop):
    """Names in an order in which later ones lie between earlier ones."""
    return [f"{(number * 617) % 1009:04d}.png" for number in range(start, stop)]


@pytest.mark.parametrize("n_images", [200, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_manifest_that_grows_by_10_images_runs_the_model_on_10(tmp_path, model_rows, n_images):
    write_photos(tmp_path / "photos", names(0, n_images + 9))
    write_photos(tmp_path / "photos", ["one-more.png"])
    write_manifest(tmp_path, names(0, n_images))
    (first,) = extract_photos(tmp_path)
    assert first.rows_made == n_images
    grown = [*names(0, n_images + 9), "one-more.png"]
    write_manifest(tmp_path, grown)
    model_rows.refused, model_rows.seen = set(model_rows.seen), set()
    where = run.Workspace(Store(tmp_path / "store"), tmp_path, tmp_path)
    (planned,) = plan_models(photos(), where, run.read_samples(photos(), where), CPU, timed=False)
    assert (planned.rows_missing, planned.rows_taken_over) == (n_images + 10, n_images)
    (second,) = extract_photos(tmp_path)
    assert len(model_rows.seen) == second.rows_made == 10
    assert second.rows_taken == {first.set.digest: n_images}
    assert second.set.provenance["taken_over"][first.set.digest]["rows"] == n_images
    assert "computed_with" not in second.set.provenance["taken_over"][first.set.digest]
    model_rows.refused = set()
    (fresh,) = extract_photos(tmp_path, store="fresh")
    assert fresh.rows_made == n_images + 10
    assert second.set.stored_digest() == fresh.set.stored_digest()

    write_manifest(tmp_path, names(n_images // 10, n_images * 9 // 10))  # and shrinking runs it on none
    model_rows.seen = set()
    (third,) = extract_photos(tmp_path)
    assert (third.rows_made, sum(third.rows_taken.values()), model_rows.seen) == (0, n_images * 8 // 10, set())
    (alone,) = extract_photos(tmp_path, store="alone")
    assert third.set.stored_digest() == alone.set.stored_digest()


def test_a_smaller_choice_of_images_runs_no_model(tmp_path, model_rows):
    write_photos(tmp_path / "photos", names(0, 30))
    write_manifest(tmp_path, names(0, 30))
    wanted = photos()
    extract_photos(tmp_path, wanted)
    model_rows.seen = set()
    where = run.Workspace(Store(tmp_path / "store"), tmp_path, tmp_path)
    choice = SourceChoice(lambda table: list(table["source"])[::3], "every third")
    (outcome,) = run.extract_recipe(wanted, where, CPU, choice=choice).outcomes
    assert (outcome.rows_made, sum(outcome.rows_taken.values()), model_rows.seen) == (0, 10, set())


@pytest.mark.slow
def test_rows_of_several_sets_are_combined_also_of_one_that_is_not_complete(tmp_path, model_rows):
    everything = names(0, 900)
    write_photos(tmp_path / "photos", everything)
    write_manifest(tmp_path, everything[:300])
    (first,) = extract_photos(tmp_path)
    write_manifest(tmp_path, everything[200:700])
    (part,) = extract_photos(tmp_path, shard=(0, 2))
    assert part.missing
    model_rows.seen = set()
    write_manifest(tmp_path, everything)
    (whole,) = extract_photos(tmp_path)
    assert set(whole.rows_taken) == {first.set.digest, part.set.digest}
    assert len(model_rows.seen) == whole.rows_made == 900 - sum(whole.rows_taken.values())
    assert whole.rows_made < 500
    (fresh,) = extract_photos(tmp_path, store="fresh")
    assert whole.set.stored_digest() == fresh.set.stored_digest()


def test_a_changed_image_is_computed(tmp_path, model_rows):
    write_photos(tmp_path / "photos", names(0, 20))
    write_manifest(tmp_path, names(0, 20))
    extract_photos(tmp_path)
    changed = names(0, 20)[4]
    Image.fromarray(np.full((32, 32, 3), 7, np.uint8)).save(tmp_path / "photos" / changed)
    model_rows.seen = set()
    (outcome,) = extract_photos(tmp_path)
    assert model_rows.seen == {f"photos/{changed}"}
    assert outcome.rows_made == 1


def test_another_recipe_takes_nothing_over(tmp_path):
    write_photos(tmp_path / "photos", names(0, 20))
    write_manifest(tmp_path, names(0, 20))
    extract_photos(tmp_path)
    write_manifest(tmp_path, names(0, 21))
    write_photos(tmp_path / "photos", names(20, 21))
    (model,) = photos().models
    (other,) = extract_photos(tmp_path, photos(models=(model.model_copy(update={"seed": 4}),)))
    assert (other.rows_made, other.rows_taken) == (21, {})


def test_layers_that_the_other_set_lacks_are_computed(tmp_path):
    write_photos(tmp_path / "photos", names(0, 21))
    write_manifest(tmp_path, names(0, 20))
    few = photos().features.model_copy(update={"layers": (-1,)})
    extract_photos(tmp_path, photos(features=few))
    write_manifest(tmp_path, names(0, 21))
    (more,) = extract_photos(tmp_path)
    assert (more.rows_made, more.rows_taken) == (21, {})
    (fewer,) = extract_photos(tmp_path, photos(features=few))
    assert (fewer.rows_made, fewer.rows_reused) == (0, 21)


@pytest.mark.parametrize("spoil", ["flip", "remove"])
def test_damage_in_the_other_set_is_never_taken_over(tmp_path, model_rows, spoil):
    write_photos(tmp_path / "photos", names(0, 300))
    write_manifest(tmp_path, names(0, 290))
    (first,) = extract_photos(tmp_path)
    objects, key = first.set.objects, f"{first.set.prefix}/tokens/block.2/c.1.0.0"
    data = bytearray(objects.read(key))
    data[100] ^= 1
    objects.put(key, [bytes(data)]) if spoil == "flip" else objects.delete(key)
    write_manifest(tmp_path, names(0, 300))
    (second,) = extract_photos(tmp_path)
    assert 10 < second.rows_made < 300
    assert second.rows_made + sum(second.rows_taken.values()) == 300
    (fresh,) = extract_photos(tmp_path, store="fresh")
    assert second.set.stored_digest() == fresh.set.stored_digest()


def test_rows_of_another_compute_record_are_marked_and_stay_marked(tmp_path):
    write_photos(tmp_path / "photos", names(0, 300))
    write_manifest(tmp_path, names(0, 200))
    (first,) = extract_photos(tmp_path, compute=replace(CPU, batch_size=8))
    write_manifest(tmp_path, names(0, 250))
    (second,) = extract_photos(tmp_path)
    entry = second.set.provenance["taken_over"][first.set.digest]
    assert entry["computed_with"] == {"batch_size": 8}
    assert entry["ranges"] == [0, 1]
    assert any("batch_size 8" in note for note in second.notes)
    write_manifest(tmp_path, names(0, 300))
    (third,) = extract_photos(tmp_path)
    entries = third.set.provenance["taken_over"]
    assert entries[second.set.digest]["computed_with"] == {"batch_size": 8}


def test_rows_of_another_kind_of_device_are_taken_over_only_where_allowed(tmp_path, monkeypatch):
    write_photos(tmp_path / "photos", names(0, 21))
    write_manifest(tmp_path, names(0, 20))
    record = Compute.record
    with monkeypatch.context() as on_gpu:
        on_gpu.setattr(Compute, "record", lambda self, dtype: {**record(self, dtype), "device": "cuda"})
        extract_photos(tmp_path)
    write_manifest(tmp_path, names(0, 21))
    (computed,) = extract_photos(tmp_path)
    assert (computed.rows_made, computed.rows_taken) == (21, {})
    write_manifest(tmp_path, names(1, 20))
    (third,) = extract_photos(tmp_path, allow_mixed=True)
    assert third.rows_made == 0


def test_a_set_that_was_started_takes_over_rows_when_it_is_completed(tmp_path, model_rows):
    write_photos(tmp_path / "photos", names(0, 300))
    write_manifest(tmp_path, names(0, 290))
    extract_photos(tmp_path)
    write_manifest(tmp_path, names(0, 300))
    extract_photos(tmp_path, shard=(1, 3))
    model_rows.seen = set()
    (outcome,) = extract_photos(tmp_path)
    assert outcome.rows_made < 11
    assert outcome.rows_reused == 128
    (fresh,) = extract_photos(tmp_path, store="fresh")
    assert outcome.set.stored_digest() == fresh.set.stored_digest()
