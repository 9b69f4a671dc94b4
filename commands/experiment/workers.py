"""Starts the workers that ``--scheduler`` names, or those of all GPUs of this machine."""

from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

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


def default_scheduler(device: str) -> str | None:
    """Return ``gpus`` where several GPUs are visible and ``--device`` names none of them, otherwise None."""
    if device not in ("auto", "cuda"):
        return None
    from pipeline.schedule.clusters import visible_devices

    return "gpus" if len(visible_devices()) > 1 else None


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
    from pipeline.schedule.clusters import connect
    from pipeline.schedule.extraction import ScheduledSets, compute_of
    from pipeline.schedule.handing_out import watching

    cluster = stack.enter_context(connect(scheduler))
    watch = stack.enter_context(watching(cluster, say))
    say(f"extracting with {cluster.what}")
    compute = compute_of(cluster, device, batch_size)
    sets = ScheduledSets(cluster, watch, recipe, workspace, samples)
    return StartedWorkers(sets, compute, cluster.decoders)
