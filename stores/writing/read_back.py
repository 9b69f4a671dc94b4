"""Reading chunks back after they are committed: their CRC32C is compared with the commit records.

Writers read a range back while the next one is computed, when its bytes are still in the page cache; sealing reads what
nobody has read yet. sha256 was made of the same bytes while they were written, so CRC32C, thirteen times faster, is
enough to tell that they arrived. Chunks are read by several threads, in any order.
"""

import itertools
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from stores.errors import DamageError, MissingError
from stores.format.chunk_table import StoredObject
from stores.format.chunks import Checksum, decode_chunk
from stores.format.layout import Layout, chunk_name
from stores.sets import ZarrSet
from stores.specs import ArraySpec
from stores.storage.base import Objects
from stores.storage.cores import available_cores
from stores.writing.dead_channels import DeadFeatures, valid_rows

WINDOW = 64
"""Chunks that wait to be read, a thread: their number is bounded however many chunks a set has."""


class _Read(NamedTuple):
    stamp: str | None
    """The storage's stamp of the chunk, from before it was read."""
    crc32c: int
    size: int


class CheckedChunks(NamedTuple):
    """What one process has read back, for the process that seals."""

    read: dict[str, dict[int, _Read]]
    """By array and number of the chunk."""
    dead: dict[str, tuple[list[int], list[float] | None]]
    """`DeadFeatures.summary` of the rows that were read, by array."""


