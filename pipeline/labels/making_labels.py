"""Makes what is missing of a label set, started and finished by one process; others may write its ranges in between."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from pipeline.labels.input_pixels import GROUP, note_decoder
from pipeline.labels.label_set import (
    LABEL_COMPUTE,
    Ready,
    correspondence_array,
    label_spec,
    label_values,
    patch_array,
    pixel_array,
    write_labels,
)
from pipeline.labels.tables import tables_of
from pipeline.rows.samples import Samples, bad_rows
from stores import Store, ZarrSet
from stores.errors import UserError
from stores.format.layout import Layout, plan_layout
from stores.specs import ArraySpec, LabelSpec
from stores.writing.sealing import seal


@dataclass(frozen=True)
class StartedLabels:
    """A label set whose missing arrays are declared and not yet written."""

    set: ZarrSet
    missing: tuple[ArraySpec, ...]
    """Declared arrays that are not sealed; pixels come before the grids that are derived from them."""
    ready: Ready
    """Values of them that are known already."""
    continued: frozenset[str]
    """Addresses of those of which something was there before, perhaps read with another decoder."""


def start_labels(
    samples: Samples,
    store: Store,
    grids: Iterable[tuple[int, int]],
    provenance: dict[str, object],
    clean_grids: Mapping[tuple[int, int], tuple[int, int]] = MappingProxyType({}),
    inputs: Iterable[ArraySpec] = (),
) -> StartedLabels:
    """Create the label set if there is none, and declare what is missing of it; raises UserError as `make_labels` does.

    Args:
        samples: The rows under their view.
        store: Store of the label set.
        grids: Rows and columns of the patches to label.
        provenance: Written beside a new set: command, date, versions.
        clean_grids: Grid of the clean view that a grid's patches correspond to; by default the grid itself.
        inputs: Arrays of input pixels to keep.
    """
    spec = label_spec(samples)
    listed = sorted(set(grids))
    arrays = [pixel_array(samples), *(patch_array(grid) for grid in listed)] if spec.pixel_labels else []
    if samples.view.moves_labels:
        arrays += [correspondence_array(grid, clean_grids.get(grid, grid)) for grid in listed]
    arrays += inputs
    ready: dict[tuple[str, int], np.ndarray] = {}
    if store.has(spec):
        label_set = store.open(spec)
    else:
        layout = _layout(samples)
        if arrays:  # before the set is created, so that unreadable labels leave nothing in the store
            ready[arrays[0].name, 0] = label_values(arrays[0], samples, layout.range(0))
        label_set = _create(samples, store, spec, layout, provenance)
    missing = tuple(array for array in arrays if not label_set.sealed(array.name))
    if missing:
        label_set.add_arrays(missing)
    continued = frozenset(array.name for array in missing if label_set.committed(array.name))
    return StartedLabels(label_set, missing, ready, continued)


def finish_labels(started: StartedLabels) -> ZarrSet:
    """Seal what was missing of a label set, now that all ranges are committed; return the set.

    Raises UserError when something is missing nevertheless.
    """
    label_set = started.set
    # Commit records where nothing is missing: a command was killed while it removed them.
    if (started.missing or label_set.commits) and seal(label_set, [array.name for array in started.missing]):
        raise UserError(
            f"labels in {label_set.objects.url} changed while they were written: run the same command again"
        )
    for array in started.missing:
        if array.group == GROUP and array.name not in started.continued:
            note_decoder(label_set, array)
    return label_set


def make_labels(
    samples: Samples,
    store: Store,
    grids: Iterable[tuple[int, int]],
    provenance: dict[str, object],
    clean_grids: Mapping[tuple[int, int], tuple[int, int]] = MappingProxyType({}),
    inputs: Iterable[ArraySpec] = (),
) -> tuple[ZarrSet, int]:
    """Make what is missing of the label set; return it and the number of rows that were made.

    Raises UserError when a label file is unreadable, of another size than its image, or contains unknown ids.

    Args:
        samples: The rows under their view.
        store: Store of the label set.
        grids: Rows and columns of the patches to label.
        provenance: Written beside a new set: command, date, versions.
        clean_grids: Grid of the clean view that a grid's patches correspond to; by default the grid itself.
        inputs: Arrays of input pixels to keep.
    """
    started = start_labels(samples, store, grids, provenance, clean_grids, inputs)
    n_made = write_labels(started.set, started.missing, samples, started.ready)
    return finish_labels(started), n_made


def _layout(samples: Samples) -> Layout:
    return plan_layout(len(samples.tiles), pixel_array(samples).row_bytes)


def _create(samples: Samples, store: Store, spec: LabelSpec, layout: Layout, provenance: dict[str, object]) -> ZarrSet:
    return ZarrSet.create(
        store.objects,
        spec,
        layout,
        tables_of(samples),
        LABEL_COMPUTE,
        {**provenance, "licence_of_data": samples.licence, **bad_rows(samples, samples.label_table)},
    )
