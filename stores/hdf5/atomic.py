"""Writing a file or folder of an export so that it is either complete or absent."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from stores.errors import UserError
from stores.storage.base import PARTIAL
from stores.units import format_bytes


def refuse_existing(path: Path) -> None:
    """Raise UserError when ``path`` exists: an export never replaces anything."""
    if path.exists() or path.is_symlink():
        raise UserError(f"{path} exists already: choose another name or remove it first")


def need_space(folder: Path, n_bytes: int) -> None:
    """Raise UserError when the disk of ``folder`` has less than ``n_bytes`` bytes free."""
    while not folder.exists():
        folder = folder.parent
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    if free < n_bytes:
        raise UserError(
            f"{folder} has {format_bytes(free)} free and {format_bytes(n_bytes)} are needed: free some space or choose "
            "another disk"
        )


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a partial name beside ``path``; the file that the block writes is fsynced and then gets its final name.

    When the block fails the file is removed. Raises UserError when ``path`` exists or cannot be written.
    """
    with _new(path) as partial:
        yield partial
        _fsync(partial)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a new empty folder under a partial name; it and its files are fsynced, then it gets its final name.

    When the block fails the folder is removed. Raises UserError when ``path`` exists or cannot be written.
    """
    with _new(path) as partial:
        partial.mkdir()
        yield partial
        for child in partial.iterdir():
            _fsync(child)
        _fsync(partial)


def reserve(path: Path | int, n_bytes: int) -> None:
    """Allocate the blocks of a file, by path or descriptor; raises OSError where the disk or a quota has too few."""
    if not hasattr(os, "posix_fallocate") or n_bytes < 1:
        return
    descriptor = path if isinstance(path, int) else os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        os.posix_fallocate(descriptor, 0, n_bytes)
    finally:
        if not isinstance(path, int):
            os.close(descriptor)


@contextlib.contextmanager
def _new(path: Path) -> Iterator[Path]:
    refuse_existing(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}{PARTIAL}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        refuse_existing(path)  # another process may have made it meanwhile
        partial.rename(path)
        _fsync(path.parent)
    except OSError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"cannot write {path} ({error.strerror or error}): free some space or choose another place"
        ) from error
    finally:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
