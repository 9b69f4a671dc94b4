"""Reads records that may be damaged, and removes damaged objects without removing intact ones."""

import contextlib
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from stores.errors import MissingError, UserError
from stores.specs import FORMAT_VERSION
from stores.storage.base import PARTIAL, Objects
from stores.storage.local import LocalObjects
from stores.storage.os_errors import explained
from stores.storage.remote import RemoteObjects

TRIES = 10
"""How often a step is done again because another process changed the same object meanwhile."""


def check_format(version: object, where: str) -> None:
    """Raise UserError for a set of another format than this version reads; ``where`` names it."""
    if not isinstance(version, int) or version == FORMAT_VERSION:
        return
    if version > FORMAT_VERSION:
        raise UserError(
            f"{where} is of format {version} and this version of patchbank reads format {FORMAT_VERSION}: install a "
            "newer patchbank"
        )
    raise UserError(
        f"{where} is of format {version}, which was never released, and this version of patchbank reads format "
        f"{FORMAT_VERSION}: remove it or choose another store, and extract it again"
    )


def record_bytes(objects: Objects, key: str) -> bytes | None:
    """Return an object's bytes; None when there is none, and no bytes where something else than a file is in its place.

    A pipe or a device is damage of that object. Permission, memory and disk are not, and raise UserError as they do
    everywhere; a link out of the store does too, because what it leads to is none of the store's.
    """
    try:
        return objects.read(key)
    except MissingError:
        return None
    except UserError:
        if is_file(objects, key):
            raise
        return b""


def read_many(objects: Objects, keys: Iterable[str]) -> Iterator[bytes | None]:
    """Return `record_bytes` of some objects, in order; an object store is asked for several at the same time."""
    return objects.together(partial(record_bytes, objects, key) for key in keys)


def is_file(objects: Objects, key: str) -> bool:
    """Return whether nothing else than a file, or a link, is under this name; always so in an object store."""
    with contextlib.suppress(OSError):
        if isinstance(objects, LocalObjects):
            mode = os.lstat(objects.root / key).st_mode
            return stat.S_ISREG(mode) or stat.S_ISLNK(mode)
    return True


def set_aside(objects: Objects, key: str, is_good: Callable[[bytes], bool], stamp: str | None = None) -> bool:
    """Remove a damaged object; return False, leaving it, when it is good or gone by now.

    It is renamed before it is looked at, so that one that another process wrote a moment ago is never removed: it gets
    its name back.

    Args:
        objects: Storage of the store.
        key: The object. A folder that holds something is renamed only, so that `verify` calls its objects strays.
        is_good: Returns whether these bytes are to stay.
        stamp: The storage's stamp of the object that is meant; one with another stamp stays.
    """
    if stamp is not None and objects.stamp(key) != stamp:
        return False
    aside = f"{key}.{secrets.token_hex(8)}{PARTIAL}"
    if not is_file(objects, key) and isinstance(objects, LocalObjects):
        with explained("write", str(objects.root / key)):
            (objects.root / key).rename(objects.root / aside)
            path = objects.root / aside
            if not path.is_file():
                with contextlib.suppress(OSError):
                    path.rmdir() if path.is_dir() else path.unlink()
                return True
    else:
        try:
            objects.publish(key, aside)
        except MissingError:
            return False
    data = record_bytes(objects, aside)
    # An object store renames by copying, which gives another stamp.
    is_other = stamp is not None and not isinstance(objects, RemoteObjects) and objects.stamp(aside) != stamp
    is_kept = data is not None and (is_other or is_good(data))
    if is_kept:
        objects.put_new(key, [data or b""])
    objects.delete(aside)
    return not is_kept


def write_once(objects: Objects, key: str, data: bytes, is_good: Callable[[bytes], bool]) -> bool:
    """Write an object durably unless there is a good one; return whether this call wrote it. A damaged one is replaced.

    Raises UserError when something else keeps taking its name.
    """
    for _ in range(TRIES):
        if objects.put_new(key, [data]):
            return True
        present = record_bytes(objects, key)
        if present is not None and is_good(present):
            return False
        set_aside(objects, key, is_good)
    raise UserError(f"{objects.url}/{key} is replaced again and again: let one command at a time write it")


def write_all_once(objects: Objects, records: Mapping[str, tuple[bytes, Callable[[bytes], bool]]]) -> None:
    """Write several objects as `write_once` does, each given as bytes and what says whether present ones are good."""
    for _ in objects.together(partial(write_once, objects, key, *record) for key, record in records.items()):
        pass


def replace(objects: Objects, key: str, parts: list[bytes | memoryview]) -> None:
    """Write the only right bytes of an object, whatever is in its place."""
    if not is_file(objects, key):
        set_aside(objects, key, lambda data: False)
    objects.put(key, parts)
