"""Which files a data set's sources are, by content.

Hashing thousands of files at every command would cost minutes, so the store keeps a note of size, modification time
and sha256 a file. A file whose size and time are those of the note is not read again; any other is re-hashed, so
that an edited image or label always leads to another set.
"""

import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.datasets.contract import Dataset
from stores import Store
from stores.canonical import checksummed, digest, read_checksummed
from stores.errors import MissingError, UserError
from stores.storage.regular_files import open_file


class FileDigests:
    """sha256 of files below one root, and which of them are bad samples, remembered in a store."""

    def __init__(self, store: Store, root: Path) -> None:
        self.store = store
        self.root = root.absolute()
        printable = str(self.root).encode("utf-8", "backslashreplace").decode()  # folders need not be UTF-8
        self.key = f"sources/{digest(printable)[:32]}.json"
        self.notes: dict[str, list[int | str]] = {}
        self.verdicts: dict[str, list[str]] = {}
        self.changed = False
        try:
            record = read_checksummed(store.objects.read(self.key))
            if record is not None:  # a torn note costs hashing again, nothing else
                self.notes, self.verdicts = dict(record["files"]), dict(record.get("verdicts", {}))
        except (MissingError, KeyError):
            pass

    def of(self, paths: Iterable[Path], workers: int = 4) -> dict[Path, str]:
        """Return the sha256 of every file; raises MissingError that names the first that is gone."""
        with ThreadPoolExecutor(workers) as pool:
            listed = list(paths)
            return dict(zip(listed, pool.map(self._one, listed), strict=True))

    def _one(self, path: Path) -> str:
        try:
            status = path.stat()
            name = str(path.absolute().relative_to(self.root))
            known = self.notes.get(name)
            if isinstance(known, list) and known[:2] == [status.st_size, status.st_mtime_ns]:
                return str(known[2])
            with open_file(path) as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            raise MissingError(f"{path} is listed by the data set and is not there: restore it") from None
        self.notes[name] = [status.st_size, status.st_mtime_ns, found]
        self.changed = True
        return found

    def verdict(self, asked: object, check_samples: Callable[[], tuple[str, str]]) -> tuple[str, str]:
        """Return what ``judge`` says of an image and of its label, empty where they are good.

        It is remembered under ``asked``, plain JSON values that name the files by content and whatever else it
        depends on.
        """
        key = digest(asked)[:32]
        known = self.verdicts.get(key)
        if not isinstance(known, list) or len(known) != 2:
            known = self.verdicts[key] = list(check_samples())
            self.changed = True
        return str(known[0]), str(known[1])

    def save(self) -> None:
        """Remember what was hashed; the note is a convenience, nothing depends on it."""
        if self.changed:
            verdicts = {"verdicts": self.verdicts} if self.verdicts else {}
            self.store.objects.put(self.key, [checksummed({"files": self.notes, **verdicts})])
            self.changed = False


def changed_files(dataset: Dataset, table: pd.DataFrame) -> dict[str, str]:
    """Return what is wrong with the source files of a sample table that changed or are gone, by path.

    Every file is read and hashed again, whatever the notes say.
    """
    expected: dict[Path, str] = {dataset.root / row.source: row.source_sha256 for row in _sources(table)}
    found: dict[str, str] = {}
    if any(row.label_sha256 for row in _sources(table)):
        try:
            labels = {source.name: source.label for source in dataset.sources()}
            for row in _sources(table):
                label = labels.get(row.source)
                if label is not None and row.label_sha256:
                    expected[label] = row.label_sha256
        except (MissingError, UserError) as error:  # which label belongs to which image is the reader's knowledge
            found[str(dataset.root)] = f"lists no labels to compare: {error}"

    def check(path: Path) -> str | None:
        try:
            with open_file(path) as file:
                same = hashlib.file_digest(file, "sha256").hexdigest() == expected[path]
        except (OSError, UserError):
            return "is gone or cannot be read"
        return None if same else "is not the file the sets were made from"

    with ThreadPoolExecutor(4) as pool:
        problems = zip(expected, pool.map(check, expected), strict=True)
        return found | {str(path): problem for path, problem in problems if problem is not None}


def _sources(table: pd.DataFrame) -> list[Any]:
    """Return one line a source with its name and the sha256 of its image and label."""
    columns = ["source", "source_sha256", "label_sha256"]
    return list(table[columns].drop_duplicates().itertuples(index=False))
