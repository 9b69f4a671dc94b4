"""Finding and removing what is not needed: files of killed writers, incomplete sets and sets that no result cites.

Committed or sealed objects are never listed one by one; a whole set is listed when it is incomplete or no result cites
it, and removed only on request.
"""

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from stores.canonical import read_checksummed
from stores.errors import PatchbankError, UserError
from stores.format.commits import Commit, parse
from stores.format.paths import ARROW, COMMITS, CREATED, FOLDERS, GROUP, INDEX, LOGS, SEALS, SOURCES, SPEC, SUMMARY
from stores.format.records import record_bytes, set_aside
from stores.format.summary import update_summary
from stores.maintenance.describe import line_of
from stores.maintenance.inventory import CHUNK, take_inventory
from stores.sets import ZarrSet
from stores.storage.base import PARTIAL, Objects
from stores.storage.local import LocalObjects
from stores.store import Store, read_note

Kind = Literal["partial file", "uncommitted chunk", "stale commit record", "unsealed set", "uncited set"]

SMALL: tuple[Kind, ...] = ("partial file", "uncommitted chunk", "stale commit record")
"""Kinds that can be removed without losing committed rows."""


@dataclass(frozen=True)
class Garbage:
    """An object or a set that could be removed."""

    kind: Kind
    key: str
    """Key of the object, or folder of the set."""
    n_bytes: int
    stamp: str | None = None
    """The storage's stamp of the object when it was found; one that was replaced since is not removed."""


def find_garbage(store: Store, cited: Collection[str] | None) -> Iterator[Garbage]:
    """Yield what could be removed; ``cited`` are the set and content digests that results were computed from.

    Without ``cited`` no set is listed as uncited. A set that cannot be read is left to `verify`.
    """
    objects = store.objects
    for folder in (*FOLDERS, INDEX, LOGS, SOURCES):
        for key in objects.keys(folder):
            if key.endswith(PARTIAL) or (folder == LOGS and key.endswith(ARROW)):
                yield _object("partial file", objects, key)
    for kind, digest in store.set_folders():
        prefix = f"{kind}/{digest}"
        try:
            opened = ZarrSet(objects, prefix)
        except PatchbankError:
            with contextlib.suppress(PatchbankError):
                if not take_inventory(objects, prefix).is_initialised:  # its creation, or its removal, was stopped
                    yield Garbage("unsealed set", prefix, _size(objects, prefix))
            continue
        if not opened.seals and line_of(opened)["state"] == "partial":
            yield Garbage("unsealed set", prefix, _size(objects, prefix))
        elif cited is not None and not {digest, *opened.content.values()} & set(cited):
            yield Garbage("uncited set", prefix, _size(objects, prefix))
        yield from _inside(opened)


def _inside(opened: ZarrSet) -> Iterator[Garbage]:
    objects, prefix = opened.objects, opened.prefix
    inventory = take_inventory(objects, prefix)
    for name, commit in inventory.commits.items():
        if commit.arrays.keys() <= inventory.seals.keys():
            yield _object("stale commit record", objects, f"{prefix}/{COMMITS}/{name}")
    expected_objects = inventory.expected_objects
    for child in sorted(inventory.names):
        folder, _, name = child.rpartition("/")
        open_array = folder in inventory.arrays and folder not in inventory.seals and folder not in inventory.lost_seals
        if open_array and child not in expected_objects and CHUNK.fullmatch(name):
            yield _object("uncommitted chunk", objects, f"{prefix}/{child}")


def _object(kind: Kind, objects: Objects, key: str) -> Garbage:
    return Garbage(kind, key, objects.size(key) or 0, objects.stamp(key))


def _size(objects: Objects, prefix: str) -> int:
    return sum(objects.size(key) or 0 for key in objects.keys(prefix))


