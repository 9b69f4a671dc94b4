"""The storage protocol: byte strings under flat keys, in a local folder or at any fsspec URL.

A key is a path such as ``features/ab12.../tokens/block.11/c.0.0.0``. What each storage guarantees:

========== ==========================================  =================================
operation  local folder                                object store
========== ==========================================  =================================
put        write, fsync, rename, fsync the folder(s)   one PUT
put_new    the same with link(2): never replaces       PUT if none exists (not atomic)
stage      write and fsync under a ``.partial`` name   one PUT under a ``.partial`` name
publish    rename; `sync` then fsyncs the folder       copy within the store, then delete
========== ==========================================  =================================
"""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from stores.errors import MissingError

PARTIAL = ".partial"
"""Suffix of files that are being written; they are never read."""

PIECE_BYTES = 4 << 20
"""Bytes that are read before they are checksummed: few enough to stay in a processor's cache."""

MOST_BYTES = 4 << 30
"""Size of the largest object that is read whole, in bytes; more than a chunk of the largest row needs."""

Parts = Sequence[bytes | memoryview]
Observe = Callable[[memoryview], None]


@runtime_checkable
class Objects(Protocol):
    """Storage of byte strings under flat keys."""

    url: str

    def read(self, key: str) -> bytes:
        """Return the object's bytes; raises MissingError when there is none."""
        ...

    def read_into(self, key: str, buffers: Sequence[memoryview], observe: Observe) -> int:
        """Fill buffers one after another and return the object's size; raises MissingError when there is none.

        ``observe`` is called with every piece while it is still in the processor's cache. An object of another size
        than the buffers together fills them partly or not at all.
        """
        ...

    def put(self, key: str, parts: Parts) -> None:
        """Write or replace an object; it is durable when this returns."""
        ...

    def put_new(self, key: str, parts: Parts) -> bool:
        """Write an object unless there is one; return whether this call wrote it."""
        ...

    def stage(self, key: str, parts: Parts) -> str:
        """Write the bytes of ``key`` under a partial name, and return that name as a ticket for `publish`."""
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

    def stamp(self, key: str) -> str | None:
        """Return a text that changes whenever the object is replaced, None when there is none."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; no error when there is none."""
        ...

    def free_bytes(self) -> int | None:
        """Return the free space in bytes, None where it is not known."""
        ...


def read_if_present(objects: Objects, key: str) -> bytes | None:
    """Return an object's bytes, None when there is none."""
    try:
        return objects.read(key)
    except MissingError:
        return None
