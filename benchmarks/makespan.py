"""How long a set takes with slow and dying workers, in simulated time: fixed shares against a schedule.

The schedule's shares are those of `pipeline.schedule.share_sizes`, handed out as `pipeline.schedule.handing_out` does:
two to a worker, and those of a dead worker to others, without the ranges that it committed. Work stealing, which Dask
does beside, is left out. What a dead process of fixed shares left is made by all others, once they are done. The
ideal hands out rows one by one and loses nothing: the work divided by the rates of the workers that live.
"""

import heapq
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from pipeline.schedule.share_sizes import IN_FLIGHT, ShareSizes

N_RANGES, N_WORKERS, SECONDS_A_RANGE = 10_010, 8, 1.0
"""ImageNet-1k, ViT-L, all layers: 10,010 ranges of 128 images; a range takes about a second on one GPU."""
OVERHEAD = 0.2
"""Seconds at the beginning of a share in which the model waits for the first images."""


@dataclass(frozen=True)
class SimulatedWorker:
    """A worker with its rate, and the time of its death."""

    rate: float = 1.0
    """Ranges in the time of one range."""
    dies_at: float = float("inf")


@dataclass
class _State:
    worker: SimulatedWorker
    held: deque[list[int]] = field(default_factory=deque)
    """Shares that it holds; the first is the one it makes."""


def ideal(n_ranges: int, workers: list[SimulatedWorker], seconds: float = SECONDS_A_RANGE) -> float:
    """Return the time in which all work is done if it divides without rest, in seconds."""
    left, now = n_ranges * seconds, 0.0
    for end in sorted({worker.dies_at for worker in workers}):
        rate = sum(worker.rate for worker in workers if worker.dies_at > now)
        if rate * (end - now) >= left:
            return now + left / rate
        left -= rate * (end - now)
        now = end
    return float("inf")


def fixed_shares(n_ranges: int, workers: list[SimulatedWorker], seconds: float = SECONDS_A_RANGE) -> float:
    """Return the time of ``--shard i/N``: every N-th range; what a dead worker left is made by one more command."""
    ends, left = [0.0], 0
    for index, worker in enumerate(workers):
        mine = len(range(index, n_ranges, len(workers)))
        end = mine * seconds / worker.rate
        if end > worker.dies_at:
            left += mine - int(worker.dies_at * worker.rate / seconds)
            end = worker.dies_at
        ends.append(end)
    alive = [worker for worker in workers if worker.dies_at == float("inf")]
    return max(ends) + (fixed_shares(left, alive, seconds) if left else 0.0)


def schedule(n_ranges: int, workers: list[SimulatedWorker], seconds: float = SECONDS_A_RANGE) -> float:
    """Return the time of `extract --scheduler` in seconds, simulated share by share."""
    sizes, left = ShareSizes(), deque(range(n_ranges))
    states = [_State(worker) for worker in workers]
    events: list[tuple[float, int, int, str]] = []
    counter = iter(range(10**9))

    def begin(index: int, now: float) -> None:
        state = states[index]
        took = OVERHEAD + len(state.held[0]) * seconds / state.worker.rate
        ends, what = (now + took, "ends") if now + took <= state.worker.dies_at else (state.worker.dies_at, "dies")
        heapq.heappush(events, (ends, next(counter), index, what))

    def hand_out(now: float) -> None:
        n_alive = sum(state.worker.dies_at > now for state in states)
        for _ in range(IN_FLIGHT):
            for index, state in enumerate(states):
                if left and state.worker.dies_at > now and len(state.held) < IN_FLIGHT:
                    n_share = sizes.next(str(index), len(left), n_alive)
                    state.held.append([left.popleft() for _ in range(n_share)])
                    if len(state.held) == 1:
                        begin(index, now)

    started: dict[int, float] = dict.fromkeys(range(len(states)), 0.0)
    now = last = 0.0
    hand_out(now)
    while events:
        now, _, index, what = heapq.heappop(events)
        state = states[index]
        share = state.held.popleft()
        if what == "dies":
            done = int(max(0.0, now - started[index] - OVERHEAD) * state.worker.rate / seconds)
            for lost in filter(None, [share[min(done, len(share)) :], *state.held]):
                alive = [number for number, one in enumerate(states) if one.worker.dies_at > now]
                heir = min(alive, key=lambda number: len(states[number].held))
                states[heir].held.append(lost)
                if len(states[heir].held) == 1:
                    started[heir] = now
                    begin(heir, now)
            state.held.clear()
        else:
            sizes.took(str(index), len(share), now - started[index])
            last = now
            if state.held:
                begin(index, now)
        started[index] = now
        hand_out(now)
    return last


SCENES: dict[str, list[SimulatedWorker]] = {
    "equal workers": [SimulatedWorker()] * N_WORKERS,
    "one at 0.7": [SimulatedWorker()] * (N_WORKERS - 1) + [SimulatedWorker(0.7)],
    "one at 0.7, one dead half way": [
        *[SimulatedWorker()] * (N_WORKERS - 2),
        SimulatedWorker(0.7),
        SimulatedWorker(dies_at=N_RANGES * SECONDS_A_RANGE / N_WORKERS / 2),
    ],
    "one at 0.1, three dead": [
        *[SimulatedWorker()] * (N_WORKERS - 4),
        SimulatedWorker(0.1),
        *(SimulatedWorker(dies_at=seconds) for seconds in (100.0, 500.0, 900.0)),
    ],
}
"""Workers of the simulated scenes, by what they are."""


def rows() -> list[dict[str, Any]]:
    """Return the table of simulated times over the ideal."""
    table = []
    for title, workers in SCENES.items():
        best = ideal(N_RANGES, workers)
        for name, simulate, goal in (("schedule", schedule, 1.05), ("--shard", fixed_shares, None)):
            seconds = simulate(N_RANGES, workers)
            line: dict[str, Any] = {"stage": f"{name}, {title}", "peer": "ideal, simulated", "ratio": seconds / best}
            table.append({**line, "seconds": seconds, "peak_bytes": 0, **({"goal": goal} if goal else {})})
    return table
