"""What a set is, for people: one line of `ls` and the card of `show`."""

from typing import Any

from stores.sets import ZarrSet
from stores.specs import FeatureSpec


def summary(stored_set: ZarrSet) -> dict[str, Any]:
    """Return what `ls` prints of a set."""
    spec = stored_set.spec
    return {
        "digest": stored_set.digest,
        "kind": spec.kind,
        "data_set": spec.dataset.name,
        "model": spec.model.name if isinstance(spec, FeatureSpec) else "-",
        "view": spec.view.name,
        "rows": stored_set.layout.n_rows,
        "arrays": len(stored_set.arrays),
        "sealed": len(stored_set.seals),
        "bytes": stored_set.n_bytes,
    }


def card(stored_set: ZarrSet) -> dict[str, Any]:
    """Return everything that is known about a set, as JSON values."""
    layout = stored_set.layout
    arrays = {}
    for name, array in sorted(stored_set.arrays.items()):
        seal = stored_set.seals.get(name)
        done = len(stored_set.committed(name))
        arrays[name] = {
            "shape": [layout.n_rows, *array.row_shape],
            "axes": list(array.dimension_names),
            "dtype": array.dtype,
            "state": "sealed" if seal else f"{done}/{layout.n_ranges} ranges",
            "bytes": seal.n_bytes if seal else 0,
            "content": seal.content if seal else "",
            "stored": seal.stored if seal else "",
        }
    return {
        **summary(stored_set),
        "stored": stored_set.stored_digest(),
        "spec": stored_set.spec.canonical(),
        "layout": layout.canonical(),
        "compute": stored_set.compute,
        "provenance": stored_set.provenance,
        "arrays": arrays,
    }
