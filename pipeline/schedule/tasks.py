"""Runs a list of tasks in workers, each once, the first ones first among those whose needs are met."""

import itertools
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from pipeline.schedule.clusters import Cluster
from pipeline.schedule.handing_out import done_of, give_up, present_workers, result_of, submit
from pipeline.schedule.share_sizes import IN_FLIGHT
from stores.errors import UserError

NO_WORKER_SECONDS = 120.0
"""Time without any worker after which the tasks end."""


def run_tasks(
    cluster: Cluster,
    function: Callable[..., Any],
    arguments: Sequence[tuple[Any, ...]],
    on_start: Callable[[int], None] = lambda number: None,
    needs: Mapping[int, Collection[int]] = MappingProxyType({}),
) -> list[Any]:
    """Call a function in workers with each of some arguments; return the results in their order.

    A worker holds two tasks; those of one that dies go to others. Raises a PatchbankError that the function returned
    or raised, which names the worker, and UserError when the scheduler or all workers are gone.

    Args:
        cluster: The workers.
        function: Returns a result, or a PatchbankError that ends all tasks.
        arguments: Arguments of each task.
        on_start: Called with the number of a task when it is handed out.
        needs: Numbers of the tasks that are to be done before a task, by its number; no circles.
    """
    results: list[Any] = [None] * len(arguments)
    running: dict[Any, int] = {}
    left, done = list(range(len(arguments))), set[int]()
    last_seen = time.monotonic()
    try:
        while left or running:
            n_workers = len(present_workers(cluster))
            if n_workers:
                last_seen = time.monotonic()
            elif time.monotonic() - last_seen > NO_WORKER_SECONDS:
                raise UserError("no worker is left: what is stored is kept, run the same command to continue")
            ready = (number for number in left if done.issuperset(needs.get(number, ())))
            for number in list(itertools.islice(ready, max(0, IN_FLIGHT * n_workers - len(running)))):
                running[submit(cluster, function, *arguments[number])] = number
                left.remove(number)
                on_start(number)
            for future in done_of(cluster, running):
                number = running.pop(future)
                done.add(number)
                results[number] = result_of(cluster, future)
    except BaseException:
        give_up(cluster, running)
        raise
    return results
