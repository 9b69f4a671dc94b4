"""SIGKILL at random moments, several extractions at once; `python -m benchmarks kills` does it three hundred times."""

import json
import os
import subprocess
import sys
from pathlib import Path

CLEAN = {
    "errors": 0,
    "wrong rows": 0,
    "missing ranges": 0,
    "ranges made again though committed": 0,
    "lives with other digests": 0,
    "commit records left": 0,
}


def test_killed_writers_lose_nothing_and_end_in_the_bytes_of_an_undisturbed_run():
    done = subprocess.run(
        [sys.executable, "-m", "tests.kills", "8", "--seed", "5"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    found = json.loads(done.stdout)
    assert found["kills"] >= 8  # the last life ends with all its writers
    assert found["rows looked at"] > 0
    assert {name: found.get(name, 0) for name in CLEAN} == CLEAN
