"""Files of a results folder: written whole or not at all, and read with bounds on what others may have written."""

import contextlib
import os
import re
import secrets
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

from stores.errors import DamageError, MissingError, UserError
from stores.format.tables import read_table
from stores.storage.regular_files import open_file, read_file

MOST_BYTES = 1 << 30
"""Size of the largest table as it is stored, and of a result's arrays as they are in memory, in bytes."""

SECTIONS = "answers/sections"
"""Folder of what workers have computed of long passes (`evaluate.results.sections`)."""

_AGAIN = "remove it and run `patchbank evaluate` again"


def read_parquet(path: Path) -> pd.DataFrame:
    """Return a Parquet file as a table; raises UserError when it is none, MissingError when it is gone."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path} has more than {MOST_BYTES} bytes, which no table of results has: {_AGAIN}")
        return read_table(read_file(path), str(path))
    except FileNotFoundError as error:
        raise MissingError(f"{path} is gone: run `patchbank evaluate` again") from error
    except DamageError as error:
        raise UserError(f"{path} is no table of results: {_AGAIN}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; fix that") from error


def read_bounded(path: Path) -> bytes:
    """Return a small file's bytes; raises UserError when it is larger than 64 MiB."""
    if path.stat().st_size > 64 << 20:
        raise UserError(f"{path} has more than 64 MiB, which no report has: {_AGAIN}")
    return read_file(path)


def without_formula(text: str) -> str:
    """Return a cell of a CSV file that no spreadsheet runs: an apostrophe comes before what would begin a formula.

    A carriage return becomes a line break: the csv module does not quote it, and it would begin a new line.
    """
    text = text.replace("\r", "\n")
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\n")) else text


def write_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; raises UserError when the folder cannot be written."""
    partial = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(data)
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; choose another folder") from error


def partial_files(root: Path) -> dict[Path, os.stat_result]:
    """Return the files of a results folder that writers have begun, or left when they were killed, and their status.

    Among them are sections that workers have computed and no task has merged: the same command would.
    """
    found = {}
    sections = (root / SECTIONS).glob("*/*.npz")
    for path in sorted([*root.rglob("*.partial"), *sections]):
        if path.suffix == ".npz" or re.search(r"\.\d+-[0-9a-f]{8}\.partial$", path.name):
            with contextlib.suppress(OSError):  # gone meanwhile
                found[path] = path.lstat()
    return found


def remove_partials(root: Path, older_than: float = 3600.0) -> None:
    """Remove the files that killed writers left in a results folder, those of the last hour excepted.

    Args:
        root: the results folder.
        older_than: age in seconds from which a file belongs to no running writer.
    """
    for path, status in partial_files(root).items():
        if path.suffix == ".partial" and time.time() - status.st_mtime > older_than:
            with contextlib.suppress(OSError):  # gone meanwhile, or another user's
                path.unlink()


def plain_name(name: object) -> str:
    """Return the name of an experiment; raises ValueError for one that leads out of the results folder."""
    if not isinstance(name, str) or name != Path(name).name or name.startswith("."):
        raise ValueError(f"{str(name)[:80]!r} is no name of an experiment")
    return name


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz file by name.

    Raises UserError when it is none, holds objects (which only pickle reads), or unpacks to more than `MOST_BYTES`.
    """
    try:
        with open_file(path) as file, zipfile.ZipFile(file) as packed:
            entries = packed.infolist()
            if sum(entry.file_size for entry in entries) > MOST_BYTES:
                raise UserError(f"{path} unpacks to more than {MOST_BYTES} bytes: {_AGAIN}")
            return {entry.filename.removesuffix(".npy"): _array(packed, entry) for entry in entries}
    except UserError:
        raise
    # What the zip and npy readers raise on broken bytes, SyntaxError and the like on headers, RuntimeError and its like
    # on files that are encrypted, packed in an unknown way or nested.
    except (OSError, ValueError, EOFError, KeyError, TypeError, SyntaxError, zipfile.error, MemoryError,
            RuntimeError) as error:  # fmt: skip
        raise UserError(f"{path} is no file of plain arrays ({error}): {_AGAIN}") from error


def _array(packed: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    """Return one array, its header's size compared with its bytes first, for numpy believes the header."""
    with packed.open(entry) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"version {version} of the npy format")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
        size = dtype.itemsize
        for extent in shape:
            size *= extent
        if dtype.hasobject or any(extent < 0 for extent in shape) or size != entry.file_size - stream.tell():
            raise ValueError("objects, or another size than the header says")
        data = stream.read(size)
    if len(data) != size:
        raise ValueError("cut short")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C").copy()
