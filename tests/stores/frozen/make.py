"""Makes the frozen stores of this folder: ``python -m tests.stores.frozen.make``.

Run it only for a new format version, into a new folder; the sets of older versions stay as they are, because they
stand for the ones on people's disks. What is frozen: a feature set, uncompressed and with zstd, with two sealed
arrays and one of which a range is committed and the rest is not.
"""

import json
from pathlib import Path

import numpy as np

from stores.format.layout import Layout
from stores.sets import ZarrSet
from stores.specs import (
    FORMAT_VERSION,
    ArraySpec,
    DatasetRecord,
    FeatureSpec,
    FrameSpec,
    ModelRecord,
    Size,
    ViewSpec,
)
from stores.storage.local import LocalObjects
from stores.writing.sealing import seal
from stores.writing.writer import SetWriter

HERE = Path(__file__).parent
N_ROWS, RANGE_ROWS = 10, 4
SPEC = FeatureSpec(
    dataset=DatasetRecord(name="frozen", revision=1, n_sources=5, sources="1" * 64),
    samples="2" * 64,
    frame=FrameSpec(input=Size(height=32, width=32), tile=Size(height=32, width=32), edge="shift-last"),
    view=ViewSpec(),
    model=ModelRecord(
        name="frozen_vit",
        family="timm",
        revision=1,
        weights="3" * 64,
        position_embedding="native",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        interpolation="bicubic",
    ),
    revisions={"capture": 1},
)
SEALED = ("tokens/block.0", "prefix/block.0")
PARTIAL = "tokens/block.1"


def array(name: str) -> ArraySpec:
    """Return an array's record."""
    axis, rows = ("prefix", 2) if name.startswith("prefix") else ("patch", 4)
    return ArraySpec(
        name=name,
        row_shape=(rows, 8),
        dtype="float32" if name.startswith("prefix") else "float16",
        dimension_names=("sample", axis, "channel"),
        attributes={"layer": int(name.rpartition(".")[2]), "norm": False},
    )


def values(spec: ArraySpec) -> np.ndarray:
    """Return numbers that need no random generator: multiples of 1/8, exact in float16."""
    shape = (N_ROWS, *spec.row_shape)
    return ((np.arange(np.prod(shape)) * 37 % 1024 - 512) / 8).reshape(shape).astype(spec.dtype)


def write(made: ZarrSet, names: tuple[str, ...], numbers: tuple[int, ...]) -> None:
    """Commit some ranges of some arrays."""
    made.add_arrays([array(name) for name in names])
    with SetWriter(made, names, threads=1) as writer:
        for number in numbers:
            rows = made.layout.range(number)
            one = writer.range(rows)
            for name in names:
                one.write(name, values(array(name))[rows.start : rows.stop])
            one.commit().result()
        writer.close()
        writer.raise_failures()


def main() -> None:
    """Write ``format<version>/<compression>`` and what must be read from it."""
    import pandas as pd

    folder = HERE / f"format{FORMAT_VERSION}"
    expected = {}
    for compression in ("none", "zstd"):
        made = ZarrSet.create(
            LocalObjects(folder / compression),
            SPEC,
            Layout(n_rows=N_ROWS, range_rows=RANGE_ROWS, compression=compression),
            {"samples": pd.DataFrame({"sample": [f"image{row}.png" for row in range(N_ROWS)]})},
            {"device": "cpu", "batch_size": 4},
            {"command": "python -m tests.stores.frozen.make", "date": "2026-11-21"},
        )
        write(made, SEALED, (0, 1, 2))
        seal(made, SEALED)
        write(made, (PARTIAL,), (1,))
        made.refresh()
        expected[compression] = {
            "set": made.digest,
            "content": made.content,
            "stored": made.stored,
            "stored of the set": made.stored_digest(),
        }
    (folder / "expected.json").write_text(json.dumps(expected, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
