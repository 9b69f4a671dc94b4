"""State of the stored sets that results were computed from: whole, damaged, gone, or made again with other values.

Records, seals and sizes of objects are compared; bytes are not hashed, which is what `patchbank verify` does.
"""

import json
from collections.abc import Sequence

import pandas as pd

from evaluate.claims.roles import ModelInfo
from stores import Store
from stores.errors import PatchbankError
from stores.format.paths import FOLDERS
from stores.maintenance.inventory import take_inventory
from stores.maintenance.verify import verify_set

WHOLE = "whole"


def states(store: Store, models_info: Sequence[ModelInfo], table: pd.DataFrame) -> dict[str, str] | None:
    """Return the state of each model's stored sets, by title: ``whole``, or what is wrong with which.

    None when there is no set at all: most likely the store is another one.
    """
    if next(store.set_folders(), None) is None:
        return None
    by_digest: dict[str, str] = {}
    by_title = {}
    for info in models_info:
        cited = _cited(table, info)
        wrong = []
        for name, digest in info.sets.items():
            if digest not in by_digest:
                prefix = f"{name.partition(' ')[0]}/{digest}"
                by_digest[digest] = _state(store, prefix, cited if name in FOLDERS else {})
            if by_digest[digest] != WHOLE:
                wrong.append(f"{name} {by_digest[digest]}")
        by_title[info.title] = "; ".join(wrong) or WHOLE
    return by_title


def _state(store: Store, prefix: str, cited: dict[str, set[str]]) -> str:
    try:
        known = take_inventory(store.objects, prefix)
        if not known.names:
            return "gone from the store"
        findings = verify_set(store.objects, prefix, depth="sizes").findings
    except PatchbankError as error:
        return f"damaged (verify says: {error})"
    wrong = [finding for finding in findings if finding.part != "stray"]
    if wrong:
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        return f"damaged (verify says: {wrong[0].key.removeprefix(prefix + '/')} {wrong[0].problem}{more})"
    for name, contents in cited.items():
        if name in known.arrays and name not in known.seals:
            return f"incomplete ({name} is not sealed)"
        if name in known.seals and known.seals[name].content not in contents:
            return f"other than what was measured ({name} was made again with other values)"
    return WHOLE


def _cited(table: pd.DataFrame, info: ModelInfo) -> dict[str, set[str]]:
    """Return the content digests of every array that a model's results were computed from, by the array's address."""
    digests: dict[str, set[str]] = {}
    for inputs in table.loc[table["model"] == info.title, "inputs"].dropna().unique():
        for name, digest in json.loads(inputs).items():
            digests.setdefault(name, set()).add(str(digest))
    return digests
