"""Encoding and decoding chunks, and Zarr v3 metadata.

A chunk is its rows as little-endian C-order bytes, optionally zstd, followed by the CRC32C of what precedes it,
as the Zarr v3 specification defines the codecs ``bytes``, ``zstd`` and ``crc32c``. They are encoded here and not by
zarr-python so that the store decides when bytes are fsynced; the tests read them with zarr-python.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import crc32c as castagnoli
import numpy as np

from stores.errors import DamageError
from stores.format.chunk_table import StoredObject
from stores.format.layout import Layout
from stores.specs import ArraySpec

ZSTD_LEVEL = 3


class Encoded(NamedTuple):
    """The stored bytes of a chunk, and what records say of them."""

    parts: tuple[bytes | memoryview, ...]
    stored: StoredObject
    content: bytes
    """sha256 of the chunk's rows, without padding."""


def crc32c(payload: bytes | memoryview, before: int = 0) -> int:
    """Return the CRC32C (Castagnoli) of bytes that follow others with the checksum ``before``, without a copy."""
    # This library releases the interpreter lock; with one that holds it, threads would encode chunks one by one.
    return int(castagnoli.crc32c(payload, before))


class Checksum:
    """CRC32C of the first ``n_bytes`` bytes that are read, updated piece by piece; a piece ends where they end."""

    def __init__(self, n_bytes: int) -> None:
        self.left = n_bytes
        self.value = 0

    def __call__(self, piece: memoryview) -> None:
        """Add the next bytes."""
        if self.left > 0:
            self.value = crc32c(piece, self.value)
        self.left -= len(piece)


def encode_chunk(rows: np.ndarray, compression: str, n_rows: int | None = None) -> Encoded:
    """Return the stored bytes of a full chunk of rows (edge chunks have to be padded with the fill value).

    Args:
        rows: All rows of the chunk.
        compression: Codec of the set's layout.
        n_rows: How many of them are rows of the array; the others are padding. None for all.
    """
    return encode_pieces([rows[:n_rows]], rows[len(rows) if n_rows is None else n_rows :], compression)


def encode_pieces(pieces: Sequence[np.ndarray], padding: np.ndarray, compression: str) -> Encoded:
    """Return the stored bytes of a chunk whose rows lie in several places; they are hashed and written from there.

    Args:
        pieces: The rows of the chunk that are rows of the array, some at a time.
        padding: Rows of the fill value up to a full chunk.
        compression: Codec of the set's layout.
    """
    plain, filling = [_bytes_of(piece) for piece in pieces], _bytes_of(padding)
    sha256 = hashlib.sha256()
    for part in plain:
        sha256.update(part)
    content = sha256.digest()
    payload: list[bytes | memoryview] = [*plain, filling] if len(filling) else [*plain]
    if compression == "zstd":
        from numcodecs import Zstd

        compressed = bytes(Zstd(level=ZSTD_LEVEL).encode(b"".join(payload)))
        payload, sha256 = [compressed], hashlib.sha256(compressed)
    elif len(filling):  # the rows are hashed once: the hash of what is stored goes on from that of the rows
        sha256.update(filling)
    checksum = 0
    for stored_part in payload:
        checksum = crc32c(stored_part, checksum)
    tail = checksum.to_bytes(4, "little")
    sha256.update(tail)
    stored = StoredObject(size=sum(map(len, payload)) + 4, sha256=sha256.hexdigest(), crc32c=checksum)
    return Encoded((*payload, tail), stored, content)


def _bytes_of(rows: np.ndarray) -> memoryview:
    contiguous = np.ascontiguousarray(rows, dtype=rows.dtype.newbyteorder("<"))
    plain: memoryview = contiguous.reshape(-1).view(np.uint8).data
    return plain


def decode_chunk(data: bytes, array: ArraySpec, layout: Layout, name: str) -> np.ndarray:
    """Return a chunk's rows, read-only.

    Raises DamageError when the CRC32C differs, zstd cannot decompress it, or it holds another number of bytes.

    Args:
        data: The stored bytes of the chunk.
        array: Record of the array it belongs to.
        layout: Layout of the set.
        name: Path or URL of the chunk, for messages.
    """
    shape = (layout.chunk_rows(array), *array.row_shape)
    expected = layout.chunk_rows(array) * array.row_bytes
    payload: bytes | memoryview = memoryview(data)[:-4]
    if len(data) < 4 or crc32c(payload) != int.from_bytes(data[-4:], "little"):
        raise DamageError(f"the checksum of {name} differs from that of its bytes: run `patchbank verify`")
    if layout.compression == "zstd":
        from numcodecs import Zstd

        out = np.empty(expected, np.uint8)
        try:
            payload = memoryview(Zstd().decode(payload, out))
        except (RuntimeError, ValueError) as error:  # no zstd, or more rows than the chunk has
            raise DamageError(f"{name} does not decompress: run `patchbank verify`") from error
    if len(payload) != expected:
        raise DamageError(f"{name} holds {len(payload)} bytes of rows instead of {expected}: run `patchbank verify`")
    return np.frombuffer(payload, dtype=np.dtype(array.dtype).newbyteorder("<")).reshape(shape)


def array_metadata(array: ArraySpec, layout: Layout) -> bytes:
    """Return the array's ``zarr.json``."""
    codecs: list[dict[str, Any]] = [{"name": "bytes", "configuration": {"endian": "little"}}]
    if np.dtype(array.dtype).itemsize == 1:
        codecs = [{"name": "bytes"}]
    if layout.compression == "zstd":
        codecs.append({"name": "zstd", "configuration": {"level": ZSTD_LEVEL, "checksum": False}})
    codecs.append({"name": "crc32c"})
    fill = array.fill
    return _json(
        {
            "zarr_format": 3,
            "node_type": "array",
            "shape": [layout.n_rows, *array.row_shape],
            "data_type": array.dtype,
            "chunk_grid": {
                "name": "regular",
                "configuration": {"chunk_shape": [layout.chunk_rows(array), *array.row_shape]},
            },
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
            "fill_value": "NaN" if isinstance(fill, float) else fill,
            "codecs": codecs,
            "attributes": dict(array.attributes),
            "dimension_names": list(array.dimension_names),
        }
    )


def group_metadata(attributes: dict[str, Any]) -> bytes:
    """Return a group's ``zarr.json``."""
    return _json({"zarr_format": 3, "node_type": "group", "attributes": attributes})


def _json(record: dict[str, Any]) -> bytes:
    return (json.dumps(record, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()
