"""A set of twelve arrays on an object store with 30 ms added to every request, and the longest chain of requests.

The peer is the same code without conditional PUT and with one request at a time: a chunk is then put under a partial
name, copied and deleted, and everything is asked for one after another.

The store is moto's server on the loopback (`tests.object_store`), so what it takes itself is part of every figure:
some milliseconds of one core a request. A chain is counted from the server's log: requests each of which began after
the one before had ended.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks.measure import measure, row
from benchmarks.store import specs
from stores.format.layout import Layout
from stores.maintenance.verify import verify
from stores.sets import ZarrSet
from stores.specs import ArraySpec, FeatureSpec
from stores.storage.remote import RemoteObjects
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


def opened(url: str, plain: bool) -> Store:
    """Return the store; ``plain`` without conditional PUT and with one request at a time."""
    store = Store(url)
    if plain:
        assert isinstance(store.objects, RemoteObjects)
        store.objects._creates, store.objects._at_once = False, 1
    return store


def steps(url: str, plain: bool) -> dict[str, Callable[[], Any]]:
    """Return what is done to the set, in order."""
    spec, layout = specs()[0], Layout(n_rows=RANGE_ROWS * N_RANGES, range_rows=RANGE_ROWS, compression="none")
    held: dict[str, ZarrSet] = {}

    def create() -> None:
        held["set"] = ZarrSet.create(opened(url, plain).objects, spec, layout, {}, {"device": "cpu"}, {})

    return {
        "create": create,
        "declare 12 arrays": lambda: held["set"].add_arrays(arrays()),
        "a range of 12 arrays": lambda: write(held["set"], range(1)),
        f"{N_RANGES - 1} ranges": lambda: write(held["set"], range(1, N_RANGES)),
        "open, not sealed": lambda: opened(url, plain).open(spec),
        "seal": lambda: seal(held["set"], held["set"].arrays),
        "open, sealed": lambda: opened(url, plain).open(spec),
        "open from the summary": lambda: opened(url, plain).open(spec, from_summary=True),
        "read an array": lambda: _read(url, spec, plain),
        "verify": lambda: list(verify(opened(url, plain))),
    }


def _read(url: str, spec: FeatureSpec, plain: bool) -> None:
    found = opened(url, plain).open(spec, from_summary=True)
    assert found["block.0"][:].shape[0] == RANGE_ROWS * N_RANGES


class _Taken(NamedTuple):
    seconds: float
    in_sequence: int
    requests: int
    peak_bytes: int


def _taken(server: Any, plain: bool) -> dict[str, _Taken]:
    url, table = server.bucket(), {}
    opened(url, plain).objects.keys("")  # the client's start, a second, is not the store's
    for name, step in steps(url, plain).items():
        with server.slow(LATENCY), server.counting() as requests:
            found = measure(step)
        table[name] = _Taken(found.seconds, requests.in_sequence, len(requests), found.peak_bytes)
    return table


def rows() -> list[dict[str, Any]]:
    """Return, for each step, the peer's seconds over ours, with the longest chains and the numbers of requests."""
    from tests.object_store.running import object_server

    with object_server() as server:
        theirs, ours = _taken(server, plain=True), _taken(server, plain=False)
    return [
        row(
            f"{name} ({mine.in_sequence} of {mine.requests})",
            theirs[name].seconds / mine.seconds,
            "at least",
            0.0,
            mine.seconds,
            mine.peak_bytes,
            f"one request at a time ({theirs[name].requests})",
            in_sequence=mine.in_sequence,
            requests=mine.requests,
        )
        for name, mine in ours.items()
    ]
