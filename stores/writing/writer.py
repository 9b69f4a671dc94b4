"""Writing ranges: threads write rows as chunks from where they lie, and a commit record makes the range valid.

The order is what survives a crash: chunk bytes are written and fsynced under partial names, get their final names, the
folders are fsynced, and only then the commit record is written. A crash at any point leaves a range without a commit
record, which the next extraction makes again. On an object store with conditional PUT chunks go straight to their final
names, where they replace nothing; a chunk that finds other bytes there takes the longer way (`stores.storage.base`).
"""

import contextlib
import itertools
import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType

import numpy as np

from stores.errors import MissingError, PatchbankError, UserError
from stores.format.chunk_table import ChunkTable, StoredObject
from stores.format.chunks import encode_pieces
from stores.format.commits import Commit, CommittedChunks, write_commit
from stores.format.content import range_content
from stores.format.layout import RowRange, chunk_name
from stores.format.paths import SPEC
from stores.format.records import is_file, set_aside
from stores.sets import ZarrSet
from stores.specs import ArraySpec
from stores.storage.base import PARTIAL
from stores.writing.conflicts import existing_commit, resolve_conflict
from stores.writing.read_back import read_back_of

KEPT_BYTES = 1 << 20
"""Size of parts of arrays that are hashed and written from where they are."""


@dataclass
class _Staged:
    array: str
    chunk: str
    number: int
    ticket: str
    stored: StoredObject
    content: bytes
    """sha256 of the chunk's rows."""

    @property
    def is_partial(self) -> bool:
        """Whether the bytes have no final name yet; others may have been there before, and are not ours to remove."""
        return self.ticket.endswith(PARTIAL)


@dataclass
class _Filling:
    """The chunk of one array that is being filled."""

    index: int
    pieces: list[np.ndarray] = field(default_factory=list)
    """Its rows so far: parts of what was given, or copies of small parts."""
    filled: int = 0


def _joined(pieces: list[np.ndarray]) -> list[np.ndarray]:
    """Return pieces with small ones that follow each other put together: each is a call of the system to write."""
    runs = itertools.groupby(pieces, key=lambda piece: piece.nbytes >= KEPT_BYTES)
    return [piece for large, run in runs for piece in (run if large else [np.concatenate(list(run))])]


def _committed(spec: ArraySpec, staged: list[_Staged]) -> CommittedChunks:
    table = ChunkTable.of(staged[0].number, 1 + len(spec.row_shape), [entry.stored for entry in staged])
    return CommittedChunks.of(table, range_content(entry.content for entry in staged))