def check_minimum_age(
    store: Store, garbage: Collection[Garbage], seconds: float, now: Callable[[], float] = time.time
) -> None:
    """Raise UserError when something that would be removed was written a short time ago: its writer may still run.

    Args:
        store: The store.
        garbage: What would be removed.
        seconds: Smallest age, in seconds. Where the storage does not tell an object's age, it counts as too young.
        now: Returns the time in seconds since 1970.
    """
    if seconds <= 0:
        return
    for item in garbage:
        keys = store.objects.keys(item.key) if "set" in item.kind else [item.key]
        for key in keys:
            written = _written(store.objects, key)
            if written is None or now() - written < seconds:
                when = "at an unknown time" if written is None else f"{max(0, now() - written) / 60:.0f} minutes ago"
                raise UserError(
                    f"{key} in {store.location} was written {when} and its writer may still run: wait, or give "
                    "--older-than 0 when no extraction runs"
                )


def _written(objects: Objects, key: str) -> float | None:
    """Return when an object was written, in seconds since 1970; None where the storage does not say."""
    if isinstance(objects, LocalObjects):
        try:
            return objects.path(key).stat().st_mtime
        except FileNotFoundError:
            return 0.0  # its writer has just renamed or removed it
    filesystem, path = getattr(objects, "filesystem", None), getattr(objects, "root", "")
    try:
        return float(filesystem.modified(f"{path}/{key}").timestamp()) if filesystem is not None else None
    except (NotImplementedError, FileNotFoundError, AttributeError):
        return None


def remove(store: Store, garbage: Collection[Garbage]) -> int:
    """Remove objects and sets, and the notes that name removed sets; return the bytes that were freed.

    What another process replaced, committed or unsealed since it was found stays.
    """
    objects = store.objects
    for item in garbage:
        if "set" in item.kind:
            _remove_set(objects, item.key)
        elif item.stamp is not None:
            set_aside(objects, item.key, partial(_is_needed, objects, item), item.stamp)
    _remove_notes(store, {item.key for item in garbage if "set" in item.kind})
    return sum(item.n_bytes for item in garbage)


def _is_needed(objects: Objects, item: Garbage, data: bytes) -> bool:
    """Return whether an object that was not needed when it was found is needed now."""
    kind, digest, *rest = item.key.split("/")
    if item.kind == "partial file":
        return False
    inventory = take_inventory(objects, f"{kind}/{digest}")
    if item.kind == "stale commit record":
        commit = parse(Commit, read_checksummed(data))
        return commit is not None and not commit.arrays.keys() <= inventory.seals.keys()
    return "/".join(rest) in inventory.expected_objects


def _remove_set(objects: Objects, prefix: str) -> None:
    """Remove a set, in an order that leaves after a kill what is not damage: a set of which less is there.

    At first nothing is called sealed any more, then nothing committed, then there are no arrays; the last steps are
    those of a creation backwards, with the record that names the set at the very end.
    """
    update_summary(objects, prefix, lambda before: {"arrays": {}, "notes": {}})
    inside = {SPEC: 4, GROUP: 3}
    at_top = {CREATED: 5, SUMMARY: 6, SPEC: 8}

    def step(key: str) -> int:
        folder, _, name = key[len(prefix) + 1 :].rpartition("/")
        if not folder:
            return at_top.get(name, 7)
        return {SEALS: 0, COMMITS: 1}.get(folder, inside.get(name, 2))

    for key in sorted(objects.keys(prefix), key=step):
        objects.delete(key)
    _remove_folders(objects, prefix)


def _remove_folders(objects: Objects, prefix: str) -> None:
    """Remove the empty folders of a removed set on a disk; object stores have none."""
    if isinstance(objects, LocalObjects) and objects.path(prefix).is_dir():
        top = objects.path(prefix)
        for folder in sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True):
            folder.rmdir()
        top.rmdir()


def _remove_notes(store: Store, removed: set[str]) -> None:
    """Remove notes that name a removed set, and their copies in the summaries of the other sets."""

    def names_removed(note: Mapping[str, str]) -> bool:
        return any(f"{kind}/{digest}" in removed for kind, digest in note.items())

    for kind, digest in store.set_folders():
        if removed:
            store.update_notes(
                f"{kind}/{digest}", lambda notes: {key: note for key, note in notes.items() if not names_removed(note)}
            )
    for name in store.objects.children(INDEX):
        key = f"{INDEX}/{name}"
        note = read_note(name.removesuffix(".json"), record_bytes(store.objects, key))
        if note is not None and names_removed(note):
            store.objects.delete(key)
