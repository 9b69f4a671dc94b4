"""Reading stored features against VisBench's cache, on the same arrays and machine; only when named.

VisBench (github.com/turhancan97/VisBench) keeps one file an image, layer and pooling. It is run by the interpreter in
``PATCHBANK_VISBENCH_PYTHON``, an environment of its own with VisBench 0.27.0. Both sides write 216 images of
16 x 16 patches and 384 channels in float32, then read all of them into one float32 tensor, in turns, each in a process
of its own that times the read without its imports. ``ratio`` is VisBench's seconds over ours.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

N_IMAGES, SIDE, CHANNELS, REPEATS = 216, 16, 384, 5

_THEIRS = """
import json, sys, time
from pathlib import Path
import torch
from visbench.cache.feature_cache import FeatureCache
root, what, n, side, channels = Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:])
cache = FeatureCache(root)
keys = [f"backbone|{number}" for number in range(n)]
if what == "write":
    generator = torch.Generator().manual_seed(0)
    for key in keys:
        dense = torch.randn(1, channels, side, side, generator=generator)
        cache.put(key, {"dense": dense, "pooled": dense.mean((2, 3)), "grid_hw": (side, side)})
        cache.put("pooled" + key, {"dense": dense, "pooled": dense.mean((2, 3)), "grid_hw": (side, side)}, "pooled")
    seconds = 0.0
else:
    prefix = "pooled" if what == "pooled" else ""
    started = time.perf_counter()
    read = torch.cat([cache.get(prefix + key, (what,))[what] for key in keys])
    seconds = time.perf_counter() - started
    assert len(read) == n
print(json.dumps(seconds))
"""


def _ours(root: Path, what: str) -> float:
    """Write the arrays or time one read; returns the seconds of the read."""
    import time

    import numpy as np
    import torch

    from benchmarks.store import specs
    from stores.format.layout import plan_layout
    from stores.sets import ZarrSet
    from stores.storage.local import LocalObjects
    from stores.writing.sealing import seal
    from stores.writing.writer import SetWriter

    spec, like = specs()
    tokens = like.model_copy(update={"row_shape": (SIDE**2, CHANNELS), "dtype": "float32"})
    axes = ("sample", "prefix", "channel")
    pooled = like.model_copy(
        update={
            "name": "prefix/block.0",
            "row_shape": (1, CHANNELS),
            "dtype": "float32",
            "dimension_names": axes,
        }
    )
    if what == "write":
        made = ZarrSet.create(LocalObjects(root), spec, plan_layout(N_IMAGES, tokens.row_bytes), {}, {}, {})
        made.add_arrays([tokens, pooled])
        values = np.random.default_rng(0).standard_normal((N_IMAGES, *tokens.row_shape), np.float32)
        with SetWriter(made, [tokens.name, pooled.name]) as writer:
            for row_range in made.layout.ranges():
                rows = values[row_range.start : row_range.stop]
                one = writer.range(row_range)
                one.write(tokens.name, rows)
                one.write(pooled.name, rows.mean(axis=1, keepdims=True))
                one.commit()
        seal(made, made.arrays)
        return 0.0
    opened = ZarrSet(LocalObjects(root), f"features/{spec.digest}", from_summary=True)
    started = time.perf_counter()
    read = torch.from_numpy(opened[tokens.name if what == "dense" else pooled.name][:])
    seconds = time.perf_counter() - started
    if len(read) != N_IMAGES:
        raise RuntimeError("rows are missing")
    return seconds


def rows() -> list[dict[str, Any]]:
    """Return one row for dense and one for pooled features, medians of alternating runs."""
    theirs = os.environ.get("PATCHBANK_VISBENCH_PYTHON")
    if not theirs:
        raise SystemExit("set PATCHBANK_VISBENCH_PYTHON to the interpreter of an environment with visbench==0.27.0")
    shape = [str(number) for number in (N_IMAGES, SIDE, CHANNELS)]
    found = []
    with tempfile.TemporaryDirectory(dir=os.environ.get("PATCHBANK_BENCH_DIR")) as folder:
        peers = Path(folder) / "theirs"
        commands = {
            "theirs": [theirs, "-c", _THEIRS, str(peers)],
            "ours": [sys.executable, "-m", "benchmarks.visbench", str(Path(folder) / "ours")],
        }

        def seconds(side: str, what: str) -> float:
            command = [*commands[side], what, *(shape if side == "theirs" else [])]
            return float(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))

        for side in commands:
            seconds(side, "write")
        for what in ("dense", "pooled"):
            taken: dict[str, list[float]] = {side: [] for side in commands}
            for repeat in range(REPEATS + 1):
                for side in ("ours", "theirs") if repeat % 2 else ("theirs", "ours"):
                    one = seconds(side, what)
                    if repeat:
                        taken[side].append(one)
            mine = statistics.median(taken["ours"])
            peer = f"VisBench 0.27.0, {statistics.median(taken['theirs']):.3f} s"
            ratio = statistics.median(t / m for t, m in zip(taken["theirs"], taken["ours"], strict=True))
            goal = 5.0 if what == "dense" else 100.0
            line = {"stage": f"read {N_IMAGES} images, {what}, as float32", "ratio": ratio, "peer": peer}
            found.append({**line, "goal": goal, "goal_is": "at least", "seconds": mine, "peak_bytes": 0})
    return found


if __name__ == "__main__":
    print(json.dumps(_ours(Path(sys.argv[1]), sys.argv[2])))