@dataclass
class RangeWriter:
    """Writer of one range: takes the rows of each array in order and commits them together."""

    writer: "SetWriter"
    range: RowRange
    filling: dict[str, _Filling] = field(default_factory=dict)
    next_row: dict[str, int] = field(default_factory=dict)
    pending: list["Future[_Staged]"] = field(default_factory=list)

    def write(self, array: str, rows: np.ndarray) -> None:
        """Append rows to an array; raises ValueError when they are more than the range holds.

        Large parts are not copied: threads hash and write them from where they are, so they must not be changed later.
        """
        spec = self.writer.specs[array]
        if rows.shape[1:] != spec.row_shape or rows.dtype != np.dtype(spec.dtype):
            raise ValueError(f"{array} takes rows of {spec.dtype} {spec.row_shape}, not {rows.dtype} {rows.shape[1:]}")
        position = self.next_row.get(array, self.range.start)
        if position + len(rows) > self.range.stop:
            raise ValueError(f"{len(rows)} rows at {position} do not fit the range {self.range}")
        chunk_rows = self.writer.set.layout.chunk_rows(spec)
        done = 0
        while done < len(rows):
            filling = self.filling.setdefault(array, _Filling(position // chunk_rows))
            take = min(chunk_rows - filling.filled, len(rows) - done)
            piece = rows[done : done + take]
            # A small one would keep all that was computed with it until its chunk is full.
            filling.pieces.append(piece if piece.nbytes >= KEPT_BYTES else piece.copy())
            filling.filled += take
            done += take
            position += take
            self.next_row[array] = position
            if filling.filled == chunk_rows or position == self.range.stop:
                self._flush(array, spec, chunk_rows)

    def _flush(self, array: str, spec: ArraySpec, chunk_rows: int) -> None:
        filling = self.filling.pop(array)
        padding = np.full((chunk_rows - filling.filled, *spec.row_shape), spec.fill, spec.dtype)
        self.pending.append(self.writer.submit(array, filling.index, _joined(filling.pieces), padding))

    def commit(self) -> "Future[bool]":
        """Commit the range once all its chunks are on disk; the future is False when another writer was first.

        Raises ValueError when an array has fewer rows than the range.
        """
        for array in self.writer.specs:
            if self.next_row.get(array, self.range.start) != self.range.stop:
                raise ValueError(f"range {self.range} cannot be committed: {array} is not complete")
        return self.writer.finish(self)


class SetWriter:
    """Writes ranges of some arrays of one set; threads encode, hash and fsync the chunks.

    Args:
        feature_set: The set.
        arrays: Addresses of the arrays whose rows are written together.
        threads: Threads that write chunks; an object store gets as many as it answers at once.
        max_bytes: Bytes of chunks that may wait to be written. Beyond it `RangeWriter.write` blocks, which bounds the
            memory of an extraction whose disk is slower than its model.
    """

    def __init__(
        self, feature_set: ZarrSet, arrays: Iterable[str], *, threads: int = 4, max_bytes: int = 256 << 20
    ) -> None:
        self.set = feature_set
        self.specs = {name: feature_set.arrays[name] for name in sorted(arrays)}
        threads = max(threads, feature_set.objects.at_once())
        self.chunks = ThreadPoolExecutor(threads, thread_name_prefix="patchbank-write")
        self.commits = ThreadPoolExecutor(
            max(1, feature_set.objects.at_once() // 4), thread_name_prefix="patchbank-commit"
        )
        self.max_bytes = max_bytes
        self.waiting = 0
        self.room = threading.Condition()
        self.failed: BaseException | None = None
        self.tickets: set[str] = set()
        """Staged bytes that have no final name yet."""

    def __enter__(self) -> "SetWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(cancel=error is not None)

    def close(self, *, cancel: bool = False) -> None:
        """Wait for all writes, or with ``cancel`` for those that have started; remove bytes that were not committed."""
        self.chunks.shutdown(wait=True, cancel_futures=cancel)
        self.commits.shutdown(wait=True, cancel_futures=cancel)
        for ticket in sorted(self.tickets):  # so that failed writes do not fill a full disk
            with contextlib.suppress(PatchbankError):
                self.set.objects.delete(ticket)
        self.tickets.clear()

    def range(self, row_range: RowRange) -> RangeWriter:
        """Return a writer of one range."""
        return RangeWriter(self, row_range)

    def raise_failures(self) -> None:
        """Raise the first error of the threads that write, if there was one; call it after `close`."""
        if self.failed is not None:
            raise self.failed

    def submit(self, array: str, number: int, pieces: list[np.ndarray], padding: np.ndarray) -> "Future[_Staged]":
        """Queue one chunk, with rows of the fill value behind its own; blocks while too many bytes wait."""
        n_bytes = sum(piece.nbytes for piece in pieces)
        with self.room:
            while self.waiting and self.waiting + n_bytes > self.max_bytes and self.failed is None:
                self.room.wait()
            if self.failed is not None:
                raise self.failed
            self.waiting += n_bytes
        return self.chunks.submit(self._stage, array, number, pieces, padding, n_bytes)

    def _stage(self, array: str, number: int, pieces: list[np.ndarray], padding: np.ndarray, n_bytes: int) -> _Staged:
        try:
            if self.failed is not None:  # a broken disk may take minutes to fail on each chunk
                raise self.failed
            encoded = encode_pieces(pieces, padding, self.set.layout.compression)
            chunk = chunk_name(number, self.specs[array])
            ticket = self.set.objects.stage(f"{self.set.prefix}/{array}/{chunk}", encoded.parts)
            staged = _Staged(array, chunk, number, ticket, encoded.stored, encoded.content)
            if staged.is_partial:
                self.tickets.add(ticket)
            return staged
        except BaseException as error:
            self.failed = self.failed or error
            raise
        finally:
            with self.room:
                pieces.clear()  # before others may add as much; the pool keeps its arguments a little longer
                self.waiting -= n_bytes
                self.room.notify_all()

    def finish(self, range_writer: RangeWriter) -> "Future[bool]":
        """Queue the commit of a range whose chunks are all submitted."""
        return self.commits.submit(self._commit, range_writer)

    def _commit(self, range_writer: RangeWriter) -> bool:
        try:
            return self._publish(range_writer)
        except BaseException as error:
            self.failed = self.failed or error
            raise

    def _publish(self, range_writer: RangeWriter) -> bool:
        staged = sorted((future.result() for future in range_writer.pending), key=lambda entry: entry.number)
        prefix, objects = self.set.prefix, self.set.objects
        written = {
            name: _committed(spec, [entry for entry in staged if entry.array == name])
            for name, spec in self.specs.items()
        }
        commit = Commit(
            set=self.set.digest,
            range=range_writer.range.number,
            start=range_writer.range.start,
            stop=range_writer.range.stop,
            arrays=written,
        )
        if objects.size(f"{prefix}/{SPEC}") is None:
            raise UserError(
                f"{objects.url}/{prefix} vanished while it was written to: mount or restore it, then run the same "
                "command again"
            )
        if existing_commit(objects, prefix, commit):
            self._drop(staged)  # another writer was first; committed bytes are never knowingly replaced
            if not all(entry.is_partial for entry in staged):
                resolve_conflict(objects, prefix, commit)  # a committed chunk was gone, and ours took its name
            return False
        kept: dict[str, str] = {}
        try:
            try:
                for entry in staged:
                    if entry.is_partial:
                        self._give_name(entry.ticket, f"{prefix}/{entry.array}/{entry.chunk}", kept)
                        self.tickets.discard(entry.ticket)
            except MissingError as error:
                if not existing_commit(objects, prefix, commit):
                    raise UserError(str(error)) from error
                self._drop(staged)  # sealing removed the partial files of this array
                return False
            for array in self.specs:
                objects.sync(f"{prefix}/{array}")
            is_first = write_commit(objects, prefix, commit)
            resolve_conflict(objects, prefix, commit, kept)
        finally:
            for ticket in kept.values():
                with contextlib.suppress(PatchbankError):
                    objects.delete(ticket)
        if is_first:
            # Here, while the next ranges are computed: sealing has less to read.
            self._read_back(staged)
        return is_first

    def _read_back(self, staged: list[_Staged]) -> None:
        read_back = read_back_of(self.set)
        calls = (partial(read_back.read, self.specs[entry.array], entry.number, [entry.stored]) for entry in staged)
        for _ in self.set.objects.together(calls):
            pass

    def _give_name(self, ticket: str, key: str, kept: dict[str, str]) -> None:
        replaced = self.set.objects.keep(key)
        if replaced is not None:
            kept[key] = replaced
        try:
            self.set.objects.publish(ticket, key)
        except UserError:
            if is_file(self.set.objects, key):
                raise
            set_aside(self.set.objects, key, lambda data: False)  # a folder in place of the chunk
            self.set.objects.publish(ticket, key)

    def _drop(self, staged: list[_Staged]) -> None:
        for entry in staged:
            if entry.is_partial:
                self.set.objects.delete(entry.ticket)
                self.tickets.discard(entry.ticket)
