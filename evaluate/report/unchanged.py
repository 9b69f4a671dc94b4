"""Tells whether a page would be written with the same bytes again; it is not drawn again then."""

import functools
import hashlib
import importlib.metadata
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from evaluate.results.files import write_file
from stores.canonical import canonical_json, checksummed, read_checksummed
from stores.errors import UserError

MADE_FROM = "made_from.json"
"""What the files of a page were made from, with their sha256."""

PAGE = "report.html"

_LIBRARIES = ("matplotlib", "numpy", "pandas", "scipy")


@functools.cache
def code_digest() -> str:
    """Return a digest of the code that decides claims and draws figures, and of the libraries it draws with."""
    root = Path(__file__).parent.parent
    sources = {path.relative_to(root).as_posix(): _sha256(path) for path in sorted(root.rglob("*.py"))}
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return hashlib.sha256(canonical_json({"sources": sources, "versions": versions})).hexdigest()


def inputs_digest(root: Path, experiment: str, beside: Iterable[str], facts: Mapping[str, Any]) -> str:
    """Return a digest of everything an experiment's page is made from.

    Args:
        root: The results folder.
        experiment: Name of the experiment, whose table is read.
        beside: Experiments that the claims compare with; their tables and notes are read.
        facts: Anything else that the page shows, as plain JSON values.
    """
    read = [f"{experiment}/results.parquet"]
    read += [f"{name}/{file}" for name in beside for file in ("results.parquet", "report.json")]
    tables = {name: _sha256(root / name) for name in read if (root / name).is_file()}
    record = json.dumps({"code": code_digest(), "tables": tables, "facts": facts}, sort_keys=True)
    return hashlib.sha256(record.encode()).hexdigest()


def is_unchanged(folder: Path, made_from: str) -> bool:
    """Return whether the files of a page were made from ``made_from`` and are still as they were written."""
    try:
        record = read_checksummed((folder / MADE_FROM).read_bytes())
        if record is None or record.get("made_from") != made_from:
            return False
        return all(_sha256(folder / name) == sha256 for name, sha256 in record["files"].items())
    except (OSError, AttributeError, KeyError, TypeError):
        return False


def check_folder(folder: Path, experiment: Path) -> None:
    """Raise UserError when the folder holds the results of another experiment file of the same name, still there."""
    try:
        record = read_checksummed((folder / MADE_FROM).read_bytes())
        other = folder / record["experiment"] if record is not None else experiment
        is_another = other.is_file() and not other.samefile(experiment)
    except (OSError, KeyError, TypeError):
        return
    if is_another:
        raise UserError(
            f"{folder} holds the results of {os.path.normpath(other)}, a file of the same name as {experiment}: rename "
            "one of them, or give another --results"
        )


def remember(folder: Path, made_from: str, experiment: Path) -> None:
    """Note what the files of a page were made from, and where the experiment file is."""
    figures = [f"figures/{file.name}" for file in sorted((folder / "figures").glob("*.*"))]
    files = {name: _sha256(folder / name) for name in (PAGE, "claims.csv", "claims.json", "report.json", *figures)}
    where = os.path.relpath(experiment.absolute(), folder.absolute())
    write_file(folder / MADE_FROM, checksummed({"made_from": made_from, "files": files, "experiment": where}))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
