"""Storage in an object store, or in any other file system that fsspec opens by URL."""

import contextlib
import secrets
from collections.abc import Sequence
from typing import Any

from stores.errors import MissingError, UserError
from stores.storage.base import PARTIAL, Observe, Parts
from stores.storage.os_errors import explained_remote


class RemoteObjects:
    """A file system that fsspec opens by URL: ``s3://...``, ``gs://...``, ``memory://...``."""

    def __init__(self, url: str) -> None:
        import fsspec

        self.url = url.rstrip("/")
        self.filesystem: Any
        try:
            self.filesystem, self.root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise UserError(
                f"cannot open the store {url}: {error}: install what it names, or choose another --store"
            ) from error

    def _path(self, key: str) -> str:
        return f"{self.root}/{key}" if key else str(self.root)

    def _explained(self, doing: str, key: str) -> contextlib.AbstractContextManager[None]:
        return explained_remote(doing, f"{self.url}/{key}")

    def read(self, key: str) -> bytes:
        """Return the object's bytes; raises MissingError when there is none."""
        try:
            with self._explained("read", key):
                return bytes(self.filesystem.cat_file(self._path(key)))
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
        try:
            with self._explained("write", key):
                self.filesystem.pipe_file(self._path(key), b"".join(parts))
        except FileNotFoundError as error:
            raise UserError(f"cannot write {self.url}/{key}: there is no such bucket or folder: create it") from error

    def put_new(self, key: str, parts: Parts) -> bool:
        """Write an object unless one exists; two writers at the same moment may both write."""
        with self._explained("read", key):
            if self.filesystem.exists(self._path(key)):
                return False
        self.put(key, parts)
        return True

    def stage(self, key: str, parts: Parts) -> str:
        """Write under a partial name, so that a slower writer does not replace committed bytes."""
        ticket = f"{key}.{secrets.token_hex(8)}{PARTIAL}"
        self.put(ticket, parts)
        return ticket

    def publish(self, ticket: str, key: str) -> None:
        """Give staged bytes their final name; raises MissingError when they were removed."""
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
                self.filesystem.invalidate_cache()
                entries = self.filesystem.ls(self._path(prefix), detail=False)
        except FileNotFoundError:
            return []
        return sorted({str(entry).rstrip("/").rpartition("/")[2] for entry in entries})

    def size(self, key: str) -> int | None:
        """Return the object's size in bytes, None when there is none."""
        try:
            with self._explained("read", key):
                return int(self.filesystem.size(self._path(key)))
        except FileNotFoundError:
            return None

    def stamp(self, key: str) -> str | None:
        """Return the object's version as the file system tells it (ETag, generation or time)."""
        try:
            with self._explained("read", key):
                self.filesystem.invalidate_cache()
                return str(self.filesystem.ukey(self._path(key)))
        except FileNotFoundError:
            return None

    def delete(self, key: str) -> None:
        """Remove an object; no error when there is none."""
        with contextlib.suppress(FileNotFoundError), self._explained("write", key):
            self.filesystem.rm_file(self._path(key))

    def free_bytes(self) -> int | None:
        """Return None: object stores do not tell their free space."""
        return None
