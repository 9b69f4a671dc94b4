"""What is remembered of files, as columns: the same as a dictionary would hold, and nothing after damage."""

import io

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.rows import sources
from pipeline.rows.file_notes import UNKNOWN, FileNotes, texts
from pipeline.rows.sources import FileDigests, ListedFiles
from stores import Store
from stores.canonical import checksummed, with_sha256, without_sha256
from stores.errors import MissingError
from stores.format.tables import read_arrow, table_bytes

NAMES = st.text("ab/é.", min_size=1, max_size=4)
NUMBER = st.integers(-(2**63), 2**63 - 1)
SIDE = st.integers(1, 65536)
HEADER = st.just([UNKNOWN] * 3) | st.tuples(SIDE, SIDE, st.integers(1, 9)).map(list)
NUMBERS = st.tuples(st.lists(NUMBER, min_size=4, max_size=4), HEADER).map(lambda both: both[0] + both[1])
FACTS = st.tuples(NUMBERS, st.sampled_from(["", "0" * 64, "f" * 64]))
NOTES = st.dictionaries(NAMES, FACTS, max_size=6)


def notes_of(facts):
    numbers = np.array([numbers for numbers, _ in facts.values()], np.int64).reshape(-1, 7)
    return FileNotes(
        texts(list(facts)), numbers[:, :4], numbers[:, 4:], texts([sha256 for _, sha256 in facts.values()])
    )


def as_dict(notes):
    numbers = np.concatenate([notes.status, notes.headers], axis=1).tolist()
    return dict(zip(notes.names.to_pylist(), zip(numbers, notes.sha256.to_pylist(), strict=True), strict=True))


@given(NOTES, NOTES, st.lists(NAMES, max_size=5))
@settings(deadline=None)
def test_notes_are_those_of_a_dictionary(older, newer, wanted):
    found = notes_of(older).updated(notes_of(newer))
    expected = older | newer
    assert as_dict(found) == expected
    assert FileNotes.from_bytes(found.to_bytes()) is not None
    assert as_dict(FileNotes.from_bytes(found.to_bytes())) == expected
    places = found.find(texts(wanted)).tolist()
    assert [place >= 0 for place in places] == [name in expected for name in wanted]
    for name in wanted:
        assert as_dict(found.without(name)) == {key: value for key, value in expected.items() if key != name}


def test_what_was_torn_or_edited_is_not_read():
    """Nothing parses it: Arrow crashes, or takes all memory, for some flipped bits of a Parquet file's footer."""
    facts = {f"{number}.png": ([number + 1] * 7, f"{number:064x}") for number in range(50)}
    data = notes_of(facts).to_bytes()
    assert as_dict(FileNotes.from_bytes(data)) == facts
    for place in range(len(data)):
        broken = bytearray(data)
        broken[place] ^= 1 << place % 8
        assert FileNotes.from_bytes(bytes(broken)) is None, place
    assert FileNotes.from_bytes(data[:-1]) is None
    assert FileNotes.from_bytes(b"") is None
    assert FileNotes.from_bytes(with_sha256(b"no Parquet")) is None
    assert FileNotes.from_bytes(with_sha256(table_bytes(pd.DataFrame({"name": ["a"]})))) is None


@pytest.mark.parametrize("side", [0, -5, 65_537, 2**40])
def test_sizes_that_no_image_has_are_not_believed(side):
    facts = {"a.png": ([1, 1, 1, 1, side, 5, 1], "0" * 64), "b.png": ([1] * 4 + [UNKNOWN] * 3, "0" * 64)}
    assert FileNotes.from_bytes(notes_of(facts).to_bytes()) is None


def test_columns_in_another_order_are_read():
    facts = {"a.png": ([1, 2, 3, 4, 5, 6, 7], "0" * 64)}
    table = read_arrow(without_sha256(notes_of(facts).to_bytes()), "notes")
    sink = io.BytesIO()
    pyarrow.parquet.write_table(table.select(table.column_names[::-1]), sink)
    assert as_dict(FileNotes.from_bytes(with_sha256(sink.getvalue()))) == facts


def test_findings_that_are_no_table_are_not_read(tmp_path):
    digests = FileDigests(Store(tmp_path / "store"), tmp_path)
    for verdicts in ([1, 2], "ab", None):
        digests.store.objects.put(digests.verdict_key, [checksummed({"verdicts": verdicts})])
        assert FileDigests(digests.store, tmp_path).verdicts == {}


def listed(root, n_files):
    for number in range(n_files):
        (root / f"{number}.png").write_bytes(b"%d" % number)
    return [root / f"{number}.png" for number in range(n_files)]


@pytest.mark.parametrize("fast_seconds", [0, 1])
def test_files_are_hashed_once_with_and_without_threads(tmp_path, monkeypatch, fast_seconds):
    monkeypatch.setattr(sources, "_PART", 2)
    monkeypatch.setattr(sources, "_FAST_SECONDS", fast_seconds)
    paths = listed(tmp_path, 7)
    digests = FileDigests(Store(tmp_path / "store"), tmp_path)
    first = digests.of(paths)
    digests.save()
    paths[3].write_bytes(b"other")
    read = []
    hashed = sources._hashed
    monkeypatch.setattr(sources, "_hashed", lambda path: read.append(path) or hashed(path))
    second = FileDigests(digests.store, tmp_path).of(reversed(paths))
    assert {path for path in paths if first[path] != second[path]} == {paths[3]}
    assert read == [str(paths[3])]


def test_numbers_of_more_than_63_bits_are_told_apart(tmp_path, monkeypatch):
    """Inodes of some network file systems, and times after the year 2262."""
    paths = listed(tmp_path, 2)
    status = {str(path): (1, 2**63 + number, 5, 2**64 - 1 - number) for number, path in enumerate(paths)}
    monkeypatch.setattr(sources, "file_status", lambda path, most: status[path])
    digests = FileDigests(Store(tmp_path / "store"), tmp_path)
    digests.of(paths)
    assert len(set(map(tuple, digests.notes.status.tolist()))) == 2
    monkeypatch.setattr(sources, "_hashed", lambda path: pytest.fail(path))
    digests.of(paths)


def test_a_file_that_is_gone_is_named(tmp_path):
    paths = listed(tmp_path, 3)
    paths[1].unlink()
    digests = FileDigests(Store(tmp_path / "store"), tmp_path)
    with pytest.raises(MissingError, match=r"1\.png is missing"):
        ListedFiles(digests, texts(["0.png", "1.png"]), lambda part: [str(paths[number]) for number in part])
