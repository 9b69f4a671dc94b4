"""Makes label sets: labels and tables of the samples, stored once for all models.

A view that moves labels has its own label set, which also stores the clean patch that every patch shows; views that
only change pixels share the label set of the clean view.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType

import numpy as np
from jaxtyping import UInt8

from pipeline import views
from pipeline.datasets.reading import rasterise
from pipeline.frame_recipe import Interpolation
from pipeline.labels import patch_labels
from pipeline.labels.input_pixels import GROUP, input_pixels
from pipeline.labels.tables import class_table
from pipeline.rows import frames, under_view
from pipeline.rows.samples import Samples
from stores import ZarrSet
from stores.canonical import digest
from stores.errors import UserError
from stores.format.layout import RowRange
from stores.specs import VOID, ArraySpec, LabelSpec, ViewSpec, sources_digest
from stores.writing.writer import SetWriter

PIXELS = "pixels/classes"
LABEL_COMPUTE = MappingProxyType({"device": "cpu"})
"""The compute record of every label set."""

Ready = Mapping[tuple[str, int], np.ndarray]
"""Values that are known already, by address of the array and number of the range."""


def label_spec(samples: Samples) -> LabelSpec:
    """Return the record that names the label set of these samples."""
    if samples.label_record is not None and samples.view is views.CLEAN:
        return samples.label_record
    classes: list[object] = [list(map(str, row)) for row in class_table(samples).itertuples(index=False)]
    revisions = {"frames": frames.REVISION, "patch_labels": patch_labels.REVISION}
    if {"pixels", "objects"} <= samples.dataset.labels:
        revisions["painting"] = rasterise.REVISION
    if samples.has_labels_of_few_bits:
        revisions["label_maps"] = 2
    if settings := samples.dataset.label_settings:
        classes.append(settings)
    if samples.view.moves_labels:
        revisions["views"] = views.REVISION
    return LabelSpec(
        dataset=samples.record,
        samples=samples.digest,
        frame=samples.frame,
        view=samples.view.spec if samples.view.moves_labels else ViewSpec(),
        label_files=sources_digest(samples.label_digests.items(), in_order=True) if samples.label_digests else None,
        facts=samples.columns.facts_digest(samples.bad_labels),
        classes=digest(classes),
        pixel_labels="pixels" in samples.dataset.labels and bool(samples.label_digests),
        objects="objects" in samples.dataset.labels,
        revisions=revisions,
    )


def pixel_array(samples: Samples) -> ArraySpec:
    """Return the record of the pixel classes."""
    size = samples.frame.input
    return ArraySpec(
        name=PIXELS,
        row_shape=(size.height, size.width),
        dtype="uint8",
        dimension_names=("sample", "height", "width"),
    )


def patch_array(grid: tuple[int, int]) -> ArraySpec:
    """Return the record of the patch labels on one grid; the name of its axis contains the grid, as xarray requires."""
    rows, columns = grid
    return ArraySpec(
        name=f"patches/{rows}x{columns}",
        row_shape=(rows * columns,),
        dtype="uint8",
        dimension_names=("sample", f"patch_{rows}x{columns}"),
        attributes={"grid_rows": rows, "grid_columns": columns},
    )


def correspondence_array(grid: tuple[int, int], clean_grid: tuple[int, int]) -> ArraySpec:
    """Return the record of the clean patch that every patch of a grid shows; grids differ with another input size."""
    names = [f"{rows}x{columns}" for rows, columns in (grid, clean_grid)]
    return ArraySpec(
        name=f"correspondence/{names[0]}" + ("" if grid == clean_grid else f"-of-{names[1]}"),
        row_shape=(grid[0] * grid[1],),
        dtype="int32",
        dimension_names=("sample", f"patch_{names[0]}"),
        attributes={
            **dict(zip(("grid_rows", "grid_columns"), grid, strict=True)),
            **dict(zip(("clean_rows", "clean_columns"), clean_grid, strict=True)),
        },
    )


def write_labels(
    label_set: ZarrSet,
    arrays: Sequence[ArraySpec],
    samples: Samples,
    ready: Ready = MappingProxyType({}),
    wanted: Container[int] | None = None,
) -> int:
    """Write and commit the missing ranges of declared arrays; return the number of rows of others than derived ones.

    Args:
        label_set: The label set, with what is committed now.
        arrays: The arrays; pixels come first, the grids are derived from what is stored.
        samples: The rows under their view.
        ready: Values that are known already.
        wanted: Numbers of the ranges to write; None writes all.
    """
    made: set[RowRange] = set()
    for array in arrays:
        done = label_set.committed(array.name)
        with SetWriter(label_set, [array.name], threads=1) as writer:
            for row_range in label_set.layout.ranges():
                if row_range.number in done or not (wanted is None or row_range.number in wanted):
                    continue
                values = ready.get((array.name, row_range.number))
                if values is None:
                    values = label_values(array, samples, row_range, label_set)
                range_writer = writer.range(row_range)
                range_writer.write(array.name, values)
                range_writer.commit().result()
                if array.group != "patches":
                    made.add(row_range)
        label_set.refresh()
    return sum(row_range.stop - row_range.start for row_range in made)


def label_values(
    array: ArraySpec, samples: Samples, row_range: RowRange, label_set: ZarrSet | None = None
) -> np.ndarray:
    """Return some rows of a label array; rows of bad samples have the array's fill value.

    Raises UserError as `pixel_classes` does.

    Args:
        array: The array's record.
        samples: The rows under their view.
        row_range: The rows to return.
        label_set: Set to take pixel classes from for patch labels; None reads the label files.
    """
    values = _values(array, samples, row_range, label_set)
    invalid = samples.invalid(row_range.start, row_range.stop, labels=True)
    if invalid.any():
        values = values.copy()  # it may be a read-only view
        values[invalid] = array.fill
    return values


def _values(array: ArraySpec, samples: Samples, row_range: RowRange, label_set: ZarrSet | None) -> np.ndarray:
    if array.name == PIXELS:
        return pixel_classes(samples, row_range)
    if array.group == GROUP:
        interpolation: Interpolation = array.attributes["interpolation"]  # type: ignore[assignment]
        return input_pixels(samples, interpolation, row_range.start, row_range.stop)
    assert array.grid is not None
    if array.group == "patches":
        stored = None if label_set is None else label_set[PIXELS][row_range.start : row_range.stop]
        return patch_labels.patch_labels(pixel_classes(samples, row_range) if stored is None else stored, *array.grid)
    return under_view.correspondence(samples, row_range.start, row_range.stop, array.grid, _clean_grid(array))


def clean_grids(arrays: Iterable[ArraySpec]) -> dict[tuple[int, int], tuple[int, int]]:
    """Return, for each grid of the correspondence arrays, the clean grid that its patches correspond to."""
    moved = [array for array in arrays if array.group == "correspondence"]
    return {array.grid: _clean_grid(array) for array in moved if array.grid is not None}


def _clean_grid(array: ArraySpec) -> tuple[int, int]:
    return int(array.attributes["clean_rows"] or 0), int(array.attributes["clean_columns"] or 0)


def pixel_classes(samples: Samples, row_range: RowRange) -> UInt8[np.ndarray, "sample height width"]:
    """Return the pixel classes of a range's rows, read from the label files; bad samples are void.

    Raises UserError when a label file is unreadable, of another size than its image, or contains unknown ids.
    """
    by_source: dict[str, list[int]] = {}
    for row in range(row_range.start, row_range.stop):
        by_source.setdefault(samples.tiles[row][0], []).append(row)

    def one(name: str) -> UInt8[np.ndarray, "sample height width"]:
        tile_list = [samples.tiles[row][1] for row in by_source[name]]
        if name in samples.bad:
            return np.full((len(tile_list), samples.frame.input.height, samples.frame.input.width), VOID, np.uint8)
        source, size = samples.sources[name], samples.sizes[name]
        classes = samples.dataset.pixel_classes(source)
        if classes.shape != (size.height, size.width):
            raise UserError(
                f"{source.label} has {classes.shape[1]}x{classes.shape[0]} pixels and its image {size}: "
                "make the label as large as the image"
            )
        return under_view.labels(samples.view, samples.frame, name, tile_list, classes)

    with ThreadPoolExecutor(2) as pool, samples.noticing_changes():
        return np.concatenate(list(pool.map(one, by_source)))
