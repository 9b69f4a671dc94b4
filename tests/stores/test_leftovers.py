"""What gc lists and removes, and what it never touches."""

import pytest

from stores import Store
from stores.errors import UserError
from stores.maintenance.garbage import check_minimum_age, find_garbage, remove
from stores.maintenance.verify import verify
from stores.writing.sealing import seal
from tests.stores.test_repair import findings
from tests.stores.test_zarr_readers import half_made


def kinds(root, cited=None):
    return sorted((one.kind, one.key.rpartition("/")[2]) for one in find_garbage(Store(root), cited))


def test_leftovers_of_killed_writers_are_found_and_what_counts_stays(tmp_path):
    made, _ = half_made(tmp_path, numbers=(0, 2))
    folder = tmp_path / made.prefix
    partial = folder / "tokens" / "block.0" / "c.1.0.0.12-ab.partial"
    partial.write_bytes(b"half")
    loose = folder / "tokens" / "block.0" / "c.1.0.0"
    loose.write_bytes(b"published, not committed")
    assert kinds(tmp_path) == [
        ("partial file", partial.name),
        ("uncommitted chunk", "c.1.0.0"),
        ("unsealed set", made.digest),
    ]
    small = [one for one in find_garbage(Store(tmp_path), None) if one.kind != "unsealed set"]
    with pytest.raises(UserError, match="--older-than 0"):
        check_minimum_age(Store(tmp_path), small, 3600.0)
    check_minimum_age(Store(tmp_path), small, 3600.0, now=lambda: partial.stat().st_mtime + 3601)
    assert remove(Store(tmp_path), small) == len(b"half") + len(b"published, not committed")
    made.refresh()
    assert made.committed("tokens/block.0") == {0, 2}
    assert findings(tmp_path) == {}


def test_a_stale_commit_record_goes_and_the_seal_stays(tmp_path):
    made, arrays = half_made(tmp_path, numbers=(0, 1, 2))
    record = next((tmp_path / made.prefix / "commits").iterdir())
    kept = record.read_bytes()
    seal(made, [array.name for array in arrays])
    record.write_bytes(kept)  # killed between the seal and the removal of what it replaces
    assert findings(tmp_path) == {}
    assert kinds(tmp_path) == [("stale commit record", record.name)]
    remove(Store(tmp_path), list(find_garbage(Store(tmp_path), None)))
    assert kinds(tmp_path) == []
    assert findings(tmp_path) == {}


def test_sets_go_with_their_notes_and_cited_ones_are_no_leftovers(tmp_path):
    made, arrays = half_made(tmp_path, numbers=(0, 1, 2))
    seal(made, [array.name for array in arrays])
    store = Store(tmp_path)
    store.remember("recipe", {"features": made.digest})
    assert kinds(tmp_path) == []
    assert kinds(tmp_path, {made.digest}) == []
    assert kinds(tmp_path, {made.content["tokens/block.0"]}) == []
    assert kinds(tmp_path, {"f" * 64}) == [("uncited set", made.digest)]
    remove(store, list(find_garbage(store, {"f" * 64})))
    assert list(store.set_folders()) == []
    assert store.recall("recipe") is None
    assert [verdict.findings for verdict in verify(store)] == [()]
