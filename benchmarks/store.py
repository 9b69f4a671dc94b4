"""Writing and reading a set against the same bytes in raw files, with the same fsyncs.

Ours counts everything a range takes: gathering rows into chunks, CRC32C, sha256, fsync of chunks and folders, commit
records. The peers are one raw file a chunk and one big file. "cold" drops the files from the page cache first.
"""

import os
import shutil
import statistics
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Measurement, measure, pairs, row
from stores.format import seal_checks
from stores.format.layout import plan_layout
from stores.maintenance.checked import checked
from stores.sets import ZarrSet
from stores.specs import (
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

ROWS, PATCHES, CHANNELS = 4096, 196, 384
BATCH = 16
REPEATS = 5
THREADS = 4


def specs() -> tuple[FeatureSpec, ArraySpec]:
    """Return the records of a set with one array of 617 MB."""
    spec = FeatureSpec(
        dataset=DatasetRecord(name="benchmark", revision=1, n_sources=ROWS, sources="0" * 64),
        samples="0" * 64,
        frame=FrameSpec(input=Size(height=224, width=224)),
        view=ViewSpec(),
        model=ModelRecord(
            name="none",
            family="timm",
            revision=1,
            weights="0" * 64,
            position_embedding="native",
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            interpolation="bicubic",
        ),
        revisions={},
    )
    array = ArraySpec(
        name="tokens/block.0",
        row_shape=(PATCHES, CHANNELS),
        dtype="float16",
        dimension_names=("sample", "patch", "channel"),
        attributes={"layer": 0, "norm": False},
    )
    return spec, array


def write_ours(folder: Path, values: np.ndarray) -> ZarrSet:
    """Write the values as an extraction does, batch by batch, and commit every range."""
    spec, array = specs()
    made = ZarrSet.create(
        LocalObjects(folder), spec, plan_layout(len(values), array.row_bytes), {}, {"device": "cpu"}, {}
    )
    made.add_arrays([array])
    with SetWriter(made, [array.name], threads=THREADS) as writer:
        for row_range in made.layout.ranges():
            one = writer.range(row_range)
            for start in range(row_range.start, row_range.stop, BATCH):
                one.write(array.name, values[start : min(start + BATCH, row_range.stop)])
            one.commit()
        writer.close()
        writer.raise_failures()
    made.refresh()
    assert len(made.committed(array.name)) == made.layout.n_ranges
    return made


def write_raw(folder: Path, values: np.ndarray, rows_per_file: int) -> list[Path]:
    """Write the same bytes as raw files of some rows each, fsynced, then fsync the folder."""
    folder.mkdir()

    def one(start: int) -> Path:
        path = folder / f"{start}.bin"
        with path.open("wb") as file:
            file.write(values[start : start + rows_per_file].data)
            file.flush()
            os.fsync(file.fileno())
        return path

    with ThreadPoolExecutor(THREADS) as pool:
        paths = list(pool.map(one, range(0, len(values), rows_per_file)))
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    return paths


def read_raw(paths: list[Path], values: np.ndarray) -> np.ndarray:
    """Read raw files into one array, by as many threads as ours uses."""
    out = np.empty_like(values)
    step = -(-len(values) // len(paths))

    def one(number: int) -> None:
        part = out[number * step : (number + 1) * step]
        with paths[number].open("rb", buffering=0) as file:
            view = part.reshape(-1).view(np.uint8).data
            while view:
                view = view[file.readinto(view) or 0 :]

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(one, range(len(paths))))
    return out


def forget(folder: Path) -> None:
    """Drop a folder's files from the page cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def rows() -> list[dict[str, Any]]:
    """Return the ratios raw over ours (1 is as fast as raw files), medians of pairs in alternation."""
    values = np.random.default_rng(0).standard_normal((ROWS, PATCHES, CHANNELS), dtype=np.float32).astype(np.float16)
    _, array = specs()
    per_chunk = plan_layout(ROWS, array.row_bytes).chunk_rows(array)
    table = []
    with tempfile.TemporaryDirectory(dir=os.environ.get("PATCHBANK_BENCH_DIR")) as name:
        root = Path(name)
        for peer, rows_per_file in (("one raw file a chunk", per_chunk), ("one raw file", ROWS)):
            table.append(_write(root, values, rows_per_file, peer))
            raw, ours = root / "raw", root / "ours"
            paths, made = write_raw(raw, values, rows_per_file), write_ours(ours, values)
            table += [_read(paths, raw, made, ours, values, peer, cold) for cold in (False, True)]
            if rows_per_file == ROWS:
                table.append(_seal(made, paths, values))
                table += [_read_checked(made, values, again) for again in (False, True)]
            shutil.rmtree(raw)
            shutil.rmtree(ours)
    return table


def _write(root: Path, values: np.ndarray, rows_per_file: int, peer: str) -> dict[str, Any]:
    mine, theirs = pairs(
        lambda repeat: write_ours(root / f"ours{repeat}", values) and None,
        lambda repeat: write_raw(root / f"raw{repeat}", values, rows_per_file) and None,
        REPEATS,
    )
    for folder in (*root.glob("ours*"), *root.glob("raw*")):
        shutil.rmtree(folder)
    return _line("store write, committed", 0.5, mine, theirs, peer, values)


def _read(
    paths: list[Path], raw: Path, made: ZarrSet, ours: Path, values: np.ndarray, peer: str, cold: bool
) -> dict[str, Any]:
    with ThreadPoolExecutor(THREADS) as executor:
        opened = ZarrSet(made.objects, made.prefix, executor)

        def read_ours(repeat: int) -> None:
            np.testing.assert_array_equal(opened["block.0"][:][-1], values[-1])

        if cold:

            def read_cold(repeat: int) -> None:
                forget(ours)
                read_ours(repeat)

            def read_raw_cold(repeat: int) -> None:
                forget(raw)
                read_raw(paths, values)

            mine, theirs = pairs(read_cold, read_raw_cold, 2 * REPEATS)
        else:
            mine, theirs = pairs(read_ours, lambda repeat: read_raw(paths, values)[-1] is None, REPEATS)
    return _line(f"store read, {'cold' if cold else 'warm'}", 0.8, mine, theirs, peer, values)


def _read_checked(made: ZarrSet, values: np.ndarray, again: bool) -> dict[str, Any]:
    """Measure a plain read over one that compares chunks with their seal: all of them, or none for the second time."""
    with ThreadPoolExecutor(THREADS) as executor:
        plain = ZarrSet(made.objects, made.prefix, executor)

        def read_checked(repeat: int) -> None:
            if not again:
                seal_checks.forget()
            np.testing.assert_array_equal(checked(plain)["block.0"][:][-1], values[-1])

        mine, theirs = pairs(read_checked, lambda repeat: plain["block.0"][:][-1] is None, REPEATS)
    stage = f"checked read, warm, {'second' if again else 'first'} time"
    return _line(stage, 0.0, mine, theirs, "plain read of the same array", values)


def _line(
    stage: str, goal: float, mine: list[Measurement], theirs: list[Measurement], peer: str, values: np.ndarray
) -> dict[str, Any]:
    ratio = statistics.median(t.seconds / m.seconds for t, m in zip(theirs, mine, strict=True))
    seconds = statistics.median(m.seconds for m in mine)
    return row(stage, ratio, "at least", goal, seconds, max(m.peak_bytes for m in mine), peer, bytes=values.nbytes)


def _seal(made: ZarrSet, paths: list[Path], values: np.ndarray) -> dict[str, Any]:
    theirs, mine = measure(lambda: read_raw(paths, values)[-1]), measure(lambda: seal(made, made.arrays))
    return row(
        "seal, by the process that wrote",
        theirs.seconds / mine.seconds,
        "at least",
        0.0,
        mine.seconds,
        mine.peak_bytes,
        "raw read, warm",
    )
