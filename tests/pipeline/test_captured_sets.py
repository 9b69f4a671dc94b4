"""Captures in stores: added to a sealed set in one pass, the same bytes from shards, taken over, repaired."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.extraction import run
from pipeline.extraction.compute import Compute
from pipeline.extraction.model_pass.running import ModelPass
from pipeline.extraction.options import ExtractOptions
from pipeline.extraction.recomputing.repair import repair_recipe
from pipeline.extraction.run import Recorded, Workspace
from pipeline.recipe import FeatureRecipe, StorageRecipe
from pipeline.source_choice import ALL_SOURCES, SourceChoice
from pipeline.views import CLEAN
from stores import Store
from stores.errors import UserError
from stores.maintenance.verify import verify
from tests.pipeline.tiny import recipe, write_camvid

CPU = Compute("cpu", batch_size=3, threads=1)
KEPT = {
    "captures": ("attention", "class-attention", "frequency", "token-statistics", "grams"),
    "capture_points": ("embedding", "output"),
    "gram_rows": 4,
}
PLAIN = FeatureRecipe(norm="none", layers=(1, 3))
CAPTURED = FeatureRecipe(norm="none", layers=(1, 3), **KEPT)


@pytest.fixture
def data(tmp_path):
    return write_camvid(tmp_path / "data" / "CamVid").parent


def made(tmp_path, data, features, store="store", options=None, **changes):
    where = Workspace(Store(tmp_path / store), data, tmp_path)
    report = run.extract_recipe(recipe(features=features, **changes), where, CPU, options or ExtractOptions())
    return where, report.outcomes[0]


def test_captures_are_added_to_a_sealed_set_without_touching_its_tokens(tmp_path, data, monkeypatch):
    where, before = made(tmp_path, data, PLAIN)
    times = {path: path.stat().st_mtime_ns for path in Path(where.store.location).rglob("tokens/**/c.*")}
    asked = []
    original = ModelPass.__init__

    def note(self, model, arrays, precision):
        asked.append({array.group for array in arrays})
        original(self, model, arrays, precision)

    monkeypatch.setattr(ModelPass, "__init__", note)
    _, after = made(tmp_path, data, CAPTURED)
    assert after.set.digest == before.set.digest
    assert asked == [{"attention", "frequency", "statistics", "grams"}]
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert all(after.set.sealed(name) for name in after.set.arrays)
    assert not [finding for verdict in verify(where.store) for finding in verdict.findings]
    _, whole = made(tmp_path, data, CAPTURED, "other")
    for name, array in whole.set.arrays.items():
        assert after.set.content[name] == whole.set.content[name], array.name


def test_shards_make_the_same_bytes_as_one_process(tmp_path, data):
    _, whole = made(tmp_path, data, CAPTURED)
    for shard in ((1, 3), (0, 3), (2, 3)):
        _, parts = made(tmp_path, data, CAPTURED, "parts", ExtractOptions(shard=shard))
    parts.set.refresh()
    assert parts.set.content == whole.set.content


def test_grams_are_those_of_the_stored_tokens(tmp_path, data):
    """28 rows in ranges of 4, of which each is one minibatch."""
    features = CAPTURED.model_copy(update={"store_dtype": "float32"})
    _, outcome = made(tmp_path, data, features, storage=StorageRecipe(range_megabytes=0.004))
    vectors = outcome.set["block.3"][:].reshape(28, -1).astype(np.float64)
    found = outcome.set["grams/block.3.patches.rows4"][:]
    for row in range(28):
        first = row // 4 * 4
        np.testing.assert_allclose(found[row, : row - first + 1], vectors[first : row + 1] @ vectors[row], rtol=1e-6)
        assert not found[row, row - first + 1 :].any()


def test_minibatches_are_taken_over_whole_or_not_at_all(tmp_path, data, monkeypatch):
    """The first 4 images have 16 rows; 3 more are computed, and a choice that begins elsewhere computes all."""
    seen, original = [], ModelPass.__call__

    def note(self, pixels, tile_ids=(), rows=None):
        seen.extend(rows)
        return original(self, pixels, tile_ids, rows)

    def extract(choice, store):
        where = Workspace(Store(tmp_path / store), data, tmp_path)
        return run.extract_recipe(recipe(features=CAPTURED), where, CPU, choice=choice).outcomes[0].set

    extract(SourceChoice(lambda table: list(table["source"])[:4], "first four"), "store")
    monkeypatch.setattr(ModelPass, "__call__", note)
    grown = extract(ALL_SOURCES, "store")
    assert sorted(set(seen)) == list(range(16, 28))
    fresh = extract(ALL_SOURCES, "fresh")
    assert grown.content == fresh.content


def test_a_lost_chunk_of_grams_is_computed_again_with_its_minibatch(tmp_path, data):
    where, outcome = made(tmp_path, data, CAPTURED)
    lost = Path(where.store.location) / outcome.set.prefix / "grams" / "block.1.patches.rows4" / "c.3.0"
    bytes_before = lost.read_bytes()
    lost.write_bytes(bytes_before[::-1])
    wanted = recipe(features=CAPTURED)
    noted = where.store.recall(wanted.model_key(wanted.models[0]))
    recorded = [Recorded(wanted.models[0], CLEAN, noted["features"], noted["labels"])]
    repaired = repair_recipe(wanted, where, recorded, lambda: CPU)
    assert [one.remade for one in repaired if one.remade] == [{"grams/block.1.patches.rows4": [3]}]
    assert lost.read_bytes() == bytes_before


def test_ranges_smaller_than_a_minibatch_are_refused_with_both_numbers(tmp_path, data):
    with pytest.raises(UserError, match=r"ranges of this set have 4 rows, fewer than the 8 of a minibatch of grams"):
        made(tmp_path, data, CAPTURED.model_copy(update={"gram_rows": 8}))
    large = StorageRecipe(range_megabytes=1)
    _, outcome = made(tmp_path, data, CAPTURED.model_copy(update={"gram_rows": 8}), storage=large)
    assert outcome.set.sealed("grams/block.1.patches.rows8")


def test_covariances_are_added_alike_by_shards_and_without_tokens(tmp_path, data):
    """Rows as one process makes them; a damaged one is named."""
    bare = FeatureRecipe(norm="none", layers=(1, 3), tokens="none")
    kept, small = bare.model_copy(update={"captures": ("covariances",)}), StorageRecipe(range_megabytes=0.004)
    made(tmp_path, data, bare, storage=small)
    where, whole = made(tmp_path, data, kept, storage=small)
    made(tmp_path, data, bare, "parts", storage=small)
    for shard in ((1, 3), (0, 3), (2, 3)):
        _, parts = made(tmp_path, data, kept, "parts", ExtractOptions(shard=shard), storage=small)
    parts.set.refresh()
    name = "covariances/block.3"
    assert parts.set.sealed(name)
    assert parts.set.content[name] == whole.set.content[name]
    _, tokens = made(tmp_path, data, FeatureRecipe(norm="none", layers=(3,), store_dtype="float32"), "tokens")
    rows = tokens.set["block.3"][:].astype(np.float64)
    expected = rows.mean(axis=1)
    np.testing.assert_allclose(whole.set[name][:][:, : rows.shape[2]], expected, rtol=1e-4, atol=1e-5)
    lost = next((Path(where.store.location) / whole.set.prefix / "covariances" / "block.3").glob("c.*"))
    lost.write_bytes(lost.read_bytes()[::-1])
    found = [finding.key for verdict in verify(where.store) for finding in verdict.findings]
    assert found == [f"{whole.set.prefix}/{name}/{lost.name}"]
