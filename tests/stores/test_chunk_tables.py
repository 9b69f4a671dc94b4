"""Tables of chunks and content digests: round trips, and the definitions in stores/README.md computed another way."""

import hashlib
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stores.format.chunk_table import ChunkTable, ObjectNames, ObjectTables, StoredObject
from stores.format.chunks import crc32c, encode_chunk, encode_pieces
from stores.format.content import ContentDigest
from stores.format.layout import Layout, chunk_name
from tests.stores.specs_for_tests import token_array

CHUNKS = st.lists(st.tuples(st.binary(min_size=32, max_size=32), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)))


@given(first=st.integers(0, 10**6), n_axes=st.integers(1, 5), chunks=CHUNKS)
def test_a_table_reads_as_the_dictionary_it_was_made_from(first, n_axes, chunks):
    entries = [StoredObject(size=size, sha256=sha256.hex(), crc32c=crc) for sha256, crc, size in chunks]
    expected = {f"c.{first + index}" + ".0" * (n_axes - 1): entry for index, entry in enumerate(entries)}
    table = ChunkTable.from_text(first, n_axes, ChunkTable.of(first, n_axes, entries).text)
    assert dict(table) == expected
    assert (len(table), table.n_bytes) == (len(entries), sum(entry.size for entry in entries))
    for name in (
        "c",
        "c.x",
        f"c.{first}" + ".0" * n_axes,
        "c.-1",
        "zarr.json",
        f"c.0{first}",
        "",
        f"c.{first + 10**6}",
    ):
        assert name not in table
        with pytest.raises(KeyError):
            table[name]


@pytest.mark.parametrize("text", ["no base64!", "AAAA", "A" * 52])
def test_other_text_is_no_table(text):
    with pytest.raises(ValueError, match=r"base64|table"):
        ChunkTable.from_text(0, 1, text)


def test_the_objects_of_sealed_arrays_and_committed_ranges():
    entries = [StoredObject(size=number, sha256=f"{number:064x}", crc32c=number) for number in range(7)]
    spec = StoredObject(size=3, sha256="f" * 64)
    tables = ObjectTables()
    tables.add_seal("tokens/a", {"spec.json": spec}, ChunkTable.of(0, 2, entries))
    tables.add_commit("tokens/a", ChunkTable.of(0, 2, entries[::-1]))
    for first in (4, 6, 0):
        tables.add_commit("tokens/b", ChunkTable.of(first, 1, entries[first : first + 2]))
    expected = {"tokens/a/spec.json": spec}
    expected |= {f"tokens/a/c.{number}.0": entry for number, entry in enumerate(entries)}
    expected |= {f"tokens/b/c.{number}": entries[number] for number in (0, 1, 4, 5, 6)}
    assert dict(tables) == expected
    assert (len(tables), tables.n_bytes) == (len(expected), sum(entry.size for entry in expected.values()))
    for key in ("tokens/b/c.2", "tokens/b/c.7", "tokens/a/c.7.0", "tokens/c/c.0", "tokens/a/c.0", "c.0"):
        assert key not in tables


@settings(deadline=None)
@given(
    n_rows=st.integers(1, 40),
    log_range=st.integers(0, 4),
    chunk_bytes=st.integers(1, 400),
    cuts=st.lists(st.integers(0, 40), max_size=6),
)
def test_the_content_digest_does_not_depend_on_the_blocks_that_are_added(n_rows, log_range, chunk_bytes, cuts):
    array = token_array()
    layout = Layout(n_rows=n_rows, range_rows=2**log_range, chunk_bytes=chunk_bytes)
    rows = np.arange(n_rows * array.row_bytes // 2, dtype=np.uint16).view(array.dtype).reshape(n_rows, *array.row_shape)
    content = ContentDigest(layout, array)
    borders = sorted({0, n_rows, *(min(cut, n_rows) for cut in cuts)})
    for start, stop in itertools.pairwise(borders):
        content.update(rows[start:stop])
    of_ranges = b""
    for row_range in layout.ranges():
        step = layout.chunk_rows(array)
        starts = range(row_range.start, row_range.stop, step)
        pieces = [rows[start : min(start + step, row_range.stop)].tobytes() for start in starts]
        of_chunks = b"".join(hashlib.sha256(piece).digest() for piece in pieces)
        of_ranges += hashlib.sha256(of_chunks).digest()
    assert content.hexdigest() == hashlib.sha256(of_ranges).hexdigest()


@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.parametrize("n_used", [8, 3])
def test_an_encoded_chunk_says_what_its_bytes_and_its_rows_are(compression, n_used):
    rows = np.arange(48, dtype=np.float32).reshape(8, 6)
    encoded = encode_chunk(rows, compression, n_used)
    data = b"".join(bytes(part) for part in encoded.parts)
    assert encoded.stored.is_of(data)
    assert encoded.stored.crc32c == crc32c(data[:-4]) == int.from_bytes(data[-4:], "little")
    assert encoded.content == hashlib.sha256(rows[:n_used].tobytes()).digest()
    assert chunk_name(3, token_array()).startswith("c.3.")


def test_names_come_out_as_they_went_in():
    names = {f"tokens/a/c.{number}.0.0" for number in (0, 7, 80078)} | {"tokens/a/c.7.0", "labels/c.3", "c.1.0"}
    names |= {"summary.json", "tokens/a/zarr.json", "tokens/a/c.01.0.0", "tokens/a/c.1.1.0", "tokens/a/c.1.0.partial"}
    found = ObjectNames()
    for name in names:
        found.add(name)
    assert (set(found), len(found)) == (names, len(names))
    assert all(name in found for name in names)
    assert not any(name in found for name in ("tokens/a/c.1.0.0", "tokens/a/c.7", "c.1.0.0", "tokens/b/c.7.0.0", ""))


@pytest.mark.parametrize("compression", ["none", "zstd"])
@given(st.integers(0, 3), st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_a_chunk_in_pieces_is_stored_as_the_whole_one(compression, n_padding, lengths):
    rows = np.arange(6 * (sum(lengths) + n_padding), dtype=np.float32).reshape(-1, 6)
    cuts = np.cumsum(lengths)
    pieces = [rows[stop - length : stop] for stop, length in zip(cuts, lengths, strict=True)]
    strided = np.repeat(pieces[0], 2, axis=1)[:, ::2]  # not contiguous
    encoded = encode_pieces([strided, *pieces[1:]], rows[cuts[-1] :], compression)
    whole = encode_chunk(rows, compression, int(cuts[-1]))
    assert (encoded.stored, encoded.content) == (whole.stored, whole.content)
    assert b"".join(map(bytes, encoded.parts)) == b"".join(map(bytes, whole.parts))
