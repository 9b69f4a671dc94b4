"""Number of processor cores that this process may use."""

import math
import os
from pathlib import Path

_QUOTAS = (Path("/sys/fs/cgroup/cpu.max"),)


def available_cores() -> int:
    """Return how many cores the scheduler, the control group and Slurm leave to this process, at least 1.

    The smallest of the process' processor affinity, the quota of its control group (Linux, version 2), and
    ``SLURM_CPUS_PER_TASK``.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    slurm = os.environ.get("SLURM_CPUS_PER_TASK", "")
    limits = [cores, int(slurm) if slurm.isdecimal() and int(slurm) > 0 else cores]
    for path in _QUOTAS:
        try:
            quota, period = path.read_text(encoding="ascii").split()
            limits.append(math.ceil(int(quota) / int(period)))  # "max" where there is no limit
        except (OSError, ValueError, ZeroDivisionError):
            continue
    return max(1, min(limits))
