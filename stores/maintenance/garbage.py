"""What a store holds that nothing needs: files of killed writers, sets that nothing cites; and removing it.

What is committed or sealed is never a leftover; a whole set becomes one only by its state or because no result cites
it, and is only removed when that is asked for.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from stores.errors import PatchbankError, UserError
from stores.format.paths import COMMITS, CREATED, FOLDERS, INDEX, LOGS, SOURCES, SPEC, SUMMARY
from stores.format.summary import read_summary, update_summary
from stores.maintenance.describe import line_of
from stores.maintenance.inventory import CHUNK, take_inventory
from stores.sets import ZarrSet
from stores.storage.base import PARTIAL, Objects
from stores.storage.local import LocalObjects
from stores.store import Store, read_note

Kind = Literal["partial file", "uncommitted chunk", "stale commit record", "unsealed set", "uncited set"]

SMALL: tuple[Kind, ...] = ("partial file", "uncommitted chunk", "stale commit record")
"""Leftovers whose removal loses nothing that counts."""


@dataclass(frozen=True)
class Garbage:
    """One object or one set that could be removed."""

    kind: Kind
    key: str
    """The object, or the set's folder."""
    n_bytes: int


def find_garbage(store: Store, cited: Collection[str] | None) -> Iterator[Garbage]:
    """Yield what could be removed; ``cited`` are the set and content digests that results were computed from.

    Without ``cited`` no set is called uncited. A set that cannot be read is left to `verify`.
    """
    objects = store.objects
    for folder in (*FOLDERS, INDEX, LOGS, SOURCES):
        for key in objects.keys(folder):
            if key.endswith(PARTIAL):
                yield _object("partial file", objects, key)
    for kind, digest in store.set_folders():
        prefix = f"{kind}/{digest}"
        try:
            opened = ZarrSet(objects, prefix)
        except PatchbankError:
            continue
        if not opened.seals and line_of(opened)["state"] == "partial":
            yield Garbage("unsealed set", prefix, _size(objects, prefix))
        elif cited is not None and not {digest, *opened.content.values()} & set(cited):
            yield Garbage("uncited set", prefix, _size(objects, prefix))
        yield from _inside(opened)


def _inside(opened: ZarrSet) -> Iterator[Garbage]:
    objects, prefix = opened.objects, opened.prefix
    known = take_inventory(objects, prefix)
    for name, commit in known.commits.items():
        if commit.objects.keys() <= known.seals.keys():
            yield _object("stale commit record", objects, f"{prefix}/{COMMITS}/{name}")
    expected_objects = known.expected_objects()
    for child in sorted(known.names):
        folder, _, name = child.rpartition("/")
        open_array = folder in known.arrays and folder not in known.seals and folder not in known.lost_seals
        if open_array and child not in expected_objects and CHUNK.fullmatch(name):
            yield _object("uncommitted chunk", objects, f"{prefix}/{child}")


def _object(kind: Kind, objects: Objects, key: str) -> Garbage:
    return Garbage(kind, key, objects.size(key) or 0)


def _size(objects: Objects, prefix: str) -> int:
    return sum(objects.size(key) or 0 for key in objects.keys(prefix))


def check_minimum_age(
    store: Store, found: Collection[Garbage], seconds: float, now: Callable[[], float] = time.time
) -> None:
    """Raise UserError when something that would be removed was written less than ``seconds`` ago.

    A writer may still be at it. Stores that do not tell when an object was written count as young.
    """
    if seconds <= 0:
        return
    for one in found:
        keys = store.objects.keys(one.key) if "set" in one.kind else [one.key]
        for key in keys:
            written = _written(store.objects, key)
            if written is None or now() - written < seconds:
                when = "at an unknown time" if written is None else f"{max(0, now() - written) / 60:.0f} minutes ago"
                raise UserError(
                    f"{key} in {store.location} was written {when} and somebody may still be writing: wait, or say "
                    "--older-than 0 when no extraction runs"
                )


def _written(objects: Objects, key: str) -> float | None:
    """Return when an object was written, in seconds since 1970; None where the storage does not say."""
    if isinstance(objects, LocalObjects):
        try:
            return objects.path(key).stat().st_mtime
        except FileNotFoundError:
            return 0.0  # its writer has just finished or removed it
    filesystem, path = getattr(objects, "filesystem", None), getattr(objects, "root", "")
    try:
        return float(filesystem.modified(f"{path}/{key}").timestamp()) if filesystem is not None else None
    except (NotImplementedError, FileNotFoundError, AttributeError):
        return None


def remove(store: Store, found: Collection[Garbage]) -> int:
    """Remove leftovers and the notes that lead to removed sets; return the bytes that were freed."""
    objects = store.objects
    for one in found:
        if "set" not in one.kind:
            objects.delete(one.key)
            continue
        # Without these three the folder is no set any more, whenever the rest goes.
        for name in (CREATED, SUMMARY, SPEC):
            objects.delete(f"{one.key}/{name}")
        for key in objects.keys(one.key):
            objects.delete(key)
        _remove_folders(objects, one.key)
    _forget(store, {one.key for one in found if "set" in one.kind})
    return sum(one.n_bytes for one in found)


def _remove_folders(objects: Objects, prefix: str) -> None:
    """Remove the empty folders that a set leaves on a disk; object stores have none."""
    if isinstance(objects, LocalObjects) and objects.path(prefix).is_dir():
        top = objects.path(prefix)
        for folder in sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True):
            folder.rmdir()
        top.rmdir()


def _forget(store: Store, removed: set[str]) -> None:
    """Remove notes that lead to a removed set, and their copies in the summaries of the sets that stay."""

    def leads_away(noted: Mapping[str, str]) -> bool:
        return any(f"{kind}/{digest}" in removed for kind, digest in noted.items())

    for kind, digest in store.set_folders():
        summary = read_summary(store.objects, f"{kind}/{digest}")
        if summary is not None and removed:
            kept = {key: noted for key, noted in summary["notes"].items() if not leads_away(noted)}
            update_summary(store.objects, f"{kind}/{digest}", {"notes": kept})
    for name in store.objects.children(INDEX):
        key = f"{INDEX}/{name}"
        noted = read_note(name.removesuffix(".json"), store.objects.read(key))
        if noted is not None and leads_away(noted):
            store.objects.delete(key)
