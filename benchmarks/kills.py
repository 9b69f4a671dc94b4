"""Three hundred SIGKILLs: what is kept, what is made again, and whether the end is that of an undisturbed run.

Opt-in, because it takes minutes: ``python -m benchmarks kills``. tests/kills.py does the killing, in a process of its
own that imports torch and runs nothing, so that it can fork an extraction in a fraction of a second.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.measure import row

KILLS = 300
COMMANDS = 6
"""How many of them hit the true command."""


def rows() -> list[dict[str, Any]]:
    """Return shares of what should be right, whole and kept (1 is all of it); prints where the kills hit."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.kills", str(KILLS), "--commands", str(COMMANDS)],
        stdout=subprocess.PIPE,
        check=True,
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    found = json.loads(done.stdout)
    (Path(__file__).parent / "out").mkdir(exist_ok=True)
    (Path(__file__).parent / "out" / "kills.json").write_text(json.dumps(found, indent=2) + "\n")
    for name, value in found.items():
        print(f"  {name}: {json.dumps(value)}")
    shares = {
        "rows right, of committed": (found["wrong rows"], found["rows looked at"]),
        "ranges kept, of committed": (found["missing ranges"], found["kills"]),
        "lives with the digests of": (found["lives with other digests"], found["lives"]),
        "extractions that ended without error": (found.get("errors", 0), found["kills"]),
    }
    return [
        row(f"{KILLS} kills: {name}", 1 - bad / total, "at least", 1.0, found["seconds"], 0, "an undisturbed run")
        for name, (bad, total) in shares.items()
    ]
