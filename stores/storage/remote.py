"""Storage in an object store, or in any other file system that fsspec opens by URL."""

import contextlib
import errno
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from stores.errors import MissingError, UserError
from stores.storage.base import PARTIAL, Observe, Parts
from stores.storage.os_errors import explained_remote, remote_code
from stores.storage.together import SideBySide, one_by_one

T = TypeVar("T")

CONDITIONAL = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory"})
"""fsspec's protocols whose ``pipe_file(mode="create")`` is one step of the server; elsewhere it is a look and a PUT."""

AT_ONCE = 16
"""Requests that are made at the same time: enough to hide the latency, few enough for a store not to slow us down."""

_TRIES = 5
"""How often a PUT is made again that was refused because of an object which is then not there."""

_WAIT = 0.02
"""Seconds before the second PUT, doubled before each further one."""

_REFUSED = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")
"""What servers answer to a conditional PUT where there is an object, or where another one is being written."""


def _is_refusal(error: OSError) -> bool:
    """Return whether a conditional PUT was refused because of what is there.

    Of servers that do not name the condition s3fs makes EINVAL, as of requests that are wrong: a look tells.
    """
    return isinstance(error, FileExistsError) or error.errno == errno.EINVAL or remote_code(error) in _REFUSED


class RemoteObjects:
    """A file system that fsspec opens by URL: ``s3://...``, ``gs://...``, ``memory://...``."""

    _at_once = 1
    _lacking = "install what it names"
    """What to do where the package of the URL is not installed."""

    def __init__(self, url: str) -> None:
        import fsspec

        self.url = url.rstrip("/")
        self.filesystem: Any
        try:
            self.filesystem, self.root = self._opened(fsspec)
        except (ImportError, ValueError) as error:
            raise UserError(
                f"cannot open the store {url}: {error}: {self._lacking}, or choose another --store"
            ) from error
        names = self.filesystem.protocol
        self._creates: bool | None = None
        """Whether the server keeps to a conditional PUT; None until that was tried."""
        if not CONDITIONAL & {names, *([] if isinstance(names, str) else names)}:
            self._creates = False
        self._trial = threading.Lock()
        self._at_once = AT_ONCE if self.filesystem.async_impl else 1
        self._side_by_side = SideBySide(self._at_once)

    def _opened(self, fsspec: Any) -> tuple[Any, str]:
        """Return the file system and the root in it, without its cache of listings: other processes write too."""
        try:
            return fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        except TypeError:
            return fsspec.core.url_to_fs(self.url)

    def _path(self, key: str) -> str:
        return f"{self.root}/{key}" if key else str(self.root)

    def _explained(self, doing: str, key: str) -> contextlib.AbstractContextManager[None]:
        return explained_remote(doing, f"{self.url}/{key}")

    def _get(self, path: str) -> bytes:
        """Return an object's bytes; raises FileNotFoundError when there is none."""
        return bytes(self.filesystem.cat_file(path))

    def read(self, key: str) -> bytes:
        """Return the object's bytes; raises MissingError when there is none."""
        try:
            with self._explained("read", key):
                return self._get(self._path(key))
        except FileNotFoundError:
            raise MissingError(f"{self.url}/{key} is not there") from None

    def read_into(self, key: str, buffers: Sequence[memoryview], observe: Observe) -> int:
        """Fill buffers one after another and return the object's size."""
        data = memoryview(self.read(key))
        if len(data) == sum(len(buffer) for buffer in buffers):
            for buffer in buffers:
                buffer[:] = data[: len(buffer)]
                observe(buffer)
                data = data[len(buffer) :]
            return sum(len(buffer) for buffer in buffers)
        return len(data)

    def put(self, key: str, parts: Parts) -> None:
        """Write or replace an object with one PUT."""
        with self._writing(key):
            self.filesystem.pipe_file(self._path(key), b"".join(parts))

    @contextlib.contextmanager
    def _writing(self, key: str) -> Iterator[None]:
        try:
            with self._explained("write", key):
                yield
        except FileNotFoundError as error:
            raise UserError(f"cannot write {self.url}/{key}: there is no such bucket or folder: create it") from error

    def put_new(self, key: str, parts: Parts) -> bool:
        """Write an object unless there is one; return whether it holds these bytes because of this call."""
        data = b"".join(parts)
        if self._keeps_conditions():
            return self._create(key, data) is None
        with self._explained("read", key):
            if self.filesystem.exists(self._path(key)):
                return False
        self.put(key, [data])
        return True

    def _keeps_conditions(self) -> bool:
        return self._creates is not False

    def _create(self, key: str, data: bytes) -> bytes | None:
        """Write an object if there is none; return None where it holds these bytes now, and else what it holds."""
        if self._creates is not None:
            return self._created(key, data)
        with self._trial:
            # Servers that do not know the condition replace what is there, so the first time is looked before.
            if self._creates is None and (present := self._present(key)) is not None:
                return None if present == data else present
            found = self._created(key, data)
            self._creates = self._creates or self._is_refused_again(key, data)
            return found

    def _created(self, key: str, data: bytes) -> bytes | None:
        refused: OSError | None = None
        for attempt in range(_TRIES):
            with self._writing(key):
                try:
                    self.filesystem.pipe_file(self._path(key), data, mode="create")
                    return None
                except OSError as error:
                    if not _is_refusal(error):
                        raise
                    refused = error
            # This PUT may have arrived already, with its answer lost: nobody else is spoken of before a look.
            present = self._present(key)
            if present is not None:
                return None if present == data else present
            time.sleep(_WAIT * 2**attempt)  # another writer's PUT is under way, or a delete
        with self._writing(key):
            assert refused is not None
            raise refused

    def _present(self, key: str) -> bytes | None:
        try:
            return self.read(key)
        except MissingError:
            return None

    def _is_refused_again(self, key: str, data: bytes) -> bool:
        """Return whether the server refuses to create what it has just created: one that knows the condition does."""
        with self._writing(key):
            try:
                self.filesystem.pipe_file(self._path(key), data, mode="create")
            except OSError as error:
                if not _is_refusal(error):
                    raise
                return True
        return False

    def stage(self, key: str, parts: Parts) -> str:
        """Write the bytes where they replace nothing: in place if the name is free, else under a partial name."""
        data = b"".join(parts)
        if self._keeps_conditions() and self._create(key, data) is None:
            return key
        ticket = f"{key}.{secrets.token_hex(8)}{PARTIAL}"
        self.put(ticket, [data])
        return ticket

    def keep(self, key: str) -> str | None:
        """Copy an object to a partial name where `stage` has found it in its way; it keeps its own name as well."""
        if not self._keeps_conditions():
            return None
        ticket = f"{key}.{secrets.token_hex(8)}{PARTIAL}"
        try:
            with self._explained("write", key):
                self.filesystem.cp_file(self._path(key), self._path(ticket))
        except FileNotFoundError:
            return None
        return ticket

    def publish(self, ticket: str, key: str) -> None:
        """Give staged bytes their final name; raises MissingError when they were removed."""
        if ticket == key:
            return
        try:
            with self._explained("write", key):
                self.filesystem.cp_file(self._path(ticket), self._path(key))
        except FileNotFoundError:
            raise MissingError(f"{self.url}/{ticket} is gone: run the same command again") from None
        self.delete(ticket)

    def sync(self, prefix: str) -> None:
        """Do nothing: a PUT is durable."""

    def keys(self, prefix: str = "") -> list[str]:
        """Return all keys under ``prefix``, recursively, sorted, relative to the root."""
        start = len(self._path("").rstrip("/")) + 1
        try:
            with self._explained("read", prefix):
                self.filesystem.invalidate_cache()
                return sorted(str(path)[start:] for path in self.filesystem.find(self._path(prefix)))
        except FileNotFoundError:
            return []

    def children(self, prefix: str = "") -> list[str]:
        """Return the names directly under ``prefix``, sorted."""
        try:
            with self._explained("read", prefix):
                return sorted(set(self._names(self._path(prefix))))
        except FileNotFoundError:
            return []

    def _names(self, path: str) -> Iterable[str]:
        """Return the names directly under a path; raises FileNotFoundError or nothing where there are none."""
        self.filesystem.invalidate_cache()
        return (str(entry).rstrip("/").rpartition("/")[2] for entry in self.filesystem.ls(path, detail=False))

    def size(self, key: str) -> int | None:
        """Return the object's size in bytes, None when there is none."""
        status = self._status(key)
        return None if status is None else status[0]

    def stamp(self, key: str) -> str | None:
        """Return the object's version as the file system tells it (ETag, generation or time)."""
        status = self._status(key)
        return None if status is None else status[1]

    def _status(self, key: str) -> tuple[int, str] | None:
        try:
            with self._explained("read", key):
                return self._head(self._path(key))
        except FileNotFoundError:
            return None

    def _head(self, path: str) -> tuple[int, str]:
        """Return an object's size in bytes and its version; raises FileNotFoundError when there is none."""
        self.filesystem.invalidate_cache()
        return int(self.filesystem.size(path)), str(self.filesystem.ukey(path))

    def delete(self, key: str) -> None:
        """Remove an object; no error when there is none."""
        with contextlib.suppress(FileNotFoundError), self._explained("write", key):
            self.filesystem.rm_file(self._path(key))

    def free_bytes(self) -> int | None:
        """Return None: object stores do not tell their free space."""
        return None

    def at_once(self) -> int:
        """Return how many requests are worth making at the same time; 1 where the file system is not a network's."""
        return self._at_once

    def together(self, calls: Iterable[Callable[[], T]]) -> Iterator[T]:
        """Return the results of calls in their order; `at_once` of them are made at the same time."""
        return self._side_by_side(calls) if self._at_once > 1 else one_by_one(calls)
