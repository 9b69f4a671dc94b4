"""Starts the workers that ``--scheduler`` names, or those of all GPUs of this machine."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from commands.experiment.free_memory import free_memory
from commands.terminal.output import say

if TYPE_CHECKING:
    from pipeline.extraction.compute import Compute
    from pipeline.recipe import Recipe
    from pipeline.rows.samples import Samples
    from pipeline.schedule.extraction import ScheduledSets
    from pipeline.workspace import Workspace


class StartedWorkers(NamedTuple):
    """Workers that are ready."""

    sets: "ScheduledSets"
    """Makes sets in them."""
    compute: "Compute"
    """Settings that they compute with."""
    decoders: int | None
    """Threads of each that decode images, unless the user says."""


def choose_workers(device: str, scheduler: str | None, local_index: int | None) -> tuple[str, str | None]:
    """Return ``--device`` and ``--scheduler`` with their defaults: ``gpus`` where several GPUs are visible.

    Several tasks that `srun` started on one machine take one GPU each, where each of them sees all.

    Args:
        device: What ``--device`` says.
        scheduler: What ``--scheduler`` says.
        local_index: Which of the tasks on this machine this process is, None outside of steps of several tasks.
    """
    if scheduler is not None or device not in ("auto", "cuda"):
        return device, scheduler
    from pipeline.schedule.clusters import visible_devices

    devices = visible_devices()
    if len(devices) < 2:
        return device, None
    return (device, "gpus") if local_index is None else (f"cuda:{local_index % len(devices)}", None)


def start_workers(
    stack: ExitStack,
    scheduler: str,
    device: str,
    batch_size: int | None,
    recipe: "Recipe",
    workspace: "Workspace",
    samples: "Samples",
) -> StartedWorkers:
    """Start or find the workers of an extraction, and say in a line which they are.

    Args:
        stack: Ends them.
        scheduler: What ``--scheduler`` says.
        device: What ``--device`` says.
        batch_size: What ``--batch-size`` says.
        recipe: The experiment's extraction settings.
        workspace: Store, data and weights.
        samples: The rows in the clean view.
    """
    from pipeline.schedule.clusters import connect, load_dask

    load_dask(scheduler)
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(stack.enter_context, connect(scheduler))
        # Workers load torch while this process does.
        from pipeline.schedule.extraction import ScheduledSets, compute_of
        from pipeline.schedule.handing_out import wait_for_workers, watching

        cluster = starting.result()
    watch = stack.enter_context(watching(cluster, say))
    wait_for_workers(cluster, say)
    say(f"extracting with {cluster.what}")
    compute = compute_of(cluster, device, batch_size)
    sets = ScheduledSets(cluster, watch, recipe, workspace, samples, memory_bytes=free_memory())
    stack.callback(sets.close)
    return StartedWorkers(sets, compute, cluster.decoders)
