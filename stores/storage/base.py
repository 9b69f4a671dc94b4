"""The storage protocol: byte strings under flat keys, in a local folder or at any fsspec URL.

A key is a path such as ``features/ab12.../tokens/block.11/c.0.0.0``. What each storage guarantees:

=========  =========================  =======================================  ========================
operation  local folder               object store with conditional PUT        any other fsspec URL
=========  =========================  =======================================  ========================
put        write, fsync, rename,      one PUT                                  one PUT
           fsync the folder(s)
put_new    the same with link(2):     one PUT "if there is none", in one step  a look, then a PUT: two
           never replaces                                                      writers may both write
stage      write and fsync under a    the same PUT, of the final name: the     one PUT under a
           ``.partial`` name          ticket is the key. Where other bytes     ``.partial`` name
                                      have it, a PUT under ``.partial``
publish    rename; `sync` then        nothing where the ticket is the key;     copy within the store,
           fsyncs the folder          else as at the right                     then delete
keep       nothing                    copy within the store                    nothing
together   one call after another     16 requests at a time                    16 where the file system
                                                                               is asynchronous
=========  =========================  =======================================  ========================

Conditional PUT is fsspec's ``pipe_file(mode="create")`` on S3 and its likes, Google Cloud Storage, Azure and fsspec's
memory. Whether a server keeps to it is tried at the first object that a process creates. A chunk costs one request::

    local        write c.0.partial -> fsync ------------------> rename c.0 -> fsync folder -> commit record
    conditional  PUT c.0 if none ----------------------------------------------------------> PUT record if none
                 \\- refused, equal bytes (a retried PUT, a dead writer's): it is in place -/
                 \\- refused, other bytes: PUT c.0.partial -> no commit? keep c.0 -> copy, delete -> PUT record

Nothing that a conditional PUT writes replaces anything, so writing before looking for a commit loses nobody's bytes.
Who has replaced the bytes of a dead writer, and finds that it was alive and committed first, puts back what was kept.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, TypeVar, runtime_checkable

from stores.errors import MissingError

PARTIAL = ".partial"
"""Suffix of files that are being written; they are never read."""

PIECE_BYTES = 4 << 20
"""Bytes that are read before they are checksummed: few enough to stay in a processor's cache."""

MOST_BYTES = 4 << 30
"""Size of the largest object that is read whole, in bytes; more than a chunk of the largest row needs."""

MOST_RECORD_BYTES = 256 << 20
"""Size of the largest JSON record that is read, in bytes: the seal of an array of two million chunks."""

Parts = Sequence[bytes | memoryview]
Observe = Callable[[memoryview], None]
T = TypeVar("T")


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
        """Write an object unless there is one; return whether this call wrote it.

        True on an object store also where the object holds these bytes already: a PUT whose answer was lost is repeated
        by the client, and meets itself.
        """
        ...

    def stage(self, key: str, parts: Parts) -> str:
        """Write the bytes of ``key`` without replacing anything, and return a ticket for `publish`.

        The ticket is the partial name that they have, or ``key`` itself where they are in place already.
        """
        ...

    def keep(self, key: str) -> str | None:
        """Copy an object that is about to be replaced to a partial name, and return it; `publish` puts it back.

        None where there is no object, and where this storage replaces without keeping.
        """
        ...

    def publish(self, ticket: str, key: str) -> None:
        """Give staged or kept bytes their final name, if they have another one."""
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

    def at_once(self) -> int:
        """Return how many calls this storage answers in the time of one; 1 where processor and disk do the work."""
        ...

    def together(self, calls: Iterable[Callable[[], T]]) -> Iterator[T]:
        """Return the results of calls in their order; `at_once` of them are made at the same time."""
        ...


def read_if_present(objects: Objects, key: str) -> bytes | None:
    """Return an object's bytes, None when there is none."""
    try:
        return objects.read(key)
    except MissingError:
        return None
