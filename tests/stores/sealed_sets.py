"""Small sets on disk that are sealed in part or whole, for tests that carry them elsewhere."""

import zlib

import pandas as pd

from stores.sets import ZarrSet
from stores.specs import ArraySpec
from stores.storage.local import LocalObjects
from stores.writing.sealing import seal
from stores.writing.writer import SetWriter
from tests.stores.specs_for_tests import FEATURES, layout, token_array, values

COMPUTE = {"device": "cpu", "batch_size": 4, "torch": "2.0"}
PROVENANCE = {
    "command": "patchbank extract tiny.toml",
    "licence_of_weights": "apache-2.0",
    "n_prefix": 1,
    "note": "é|`x`",
}
GRID = {"grid_rows": 2, "grid_columns": 2}


def tokens(layer=0, norm=False, dtype="float16", patches=4, channels=6):
    name = f"tokens/block.{layer}{'.norm' if norm else ''}"
    return token_array(name, patches, channels, dtype).model_copy(
        update={"attributes": {"layer": layer, "norm": norm, **GRID}}
    )


def prefix(layer=0, norm=False, dtype="float16"):
    return ArraySpec(
        name=f"prefix/block.{layer}{'.norm' if norm else ''}",
        row_shape=(2, 6),
        dtype=dtype,
        dimension_names=("sample", "prefix", "channel"),
        attributes={"layer": layer, "norm": norm},
    )


def rows_of(array, n_rows=10, seed=0):
    """Every array has values of its own, so that arrays cannot be taken for one another."""
    return values(array, n_rows, seed + zlib.crc32(array.name.encode()))


def tile_table(n_rows, tiles=2):
    """Two tiles of 8x8 pixels side by side for each source."""
    lines = [
        {
            "sample": f"folder/image{row // tiles:02d}.png[0,{row % tiles}]",
            "source": f"folder/image{row // tiles:02d}.png",
            "group": "ab"[row % 2],
            "split": "train",
            "left": 8 * (row % tiles),
            "top": 4,
            "right": 8 * (row % tiles) + 8,
            "bottom": 12,
            "image_class": row // tiles,
            "valid": True,
        }
        for row in range(n_rows)
    ]
    return pd.DataFrame(lines)


def stored(
    folder,
    arrays,
    *,
    spec=FEATURES,
    n_rows=10,
    range_rows=4,
    compression="none",
    tables=None,
    unsealed=(),
    compute=COMPUTE,
    provenance=PROVENANCE,
    seed=0,
    change=lambda name, rows: rows,
):
    """Return a set whose arrays hold `rows_of`; those ``unsealed`` have all ranges but the last."""
    tables = {"samples": tile_table(n_rows), **(tables or {})}
    made = ZarrSet.create(
        LocalObjects(folder), spec, layout(n_rows, range_rows, compression), tables, compute, provenance
    )
    made.add_arrays(arrays)
    for array in arrays:
        rows = change(array.name, rows_of(array, n_rows, seed))
        with SetWriter(made, [array.name], threads=1) as writer:
            for row_range in made.layout.ranges()[: -1 if array.name in unsealed else None]:
                one = writer.range(row_range)
                one.write(array.name, rows[row_range.start : row_range.stop])
                one.commit().result()
    seal(made, [array.name for array in arrays if array.name not in unsealed])
    made.refresh()
    return made
