"""Where bytes live: a local folder with durable writes, or any fsspec URL.

Both keep flat keys such as ``features/ab12.../tokens/block.11/c.0.0.0``. What each guarantees:

========== ==========================================  =================================
operation  local folder                                object store
========== ==========================================  =================================
put        write, fsync, rename, fsync the folder      one PUT
put_new    the same with link(2): the first one stays  PUT after a look (not atomic)
stage      write and fsync under a ``.partial`` name   one PUT under a ``.partial`` name
publish    rename; `sync` then fsyncs the folder       copy within the store, then delete
========== ==========================================  =================================
"""

import contextlib
import errno
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from stores.errors import MissingError, UserError

PARTIAL = ".partial"
"""Suffix of files that are being written; nobody reads them."""

PIECE_BYTES = 4 << 20
"""How much is read before it is checksummed, in bytes: what stays in a processor's cache."""

Parts = Sequence[bytes | memoryview]
Observe = Callable[[memoryview], None]


@runtime_checkable
class Objects(Protocol):
    """Flat key-value storage of byte strings."""

    url: str

    def read(self, key: str) -> bytes:
        """Return the object's bytes; raises MissingError when there is none."""
        ...

    def read_into(self, key: str, buffers: Sequence[memoryview], observe: Observe) -> int:
        """Fill buffers one after another and return the object's size; raises MissingError when there is none.

        ``observe`` is shown every piece while it is still in the processor's cache. An object of another size than
        the buffers together fills them partly or not at all.
        """
        ...

    def put(self, key: str, parts: Parts) -> None:
        """Write or replace an object; it is durable when this returns."""
        ...

    def put_new(self, key: str, parts: Parts) -> bool:
        """Write an object unless there is one; return whether this call wrote it."""
        ...

    def stage(self, key: str, parts: Parts) -> str:
        """Write bytes that are meant for ``key`` and return a ticket for `publish`."""
        ...

    def publish(self, ticket: str, key: str) -> None:
        """Give staged bytes their final name."""
        ...

    def sync(self, prefix: str) -> None:
        """Make the names under ``prefix`` durable."""
        ...

    def keys(self, prefix: str = "") -> list[str]:
        """Return all keys under ``prefix``, recursively, sorted, relative to the root."""
        ...

    def children(self, prefix: str = "") -> list[str]:
        """Return the names directly under ``prefix``, sorted."""
        ...

    def size(self, key: str) -> int | None:
        """Return the object's size in bytes, None when there is none."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; no error when there is none."""
        ...

    def free_bytes(self) -> int | None:
        """Return the free space in bytes, None where the question has no answer."""
        ...


_MENDABLE = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "your quota is used up: free some space",
    errno.EROFS: "the file system is read-only: choose another --store",
    errno.EACCES: "permission is denied: choose another --store or change its owner",
    errno.EPERM: "permission is denied: choose another --store or change its owner",
    errno.ENOTDIR: "a file stands where a folder should be: choose another --store",
    errno.ESTALE: "the network file system went away: mount it again",
    errno.EIO: "the disk reports an input/output error: check the disk",
}


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
    """Turn operating-system errors a user can mend into one sentence."""
    try:
        yield
    except OSError as error:
        advice = _MENDABLE.get(error.errno or 0)
        if advice is None:
            raise
        raise UserError(
            f"cannot write {path}: {advice}, then run the same command again (what is committed is kept)"
        ) from error


