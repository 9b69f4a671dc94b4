"""Finds which share of an extraction a process has: from ``--shard``, or from what Slurm tells its tasks."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from stores.errors import UserError


@dataclass(frozen=True)
class WorkShare:
    """The share of one process."""

    index: int = 0
    """Which of them, counted from 0."""
    total: int = 1
    batch_job: str = ""
    """Name of the batch job whose tasks share out what was missing; empty where all ranges are shared out."""
    local_index: int | None = None
    """Which of the tasks of a step on this machine it is; None outside of steps of several tasks."""


def find_share(shard: str | None, environment: Mapping[str, str]) -> WorkShare:
    """Return the share that ``--shard`` names, otherwise that of a Slurm array, of a step of several tasks, or of both.

    A batch script itself is no task of a step: what it starts without `srun` has all of the work. Raises UserError when
    ``--shard`` is not i/N, and for arrays that are listed with gaps.

    Args:
        shard: What ``--shard`` says.
        environment: The environment variables.
    """
    if shard is not None:
        return WorkShare(*_parts(shard))
    array = _array(environment)
    step = _step(environment)
    if array is None and step is None:
        return WorkShare()
    index, total = array or (0, 1)
    place, n_tasks, local = step or (0, 1, None)
    job = environment.get("SLURM_ARRAY_JOB_ID") if array else environment.get("SLURM_JOB_ID")
    name = "-".join(filter(None, [job, environment.get("SLURM_STEP_ID") if step and not array else None]))
    return WorkShare(index * n_tasks + place, total * n_tasks, re.sub(r"[^\w.-]", "", name), local)


def unused_variables(shard: str | None, environment: Mapping[str, str]) -> str | None:
    """Return a line about variables of Slurm that name a task and no share of the work, None where there are none.

    Args:
        shard: What ``--shard`` says.
        environment: The environment variables.
    """
    if shard is not None:
        return None
    names = []
    if environment.get("SLURM_ARRAY_TASK_ID") and _array(environment) is None:
        names += ["SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MAX"]
    totals = [environment.get(name, "0") for name in ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS")]
    is_odd = environment.get("SLURM_PROCID", "0") != "0" or not all(total.isdigit() for total in totals)
    if is_odd and _step(environment) is None:
        names += ["SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"]
    if not names:
        return None
    listed = ", ".join(f"{name}={environment[name]}" for name in names if name in environment)
    return f"note: {listed} cannot be used to find a share of the work: name it with --shard i/N"


def _parts(text: str) -> tuple[int, int]:
    index, slash, total = text.partition("/")
    if not slash or not index.isdigit() or not total.isdigit() or not int(index) < int(total):
        raise UserError(f"--shard {text!r} is not i/N with i from 0 to N-1: write for example --shard 0/4")
    return int(index), int(total)


def _array(environment: Mapping[str, str]) -> tuple[int, int] | None:
    """Return the place of an array's task among them all, None outside of arrays."""
    names = ("ID", "COUNT", "MIN", "MAX", "STEP")
    values = {name: environment.get(f"SLURM_ARRAY_TASK_{name}", "") for name in names}
    if not values["ID"].isdigit() or not (values["COUNT"].isdigit() or values["MAX"].isdigit()):
        return None  # of how many is not known
    number = {name: int(value) for name, value in values.items() if value.isdigit()}
    first, step = number.get("MIN", 0), max(1, number.get("STEP", 1))
    total = number["COUNT"] if "COUNT" in number else (number["MAX"] - first) // step + 1
    index, rest = divmod(number["ID"] - first, step)
    if rest or not 0 <= index < total or ("MAX" in number and (number["MAX"] - first) // step + 1 != total):
        raise UserError(
            f"task {number['ID']} of this Slurm array has no place among {total}: submit it as "
            "--array=0-N, without gaps, or name the share with --shard i/N"
        )
    return index, total


def _step(environment: Mapping[str, str]) -> tuple[int, int, int | None] | None:
    """Return place, number and place on this machine of a task that `srun` started beside others, otherwise None."""
    in_step = "SLURM_STEP_ID" in environment or "SLURM_STEP_NUM_TASKS" in environment
    total = environment.get("SLURM_STEP_NUM_TASKS") or environment.get("SLURM_NTASKS", "")
    place, local = environment.get("SLURM_PROCID", ""), environment.get("SLURM_LOCALID", "")
    if not in_step or not total.isdigit() or not place.isdigit() or not int(place) < int(total) or int(total) < 2:
        return None
    return int(place), int(total), int(local) if local.isdigit() else None
