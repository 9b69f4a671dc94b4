"""Loading FAISS, which some builds of it do not survive."""

import importlib
import subprocess
import sys
from functools import cache
from typing import Any

from stores.errors import UserError


@cache
def load_faiss() -> Any:
    """Import FAISS, which the exact search does not need; raises UserError where it does not load."""
    # A broken build may end the process that imports it, so that another one tries first.
    done = subprocess.run([sys.executable, "-c", "import faiss"], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        try:
            return importlib.import_module("faiss")
        except ImportError as error:
            said = str(error)
    else:
        said = (done.stderr.strip().splitlines() or [f"importing it ends the process with {done.returncode}"])[-1]
    raise UserError(
        f'faiss does not load ({said}): leave out `search = "faiss"`, the exact search needs none, or install '
        "faiss-cpu>=1.9 or faiss-gpu>=1.15"
    )
