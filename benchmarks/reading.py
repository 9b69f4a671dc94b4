"""Reading of stored tokens by the analyses: moments, and copies of kept patches, against a plain read of the chunks.

A plain read fills a reused buffer from every chunk file, in as many threads as the analyses read with. The covariance
of centred rows is measured against the product of the same float32 rows alone.
"""

import statistics
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import pairs, row
from benchmarks.store import CHANNELS, PATCHES, specs, write_ours
from evaluate.inputs.chunks import of_chunks, readers, whole
from evaluate.kernels.moments import Moments, convert_alone
from evaluate.kernels.probing.cross_entropy import Objective, Rows, all_cores
from stores.format import seal_checks
from stores.maintenance.checked import checked
from stores.writing.sealing import seal

REPEATS = 9
COVARIANCE_ROWS = 49_152
"""Rows of the covariance: small enough that the float32 copy is kept, as probes keep it."""


def read_plain(paths: list[Path], buffers: list[bytearray]) -> None:
    """Read every file into one of the buffers, a thread a buffer."""

    def some(number: int) -> None:
        view = memoryview(buffers[number])
        for path in paths[number :: len(buffers)]:
            with path.open("rb", buffering=0) as file:
                done = 0
                while read := file.readinto(view[done:]):
                    done += read

    with ThreadPoolExecutor(len(buffers)) as pool:
        list(pool.map(some, range(len(buffers))))


def rows() -> list[dict[str, Any]]:
    """Return the ratios plain over ours (1 is as fast as reading alone), medians of pairs in alternation."""
    values = np.random.default_rng(0).standard_normal((1536, PATCHES, CHANNELS), dtype=np.float32).astype(np.float16)
    table = []
    with tempfile.TemporaryDirectory() as name:
        made = write_ours(Path(name), values)
        seal(made, made.arrays)
        stored = checked(made)[specs()[1].name]
        number = np.arange(len(values))
        folder = Path(name) / stored.folder
        paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".json")
        largest = max(path.stat().st_size for path in paths)
        buffers = [bytearray(largest) for _ in range(readers())]

        def plain(repeat: int) -> None:
            read_plain(paths, buffers)

        def one_thread() -> None:
            step = stored.layout.chunk_rows(stored.spec)
            for start in range(0, len(values), step):
                for one in stored[start : start + step]:
                    Moments.from_block(one)

        def all_moments() -> None:
            for _ in of_chunks(stored, number, lambda _, block: Moments.from_blocks(block)):
                pass

        def chunks_alone() -> None:
            for _ in of_chunks(stored, number, lambda _, block: None):
                pass

        stages: list[tuple[str, float | None, Callable[[], Any]]] = [
            ("chunks read ahead", None, chunks_alone),
            ("all rows at once", None, lambda: whole(stored, number)),
            ("moments", 0.8, all_moments),
            ("moments, one thread", None, one_thread),
        ]
        for stage, goal, call in stages:
            table.append(_line(stage, goal, call, plain, f"plain read, {readers()} threads"))

        def first_time(call: Callable[[], None]) -> Callable[..., None]:
            def forget_and_call(*_: int) -> None:
                seal_checks.forget()
                call()

            return forget_and_call

        stage = "moments, chunks compared with their seals"
        table.append(_line(stage, None, first_time(all_moments), first_time(one_thread), "the same in one thread"))
        in_memory = [stored[start : start + 32] for start in range(0, len(values), 32)]

        def moments_in_memory(repeat: int) -> None:
            with ThreadPoolExecutor(readers(), initializer=convert_alone) as pool:
                list(pool.map(lambda block: Moments.from_blocks(block), in_memory))

        table.append(_line("moments", 0.8, all_moments, moments_in_memory, "the same moments of rows in memory"))
    flat = values.reshape(-1, CHANNELS)[:COVARIANCE_ROWS]
    centred = flat.astype(np.float32)
    centre = centred.mean(axis=0)
    centred -= centre
    with all_cores() as pool:
        objective = Objective(Rows(flat, np.arange(len(flat))), np.zeros(len(flat), np.int64), centre, pool)

        def covariance() -> None:
            objective.covariance()

        def product(repeat: int) -> None:
            parts = np.array_split(centred, readers())
            list(pool.map(lambda part: part.T @ part, parts))

        table.append(_line("covariance", 0.8, covariance, product, "float32 product alone"))
    return table


def _line(
    stage: str, goal: float | None, call: Callable[[], Any], peer: Callable[[int], None], name: str
) -> dict[str, Any]:
    mine, theirs = pairs(lambda repeat: call() is None, peer, REPEATS)
    ratio = statistics.median(theirs[i].seconds / mine[i].seconds for i in range(REPEATS))
    seconds = statistics.median(one.seconds for one in mine)
    return row(stage, ratio, "at least", goal, seconds, max(one.peak_bytes for one in mine), name)
