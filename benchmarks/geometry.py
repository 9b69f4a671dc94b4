"""The one pass of `feature-geometry` against a plain streaming covariance of the same stored tokens.

Both read the same chunks ahead in the same threads, with BLAS held to one thread. The plain pass adds up the tokens and
their products in float64, row by row; another one multiplies in float32, as probes do, which is not exact enough for
effective ranks (evaluate/kernels/geometry/sums.py). Pairs of patches are compared in all images, of which the sets have
fewer than the 512 in which they are compared by default, or in none. Ratios are of processor time, which other work on
the machine changes less. The peak memory of a set and of one ten times as large is taken in processes of their own:
``python -m benchmarks.geometry N`` prints that of N values.
"""

import ctypes
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from benchmarks.measure import measure, row
from benchmarks.store import specs
from evaluate.inputs.chunks import of_chunks
from evaluate.kernels.geometry.grid import PatchGrid
from evaluate.kernels.geometry.position import FOLDS
from evaluate.kernels.geometry.sums import Plan
from evaluate.kernels.moments import read_float32
from evaluate.scoring.tokens.geometry import n_sampled, read_geometry
from stores.arrays import ZarrArray
from stores.format.layout import plan_layout
from stores.sets import ZarrSet
from stores.specs import ArraySpec
from stores.storage.local import LocalObjects
from stores.writing.sealing import seal
from stores.writing.writer import SetWriter

REPEATS = 5
SIDE = 14
"""Patches on a side of the grid."""
WIDTHS = (384, 768, 1024)
"""Channels of ViT-S, ViT-B and ViT-L."""
TOKENS = 1 << 25
"""Values of the set: 64 MiB of float16."""


def rows() -> list[dict[str, Any]]:
    """Return the ratios ours over plain, medians of pairs in alternation, and the memory of a set ten times as
    large."""
    table = []
    for width in WIDTHS:
        with tempfile.TemporaryDirectory() as name:
            stored, n_rows = _written(Path(name), width, TOKENS)
            numbers = np.arange(n_rows)
            whats = (n_rows, "pairs in all images"), (0, "no pairs")
            for n_compared, what in whats:
                plan = plan_of(n_rows, n_compared)
                for dtype, goal in ((np.float64, 1.3 if n_compared else None), (np.float32, None)):
                    if dtype == np.float32 and not n_compared:
                        continue
                    stage = f"geometry of {width} features, {what}"
                    peer = f"covariance in {np.dtype(dtype).name}"
                    call, other = _ours(stored, numbers, plan), _plain(stored, numbers, np.dtype(dtype))
                    mine, theirs, seconds = _alternating(call, other)
                    ratio = statistics.median(one / two for one, two in zip(mine, theirs, strict=True))
                    peak = measure(call).peak_bytes
                    table.append(row(stage, ratio, "at most", goal, seconds, peak, peer))
    small, large = (_peak_alone(times * TOKENS) for times in (1, 10))
    ratio = large / small
    table.append(
        row("geometry of a set ten times as large", ratio, "at most", None, 0.0, large, "peak of the small one")
    )
    return table


def _alternating(ours: Callable[[], Any], peer: Callable[[], Any]) -> tuple[list[float], list[float], float]:
    """Return the processor time of both in every repeat, each first every other time, and the median wall time of
    ours."""
    spent: dict[bool, list[float]] = {True: [], False: []}
    wall = []
    for repeat in range(REPEATS + 1):
        for is_ours in (repeat % 2 == 0, repeat % 2 == 1):
            began, started = time.perf_counter(), time.process_time()
            (ours if is_ours else peer)()
            if repeat:
                spent[is_ours].append(time.process_time() - started)
                wall += [time.perf_counter() - began] if is_ours else []
    return spent[True], spent[False], statistics.median(wall)


def plan_of(n_rows: int, n_compared: int) -> Plan:
    """Return a plan that compares the pairs of so many rows at most, spread evenly."""
    compared = np.zeros(n_rows, dtype=np.bool_)
    compared[np.linspace(0, n_rows - 1, min(n_compared, n_rows)).round().astype(np.int64)] = True
    sampled = np.zeros((n_rows, n_sampled(n_rows)), np.int64)
    return Plan(PatchGrid(SIDE, SIDE), np.arange(n_rows) * FOLDS // n_rows, compared, sampled)


def _ours(stored: ZarrArray, numbers: np.ndarray, plan: Plan) -> Callable[[], Any]:
    return lambda: read_geometry(stored, numbers, plan) is None


def _plain(stored: ZarrArray, numbers: np.ndarray, dtype: np.dtype) -> Callable[[], Any]:
    """Return the plain pass: sums and products of every row, added up in float64."""

    def of_block(first: int, block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        n_channels = block.shape[2]
        total, second = np.zeros(n_channels), np.zeros((n_channels, n_channels))
        narrow = np.empty(block.shape[1:], np.float32)
        tokens = narrow if dtype == np.float32 else np.empty(block.shape[1:])
        product = np.empty((n_channels, n_channels), dtype)
        for values in block:
            read_float32(values, narrow)
            if tokens is not narrow:
                np.copyto(tokens, narrow)
            total += tokens.sum(axis=0)
            np.matmul(tokens.T, tokens, out=product)
            second += product
        return total, second

    def call() -> None:
        total, second = np.zeros(stored.shape[2]), np.zeros((stored.shape[2], stored.shape[2]))
        with threadpool_limits(limits=1, user_api="blas"):
            for some in of_chunks(stored, numbers, of_block):
                total += some[0]
                second += some[1]

    return call


def _peak_alone(n_values: int) -> int:
    """Return the peak memory of the pass over so many values above the start, of a process of its own."""
    command = [sys.executable, "-m", "benchmarks.geometry", str(n_values)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _peak(n_values: int) -> int:
    with tempfile.TemporaryDirectory() as name:
        warm, n_warm = _written(Path(name) / "warm", WIDTHS[0], TOKENS // 16)
        _ours(warm, np.arange(n_warm), plan_of(n_warm, n_warm))()
        stored, n_rows = _written(Path(name) / "set", WIDTHS[0], n_values)
        if sys.platform == "linux":
            ctypes.CDLL(None).malloc_trim(0)
        return measure(_ours(stored, np.arange(n_rows), plan_of(n_rows, n_rows))).peak_bytes


def _written(folder: Path, width: int, n_values: int) -> tuple[ZarrArray, int]:
    """Write and seal random tokens; return the stored array and its number of rows."""
    n_rows = n_values // (SIDE**2 * width)
    spec, _ = specs()
    facts: dict[str, str | int | float | bool | None] = {
        "layer": 0,
        "norm": True,
        "grid_rows": SIDE,
        "grid_columns": SIDE,
    }
    names = ("sample", "patch", "channel")
    array = ArraySpec(name="tokens/block.0.norm", row_shape=(SIDE**2, width), dtype="float16", dimension_names=names,
                      attributes=facts)  # fmt: skip
    layout = plan_layout(n_rows, array.row_bytes)
    made = ZarrSet.create(LocalObjects(folder), spec, layout, {}, {"device": "cpu"}, {})
    made.add_arrays([array])
    generator = np.random.default_rng(0)
    with SetWriter(made, [array.name]) as writer:
        for row_range in layout.ranges():
            shape = (row_range.stop - row_range.start, SIDE**2, width)
            one = writer.range(row_range)
            one.write(array.name, generator.standard_normal(shape, dtype=np.float32).astype(np.float16))
            one.commit().result()
    seal(made, [array.name])
    return made[array.name], n_rows


if __name__ == "__main__":
    sys.stdout.write(str(_peak(int(sys.argv[1]))))
