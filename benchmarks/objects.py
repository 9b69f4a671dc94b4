"""A set of twelve arrays on an object store with 30 ms added to every request, and the longest chain of requests.

The store is moto's server on the loopback (`tests.object_store`), so what it takes itself is part of every figure:
some milliseconds of one core a request. A chain is counted from the server's log: requests each of which began after
the one before had ended.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.measure import measure, row
from benchmarks.store import specs
from stores.format.layout import Layout
from stores.maintenance.verify import verify
from stores.sets import ZarrSet
from stores.specs import ArraySpec, FeatureSpec
from stores.store import Store
from stores.writing.sealing import seal
from stores.writing.writer import SetWriter

N_ARRAYS, PATCHES, CHANNELS = 12, 49, 96
RANGE_ROWS, N_RANGES = 16, 8
LATENCY = 0.03
"""Seconds added to every request."""


def arrays() -> list[ArraySpec]:
    """Return arrays whose ranges are one chunk of 150 KB each."""
    names = ("sample", "patch", "channel")
    return [
        ArraySpec(
            name=f"tokens/block.{layer}",
            row_shape=(PATCHES, CHANNELS),
            dtype="float16",
            dimension_names=names,
            attributes={"layer": layer, "norm": False},
        )
        for layer in range(N_ARRAYS)
    ]


def write(made: ZarrSet, numbers: range) -> None:
    """Write some ranges as an extraction does."""
    with SetWriter(made, list(made.arrays)) as writer:
        for number in numbers:
            rows, rng = made.layout.range(number), np.random.default_rng(number)
            one = writer.range(rows)
            for name in writer.specs:
                one.write(name, rng.normal(size=(RANGE_ROWS, PATCHES, CHANNELS)).astype(np.float16))
            one.commit()
    writer.raise_failures()


def steps(url: str) -> dict[str, Callable[[], Any]]:
    """Return what is done to the set, in order."""
    spec, layout = specs()[0], Layout(n_rows=RANGE_ROWS * N_RANGES, range_rows=RANGE_ROWS, compression="none")
    held: dict[str, ZarrSet] = {}

    def create() -> None:
        held["set"] = ZarrSet.create(Store(url).objects, spec, layout, {}, {"device": "cpu"}, {})

    return {
        "create": create,
        "declare 12 arrays": lambda: held["set"].add_arrays(arrays()),
        "a range of 12 arrays": lambda: write(held["set"], range(1)),
        f"{N_RANGES - 1} ranges": lambda: write(held["set"], range(1, N_RANGES)),
        "open, not sealed": lambda: Store(url).open(spec),
        "seal": lambda: seal(held["set"], held["set"].arrays),
        "open, sealed": lambda: Store(url).open(spec),
        "open, sealed, by the digest's beginning": lambda: Store(url).open(spec.digest[:12], from_summary=True),
        "read an array": lambda: _read(url, spec),
        "verify": lambda: list(verify(Store(url))),
    }


def _read(url: str, spec: FeatureSpec) -> None:
    opened = Store(url).open(spec, from_summary=True)
    assert opened["block.0"][:].shape[0] == RANGE_ROWS * N_RANGES


def rows() -> list[dict[str, Any]]:
    """Return, for each step, seconds over those of its chain if every request took only the added wait."""
    from tests.object_store.running import object_server

    table = []
    with object_server() as server:
        url = server.bucket()
        Store(url).objects.keys("")  # the client's start, a second, is not the store's
        for name, step in steps(url).items():
            with server.slow(LATENCY), server.counting() as requests:
                began = time.monotonic()
                taken = measure(step)
                seconds = time.monotonic() - began
            chain = requests.in_sequence
            line = row(
                f"{name}: {chain} in sequence, {len(requests)} in all",
                seconds / (chain * LATENCY),
                "at most",
                0.0,
                seconds,
                taken.peak_bytes,
                "its chain of 30 ms",
            )
            table.append({**line, "in_sequence": chain, "requests": len(requests)})
    return table


if __name__ == "__main__":
    for line in rows():
        print(f"{line['stage']:<70} {line['seconds']:>6.2f} s")
