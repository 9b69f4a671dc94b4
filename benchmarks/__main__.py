"""``python -m benchmarks [name ...]``: run the benchmarks, print a table, write benchmarks/out/bench.json."""

import json
import os
import platform
import sys
from pathlib import Path

import torch

from benchmarks import (
    captures,
    damage,
    extraction,
    geometry,
    growth,
    kills,
    listing,
    makespan,
    neighbours,
    objects,
    probes,
    reading,
    searches,
    store,
    two_faults,
    verifying,
    visbench,
    worlds,
)

BENCHMARKS = {
    "store": store.rows,
    "verify": verifying.rows,
    "damage": lambda: [*damage.rows(), *two_faults.rows()],
    "extraction": extraction.rows,
    "growth": growth.rows,
    "listing": listing.rows,
    "makespan": makespan.rows,
    "reading": reading.rows,
    "geometry": geometry.rows,
    "neighbours": neighbours.rows,
    "searches": searches.rows,
    "probes": probes.rows,
    "worlds": worlds.rows,
}
OPT_IN = {"captures": captures.rows, "kills": kills.rows, "objects": objects.rows, "visbench": visbench.rows}
"""Minutes long, run only when named."""


def main() -> None:
    """Run the named benchmarks, or all of them."""
    names = sys.argv[1:] or list(BENCHMARKS)
    table = []
    for name in names:
        known = BENCHMARKS | OPT_IN
        if name not in known:
            raise SystemExit(f"no benchmark {name!r}: there are {', '.join(known)}")
        for line in known[name]():
            table.append({"benchmark": name, **line})
            goal = f"{line.get('goal_is', 'at most')} {line['goal']}" if line.get("goal") else "no goal"
            print(
                f"{line['stage']:<42} {line['ratio']:>7.2f} ({goal:<13}) over {line['peer']:<38} "
                f"{line['seconds']:>8.2f} s  {line['peak_bytes'] / 1e6:>7.0f} MB",
                flush=True,
            )
    machine = {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load_before": os.getloadavg()[2],
        "torch": torch.__version__,
    }
    out = Path(__file__).parent / "out" / "bench.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps({"machine": machine, "rows": table}, indent=2) + "\n")
    print(f"written to {out}")


if __name__ == "__main__":
    main()
