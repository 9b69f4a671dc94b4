"""Verifying a set against a plain read of the same objects, and listing a store of thousands of sets.

The plain read takes the objects one after another in a reused buffer, with as many threads as verify has. "cold"
drops the files from the page cache first.
"""

import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import measure, row
from benchmarks.store import CHANNELS, PATCHES, ROWS, forget, specs, write_ours
from stores.format.layout import Layout
from stores.maintenance.listing import lines
from stores.maintenance.verify import Depth, verify_set
from stores.sets import ZarrSet
from stores.specs import DatasetRecord
from stores.storage.local import LocalObjects
from stores.writing.sealing import seal

REPEATS = 5
SETS = 2000


def plain_read(paths: list[Path], threads: int) -> None:
    """Read every file once into a buffer that is used again."""
    memory = threading.local()
    largest = max(path.stat().st_size for path in paths)

    def one(path: Path) -> None:
        buffer = getattr(memory, "buffer", None)
        if buffer is None:
            buffer = memory.buffer = bytearray(largest)
        with path.open("rb", buffering=0) as file:
            view = memoryview(buffer)
            while read := file.readinto(view):
                view = view[read:]

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(one, paths))


def rows() -> list[dict[str, Any]]:
    """Return plain read over verify, cold and warm, by one and two threads, and the seconds of a long `ls`."""
    table = []
    with tempfile.TemporaryDirectory(dir=os.environ.get("PATCHBANK_BENCH_DIR")) as name:
        root = Path(name) / "set"
        values = np.random.default_rng(0).standard_normal((ROWS, PATCHES, CHANNELS), np.float32).astype(np.float16)
        made = write_ours(root, values)
        seal(made, made.arrays)
        paths = sorted(path for path in root.rglob("*") if path.is_file())
        ways = [(threads, cold) for threads in (1, 2) for cold in (False, True)]
        table += [_verify(root, made, paths, threads, cold, values.nbytes) for threads, cold in ways]
        table += [_verify(root, made, paths, threads, False, values.nbytes, "quick") for threads in (1, 2)]
        table += [_hash(made, values, threads) for threads in (1, 2)]
        table += _list(Path(name) / "many")
    return table


def _verify(
    root: Path, made: ZarrSet, paths: list[Path], threads: int, cold: bool, n_bytes: int, depth: Depth = "full"
) -> dict[str, Any]:
    ratios, seconds, peak = [], [], 0
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(REPEATS + 1):
            if cold:
                forget(root)
            theirs = measure(lambda: plain_read(paths, threads))
            if cold:
                forget(root)
            mine = measure(lambda: verify_set(made.objects, made.prefix, pool, depth=depth))
            assert mine.result.findings == ()
            ratios.append(theirs.seconds / mine.seconds)
            seconds.append(mine.seconds)
            peak = max(peak, mine.peak_bytes)
    how = f"verify{' --quick' if depth == 'quick' else ''}, {'cold' if cold else 'warm'}"
    stage = f"{how}, {threads} thread{'s' if threads > 1 else ''}"
    goal = 0.5 if threads == 2 else 0.0
    median = statistics.median(ratios[1:])
    return row(
        stage, median, "at least", goal, statistics.median(seconds[1:]), peak, "plain read, reused buffer",
        bytes=n_bytes,
    )  # fmt: skip


def _hash(made: ZarrSet, values: np.ndarray, threads: int) -> dict[str, Any]:
    """Measure how near verify comes to sha256 of the same bytes in memory, which bounds it."""
    data = values.reshape(-1).view(np.uint8).data
    step = len(data) // 64
    pieces = [data[start : start + step] for start in range(0, len(data), step)]
    ratios, seconds = [], []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(REPEATS + 1):
            theirs = measure(lambda: [one.digest() for one in pool.map(hashlib.sha256, pieces)])
            mine = measure(lambda: verify_set(made.objects, made.prefix, pool))
            ratios.append(theirs.seconds / mine.seconds)
            seconds.append(mine.seconds)
    stage = f"verify, warm, {threads} thread{'s' if threads > 1 else ''}"
    median = statistics.median(ratios[1:])
    return row(stage, median, "at least", 0.0, statistics.median(seconds[1:]), 0, "sha256 of the bytes in memory")


def _list(root: Path) -> list[dict[str, Any]]:
    """List sets that differ in the number of their source images only, each with 24 sealed arrays."""
    spec, array = specs()
    arrays = [array.model_copy(update={"name": f"tokens/block.{n}", "row_shape": (1, 4)}) for n in range(24)]
    objects = LocalObjects(root)
    model = None
    for number in range(SETS):
        dataset = DatasetRecord(name="benchmark", revision=1, n_sources=number + 1, sources="0" * 64)
        made = _small_set(objects, spec.model_copy(update={"dataset": dataset}), arrays, model)
        model = model or made
    library = measure(lambda: list(lines(objects)))
    assert len(library.result) == SETS
    assert {one["state"] for one in library.result} == {"sealed"}
    command = [sys.executable, "-m", "cli", "ls", "--store", str(root)]
    whole = measure(lambda: subprocess.run(command, capture_output=True, check=True))
    return [
        row(f"ls of {SETS} sets, seconds", one.seconds, "at most", 1.0, one.seconds, one.peak_bytes, peer)
        for one, peer in ((library, "1 s, in a script"), (whole, "1 s, the whole command"))
    ]


def _small_set(objects: LocalObjects, spec: Any, arrays: list[Any], like: ZarrSet | None) -> ZarrSet:
    """Make a sealed set; all after the first take over its seals' digests, because only their listing is measured."""
    from stores.canonical import checksummed
    from stores.format.paths import SUMMARY
    from stores.format.summary import array_entries, read_summary
    from stores.writing.writer import SetWriter

    made = ZarrSet.create(objects, spec, Layout(n_rows=1, range_rows=1), {}, {"device": "cpu"}, {})
    if like is not None:
        summary = read_summary(objects, made.prefix) or {}
        entries = array_entries(like.arrays, like.seals)
        objects.put(f"{made.prefix}/{SUMMARY}", [checksummed({**summary, "arrays": entries})])
        return made
    made.add_arrays(arrays)
    with SetWriter(made, [array.name for array in arrays]) as writer:
        one = writer.range(made.layout.range(0))
        for array in arrays:
            one.write(array.name, np.zeros((1, *array.row_shape), array.dtype))
        one.commit().result()
    seal(made, made.arrays)
    return made
