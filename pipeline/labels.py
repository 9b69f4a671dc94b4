"""Label sets: what is known about the samples, stored once for all models."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
from jaxtyping import UInt8

from pipeline import frames, patch_labels
from pipeline.samples import Samples
from stores import Store, ZarrSet
from stores.canonical import digest
from stores.errors import UserError
from stores.geometry import RowRange, plan_layout
from stores.sealing import seal
from stores.specs import ArraySpec, LabelSpec, ViewSpec, sources_digest
from stores.writing import SetWriter

PIXELS = "pixels/classes"


def class_table(samples: Samples) -> pd.DataFrame:
    """Return the class table: id, name, supercategory, red, green, blue, easy."""
    return pd.DataFrame(
        [(entry.id, entry.name, entry.supercategory, *entry.colour, entry.easy) for entry in samples.dataset.classes()],
        columns=["id", "name", "supercategory", "red", "green", "blue", "easy"],
    )


def label_spec(samples: Samples) -> LabelSpec:
    """Return the record that names the label set of these samples."""
    classes = [list(map(str, row)) for row in class_table(samples).itertuples(index=False)]
    return LabelSpec(
        dataset=samples.record,
        samples=samples.digest,
        frame=samples.frame,
        view=ViewSpec(),
        label_files=sources_digest(samples.label_digests.items()) if samples.label_digests else None,
        classes=digest(classes),
        pixel_labels=bool(samples.label_digests),
        revisions={"frames": frames.REVISION, "patch_labels": patch_labels.REVISION},
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
    """Return the record of the patch labels on one grid; its axis carries the grid's name, for xarray's sake."""
    rows, columns = grid
    return ArraySpec(
        name=f"patches/{rows}x{columns}",
        row_shape=(rows * columns,),
        dtype="uint8",
        dimension_names=("sample", f"patch_{rows}x{columns}"),
        attributes={"grid_rows": rows, "grid_columns": columns},
    )


def make_labels(
    samples: Samples, store: Store, grids: Iterable[tuple[int, int]], provenance: dict[str, object]
) -> tuple[ZarrSet, int]:
    """Make what is missing of the label set; return it and the number of rows that were made.

    Raises UserError when a label file is unreadable, of another size than its image, or holds unknown ids.
    """
    spec = label_spec(samples)
    label_set = ZarrSet.create(
        store.objects,
        spec,
        plan_layout(len(samples.tiles), pixel_array(samples).row_bytes),
        {"samples": samples.table, "classes": class_table(samples)},
        {"device": "cpu"},
        {**provenance, "licence_of_data": samples.dataset.licence},
    )
    if not spec.pixel_labels:
        return label_set, 0
    arrays = [pixel_array(samples), *(patch_array(grid) for grid in sorted(set(grids)))]
    missing = [array for array in arrays if not label_set.sealed(array.name)]
    if not missing:
        return label_set, 0
    label_set.add_arrays(missing)
    made = 0
    for array in missing:  # pixels come first; the grids are derived from what is stored
        names = [array.name]
        with SetWriter(label_set, names, threads=1) as writer:
            for row_range in label_set.layout.ranges():
                if row_range.number in label_set.committed(array.name):
                    continue
                one = writer.range(row_range)
                if array.name == PIXELS:
                    one.write(array.name, _pixel_classes(samples, row_range))
                    made += row_range.stop - row_range.start
                else:
                    pixels = label_set[PIXELS][row_range.start : row_range.stop]
                    rows, columns = int(array.attributes["grid_rows"] or 0), int(array.attributes["grid_columns"] or 0)
                    one.write(array.name, patch_labels.patch_labels(pixels, rows, columns))
                one.commit().result()
        damaged = seal(label_set, names)
        if damaged:
            raise UserError(f"labels in {store.location} changed while they were written: run the same command again")
    return label_set, made


def _pixel_classes(samples: Samples, row_range: RowRange) -> UInt8[np.ndarray, "sample height width"]:
    by_source: dict[str, list[int]] = {}
    for row in range(row_range.start, row_range.stop):
        by_source.setdefault(samples.tiles[row][0], []).append(row)

    def one(name: str) -> UInt8[np.ndarray, "sample height width"]:
        source, size = samples.sources[name], samples.sizes[name]
        classes = samples.dataset.pixel_classes(source)
        if classes.shape != (size.height, size.width):
            raise UserError(
                f"{source.label} has {classes.shape[1]}x{classes.shape[0]} pixels and its image {size}: "
                "make the label as large as the image"
            )
        return frames.cut_labels(classes, samples.frame, [samples.tiles[row][1] for row in by_source[name]])

    with ThreadPoolExecutor(2) as pool:
        return np.concatenate(list(pool.map(one, by_source)))
