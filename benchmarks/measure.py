"""Seconds and peak memory of one call, measured the same way for ours and for the peer."""

import gc
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import psutil


class Measurement(NamedTuple):
    """What one call took."""

    seconds: float
    peak_bytes: int
    """Peak of the resident size above its level before the call, in bytes."""
    result: Any


def measure(call: Callable[[], Any]) -> Measurement:
    """Run a call; a thread samples the resident size every 5 ms."""
    gc.collect()
    process = psutil.Process()
    before = peak = process.memory_info().rss
    done = threading.Event()

    def sample() -> None:
        nonlocal peak
        while not done.wait(0.005):
            peak = max(peak, process.memory_info().rss)

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    begin = time.perf_counter()
    try:
        result = call()
    finally:
        seconds = time.perf_counter() - begin
        peak = max(peak, process.memory_info().rss)
        done.set()
        sampler.join()
    return Measurement(seconds, peak - before, result)


def pairs(
    ours: Callable[[int], Any], peer: Callable[[int], Any], repeats: int
) -> tuple[list[Measurement], list[Measurement]]:
    """Measure both in alternation, each first every other time, after one uncounted pair.

    The uncounted pair pays for fresh memory and caches; taking turns at going first keeps what one leaves behind
    (a warm cache, freed pages) from helping the same side every time. Both get the number of the repeat.
    """
    mine: list[Measurement] = []
    theirs: list[Measurement] = []
    for repeat in range(repeats + 1):
        order = [(ours, mine), (peer, theirs)] if repeat % 2 else [(peer, theirs), (ours, mine)]
        for call, kept in order:
            taken = measure(lambda call=call, repeat=repeat: call(repeat))  # type: ignore[misc]
            if repeat:
                kept.append(taken._replace(result=None))
            del taken
    return mine, theirs


def row(
    stage: str, ratio: float, goal_is: str, goal: float | None, seconds: float, peak_bytes: int, peer: str, **more: Any
) -> dict[str, Any]:
    """Return one line of the benchmark table; ``goal_is`` is "at least" or "at most"."""
    return {
        "stage": stage,
        "ratio": round(ratio, 3),
        "goal_is": goal_is,
        "goal": goal,
        "met": None if goal is None else ratio >= goal if goal_is == "at least" else ratio <= goal,
        "seconds": round(seconds, 4),
        "peak_bytes": peak_bytes,
        "peer": peer,
        **more,
    }
