"""Facts about one open set: its line in `ls` and everything that `show` prints."""

from typing import Any

from stores.errors import DamageError, MissingError
from stores.format.machines import read_machines
from stores.format.summary import invalid_rows
from stores.maintenance.distinguishing import distinguishing
from stores.sets import ZarrSet


def line_of(stored_set: ZarrSet) -> dict[str, Any]:
    """Return what `ls` prints of an open set; ``rows_done`` and ``ranges_done`` are committed in all its arrays."""
    spec, layout, arrays = stored_set.spec, stored_set.layout, stored_set.arrays
    done = set(range(layout.n_ranges)) if arrays or _has_only_tables(stored_set) else set()
    for name in arrays:
        done &= stored_set.committed(name)
    complete = len(stored_set.seals) == len(arrays) and len(done) == layout.n_ranges
    sizes = (stored_set.objects.size(key) for key in stored_set.objects.keys(stored_set.prefix))
    return {
        "digest": stored_set.digest,
        "kind": spec.kind,
        "data_set": spec.dataset.name,
        "model": spec.model.name if spec.kind == "features" else "-",
        "view": spec.view.name,
        "level": spec.view.parameters.get("level"),
        **distinguishing(spec.canonical(), _provenance(stored_set)),
        "rows": layout.n_rows,
        "invalid_rows": invalid_rows(_provenance(stored_set)),
        "ranges": layout.n_ranges,
        "state": "sealed" if complete else "partial",
        "rows_done": sum(layout.range(number).stop - layout.range(number).start for number in done),
        "ranges_done": len(done),
        "arrays": len(arrays),
        "sealed": len(stored_set.seals),
        "bytes": stored_set.n_bytes if complete and arrays else sum(size or 0 for size in sizes),
        "problem": "",
    }


def _has_only_tables(stored_set: ZarrSet) -> bool:
    """Return whether this is a label set of data without pixel labels, which has no arrays."""
    return stored_set.spec.kind == "labels" and not stored_set.spec.pixel_labels


def _provenance(stored_set: ZarrSet) -> dict[str, Any]:
    """Return the provenance, empty where the record is damaged: `verify` reports that, and `ls` still lists the set."""
    try:
        return stored_set.provenance
    except (DamageError, MissingError):
        return {}


def _reasons(stored_set: ZarrSet) -> dict[str, int]:
    """Return the number of invalid rows by reason."""
    samples = stored_set.samples
    if not {"valid", "reason"} <= set(samples.columns):
        return {}
    counts = samples["reason"][~samples["valid"].to_numpy(dtype=bool)].value_counts(sort=False)
    return {str(reason): int(count) for reason, count in counts.items()}


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
            "dead": list(seal.dead) if seal else [],
        }
    return {
        **line_of(stored_set),
        "invalid_because": _reasons(stored_set),
        "stored": stored_set.stored_digest(),
        "spec": stored_set.spec.canonical(),
        "layout": layout.canonical(),
        "compute": stored_set.compute,
        "other_machines": list(read_machines(stored_set.objects, stored_set.prefix).values()),
        "provenance": stored_set.provenance,
        "arrays": arrays,
    }
