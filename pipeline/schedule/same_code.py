"""Asks all workers which code they have, and refuses those that have not that of this process."""

from typing import Any

from pipeline.schedule.clusters import Cluster
from pipeline.schedule.worker_calls import OtherCodeError, code_here, host_and_code, other_code

_OF_SCHEDULER = "deserialization of the task graph"
"""Words with which Dask's scheduler refuses what it cannot load."""


def check_code(cluster: Cluster) -> None:
    """Raise OtherCodeError for a worker whose Patchbank, torch, timm or numpy is not that of this process.

    Args:
        cluster: The workers.
    """
    answers: dict[str, Any] = cluster.client.run(host_and_code, on_error="return")
    there = cluster.client.scheduler_info(n_workers=-1)["workers"]
    for address, answer in answers.items():
        if address not in there or isinstance(answer, OSError | TimeoutError):
            continue  # it has ended meanwhile
        worker = there[address]
        is_asked = not isinstance(answer, BaseException)
        host, theirs = answer if is_asked else (str(worker.get("host", address)), None)
        problem = other_code(str(worker["name"]), host, theirs, code_here())
        if problem is not None:
            raise OtherCodeError(problem)


def explain(cluster: Cluster, error: Exception) -> None:
    """Raise OtherCodeError where an unexpected error of a task comes of other code in a worker or in the scheduler.

    Args:
        cluster: The workers.
        error: What a task ended with.
    """
    check_code(cluster)
    if _OF_SCHEDULER in str(error):
        raise OtherCodeError(
            f"the scheduler of {cluster.what} has another Patchbank or Dask, or none: start it in the environment of "
            "this command"
        ) from error
