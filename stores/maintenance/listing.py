"""The lines of `ls`, one for each set: read from the summary of a complete set, and from the files of any other."""

import json
from collections.abc import Iterator
from typing import Any

from stores.errors import PatchbankError
from stores.format.paths import FOLDERS, PROVENANCE, SPEC
from stores.format.summary import all_sealed, invalid_rows, read_summary
from stores.maintenance.distinguishing import distinguishing
from stores.storage.base import Objects


def lines(objects: Objects) -> Iterator[dict[str, Any]]:
    """Yield what `ls` prints of every set; one that cannot be read has the state ``damaged`` and a ``problem``."""
    for kind in FOLDERS:
        for name in objects.children(kind):
            prefix = f"{kind}/{name}"
            summary = read_summary(objects, prefix)
            if summary is not None and summary["arrays"] and all_sealed(summary):
                yield _from_summary(summary)
            elif objects.children(prefix):  # a set that is being removed can be an empty folder for a moment
                yield _from_disk(objects, prefix)


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


def _from_disk(objects: Objects, prefix: str) -> dict[str, Any]:
    # pandas comes with these, and a store of complete sets needs none of them.
    from stores.maintenance.describe import line_of
    from stores.sets import ZarrSet

    kind, _, digest = prefix.partition("/")
    try:
        return line_of(ZarrSet(objects, prefix))
    except PatchbankError as error:
        nothing = dict.fromkeys(
            ("rows", "invalid_rows", "ranges", "rows_done", "ranges_done", "arrays", "sealed", "bytes"), 0
        )
        names = {"data_set": "-", "model": "-", "view": "-", "level": None}
        return {"digest": digest, "kind": kind, **names, **nothing, "state": "damaged", "problem": str(error)}
