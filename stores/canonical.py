"""Canonical JSON, and the digests and checksums made from it.

A record's digest is the sha256 of its canonical JSON: sorted keys, no spaces, UTF-8, no NaN. Two records
with equal digests are equal; nothing that depends on the machine (paths, times, worker counts) may enter one.
"""

import hashlib
import json
from collections.abc import Container, Iterable, Mapping
from typing import Any

_NO_PART = frozenset(("", ".", ".."))


def canonical_json(record: Any) -> bytes:
    """Return a record's canonical JSON; raises ValueError on NaN or infinity."""
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def sha256_hex(data: bytes | memoryview) -> str:
    """Return the sha256 of some bytes, as 64 hexadecimal characters."""
    return hashlib.sha256(data).hexdigest()


def digest(record: Any) -> str:
    """Return the sha256 of the record's canonical JSON, as 64 hexadecimal characters."""
    return sha256_hex(canonical_json(record))


def checksummed(record: Mapping[str, Any]) -> bytes:
    """Return the record as JSON with its own digest under ``"checksum"``, by which a torn copy is recognised."""
    if "checksum" in record:
        raise ValueError("a record to be checksummed must not hold a checksum yet")
    return canonical_json({**record, "checksum": digest(dict(record))}) + b"\n"


def read_checksummed(data: bytes | None) -> dict[str, Any] | None:
    """Return a record written by `checksummed`, or None when it is absent (None), torn, edited or not JSON."""
    if data is None or not data.endswith(b"\n"):  # its last byte: without it the JSON is whole and the object torn
        return None
    try:
        record = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    checksum = record.pop("checksum", None)
    try:
        intact = checksum == digest(record)
    except (ValueError, RecursionError):
        return None
    return record if intact else None


def relative_name(name: str) -> str:
    """Return ``name`` if it is a clean relative POSIX path; raises ValueError if it could leave its root."""
    # Not by pathlib: a data set has a million names.
    if "\\" in name or "\0" in name or not _NO_PART.isdisjoint(name.split("/")):
        raise ValueError(f"{name!r} is not a plain relative path")
    return name


def sources_digest(entries: Iterable[tuple[str, str]]) -> str:
    """Return the digest of ``(relative name, sha256 of the file)`` pairs, in any order."""
    lines = sorted([relative_name(name), value] for name, value in entries)
    return digest(lines)


def samples_digest(rows: Iterable[tuple[str, tuple[int, int, int, int]]], invalid: Container[str] = frozenset()) -> str:
    """Return the digest of the rows in order: ``(source name, tile box)`` each.

    A tile box is (left, top, right, bottom) in pixels of the resized source. Rows of the ``invalid`` sources, which
    hold no features, are marked in the digest; where all rows are valid it is the same whatever `bad_samples` says.
    """
    lines = [[relative_name(name), list(box), *(["invalid"] if name in invalid else [])] for name, box in rows]
    return digest(lines)
