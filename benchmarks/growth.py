"""How opening and verifying a set grow with its number of chunks, on records of sets without their bytes.

A set of 24 arrays with eight chunks a range is simulated: its records are written as an extraction writes them, its
chunks are answered by a storage that holds one of them. Each line is a process of its own; ``ratio`` is seconds over
those of a tenth of the chunks, divided by ten: above 1 a set grows worse than its chunks.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.measure import measure
from benchmarks.store import specs

SIZES = (100, 1_000, 10_010)
"""Ranges: the last is ImageNet-1k's training images in ranges of 128 rows."""
N_ARRAYS, CHUNKS_A_RANGE = 24, 8


def _write(root: Path, n_ranges: int) -> str:
    """Write the records of a sealed set; return the chunk that all its chunks are equal to, as hexadecimal digits."""
    from stores.canonical import checksummed
    from stores.format.chunk_table import ChunkTable, StoredObject
    from stores.format.chunks import array_metadata, encode_chunk
    from stores.format.commits import Seal, packed, write_seal
    from stores.format.content import array_content, range_content
    from stores.format.layout import Layout
    from stores.sets import ZarrSet
    from stores.specs import ArraySpec
    from stores.storage.local import LocalObjects

    layout = Layout(n_rows=128 * n_ranges, range_rows=128, chunk_bytes=32)
    samples = pd.DataFrame({"sample": np.arange(layout.n_rows).astype(str)})
    made = ZarrSet.create(LocalObjects(root), specs()[0], layout, {"samples": samples}, {"device": "cpu"}, {})
    arrays = [
        ArraySpec(
            name=f"tokens/block.{layer}",
            row_shape=(1, 1),
            dtype="float16",
            dimension_names=("sample", "patch", "channel"),
            attributes={"layer": layer, "norm": False},
        )
        for layer in range(N_ARRAYS)
    ]
    made.add_arrays(arrays)
    rows = np.zeros((layout.chunk_rows(arrays[0]), 1, 1), np.float16)
    encoded = encode_chunk(rows, "none")
    one = ChunkTable.of(0, 3, [encoded.stored])
    table = ChunkTable(0, 3, np.repeat(one.lines, layout.n_objects(arrays[0])))
    contents = [range_content([encoded.content] * CHUNKS_A_RANGE)] * n_ranges
    for array in arrays:
        metadata = {
            "zarr.json": StoredObject.of(array_metadata(array, layout)),
            "spec.json": StoredObject.of(checksummed(array.canonical())),
        }
        seal = Seal(
            set=made.digest, array=array, content=array_content(contents), ranges=packed(contents), metadata=metadata,
            chunks=table.text,
        )  # fmt: skip
        write_seal(made.objects, made.prefix, seal)
    made.summarise()
    return b"".join(bytes(part) for part in encoded.parts).hex()


class OneChunk:
    """Storage of the records in a folder, and of chunks that are all equal."""

    def __init__(self, root: Path, data: bytes, n_ranges: int) -> None:
        from stores.storage.local import LocalObjects

        self.plain, self.data, self.n_chunks = LocalObjects(root), data, n_ranges * CHUNKS_A_RANGE
        self.url = self.plain.url

    def __getattr__(self, name: str) -> Any:
        return getattr(self.plain, name)

    def keys(self, prefix: str = "") -> list[str]:
        """Return the names of the records and of every chunk."""
        chunks = (f"{prefix}/tokens/block.{a}/c.{i}.0.0" for a in range(N_ARRAYS) for i in range(self.n_chunks))
        return sorted([*self.plain.keys(prefix), *chunks])

    def size(self, key: str) -> int | None:
        """Return the size of an object."""
        return len(self.data) if "/c." in key else self.plain.size(key)

    def read_into(self, key: str, buffers: Sequence[memoryview], observe: Any) -> int:
        """Fill buffers with a chunk, or with a record."""
        if "/c." not in key:
            return self.plain.read_into(key, buffers, observe)
        start = 0
        for buffer in buffers:
            buffer[:] = self.data[start : start + len(buffer)]
            observe(buffer)
            start += len(buffer)
        return start


def _measure(what: str, root: Path, data: str, n_ranges: int) -> None:
    """Print seconds and peak memory above the imports of one look at the set, as JSON."""
    from stores.maintenance.verify import verify_set
    from stores.sets import ZarrSet

    objects: Any = OneChunk(root, bytes.fromhex(data), n_ranges)
    prefix = f"features/{specs()[0].digest}"

    def look() -> None:
        if what != "verify --quick":
            ZarrSet(objects, prefix, from_summary=what == "open from its summary")
            return
        with ThreadPoolExecutor(2) as pool:
            verdict = verify_set(objects, prefix, pool, depth="quick")
        if verdict.findings:
            raise RuntimeError(f"the simulated set is damaged: {verdict.findings[0]}")

    taken = measure(look)
    print(json.dumps({"seconds": taken.seconds, "peak_bytes": taken.peak_bytes}))


def rows() -> list[dict[str, Any]]:
    """Return one row a number of chunks and a kind of look."""
    found = []
    before: dict[str, float] = {}
    for n_ranges in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            data = _write(Path(folder), n_ranges)
            n_chunks = n_ranges * CHUNKS_A_RANGE * N_ARRAYS
            for what in ("open from its summary", "open from its seals", "verify --quick"):
                command = [sys.executable, "-m", "benchmarks.growth", what, folder, data, str(n_ranges)]
                line = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                ratio = line["seconds"] / before[what] / 10.0 if what in before else float("nan")
                before[what] = line["seconds"]
                peer = "a tenth of the chunks, divided by ten"
                found.append(
                    {"stage": f"{what}, {n_chunks:,} chunks", "ratio": ratio, "goal": 0.0, "peer": peer, **line}
                )
    return found


if __name__ == "__main__":
    _measure(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
