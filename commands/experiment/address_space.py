"""Checks that torch and the other large libraries load within the address space of this process (`ulimit -v`)."""

import subprocess
import sys

from stores.errors import UserError
from stores.units import format_bytes

_LONGEST = 120.0  # seconds; where memory runs out in some libraries, loading them never ends
_ROOM = 512 << 20  # bytes for work, beside the libraries: threads that find no memory end the process, too
_LIBRARIES = ("pyarrow.parquet", "scipy.linalg", "scipy.special", "torch")
_TRIAL = "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2); import "


def check_address_space() -> None:
    """Raise UserError where the limit of this process's address space is too small to load torch and compute.

    A library in which memory runs out while it is loaded may end the process or hang, which no handler catches, so a
    subprocess tries first. Without a limit nothing is tried.
    """
    try:
        import resource
    except ImportError:  # no such limits on this system
        return
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY or "torch" in sys.modules:
        return
    import psutil

    left = limit - int(psutil.Process().memory_info().vms) - _ROOM
    try:
        libraries = ", ".join(name for name in _LIBRARIES if name not in sys.modules)
        command = [sys.executable, "-c", _TRIAL + libraries, str(max(0, left))]
        failed = subprocess.run(command, capture_output=True, timeout=_LONGEST, check=False).returncode
    except (OSError, subprocess.TimeoutExpired):
        failed = 1
    if failed:
        raise UserError(
            f"the {format_bytes(limit)} of address space that this process may use hardly suffice to load torch and "
            "compute: raise the limit (`ulimit -v`)"
        )
