"""What a fuzzing target is, and bytes that break parsers."""

import contextlib
import functools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stores.errors import PatchbankError


@dataclass(frozen=True)
class Target:
    """One parser: ``run`` may return or raise PatchbankError with one sentence, and nothing else."""

    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    """Files as their authors write them."""
    findings: tuple[bytes, ...] = ()
    """Bytes that once raised something else, or hung."""


TOKENS = (
    *(b"\0", b"\xff", b"\xef\xbb\xbf", b"\r\n", b"\x1b[2J", b"\xc2\xb2", b"\xd9\xa1", b"\xf0\x9f\x92\xa9"),
    *(b"NaN", b"-Infinity", b"1e999", b"-1", b"0", b"1.5", b"true", b"null", b"18446744073709551616"),
    *(b"9" * 5000, b"../" * 3, b"/dev/zero", b"a/" * 3000, b"\\ud800", b"\\u0000"),
    *(b"[" * 4000, b"{" * 50, b'{"a":' * 2000, b"]", b"}", b'"', b"'", b",", b"\n", b"[[", b"<!DOCTYPE a>", b"&a;"),
)
"""What is written between other bytes."""


@contextlib.contextmanager
def one_sentence():
    """Let pass what users are told; fail when it is no sentence."""
    try:
        yield
    except PatchbankError as error:
        words = str(error)
        assert words, "an error without a word"
        assert "\n" not in words, f"more than one line: {words!r}"


@functools.cache
def scratch() -> Path:
    """Return a folder that is gone when the process ends."""
    kept = tempfile.TemporaryDirectory(prefix="patchbank-fuzz-")
    _KEPT.append(kept)
    return Path(kept.name)


_KEPT: list[tempfile.TemporaryDirectory] = []
