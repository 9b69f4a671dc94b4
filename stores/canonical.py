"""Canonical JSON, and the digests and checksums made from it.

A record's digest is the sha256 of its canonical JSON: sorted keys, no spaces, UTF-8, no NaN. Two records
with equal digests are equal; nothing that depends on the machine (paths, times, worker counts) may enter one.
"""

import hashlib
import itertools
import json
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

_NO_PART = frozenset(("", ".", ".."))
_PART = 4096
_SHA256_BYTES = 32


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


def digest_of_list(items: Iterable[Any]) -> str:
    """Return ``digest(list(items))``, with some thousands of the items in memory at a time."""
    found, remaining, separator = hashlib.sha256(b"["), iter(items), b""
    while part := list(itertools.islice(remaining, _PART)):
        found.update(separator + canonical_json(part)[1:-1])
        separator = b","
    found.update(b"]")
    return found.hexdigest()


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


def with_sha256(data: bytes) -> bytes:
    """Return bytes followed by the 32 of their sha256, by which a torn copy is recognised before anything parses it."""
    return data + hashlib.sha256(data).digest()


def without_sha256(data: bytes) -> bytes | None:
    """Return the bytes that were given to `with_sha256`, None where these are torn or edited."""
    content, sha256 = data[:-_SHA256_BYTES], data[-_SHA256_BYTES:]
    return content if hashlib.sha256(content).digest() == sha256 else None


def relative_name(name: str) -> str:
    """Return ``name`` if it is a clean relative POSIX path; raises ValueError if it could leave its root."""
    # Not by pathlib: a data set has a million names.
    if "\\" in name or "\0" in name or not _NO_PART.isdisjoint(name.split("/")):
        raise ValueError(f"{name!r} is not a plain relative path")
    return name


def sources_digest(entries: Iterable[tuple[str, str]], *, in_order: bool = False) -> str:
    """Return the digest of ``(relative name, sha256 of the file)`` pairs, in any order.

    Args:
        entries: The pairs.
        in_order: Whether names increase already: then only some thousands of them are in memory at a time.

    Raises:
        ValueError: A name is not a plain relative path, or names do not increase with ``in_order``.
    """
    lines = ((relative_name(name), value) for name, value in entries)
    return digest_of_list(_increasing(lines) if in_order else sorted(lines))


def _increasing(lines: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    before = ""
    for name, value in lines:
        if name <= before:
            raise ValueError(f"{name!r} follows {before!r} in a list of increasing names")
        before = name
        yield name, value


def samples_digest(rows: Iterable[tuple[str, tuple[int, int, int, int]]], invalid: Container[str] = frozenset()) -> str:
    """Return the digest of the rows in order: ``(source name, tile box)`` each.

    A tile box is (left, top, right, bottom) in pixels of the resized source. Rows of the ``invalid`` sources, which
    hold no features, are marked in the digest; where all rows are valid it is the same whatever `bad_samples` says.
    """
    return digest_of_list(
        [relative_name(name), list(box), *(["invalid"] if name in invalid else [])] for name, box in rows
    )
