"""Storage in a local folder, or one on a network file system, with writes that survive a crash."""

import contextlib
import errno
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from stores.errors import MissingError, UserError
from stores.storage.base import MOST_BYTES, MOST_RECORD_BYTES, PARTIAL, PIECE_BYTES, Observe, Parts
from stores.storage.os_errors import explained
from stores.storage.regular_files import open_file, read_file
from stores.storage.together import one_by_one

T = TypeVar("T")


class LocalObjects:
    """A folder on a local or network file system."""

    def __init__(self, root: Path | str) -> None:
        if "\0" in str(root):
            raise UserError(f"{str(root)!r} names no folder: no name holds a NUL")
        self.root = Path(root).expanduser().absolute()
        self.url = str(self.root)
        self._seen: set[Path] = set()
        self._durable: set[Path] = set()

    def path(self, key: str) -> Path:
        """Return the file of a key; raises UserError for a key that leaves the root, by its name or by a link."""
        if key.startswith("/") or ".." in key.split("/") or "\0" in key:
            raise UserError(f"{key!r} leaves {self.root}: remove the record that names it")
        path = self.root / key
        # The store itself may be a link, but no link in it may leave it, because a store may come from elsewhere.
        # Testing the names inside the root is several times cheaper than resolving the whole path, for every object.
        name = self.url
        for part in key.split("/"):
            name = f"{name}/{part}"
            if os.path.islink(name):  # noqa: PTH114 - a Path for every name would cost more than the test
                real, top = os.path.realpath(path), os.path.realpath(self.root)
                if real != top and not real.startswith(top.rstrip("/") + "/"):
                    raise UserError(f"{path} is a link that leads out of the store, to {real}: put a copy in its place")
                break
        return path

    @contextlib.contextmanager
    def _reading(self, key: str) -> Iterator[Path]:
        path = self.path(key)
        with explained("read", str(path)):
            try:
                yield path
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                raise MissingError(f"{path} is not there") from None

    def read(self, key: str) -> bytes:
        """Return the object's bytes; raises MissingError when there is none."""
        with self._reading(key) as path:
            return read_file(path, MOST_RECORD_BYTES if key.endswith(".json") else MOST_BYTES)

    def read_into(self, key: str, buffers: Sequence[memoryview], observe: Observe) -> int:
        """Fill buffers one after another, without a copy in between, and return the object's size."""
        with self._reading(key) as path, open_file(path) as file:
            descriptor = file.fileno()
            size = os.fstat(descriptor).st_size
            if size != sum(len(buffer) for buffer in buffers):
                return size
            offset = 0
            for buffer in buffers:
                rest = buffer
                while rest:
                    read = os.preadv(descriptor, [rest[:PIECE_BYTES]], offset)
                    if read == 0:  # truncated while it was read
                        return offset
                    observe(rest[:read])
                    rest = rest[read:]
                    offset += read
            return size

    def _make_folder(self, folder: Path) -> None:
        """Make a folder and those above it; raises UserError when one of them existed before and vanished.

        If folders were made again, an unmounted store would be continued on the disk below its mount point.
        """
        absent = []
        while True:
            # Read before `exists`: another thread may make the folder, and add it here, between the two.
            was_there = folder in self._seen
            if folder.exists():
                break
            if was_there:
                raise UserError(
                    f"{folder} vanished while it was written to: mount or restore it, then run the same command again "
                    "(what is committed is kept)"
                )
            absent.append(folder)
            folder = folder.parent
        for one in reversed(absent):
            one.mkdir(exist_ok=True)
            self._sync_folder(one.parent)

    def _sync_folder(self, folder: Path) -> None:
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except PermissionError:
            if folder.is_relative_to(self.root):
                raise
            return  # a folder above the store that may be entered and not opened
        try:
            os.fsync(descriptor)
        except OSError as error:
            # Some network file systems have no fsync of folders: there a name is as durable as the server makes it.
            if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP):
                raise
        finally:
            os.close(descriptor)

    def _write(self, path: Path, parts: Parts) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            descriptor = os.open(path, flags, 0o666)
        except FileNotFoundError:
            self._make_folder(path.parent)
            descriptor = os.open(path, flags, 0o666)
        try:
            try:
                for part in parts:
                    view = memoryview(part).cast("B")
                    while view:
                        view = view[os.write(descriptor, view) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except BaseException:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            raise
        folder = path.parent
        while folder not in self._seen and folder.is_relative_to(self.root):
            self._seen.add(folder)
            folder = folder.parent

    def _partial(self, key: str) -> str:
        return f"{key}.{os.getpid()}-{secrets.token_hex(4)}{PARTIAL}"

    def put(self, key: str, parts: Parts) -> None:
        """Write or replace an object; it is durable when this returns."""
        ticket = self.stage(key, parts)
        try:
            self.publish(ticket, key)
        except BaseException:
            with contextlib.suppress(OSError):
                self.path(ticket).unlink(missing_ok=True)
            raise
        self.sync(key.rpartition("/")[0])

    def put_new(self, key: str, parts: Parts) -> bool:
        """Write an object unless there is one; return whether this call wrote it."""
        path = self.path(key)
        with explained("write", str(path)):
            if path.exists():
                return False
        ticket = self.stage(key, parts)
        staged = self.path(ticket)
        with explained("write", str(path)):
            try:
                os.link(staged, path)
            except FileExistsError:
                return False
            except OSError as error:
                # Some network and FAT file systems have no hard links; there the last writer replaces the object.
                if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
                    raise
                staged.replace(path)
            finally:
                with contextlib.suppress(OSError):
                    staged.unlink(missing_ok=True)
        self.sync(key.rpartition("/")[0])
        return True

    def stage(self, key: str, parts: Parts) -> str:
        """Write and fsync bytes under a partial name beside their final one."""
        ticket = self._partial(key)
        with explained("write", str(self.path(key))):
            self._write(self.path(ticket), parts)
        return ticket

    def keep(self, key: str) -> str | None:
        """Keep nothing: between the last look for a commit and a rename there is no time to speak of."""
        return None

    def publish(self, ticket: str, key: str) -> None:
        """Give staged bytes their final name; raises MissingError when they were removed."""
        with explained("write", str(self.path(key))):
            try:
                self.path(ticket).replace(self.path(key))
            except FileNotFoundError:
                raise MissingError(f"{self.path(ticket)} is gone: run the same command again") from None

    def sync(self, prefix: str) -> None:
        """Fsync the folder, and the first time also every folder above it, up to the one that holds the root."""
        folder = self.path(prefix) if prefix else self.root
        with explained("write", str(folder)):
            self._sync_folder(folder)
            while folder not in self._durable and folder.is_relative_to(self.root):
                self._sync_folder(folder.parent)
                self._durable.add(folder)
                folder = folder.parent

    def keys(self, prefix: str = "") -> list[str]:
        """Return all keys under ``prefix``, recursively, sorted; links are listed and not followed."""
        top = self.path(prefix) if prefix else self.root
        found = []
        for folder, _, files in os.walk(top, followlinks=False):
            base = Path(folder).relative_to(self.root).as_posix()
            found += [name if base == "." else f"{base}/{name}" for name in files]
        return sorted(found)

    def children(self, prefix: str = "") -> list[str]:
        """Return the names directly under ``prefix``, sorted."""
        try:
            with self._reading(prefix) as path, os.scandir(path) as entries:
                return sorted(entry.name for entry in entries)
        except MissingError:
            return []

    def _status(self, key: str) -> os.stat_result | None:
        try:
            with self._reading(key) as path:
                return path.stat()
        except MissingError:
            return None

    def size(self, key: str) -> int | None:
        """Return the object's size in bytes, None when there is none."""
        status = self._status(key)
        return None if status is None else status.st_size

    def stamp(self, key: str) -> str | None:
        """Return inode, size and time of the file; a file that is renamed over it has another inode."""
        status = self._status(key)
        return None if status is None else f"{status.st_ino}-{status.st_size}-{status.st_mtime_ns}"

    def delete(self, key: str) -> None:
        """Remove an object; no error when there is none."""
        with explained("write", str(self.path(key))):
            self.path(key).unlink(missing_ok=True)

    def free_bytes(self) -> int | None:
        """Return the free space of the file system that holds (or would hold) the root, in bytes."""
        with explained("read", self.url):
            folder = self.root
            while not folder.exists():
                folder = folder.parent
            status = os.statvfs(folder)
        return status.f_bavail * status.f_frsize

    def at_once(self) -> int:
        """Return 1: processor and disk do the work."""
        return 1

    def together(self, calls: Iterable[Callable[[], T]]) -> Iterator[T]:
        """Return the results of calls that are made one after another."""
        return one_by_one(calls)