class ReadBack:
    """The chunks of a set that were read back, and the dead channels of its arrays.

    Args:
        objects: Storage of the store.
        prefix: Folder of the set.
        layout: Its layout.
        valid: Which rows are not marked invalid.
    """

    def __init__(self, objects: Objects, prefix: str, layout: Layout, valid: Bool[np.ndarray, " sample"]) -> None:
        self.objects, self.prefix, self.layout, self.valid = objects, prefix, layout, valid
        self.dead: dict[str, DeadFeatures] = {}
        self._read: dict[str, dict[int, _Read]] = {}
        self._lock = threading.Lock()
        self._memory = threading.local()

    def forget(self, array: str) -> None:
        """Forget what was read of an array, because some of its chunks will be written again."""
        with self._lock:
            self.dead.pop(array, None)
            self._read.pop(array, None)

    def read(self, array: ArraySpec, number: int, recorded: Iterable[StoredObject]) -> bool:
        """Read one chunk unless it was read and not replaced since; return whether it is as recorded."""
        entries = list(recorded)
        key = self.key(array, number)
        with self._lock:
            known = self._read.setdefault(array.name, {}).get(number)
            dead = self.dead.setdefault(array.name, DeadFeatures(array, self.valid))
        try:
            stamp = self.objects.stamp(key)
            if known is not None and stamp is not None and known.stamp == stamp:
                return all((entry.size, entry.crc32c) == (known.size, known.crc32c) for entry in entries)
            # Before it is opened: what is no file in place of a chunk is damage of it. Object stores hold no such
            # thing, and another size is noticed when it is read.
            sizes = {entry.size for entry in entries}
            if len(sizes) != 1 or (self.objects.at_once() == 1 and self.objects.size(key) not in sizes):
                return False
            checksum, rows = self._checked_rows(array, number, key, sizes.pop())
        except (DamageError, MissingError):
            return False
        if any(entry.crc32c != checksum for entry in entries):
            return False
        if dead.left.size:
            with self._lock:
                dead.take(number * self.layout.chunk_rows(array), rows)
        with self._lock:
            self._read.setdefault(array.name, {})[number] = _Read(stamp, checksum, entries[0].size)
        return True

    def taken_out(self) -> CheckedChunks:
        """Return what was read back since the last call, and forget it: another process is going to seal."""
        with self._lock:
            found = CheckedChunks(self._read, {name: dead.summary for name, dead in self.dead.items()})
            self._read, self.dead = {}, {}
        return found

    def add(self, arrays: Mapping[str, ArraySpec], checked: CheckedChunks) -> None:
        """Add what another process has read back; chunks that were replaced since are known by their stamps.

        Args:
            arrays: The set's arrays by address.
            checked: What the other process returned.
        """
        with self._lock:
            for name, chunks in checked.read.items():
                self.dead.setdefault(name, DeadFeatures(arrays[name], self.valid)).merge(checked.dead[name])
                self._read.setdefault(name, {}).update(chunks)

    def stamp(self, array: ArraySpec, number: int) -> str | None:
        """Return the storage's stamp of a chunk from before it was read."""
        return self._read[array.name][number].stamp

    def key(self, array: ArraySpec, number: int) -> str:
        """Return the name of a chunk in the store."""
        return f"{self.prefix}/{array.name}/{chunk_name(number, array)}"

    def wrong_chunks(
        self, arrays: Iterable[ArraySpec], recorded: Callable[[ArraySpec, int], list[StoredObject]]
    ) -> dict[str, set[int]]:
        """Read all chunks of some arrays on all cores; return those that are not as recorded, by array.

        Args:
            arrays: The arrays.
            recorded: Returns what commit records say of a chunk, none where they do not agree on there being one.
        """
        arrays = list(arrays)
        wrong: dict[str, set[int]] = {array.name: set() for array in arrays}
        chunks = ((array, number) for array in arrays for number in range(self.layout.n_objects(array)))
        threads = max(available_cores(), self.objects.at_once())
        with ThreadPoolExecutor(threads, thread_name_prefix="patchbank-read") as pool:
            while some := list(itertools.islice(chunks, WINDOW * threads)):
                good = pool.map(lambda chunk: self.read(chunk[0], chunk[1], recorded(*chunk)), some)
                for (array, number), is_good in zip(some, good, strict=True):
                    if not is_good:
                        wrong[array.name].add(number)
        return wrong

    def _checked_rows(self, array: ArraySpec, number: int, key: str, size: int) -> tuple[int, np.ndarray]:
        """Return the CRC32C of a chunk and its rows without padding; raises DamageError where they do not agree."""
        first = number * self.layout.chunk_rows(array)
        n_rows = min(self.layout.chunk_rows(array), self.layout.n_rows - first)
        if self.layout.compression != "none":
            data = self.objects.read(key)
            return int.from_bytes(data[-4:], "little"), decode_chunk(data, array, self.layout, key)[:n_rows]
        # One buffer for each thread: new pages for every chunk would cost as much as its checksum.
        buffer: bytearray = getattr(self._memory, "buffer", bytearray())
        if len(buffer) < size:
            buffer = self._memory.buffer = bytearray(size)
        view = memoryview(buffer)[:size]
        running = Checksum(size - 4)
        if self.objects.read_into(key, [view[:-4], view[-4:]], running) != size:
            raise DamageError(f"{key} has another size")
        checksum = running.value
        if checksum != int.from_bytes(view[-4:], "little"):
            raise DamageError(f"{key} has another checksum")
        dtype = np.dtype(array.dtype).newbyteorder("<")
        values = np.frombuffer(buffer, dtype, n_rows * array.row_bytes // dtype.itemsize)
        return checksum, values.reshape(n_rows, *array.row_shape)


_OF_SETS: "weakref.WeakKeyDictionary[ZarrSet, ReadBack]" = weakref.WeakKeyDictionary()


def read_back_of(stored_set: ZarrSet) -> ReadBack:
    """Return what this process has read back of an open set, which its writer and its sealing share."""
    found = _OF_SETS.get(stored_set)
    if found is None:
        objects, prefix, layout = stored_set.objects, stored_set.prefix, stored_set.layout
        found = ReadBack(objects, prefix, layout, valid_rows(objects, prefix, layout.n_rows))
        found = _OF_SETS.setdefault(stored_set, found)
    return found
