"""Hashes the files of a data set, and caches the hashes in the store.

Hashing thousands of files in every command would take minutes, so the store keeps size, times, inode and sha256 of
each file. A file for which all of these are unchanged is not read again; any other is hashed again, so that an edited
image or label leads to another set. Where content changed and none of them did, as in layers of containers, the next
reader notices that the bytes have another sha256, and the note is forgotten.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64

from pipeline.datasets.contract import Dataset
from pipeline.datasets.reading.files import ChangedFileError, file_status, require_file
from pipeline.datasets.reading.images import read_header
from pipeline.rows.file_notes import HEADER, STATUS, UNKNOWN, FileNotes, texts
from stores import Store
from stores.canonical import checksummed, digest, read_checksummed
from stores.errors import MissingError, UserError
from stores.format.paths import NOTES, SOURCES
from stores.storage.regular_files import open_file

T = TypeVar("T")

_PART = 256
_WORKERS = 4
_FAST_SECONDS = 30e-6
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
        name = f"{SOURCES}/{digest(printable)[:32]}"
        self.key, self.verdict_key = f"{name}{NOTES}", f"{name}.json"
        self.verdicts: dict[str, list[str]] = {}
        self.changed: set[str] = set()
        """Keys of the objects to write."""
        with contextlib.suppress(MissingError):
            record = read_checksummed(store.objects.read(self.verdict_key)) or {}
            if isinstance(record.get("verdicts"), dict):
                self.verdicts = record["verdicts"]

    @cached_property
    def notes(self) -> FileNotes:
        """What is known of the files; read from the store when it is asked for first."""
        return self._stored() or FileNotes.empty()

    def _stored(self) -> FileNotes | None:
        try:
            return FileNotes.from_bytes(self.store.objects.read(self.key))
        except MissingError:  # without an intact note files are hashed again
            return None

    def of(self, paths: Iterable[Path]) -> dict[Path, str]:
        """Return the sha256 of every file; raises as `ListedFiles` and its ``sha256`` do."""
        listed = list(dict.fromkeys(paths))
        names = texts([self.name(path) for path in listed])
        files = ListedFiles(self, names, lambda part: [str(listed[number]) for number in part])
        return dict(zip(listed, files.sha256().to_pylist(), strict=True))

    def name(self, path: Path | str) -> str:
        """Return a file's path below the root."""
        name = os.path.abspath(path)  # noqa: PTH100  (pathlib takes ten times as long, for every file in every command)
        return name[len(self._prefix) :] if name.startswith(self._prefix) else str(Path(name).relative_to(self.root))

    def note(self, newer: FileNotes) -> None:
        """Remember what was read of some files."""
        self.notes = self.notes.updated(newer)
        self.changed.add(self.key)

    @contextlib.contextmanager
    def noticing_changes(self) -> Iterator[None]:
        """Forget the hash of a file that turns out to hold other bytes, so that the next run hashes it again."""
        try:
            yield
        except ChangedFileError as error:
            name, stored = self.name(error.path), self._stored()
            self.notes = self.notes.without(name)
            if stored is not None and stored.find(texts([name]))[0] >= 0:
                self.store.objects.put(self.key, [stored.without(name).to_bytes()])
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
            self.changed.add(self.verdict_key)
        return str(known[0]), str(known[1])

    def save(self) -> None:
        """Write the cache to the store; no result depends on it."""
        if self.key in self.changed:
            self.store.objects.put(self.key, [self.notes.to_bytes()])
        if self.verdict_key in self.changed:
            self.store.objects.put(self.verdict_key, [checksummed({"verdicts": self.verdicts})])
        self.changed = set()

    def release(self) -> None:
        """Free the memory of `notes`, which are read again where they are asked for again."""
        self.__dict__.pop("notes", None)


