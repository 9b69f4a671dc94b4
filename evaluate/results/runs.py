"""Records of runs: when and where results were computed and how long each took, one JSON line a run.

Times and hosts change from run to run, so they stay out of the results, whose bytes depend on their inputs alone.
"""

import datetime
import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

from stores.errors import UserError

RECORDED = ("numpy", "pandas", "scikit-learn", "scipy", "torch", "zarr")
"""Libraries whose versions are noted."""


def append_run(path: Path, record: dict[str, Any]) -> None:
    """Append one line to a JSONL file; raises UserError when it cannot be written."""
    versions = {name: importlib.metadata.version(name) for name in RECORDED}
    line = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "python": platform.python_version(),
        "versions": versions,
        **record,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o666)  # no wait for a pipe
        with os.fdopen(descriptor, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(line, sort_keys=True) + "\n")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; choose another --results") from error
