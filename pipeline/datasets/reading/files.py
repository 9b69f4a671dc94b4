"""Reads files of data sets: bytes, text, JSON and numbers, with errors of one sentence."""

import hashlib
import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stores.errors import MissingError, UserError
from stores.storage.regular_files import read_file

MOST_BYTES = 1 << 30
"""Maximum size of a text file in bytes; reading it takes about ten times as much memory."""

MOST_FRAME = 2**63 - 1
"""Largest number of a frame, that of a 64-bit integer."""


class ChangedFileError(UserError):
    """A file whose bytes are not those that its recorded sha256 names."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} changed while it was being read: run the same command again")
        self.path = path

    def __reduce__(self) -> tuple[type["ChangedFileError"], tuple[Path], dict[str, Any]]:
        # From a worker, which adds its name to the sentence, to the process that reports it.
        return type(self), (self.path,), {**vars(self), "args": self.args}


def is_file(path: Path) -> bool:
    """Return whether there is a file; raises UserError when its folder may not be read or its name is too long."""
    return _is(path, stat.S_ISREG)


def is_folder(path: Path) -> bool:
    """Return whether there is a folder; raises UserError as `is_file` does."""
    return _is(path, stat.S_ISDIR)


def _is(path: Path, kind: Any) -> bool:
    try:
        return bool(kind(path.stat().st_mode))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:  # no permission, a name that is too long, a circle of links, a NUL
        raise _unreadable(path, error) from error


def _unreadable(path: Path | str, error: Exception) -> UserError:
    name = str(path) if len(str(path)) <= 300 else f"{str(path)[:300]}..."
    reason = error.strerror if isinstance(error, OSError) else error
    return UserError(f"{name!r} cannot be read ({reason}); make it readable or correct what names it")


def require_file(path: Path, most: int = MOST_BYTES) -> None:
    """Raise MissingError when there is no such file, UserError when it is none, is too large or may not be looked at.

    A pipe or a device would keep the reader waiting for ever.
    """
    file_status(path, most)


def file_status(path: Path | str, most: int = MOST_BYTES) -> tuple[int, int, int, int]:
    """Return size, times of change in ns and inode, which differ for nearly every change of a file's content.

    Raises as `require_file` does.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 (a `Path` takes longer to make than its file to be looked at)
    except FileNotFoundError as error:
        raise MissingError(f"{path} is missing; restore it") from error
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{path} cannot be read (it is not a file); put the file in its place")
    if status.st_size > most:
        raise UserError(f"{path} has more than {most >> 20} MiB, which is too much for one file; cut it into parts")
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def read_bytes(path: Path, sha256: str = "", most: int = MOST_BYTES) -> bytes:
    """Return a file's bytes; raises as `require_file` does, and ChangedFileError when they have another sha256.

    Args:
        path: The file.
        sha256: The sha256 that is recorded of the file; empty accepts any bytes.
        most: Largest size in bytes.
    """
    require_file(path, most)
    try:
        data = read_file(path, most)  # never waits, should a pipe have taken the place of the file meanwhile
    except FileNotFoundError as error:
        raise MissingError(f"{path} is missing; restore it") from error
    except OSError as error:
        raise _unreadable(path, error) from error
    if sha256 and hashlib.sha256(data).hexdigest() != sha256:
        raise ChangedFileError(path)
    return data


def cache_key(path: Path, sha256: str) -> object:
    """Return what a parsed file is kept under: its sha256, or everything that the file system tells of its content."""
    if sha256:
        return sha256
    return file_status(path)


def read_lines(path: Path, sha256: str = "") -> list[str]:
    """Return the lines of a text file in UTF-8; raises as `read_text` does."""
    return read_text(path, sha256).splitlines()


def read_text(path: Path, sha256: str = "", most: int = MOST_BYTES) -> str:
    """Return a text file without a byte order mark; raises UserError when it is not UTF-8, and as `read_bytes` does."""
    try:
        return read_bytes(path, sha256, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text file in UTF-8; save it as UTF-8 or fetch it again") from error


def read_json(path: Path, sha256: str = "") -> Any:
    """Return the content of a JSON file; raises UserError when it is not JSON, and as `read_bytes` does."""
    text = read_text(path, sha256)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}); fetch it again") from error


def number(value: Any, where: str) -> float:
    """Return a coordinate, from a JSON number or a word of text; raises UserError, beginning with ``where``."""
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    raise UserError(f"{where} has {value!r} where a number belongs; correct or remove the object")


def first_duplicate(names: Iterable[str]) -> str | None:
    """Return the first repeated name, None when all differ; takes linear time."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