class ListedFiles:
    """Files as they are now, and what is noted of those that did not change.

    Args:
        digests: Where notes are kept; what has to be read is added there.
        names: Names of the files in the notes, an Arrow array, each once.
        paths: Returns the paths of the files with these numbers.

    Raises:
        MissingError, UserError: One of the files is not there, or is none.
    """

    def __init__(self, digests: FileDigests, names: Any, paths: Callable[[Any], Sequence[str]]) -> None:
        self._digests, self._names, self._paths = digests, names, paths
        status = _in_parts(range(len(names)), self._status, unless_fast=True)
        self._status_now = np.concatenate(status) if status else np.empty((0, len(STATUS)), np.int64)
        number = digests.notes.find(self._names)
        self._unchanged = number >= 0
        self._unchanged[self._unchanged] = (
            digests.notes.status[number[self._unchanged]] == self._status_now[self._unchanged]
        ).all(axis=1)
        self._headers = np.full((len(names), len(HEADER)), UNKNOWN, np.int64)
        self._headers[self._unchanged] = digests.notes.headers[number[self._unchanged]]
        places = pa.array(number, mask=~self._unchanged)
        self._sha256 = pc.fill_null(digests.notes.sha256.take(places), "")

    def sha256(self) -> Any:
        """Return the sha256 of every file, an Arrow array of hexadecimal digits; of unchanged files it is remembered.

        Raises MissingError naming the first that does not exist, UserError for one that cannot be read.
        """
        unknown = np.flatnonzero(pc.equal(self._sha256, "").to_numpy(zero_copy_only=False))
        if len(unknown):
            read = _in_parts(unknown, lambda part: [_hashed(path) for path in self._paths(part)])
            mask = np.zeros(len(self._names), bool)
            mask[unknown] = True
            found = texts([sha256 for part in read for sha256 in part])
            self._sha256 = pc.replace_with_mask(self._sha256, pa.array(mask), found)
            self._note(unknown)
        return self._sha256

    def headers(self) -> Int64[np.ndarray, "file 3"]:
        """Return `file_notes.HEADER` of every image; of unchanged files they are remembered.

        Raises as `images.read_header`, for the first image whose header cannot be read.
        """
        unknown = np.flatnonzero(self._headers[:, 0] == UNKNOWN)
        if len(unknown):
            read = _in_parts(unknown, lambda part: [_header(path) for path in self._paths(part)])
            self._headers[unknown] = np.array([header for part in read for header in part], np.int64)
            self._note(unknown)
        return self._headers

    def _status(self, part: Any) -> Int64[np.ndarray, "file 4"]:
        most = self._digests.most_bytes
        found = [file_status(path, most) for path in self._paths(part)]
        try:
            return np.array(found, np.int64)
        except OverflowError:  # inodes of 64 bits, times after the year 2262
            return np.array([[(n + 2**63) % 2**64 - 2**63 for n in one] for one in found], np.int64)

    def _note(self, numbers: Int64[np.ndarray, " file"]) -> None:
        now = FileNotes(self._names, self._status_now, self._headers, self._sha256)
        self._digests.note(now.taken(numbers))


def _hashed(path: str) -> str:
    try:
        with open_file(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise MissingError(f"{path} is listed by the data set and does not exist: restore it") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): make it readable") from error


def _header(path: str) -> tuple[int, int, int]:
    header = read_header(Path(path))
    return header.size.height, header.size.width, header.revision


def _in_parts(
    numbers: Sequence[int] | Int64[np.ndarray, " number"], one: Callable[[Any], T], *, unless_fast: bool = False
) -> list[T]:
    """Return what threads make of the numbers, some at a time: handing over each takes as long as looking at a file.

    Args:
        numbers: Numbers of files.
        one: What is to be made of some of them.
        unless_fast: Go on without threads where the first files took microseconds, as on a disk of this machine:
            Python's threads then take twice as long, for they wait for each other. Over a network they help.
    """
    parts = [numbers[start : start + _PART] for start in range(0, len(numbers), _PART)]
    started = time.perf_counter()
    first = [one(part) for part in parts[:1]]
    if unless_fast and time.perf_counter() - started < _FAST_SECONDS * _PART:
        return first + [one(part) for part in parts[1:]]
    with ThreadPoolExecutor(_WORKERS) as pool:
        return first + list(pool.map(one, parts[1:]))


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
