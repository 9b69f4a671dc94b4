"""What the store repairs from what it holds, and what it takes for damage."""

import json

import numpy as np
import pytest

from stores import Store
from stores.canonical import canonical_json
from stores.maintenance.describe import card
from stores.maintenance.listing import lines
from stores.maintenance.rebuild import ChunkRebuilder, unseal
from stores.maintenance.repair import repair_index, repair_set
from stores.maintenance.verify import verify
from stores.writing.sealing import seal
from tests.stores.sealed_sets import stored, tokens
from tests.stores.specs_for_tests import FEATURES, values
from tests.stores.test_zarr_readers import half_made


@pytest.fixture
def sealed(tmp_path):
    made, arrays = half_made(tmp_path, numbers=(0, 1, 2))
    seal(made, [array.name for array in arrays])
    Store(tmp_path).remember("recipe", {"features": made.digest})
    return tmp_path, made


def findings(root):
    return {finding.key: finding.problem for verdict in verify(Store(root)) for finding in verdict.findings}


def test_a_half_made_set_is_not_damage_but_a_removed_seal_is(tmp_path):
    made, arrays = half_made(tmp_path, numbers=(0, 2))
    assert findings(tmp_path) == {}
    with_one_more = half_made(tmp_path / "other", numbers=(0, 1, 2))
    assert findings(tmp_path / "other") == {}, "all ranges committed and not yet sealed"
    made, arrays = with_one_more
    seal(made, [arrays[0].name])
    assert findings(tmp_path / "other") == {}
    path = tmp_path / "other" / made.prefix / "seals" / "tokens__block.0.json"
    path.unlink()
    assert list(findings(tmp_path / "other").values()) == ["is gone"]


def test_a_seal_is_made_again_only_from_the_bytes_it_vouched_for(sealed):
    root, made = sealed
    path = root / made.prefix / "seals" / "tokens__block.0.json"
    before = path.read_bytes()
    path.unlink()
    assert repair_set(Store(root), made.prefix).whole
    assert path.read_bytes() == before
    path.unlink()
    chunk = root / made.prefix / "tokens" / "block.0" / "c.1.0.0"
    kept = chunk.read_bytes()
    chunk.write_bytes(kept[::-1])
    report = repair_set(Store(root), made.prefix)
    assert list(report.unrepairable) == [f"{made.prefix}/seals/tokens__block.0.json"]
    assert not path.exists()


def test_lost_chunks_are_listed_and_strays_wait_for_a_word(sealed):
    root, made = sealed
    (root / made.prefix / "tokens" / "block.1" / "c.2.0.0").unlink()
    stray = root / made.prefix / "notes.txt"
    stray.write_text("mine")
    report = repair_set(Store(root), made.prefix)
    assert report.lost == {"tokens/block.1": [2]}
    assert report.strays == [f"{made.prefix}/notes.txt"]
    assert stray.exists()
    assert repair_set(Store(root), made.prefix, remove_strays=True).lost
    assert not stray.exists()
    mender = ChunkRebuilder(made, report.lost)
    assert mender.rows() == {(16, 20): ("tokens/block.1",)}
    rows = values(made.arrays["tokens/block.1"], 20)
    mender.take("tokens/block.1", 0, rows[:17] + 1)  # rows of other chunks are passed over
    mender.take("tokens/block.1", 17, rows[17:])
    assert mender.differing == {"tokens/block.1": [2]}, "row 16 is not what it was"
    mender.take("tokens/block.1", 8, rows[8:])
    assert mender.repaired == {"tokens/block.1": [2]}
    assert findings(root) == {}


def test_both_copies_of_a_record_must_go_before_it_is_lost(sealed):
    root, made = sealed
    summary, compute = root / made.prefix / "summary.json", root / made.prefix / "compute.json"
    before = summary.read_bytes()
    summary.write_bytes(b"{}")
    assert repair_set(Store(root), made.prefix).whole
    assert summary.read_bytes() == before
    layout = root / made.prefix / "layout.json"
    layout_before = layout.read_bytes()
    summary.unlink()
    layout.unlink()
    assert repair_set(Store(root), made.prefix).whole, "few layouts are possible, and one has the recorded sha256"
    assert layout.read_bytes() == layout_before
    summary.unlink()
    compute.unlink()
    report = repair_set(Store(root), made.prefix)
    assert set(report.unrepairable) == {f"{made.prefix}/summary.json", f"{made.prefix}/compute.json"}
    assert repair_set(Store(root), made.prefix, records={"compute.json": b"wrong"}).unrepairable
    spec = canonical_json(made.spec.canonical())
    (root / made.prefix / "spec.json").unlink()
    repair_set(Store(root), made.prefix, records={"spec.json": spec})
    assert (root / made.prefix / "spec.json").read_bytes() == spec


