"""Every kind of damage to a sealed set is named, and sealing never vouches for what it has not read."""

import shutil

import pytest

from stores import Store
from stores.errors import DamageError, MissingError, UserError
from stores.maintenance.verify import verify, verify_set
from stores.sets import ZarrSet
from stores.writing.sealing import seal
from tests.stores.specs_for_tests import FEATURES, LABELS
from tests.stores.test_zarr_readers import half_made


@pytest.fixture
def sealed(tmp_path):
    made, arrays = half_made(tmp_path, numbers=(0, 1, 2))
    seal(made, [array.name for array in arrays])
    return tmp_path, made


def findings(root):
    return [finding for verdict in verify(Store(root)) for finding in verdict.findings]


def test_a_sound_set_has_no_findings_and_no_commit_records_left(sealed):
    root, made = sealed
    assert findings(root) == []
    assert made.objects.children(f"{made.prefix}/commits") == []
    assert all(made.sealed(name) for name in made.arrays)


def test_every_object_is_watched(sealed):
    """Flip, truncate and delete each object of the set in turn: each is found, and by name."""
    root, made = sealed
    for key in made.objects.keys(made.prefix):
        path = root / key
        original = path.read_bytes()
        flipped = bytearray(original)
        flipped[len(flipped) // 3] ^= 1
        for damaged in (bytes(flipped), original[: len(original) // 2], None):
            if damaged is None:
                path.unlink()
            else:
                path.write_bytes(damaged)
            assert key in {finding.key for finding in findings(root)}, f"damage to {key} was not seen"
            path.write_bytes(original)
    assert findings(root) == []


@pytest.mark.parametrize("depth", ["quick", "full"])
def test_an_object_larger_than_the_memory_it_is_read_into_is_watched_everywhere(sealed, depth, monkeypatch):
    root, made = sealed
    monkeypatch.setattr("stores.maintenance.verify.PIECE_BYTES", 7)
    path = root / made.prefix / "tokens" / "block.0" / "c.0.0.0"
    original = path.read_bytes()
    assert len(original) > 3 * 7
    assert verify_set(made.objects, made.prefix, depth=depth).findings == ()
    for place in (0, 6, 7, len(original) // 2, len(original) - 5, len(original) - 1):
        path.write_bytes(original[:place] + bytes([original[place] ^ 1]) + original[place + 1 :])
        found = verify_set(made.objects, made.prefix, depth=depth).findings
        assert [finding.key.rpartition("/")[2] for finding in found] == ["c.0.0.0"], f"byte {place}"


@pytest.mark.parametrize(("part_bytes", "largest"), [(1, 1), (1 << 20, 16)])
def test_threads_take_large_objects_one_by_one(sealed, part_bytes, largest, monkeypatch):
    class Shares:
        """An executor that keeps what it hands out."""

        def __init__(self):
            self.sizes = []

        def map(self, function, parts):
            self.sizes += [len(part) for part in parts]
            return map(function, parts)

    _, made = sealed
    monkeypatch.setattr("stores.maintenance.verify._PART_BYTES", part_bytes)
    shares = Shares()
    assert verify_set(made.objects, made.prefix, shares).findings == ()
    assert (max(shares.sizes), sum(shares.sizes) > 16) == (largest, True)


def test_swapped_and_stray_objects_are_found(sealed):
    root, made = sealed
    folder = root / made.prefix / "tokens" / "block.0"
    first, second = folder / "c.0.0.0", folder / "c.1.0.0"
    keep = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(keep)
    assert {finding.key.rpartition("/")[2] for finding in findings(root)} == {"c.0.0.0", "c.1.0.0"}
    second.write_bytes(first.read_bytes())
    first.write_bytes(keep)
    shutil.copy(first, folder / "c.9.0.0")
    assert [finding.problem for finding in findings(root)] == ["is not referred to by any record of this set"]


def test_sealing_returns_damaged_ranges_to_missing(tmp_path):
    made, arrays = half_made(tmp_path, numbers=(0, 1, 2))
    chunk = tmp_path / made.prefix / "tokens" / "block.1" / "c.1.0.0"
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"x")
    assert seal(made, [array.name for array in arrays]) == {"tokens/block.1": [1]}
    reopened = ZarrSet(made.objects, made.prefix)
    assert reopened.committed("tokens/block.1") == {0, 2}
    assert reopened.sealed("tokens/block.0")


def test_reading_a_damaged_chunk_says_so(sealed):
    root, made = sealed
    chunk = root / made.prefix / "tokens" / "block.0" / "c.0.0.0"
    chunk.write_bytes(b"xx" + chunk.read_bytes()[2:])
    with pytest.raises(DamageError, match="patchbank verify"):
        made["block.0"][0]
    chunk.unlink()
    with pytest.raises(DamageError, match="is gone"):
        made["block.0"][0]


def test_a_torn_commit_record_reads_as_absent(tmp_path):
    made, _ = half_made(tmp_path, numbers=(0, 2))
    record = sorted((tmp_path / made.prefix / "commits").iterdir())[0]
    record.write_bytes(record.read_bytes()[:-20])
    made.refresh()
    assert made.committed("tokens/block.0") == {2}
    assert any("torn" in finding.problem for finding in findings(tmp_path))


def test_opening_by_digest_and_its_beginning(sealed):
    root, made = sealed
    store = Store(root)
    assert store.open(made.digest[:8]).digest == made.digest
    assert store.open(FEATURES).digest == made.digest
    with pytest.raises(MissingError, match="patchbank ls"):
        store.open("ffffffffffff")
    with pytest.raises(MissingError):
        store.open(LABELS)


def test_a_set_from_a_newer_format_is_refused(sealed):
    root, made = sealed
    spec = root / made.prefix / "spec.json"
    spec.write_text(spec.read_text().replace('"format":2', '"format":3'))
    with pytest.raises(UserError, match="newer patchbank"):
        Store(root).open(made.digest)


@pytest.mark.parametrize("damage", ["flipped", "truncated", "swapped", "gone"])
def test_a_quick_look_notices_what_an_accident_does_to_a_chunk(sealed, damage):
    root, made = sealed
    assert not [one for verdict in verify(Store(root), depth="quick") for one in verdict.findings]
    name = next(iter(made.seals))
    first, second = (root / made.prefix / name / chunk for chunk in list(made.seals[name].table)[:2])
    data = first.read_bytes()
    if damage == "flipped":
        first.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    elif damage == "truncated":
        first.write_bytes(data[:-1])
    elif damage == "swapped":
        first.write_bytes(second.read_bytes())
        second.write_bytes(data)
    else:
        first.unlink()
    found = {one.key for verdict in verify(Store(root), depth="quick") for one in verdict.findings}
    expected = {first, second} if damage == "swapped" else {first}
    assert found == {str(path.relative_to(root)) for path in expected}
