"""The lines of `ls`, one for each set: read from the summary of a complete set, and from the files of any other."""

import json
from collections.abc import Iterator
from typing import Any

from stores.errors import DamageError, MissingError, PatchbankError, UserError
from stores.format.paths import FOLDERS, PROVENANCE, SPEC
from stores.format.records import TRIES
from stores.format.summary import all_sealed, invalid_rows, read_summary
from stores.maintenance.distinguishing import distinguishing
from stores.storage.base import Objects


def lines(objects: Objects) -> Iterator[dict[str, Any]]:
    """Yield what `ls` prints of every set.

    One that is damaged has the state ``damaged`` and a ``problem``; one that cannot be read for want of memory or
    permission is ``unread``. A creation that was stopped, or that is running, is no set yet.
    """
    for kind in FOLDERS:
        for name in objects.children(kind):
            prefix = f"{kind}/{name}"
            try:
                summary = read_summary(objects, prefix)
            except UserError:
                summary = None
            if summary is not None and summary["arrays"] and all_sealed(summary):
                yield _from_summary(summary)
            elif objects.children(prefix):  # a set that is being removed can be an empty folder for a moment
                yield from _from_disk(objects, prefix)


def _from_summary(summary: dict[str, Any]) -> dict[str, Any]:
    arrays = summary["arrays"]
    return {
        "digest": summary["set"],
        **{key: summary[key] for key in ("kind", "data_set", "model", "view", "rows", "ranges")},
        "level": _level(summary),
        **distinguishing(_record(summary, SPEC), _record(summary, PROVENANCE)),
        "invalid_rows": invalid_rows(_record(summary, PROVENANCE)),
        "state": "sealed",
        "rows_done": summary["rows"],
        "ranges_done": summary["ranges"],
        "arrays": len(arrays),
        "sealed": len(arrays),
        "bytes": sum(entry["bytes"] for entry in arrays.values()),
        "problem": "",
    }


def _record(summary: dict[str, Any], name: str) -> Any:
    try:
        return json.loads(summary["records"][name])
    except (KeyError, ValueError, RecursionError):
        return {}


def _level(summary: dict[str, Any]) -> float | None:
    try:
        level = _record(summary, SPEC)["view"]["parameters"]["level"]
    except (KeyError, TypeError):
        return None
    return level if isinstance(level, int | float) else None


def _from_disk(objects: Objects, prefix: str) -> Iterator[dict[str, Any]]:
    # pandas comes with these, and a store of complete sets needs none of them.
    from stores.maintenance.describe import line_of
    from stores.sets import ZarrSet

    before = problem = ""
    for _ in range(TRIES):  # it may be created or removed while it is looked at, so the same must be wrong twice
        before = problem
        try:
            yield line_of(ZarrSet(objects, prefix))
            return
        except (DamageError, MissingError) as error:
            problem = str(error)
            if isinstance(error, MissingError) and not _is_set(objects, prefix):
                return
        except UserError as error:
            yield _problem(prefix, "unread", str(error))
            return
        except MemoryError:
            yield _problem(prefix, "unread", "there is not enough memory to read it: free some")
            return
        if problem == before:
            break
    yield _problem(prefix, "damaged", problem)


def _is_set(objects: Objects, prefix: str) -> bool:
    from stores.maintenance.inventory import take_inventory

    try:
        return take_inventory(objects, prefix).is_initialised
    except PatchbankError:
        return True


def _problem(prefix: str, state: str, problem: str) -> dict[str, Any]:
    kind, _, digest = prefix.partition("/")
    counts = ("rows", "invalid_rows", "ranges", "rows_done", "ranges_done", "arrays", "sealed", "bytes")
    names = {"data_set": "-", "model": "-", "view": "-", "level": None}
    return {"digest": digest, "kind": kind, **names, **dict.fromkeys(counts, 0), "state": state, "problem": problem}
