"""Comparing the chunks of a sealed array with its seal, each when a process reads it first."""

import hashlib
from collections.abc import Mapping

from stores.errors import DamageError
from stores.format.chunk_table import StoredObject
from stores.storage.base import Objects

_KNOWN: dict[str, tuple[str, str]] = {}
"""Stamp and sha256 of every chunk that this process has compared, by its path or URL."""


def forget() -> None:
    """Forget which chunks this process has compared, so that each is compared once more."""
    _KNOWN.clear()


class SealChecks:
    """The sizes and sha256 that the seal of one array records.

    A seal names its set and its array and records every chunk by name, so a chunk of another array, set or position
    does not match, nor does one that was changed together with its checksum.

    Args:
        objects: Storage of the store.
        folder: Folder of the array, relative to the store.
        recorded: Size and sha256 of every object, by name inside the folder.
    """

    def __init__(self, objects: Objects, folder: str, recorded: Mapping[str, StoredObject]) -> None:
        self.objects = objects
        self.folder = folder
        self.recorded = recorded

    def first_read(self, chunk: str) -> "ChunkCheck | None":
        """Return the check of a chunk that is about to be read; None when it has been compared and not replaced."""
        key = f"{self.folder}/{chunk}"
        name, stamp = f"{self.objects.url}/{key}", self.objects.stamp(key)
        expected = self.recorded.get(chunk)
        if expected is not None and stamp is not None and _KNOWN.get(name) == (stamp, expected.sha256):
            return None
        return ChunkCheck(name, stamp, expected)


class ChunkCheck:
    """The sha256 of one chunk, updated with every piece that is read and compared at the end."""

    def __init__(self, name: str, stamp: str | None, expected: StoredObject | None) -> None:
        self.name = name
        self.stamp = stamp
        self.expected = expected
        self.sha256 = hashlib.sha256()

    def __call__(self, piece: memoryview | bytes) -> None:
        """Add the next bytes of the chunk."""
        self.sha256.update(piece)

    def finish(self, size: int) -> None:
        """Remember the chunk as compared; raises DamageError when it is not the sealed one."""
        sha256, expected = self.sha256.hexdigest(), self.expected
        if expected is None or (size, sha256) != (expected.size, expected.sha256):
            raise DamageError(
                f"{self.name} is not what was committed: run `patchbank verify`, then `patchbank repair` makes it again"
            )
        if self.stamp is not None:  # of before it was read: a chunk that was replaced meanwhile is compared again
            _KNOWN[self.name] = (self.stamp, sha256)