class LocalObjects:
    """A folder on a local or network file system."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).expanduser().absolute()
        self.url = str(self.root)

    def path(self, key: str) -> Path:
        """Return the file of a key; raises ValueError for a key that could leave the root."""
        if key.startswith("/") or ".." in key.split("/"):
            raise ValueError(f"{key!r} is not a key")
        return self.root / key

    def read(self, key: str) -> bytes:
        """Return the object's bytes; raises MissingError when there is none."""
        try:
            return self.path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise MissingError(f"{self.root / key} is not there") from None

    def read_into(self, key: str, buffers: Sequence[memoryview], observe: Observe) -> int:
        """Fill buffers one after another, without a copy in between, and return the object's size."""
        try:
            descriptor = os.open(self.path(key), os.O_RDONLY)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise MissingError(f"{self.root / key} is not there") from None
        try:
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
        finally:
            os.close(descriptor)

    def _write(self, path: Path, parts: Parts) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            descriptor = os.open(path, flags, 0o666)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, flags, 0o666)
        try:
            for part in parts:
                view = memoryview(part).cast("B")
                while view:
                    view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)

    def _partial(self, key: str) -> str:
        return f"{key}.{os.getpid()}-{secrets.token_hex(4)}{PARTIAL}"

    def put(self, key: str, parts: Parts) -> None:
        """Write or replace an object; it is durable when this returns."""
        self.publish(self.stage(key, parts), key)
        self.sync(key.rpartition("/")[0])

    def put_new(self, key: str, parts: Parts) -> bool:
        """Write an object unless there is one; return whether this call wrote it."""
        path = self.path(key)
        if path.exists():
            return False
        ticket = self.stage(key, parts)
        staged = self.path(ticket)
        with _explained(str(path)):
            try:
                os.link(staged, path)
            except FileExistsError:
                return False
            except OSError as error:
                # Some network and FAT file systems know no hard links; there the last one stays.
                if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
                    raise
                staged.replace(path)
            finally:
                staged.unlink(missing_ok=True)
            self.sync(key.rpartition("/")[0])
        return True

    def stage(self, key: str, parts: Parts) -> str:
        """Write and fsync bytes under a partial name beside their final one."""
        ticket = self._partial(key)
        with _explained(str(self.path(key))):
            self._write(self.path(ticket), parts)
        return ticket

    def publish(self, ticket: str, key: str) -> None:
        """Give staged bytes their final name."""
        with _explained(str(self.path(key))):
            self.path(ticket).replace(self.path(key))

    def sync(self, prefix: str) -> None:
        """Fsync the folder, and the folders above it up to the root."""
        folder = self.path(prefix) if prefix else self.root
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def keys(self, prefix: str = "") -> list[str]:
        """Return all keys under ``prefix``, recursively, sorted; links are names too, never followed."""
        top = self.path(prefix) if prefix else self.root
        found = []
        for folder, _, files in os.walk(top, followlinks=False):
            base = Path(folder).relative_to(self.root).as_posix()
            found += [name if base == "." else f"{base}/{name}" for name in files]
        return sorted(found)

    def children(self, prefix: str = "") -> list[str]:
        """Return the names directly under ``prefix``, sorted."""
        try:
            with os.scandir(self.path(prefix) if prefix else self.root) as entries:
                return sorted(entry.name for entry in entries)
        except (FileNotFoundError, NotADirectoryError):
            return []

    def size(self, key: str) -> int | None:
        """Return the object's size in bytes, None when there is none."""
        try:
            return self.path(key).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def delete(self, key: str) -> None:
        """Remove an object; no error when there is none."""
        with _explained(str(self.path(key))):
            self.path(key).unlink(missing_ok=True)

    def free_bytes(self) -> int | None:
        """Return the free space of the file system that holds (or would hold) the root, in bytes."""
        folder = self.root
        while not folder.exists():
            folder = folder.parent
        status = os.statvfs(folder)
        return status.f_bavail * status.f_frsize


class RemoteObjects:
    """Any file system fsspec knows by URL: ``s3://...``, ``gs://...``, ``memory://...``."""

    def __init__(self, url: str) -> None:
        import fsspec

        self.url = url.rstrip("/")
        self.filesystem: Any
        try:
            self.filesystem, self.root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise UserError(f"cannot open the store {url}: {error}") from error

    def _path(self, key: str) -> str:
        return f"{self.root}/{key}" if key else str(self.root)

    def read(self, key: str) -> bytes:
        """Return the object's bytes; raises MissingError when there is none."""
        try:
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
        self.filesystem.pipe_file(self._path(key), b"".join(parts))

    def put_new(self, key: str, parts: Parts) -> bool:
        """Write an object unless one is seen; two writers at the same moment may both write."""
        if self.filesystem.exists(self._path(key)):
            return False
        self.put(key, parts)
        return True

    def stage(self, key: str, parts: Parts) -> str:
        """PUT under a partial name, so that a slower writer never replaces what is committed."""
        ticket = f"{key}.{secrets.token_hex(8)}{PARTIAL}"
        self.put(ticket, parts)
        return ticket

    def publish(self, ticket: str, key: str) -> None:
        """Give staged bytes their final name."""
        self.filesystem.cp_file(self._path(ticket), self._path(key))
        self.delete(ticket)

    def sync(self, prefix: str) -> None:
        """Nothing to do: a PUT is durable."""

    def keys(self, prefix: str = "") -> list[str]:
        """Return all keys under ``prefix``, recursively, sorted, relative to the root."""
        self.filesystem.invalidate_cache()
        start = len(self._path("").rstrip("/")) + 1
        try:
            return sorted(str(path)[start:] for path in self.filesystem.find(self._path(prefix)))
        except FileNotFoundError:
            return []

    def children(self, prefix: str = "") -> list[str]:
        """Return the names directly under ``prefix``, sorted."""
        self.filesystem.invalidate_cache()
        try:
            entries = self.filesystem.ls(self._path(prefix), detail=False)
        except FileNotFoundError:
            return []
        return sorted({str(entry).rstrip("/").rpartition("/")[2] for entry in entries})

    def size(self, key: str) -> int | None:
        """Return the object's size in bytes, None when there is none."""
        try:
            return int(self.filesystem.size(self._path(key)))
        except FileNotFoundError:
            return None

    def delete(self, key: str) -> None:
        """Remove an object; no error when there is none."""
        with contextlib.suppress(FileNotFoundError):
            self.filesystem.rm_file(self._path(key))

    def free_bytes(self) -> int | None:
        """Object stores have no such figure."""
        return None


def open_objects(location: str | Path) -> Objects:
    """Return the storage behind a path or an fsspec URL."""
    text = str(location)
    if "://" in text and not text.startswith("file://"):
        return RemoteObjects(text)
    return LocalObjects(text.removeprefix("file://"))
