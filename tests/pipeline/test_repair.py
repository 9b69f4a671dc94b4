"""Repair gives back the sealed bytes, or says what is lost and touches nothing."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks.damage import COMPUTE, KINDS, bytes_of, campaign, check_and_repair, small_store
from pipeline.extraction.compute import Compute
from pipeline.extraction.model_pass.running import ModelPass
from pipeline.extraction.recomputing import repair
from pipeline.extraction.recomputing.repair import batch_span, repair_recipe
from pipeline.extraction.run import Recorded, Workspace
from pipeline.views import CLEAN
from stores import Store
from stores.format.layout import Layout
from stores.maintenance.verify import verify


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    return folder, small_store(folder, layers=(3,))[1]


@pytest.fixture
def site(made, tmp_path):
    folder, recipe = made
    shutil.copytree(folder / "store", tmp_path / "store")
    where = Workspace(Store(tmp_path / "store"), folder, folder)
    noted = where.store.recall(recipe.model_key(recipe.models[0]))
    recorded = [Recorded(recipe.models[0], CLEAN, noted["features"], noted["labels"])]

    def run_repair(compute=COMPUTE, data=folder, **options):
        return repair_recipe(recipe, Workspace(where.store, data, folder), recorded, lambda: compute, **options)

    return where, recipe, run_repair


def findings(store):
    return [finding.key for verdict in verify(store) for finding in verdict.findings]


def features(store):
    return next(one for one in store.sets() if one.spec.kind == "features")


def test_damage_is_named_and_mended_whatever_it_is(site):
    """A part of `python -m benchmarks damage`, which does this to every object: one of each sort of object here."""
    where, recipe, _ = site
    root = Path(where.store.location)
    keys = list(bytes_of(root))
    target = features(where.store)
    records = [key for key in keys if key.startswith(target.prefix) and key.count("/") == 2]
    inside = ["tokens/zarr.json", *(f"tokens/block.3/{name}" for name in ("zarr.json", "spec.json", "c.2.0.0"))]
    inside.append("seals/tokens__block.3.json")
    chosen = [*records, *(f"{target.prefix}/{name}" for name in inside), *(key for key in keys if "index/" in key)]
    assert len(records) == 8
    cases = list(campaign(root, chosen, *check_and_repair(where, recipe), seed=1))
    assert {case.kind for case in cases} == set(KINDS)
    assert [case for case in cases if not (case.named and case.repaired)] == []


@pytest.mark.slow
def test_every_damage_is_named_and_mended(site):
    where, recipe, _ = site
    root = Path(where.store.location)
    cases = list(campaign(root, list(bytes_of(root)), *check_and_repair(where, recipe)))
    assert [case for case in cases if not (case.named and case.repaired)] == []


def test_the_recorded_batch_is_used_and_only_damaged_chunks_are_computed(site, monkeypatch):
    where, _, run_repair = site
    target = features(where.store)
    damaged = Path(where.store.location) / target.prefix / "tokens" / "block.3" / "c.1.0.0"
    before = damaged.read_bytes()
    damaged.write_bytes(before[::-1])
    seen = []
    recompute = repair.recompute

    def watched(job, wanted, compute, workers, take):
        def noted(batch, values):
            seen.append((batch.start, len(batch.pixels), sorted(values)))
            take(batch, values)

        recompute(job, wanted, compute, workers, noted)

    monkeypatch.setattr(repair, "recompute", watched)
    found = run_repair(Compute("cpu", batch_size=3, threads=1))
    assert damaged.read_bytes() == before
    assert seen == [(4, 4, ["tokens/block.3"])]
    assert [one.remade for one in found if one.title == "test_vit"] == [{"tokens/block.3": [1]}]
    assert any("batch size 4 is used" in note for one in found for note in one.notes)


def test_without_images_the_lost_rows_are_named_and_records_are_still_mended(site, tmp_path):
    where, _, run_repair = site
    target = features(where.store)
    folder = Path(where.store.location) / target.prefix
    (folder / "tokens" / "block.3" / "c.1.0.0").unlink()
    (folder / "compute.json").unlink()
    found = {one.title: one for one in run_repair(data=tmp_path / "nowhere")}
    assert found["test_vit"].report.lost == {"tokens/block.3": [1]}
    assert "there is no folder" in found["test_vit"].reason
    assert findings(where.store) == [f"{target.prefix}/tokens/block.3/c.1.0.0"]


class Shifted(ModelPass):
    """A library version that computes otherwise."""

    def __call__(self, pixels, places=(), rows=None):
        stored, sums = super().__call__(pixels, places, rows)
        return {name: values + 1 for name, values in stored.items()}, sums


def test_other_bytes_replace_nothing_until_they_are_accepted(site, monkeypatch):
    where, _, run_repair = site
    target = features(where.store)
    whole = target["block.3"][:]
    content = dict(target.content)
    damaged = Path(where.store.location) / target.prefix / "tokens" / "block.3" / "c.1.0.0"
    damaged.write_bytes(b"not a chunk")
    monkeypatch.setattr("pipeline.extraction.computing.ModelPass", Shifted)
    one = next(one for one in run_repair() if one.title == "test_vit")
    assert one.report.lost == {"tokens/block.3": [1]}
    assert "--accept-new" in one.reason
    assert damaged.read_bytes() == b"not a chunk"

    one = next(one for one in run_repair(accept_new=True) if one.title == "test_vit")
    assert one.accepted_new == {"tokens/block.3": [1]}
    assert findings(where.store) == []
    again = features(where.store)
    changed = again["block.3"][:]
    np.testing.assert_array_equal(changed[:4], whole[:4])
    np.testing.assert_array_equal(changed[4:8], (whole[4:8] + 1).astype(np.float16))
    np.testing.assert_array_equal(changed[8:], whole[8:])
    assert {name for name in content if again.content[name] != content[name]} == {"tokens/block.3"}


def test_damaged_labels_come_back_from_the_label_files(site):
    where, _, run_repair = site
    labels = next(one for one in where.store.sets() if one.spec.kind == "labels")
    before = bytes_of(Path(where.store.location))
    for name in labels.arrays:
        chunk = next(child for child in labels.seals[name].objects if child.startswith("c."))
        (Path(where.store.location) / labels.prefix / name / chunk).write_bytes(b"")
    run_repair()
    assert bytes_of(Path(where.store.location)) == before


def test_spans_are_whole_batches_of_one_range():
    layout = Layout(n_rows=30, range_rows=16)
    assert batch_span(layout, 5, 6, 4) == (0, 4, 8)
    assert batch_span(layout, 14, 16, 5) == (0, 10, 16)
    assert batch_span(layout, 24, 30, 5) == (1, 21, 30)
    assert batch_span(layout, 0, 16, 64) == (0, 0, 16)