def test_layout_and_the_metadata_of_an_array_come_back_without_a_summary(sealed):
    root, made = sealed
    names = ("layout.json", "summary.json", "tokens/block.0/zarr.json")
    before = [(root / made.prefix / name).read_bytes() for name in names]
    for name in names:
        (root / made.prefix / name).unlink()
    assert set(findings(root)) >= {f"{made.prefix}/{name}" for name in names[:2]}
    assert repair_set(Store(root), made.prefix).whole
    assert [(root / made.prefix / name).read_bytes() for name in names][::2] == before[::2]
    assert findings(root) == {}


def test_a_torn_commit_returns_its_range_to_missing(tmp_path):
    made, _ = half_made(tmp_path, numbers=(0, 2))
    record = sorted((tmp_path / made.prefix / "commits").iterdir())[0]
    record.write_bytes(record.read_bytes()[:-20])
    assert repair_set(Store(tmp_path), made.prefix).whole
    assert findings(tmp_path) == {}
    made.refresh()
    assert made.committed("tokens/block.0") == {2}
    (tmp_path / made.prefix / "tokens" / "block.0" / "c.2.0.0").write_bytes(b"")
    assert repair_set(Store(tmp_path), made.prefix).whole
    made.refresh()
    assert made.committed("tokens/block.0") == frozenset()
    assert findings(tmp_path) == {}


def test_unsealing_keeps_sound_ranges(sealed):
    root, made = sealed
    content = made.content
    unseal(made, {"tokens/block.1": [1]})
    assert made.committed("tokens/block.1") == {0, 2}
    assert made.sealed("tokens/block.0")
    assert findings(root) == {}
    np.testing.assert_array_equal(made["block.1"][:8], values(made.arrays["tokens/block.1"], 20)[:8])
    assert seal(made, ["tokens/block.1"]) == {"tokens/block.1": [1]}
    assert made.content.keys() == content.keys() - {"tokens/block.1"}


def test_notes_are_watched_and_mended(sealed):
    root, made = sealed
    store, note = Store(root), root / "index" / "recipe.json"
    before = note.read_bytes()
    for data in (b"", before[:-5], before.replace(b"recipe", b"receipt"), None):
        note.unlink() if data is None else note.write_bytes(data)
        assert findings(root)
        assert store.recall("recipe") is None
        assert repair_index(store).repaired
        assert note.read_bytes() == before
    assert store.recall("recipe") == {"features": made.digest}


@pytest.mark.parametrize("order", [1, -1])
def test_a_note_that_was_replaced_leaves_no_copy_behind(tmp_path, order):
    specs = [FEATURES.model_copy(update={"revisions": {"x": revision}}) for revision in (1, 2)]
    old, new = (
        stored(tmp_path, [tokens()], spec=spec).digest for spec in sorted(specs, key=lambda s: s.digest)[::order]
    )
    store = Store(tmp_path)
    store.remember("recipe", {"features": old})
    summary = tmp_path / "features" / old / "summary.json"
    before = summary.read_bytes()
    store.remember("recipe", {"features": new})
    assert findings(tmp_path) == {}
    (tmp_path / "index" / "recipe.json").unlink()
    repair_index(store)
    assert store.recall("recipe") == {"features": new}
    summary.write_bytes(before)  # stopped between the note and the copy that it replaces
    assert findings(tmp_path) == {}


def test_ls_tells_the_truth_of_sealed_partial_and_damaged_sets(tmp_path):
    made, arrays = half_made(tmp_path, numbers=(0, 2))
    (partial,) = lines(made.objects)
    assert (partial["state"], partial["rows_done"], partial["ranges_done"]) == ("partial", 12, 2)
    on_disk = sum(path.stat().st_size for path in (tmp_path / made.prefix).rglob("*") if path.is_file())
    assert partial["bytes"] == on_disk

    # Killed between the seal and the summary: the summary lags, the line does not.
    whole, arrays = half_made(tmp_path / "whole", numbers=(0, 1, 2))
    summary = tmp_path / "whole" / whole.prefix / "summary.json"
    before = summary.read_bytes()
    seal(whole, [array.name for array in arrays])
    told = list(lines(whole.objects))
    summary.write_bytes(before)
    assert list(lines(whole.objects)) == told
    assert told[0]["state"] == "sealed"
    assert {key: card(whole)[key] for key in ("state", "rows_done", "bytes")} == {
        key: told[0][key] for key in ("state", "rows_done", "bytes")
    }
    summary.write_bytes(b"")
    assert list(lines(whole.objects)) == told

    (tmp_path / "whole" / "features" / ("0" * 64)).mkdir()
    assert list(lines(whole.objects)) == told, "an empty folder is no set"
    (tmp_path / "whole" / "features" / ("0" * 64) / "spec.json").write_text(json.dumps({"kind": "nothing"}))
    damaged, fine = lines(whole.objects)
    assert damaged["state"] == "damaged"
    assert "verify" in damaged["problem"]
    assert fine == told[0]
