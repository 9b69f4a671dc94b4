"""Hashes the files of a data set, and caches the hashes in the store.

Hashing thousands of files in every command would take minutes, so the store keeps size, times, inode and sha256 of
each file. A file for which all of these are unchanged is not read again; any other is hashed again, so that an edited
image or label leads to another set. Where content changed and none of them did, as in layers of containers, the next
reader notices that the bytes have another sha256, and the note is forgotten.
"""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.datasets.contract import Dataset
from pipeline.datasets.reading.files import ChangedFileError, file_status, require_file
from pipeline.datasets.reading.images import Header, read_header
from stores import Store
from stores.canonical import checksummed, digest, read_checksummed
from stores.errors import MissingError, UserError
from stores.specs import Size
from stores.storage.regular_files import open_file

_PART = 256
MOST_SOURCE_BYTES = 2 << 30
"""Size of the largest image or label file, in bytes."""


class FileDigests:
    """sha256 of files below one root, and findings on bad samples, cached in a store.

    Args:
        store: The store.
        root: Folder of the files.
        most_bytes: Size of the largest file.
    """

    def __init__(self, store: Store, root: Path, most_bytes: int = MOST_SOURCE_BYTES) -> None:
        self.store = store
        self.most_bytes = most_bytes
        self.root = Path(os.path.abspath(root))  # noqa: PTH100
        self._prefix = f"{self.root}{os.sep}"
        printable = str(self.root).encode("utf-8", "backslashreplace").decode()  # folders need not be UTF-8
        self.key = f"sources/{digest(printable)[:32]}.json"
        self.notes: dict[str, list[int | str]] = {}
        """Size, times and inode as in `file_status`, then the sha256, by path below the root."""
        self.known_headers: dict[str, list[int]] = {}
        """Size, times and inode, then height, width and `Header.revision` of an image, by path below the root."""
        self.verdicts: dict[str, list[str]] = {}
        self.changed = False
        self.is_noted = False
        """Whether the store has a note of this root."""
        try:
            record = read_checksummed(store.objects.read(self.key))
            if record is not None:  # without an intact note files are hashed again
                self.is_noted = True
                self.notes, self.verdicts = dict(record["files"]), dict(record.get("verdicts", {}))
                self.known_headers = dict(record.get("headers", {}))
        except (MissingError, KeyError):
            pass

    def of(self, paths: Iterable[Path], workers: int = 4) -> dict[Path, str]:
        """Return the sha256 of every file; raises MissingError naming the first that does not exist."""
        listed = list(paths)
        # Many files in one go: handing over each one takes as long as looking whether it changed.
        parts = [listed[start : start + _PART] for start in range(0, len(listed), _PART)]
        with ThreadPoolExecutor(workers) as pool:
            found = pool.map(lambda part: [self._one(path) for path in part], parts)
            return dict(zip(listed, (sha256 for part in found for sha256 in part), strict=True))

    def headers(self, paths: Iterable[Path], workers: int = 4) -> list[Header]:
        """Return what the header of every image tells; of unchanged files it is remembered.

        Raises as `images.read_header`, for the first image whose header cannot be read.
        """
        listed = list(paths)
        parts = [listed[start : start + _PART] for start in range(0, len(listed), _PART)]
        with ThreadPoolExecutor(workers) as pool:
            found = pool.map(lambda part: [self._header(path) for path in part], parts)
            return [header for part in found for header in part]

    def _header(self, path: Path) -> Header:
        try:
            status, name = list(file_status(path)), self._name(path)
        except (OSError, ValueError):
            return read_header(path)  # which says what is wrong
        known = self.known_headers.get(name)
        if isinstance(known, list) and len(known) == len(status) + 3 and known[: len(status)] == status:
            height, width, revision = known[len(status) :]
            return Header(Size(height=height, width=width), revision)
        header = read_header(path)
        self.known_headers[name] = [*status, header.size.height, header.size.width, header.revision]
        self.changed = True
        return header

    def _one(self, path: Path) -> str:
        try:
            require_file(path, self.most_bytes)
            status = list(file_status(path))
            name = self._name(path)
            known = self.notes.get(name)
            if isinstance(known, list) and known[:-1] == status:
                return str(known[-1])
            with open_file(path) as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            raise MissingError(f"{path} is listed by the data set and does not exist: restore it") from None
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}): make it readable") from error
        self.notes[name] = [*status, sha256]
        self.changed = True
        return sha256

    def _name(self, path: Path) -> str:
        name = os.path.abspath(path)  # noqa: PTH100  (pathlib takes ten times as long, for every file in every command)
        return name[len(self._prefix) :] if name.startswith(self._prefix) else str(Path(name).relative_to(self.root))

    @contextlib.contextmanager
    def noticing_changes(self) -> Iterator[None]:
        """Forget the hash of a file that turns out to hold other bytes, so that the next run hashes it again."""
        try:
            yield
        except ChangedFileError as error:
            if self.notes.pop(self._name(error.path), None) is not None and self.is_noted:
                self.changed = True
                self.save()
            raise

    def verdict(self, depends_on: object, check: Callable[[], tuple[str, str]]) -> tuple[str, str]:
        """Return the problems of an image and of its label, empty where there is none; ``check`` finds them.

        They are cached under ``depends_on``: plain JSON values that contain the files' hashes and everything else that
        matters.
        """
        key = digest(depends_on)[:32]
        known = self.verdicts.get(key)
        if not isinstance(known, list) or len(known) != 2:
            known = self.verdicts[key] = list(check())
            self.changed = True
        return str(known[0]), str(known[1])

    def save(self) -> None:
        """Write the cache to the store; no result depends on it."""
        if self.changed:
            verdicts = {"verdicts": self.verdicts} if self.verdicts else {}
            headers = {"headers": self.known_headers} if self.known_headers else {}
            self.store.objects.put(self.key, [checksummed({"files": self.notes, **headers, **verdicts})])
            self.changed, self.is_noted = False, True


def changed_files(dataset: Dataset, table: pd.DataFrame) -> dict[str, str]:
    """Return the problems of a sample table's source files that changed or are missing, by path.

    Every file is read and hashed again, without the cache.
    """
    expected: dict[Path, str] = {dataset.root / row.source: row.source_sha256 for row in _sources(table)}
    problems: dict[str, str] = {}
    if any(row.label_sha256 for row in _sources(table)):
        try:
            labels = {source.name: source.label for source in dataset.sources()}
            for row in _sources(table):
                label = labels.get(row.source)
                if label is not None and row.label_sha256:
                    expected[label] = row.label_sha256
        except (MissingError, UserError) as error:  # only the reader knows which label belongs to which image
            problems[str(dataset.root)] = f"lists no labels to compare: {error}"

    def check(path: Path) -> str | None:
        try:
            require_file(path, MOST_SOURCE_BYTES)
            with open_file(path) as file:
                same = hashlib.file_digest(file, "sha256").hexdigest() == expected[path]
        except (OSError, UserError):
            return "is gone or cannot be read"
        return None if same else "is not the file the sets were made from"

    with ThreadPoolExecutor(4) as pool:
        checked = zip(expected, pool.map(check, expected), strict=True)
        return problems | {str(path): problem for path, problem in checked if problem is not None}


def _sources(table: pd.DataFrame) -> list[Any]:
    """Return one line a source with its name and the sha256 of its image and label."""
    columns = ["source", "source_sha256", "label_sha256"]
    return list(table[columns].drop_duplicates().itertuples(index=False))
