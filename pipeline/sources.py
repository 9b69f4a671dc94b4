"""Which files a data set's sources are, by content.

Hashing thousands of files at every command would cost minutes, so the store keeps a note of size, modification time
and sha256 a file. A file whose size and time are those of the note is not read again; any other is re-hashed, so
that an edited image or label always leads to another set.
"""

import hashlib
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stores import Store
from stores.canonical import canonical_json, digest
from stores.errors import MissingError


class FileDigests:
    """sha256 of files below one root, remembered in a store."""

    def __init__(self, store: Store, root: Path) -> None:
        self.store = store
        self.root = root.absolute()
        self.key = f"sources/{digest(str(self.root))[:32]}.json"
        self.notes: dict[str, list[int | str]] = {}
        self.changed = False
        try:
            self.notes = dict(json.loads(store.objects.read(self.key)))
        except (MissingError, ValueError):
            self.notes = {}

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
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            raise MissingError(f"{path} is listed by the data set and is not there: restore it") from None
        self.notes[name] = [status.st_size, status.st_mtime_ns, found]
        self.changed = True
        return found

    def save(self) -> None:
        """Remember what was hashed; the note is a convenience, nothing depends on it."""
        if self.changed:
            self.store.objects.put(self.key, [canonical_json(self.notes)])
            self.changed = False
