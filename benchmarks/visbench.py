"""Reading and scoring stored features against VisBench, on the same arrays and machine; only when named.

VisBench (github.com/turhancan97/VisBench) keeps one file an image, layer and pooling. It is run by the interpreter in
``PATCHBANK_VISBENCH_PYTHON``, an environment of its own with VisBench 0.27.0. Both sides write 216 images of
16 x 16 patches and 384 channels in float32, then read all of them into one float32 tensor, in turns, each in a process
of its own that times the read without its imports. ``ratio`` is VisBench's seconds over ours.

Then the classes of 400 of 2,000 images are predicted from one vector of 384 numbers each, from the cached features to
the score, without imports: by the nearest of the other 1,600 (ours votes with k = 20, theirs ranks all: retrieval with
a gallery) and by a linear probe (ours chooses among penalties, theirs is 200 epochs of AdamW, its default).
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
N_SCORED, N_VALIDATED, N_CLASSES = 2000, 400, 10
_FOR_IMPORTS = "imports"

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

_THEIRS_SCORED = """
import json, sys, time
from pathlib import Path
import numpy as np
import torch
from visbench.cache.feature_cache import FeatureCache
from visbench.tasks.high_level.classification import ClassificationTask
from visbench.tasks.high_level.retrieval import RetrievalTask
root, what, vectors, n_validated = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
cache = FeatureCache(root)
data = np.load(vectors)
keys = [f"backbone|{number}" for number in range(len(data["classes"]))]
seconds, score = 0.0, 0.0
if what == "write":
    for key, vector in zip(keys, torch.from_numpy(data["vectors"])):
        cache.put(key, {"dense": vector[None, :, None, None], "pooled": vector[None], "grid_hw": (1, 1)}, "pooled")
else:
    classes = torch.from_numpy(data["classes"])
    train, validation = slice(0, -n_validated), slice(len(keys) - n_validated, None)
    torch.manual_seed(0)
    started = time.perf_counter()
    read = torch.cat([cache.get(key, ("pooled",))["pooled"] for key in keys])
    if what == "knn":
        found = RetrievalTask().evaluate(read[validation], classes[validation], read[train], classes[train])
    else:
        task = ClassificationTask(num_classes=int(classes.max()) + 1, device="cpu")
        found = task.fit(read[train], classes[train]).evaluate(read[validation], classes[validation])
    seconds = time.perf_counter() - started
    score = float(next(iter(found.values())))
print(json.dumps([seconds, score]))
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


def _write_scored(root: Path, vectors: Path) -> None:
    """Write the vectors as class tokens of a feature set, and a label set with their classes."""
    import numpy as np
    import pandas as pd

    from benchmarks.searches import write_set
    from benchmarks.store import specs
    from stores.specs import LabelSpec

    data = np.load(vectors)
    names = [f"{number:05d}.png" for number in range(N_SCORED)]
    table = pd.DataFrame(
        {
            "sample": [f"{name}[0,0]" for name in names],
            "source": names,
            "group": "all",
            "split": ["train"] * (N_SCORED - N_VALIDATED) + ["val"] * N_VALIDATED,
            "tile_row": 0,
            "tile_column": 0,
            **{f"{owned}{edge}": 0 for owned in ("", "owned_") for edge in ("left", "top")},
            **{f"{owned}{edge}": 224 for owned in ("", "owned_") for edge in ("right", "bottom")},
            "image_class": data["classes"],
            "source_sha256": "",
            "label_sha256": "",
            "valid": True,
            "reason": "",
        }
    )
    features = specs()[0]
    labels = LabelSpec(
        dataset=features.dataset, samples=features.samples, frame=features.frame, view=features.view, label_files=None,
        classes="5" * 64, facts="f" * 64, pixel_labels=False, objects=False, revisions={"frames": 1},
    )  # fmt: skip
    colours = {name: list(range(N_CLASSES)) for name in ("red", "green", "blue")}
    titles = [f"class {number}" for number in range(N_CLASSES)]
    classes = pd.DataFrame({"id": range(N_CLASSES), "name": titles, "supercategory": titles, "easy": True, **colours})
    axes = ("sample", "prefix", "channel")
    tokens: dict[str, Any] = {"prefix/block.0.norm": (data["vectors"][:, None], axes, {"layer": 0, "norm": True})}
    write_set(root, features, tokens, {"samples": table})
    write_set(root, labels, {}, {"samples": table, "classes": classes})
    if root.name != _FOR_IMPORTS:
        _write_scored(root / _FOR_IMPORTS, vectors)


def _scored(root: Path, what: str) -> tuple[float, float]:
    """Return the seconds from opening the sets to the score, and the score; another store was evaluated for imports."""
    import time

    from evaluate.inputs.model_sets import ModelSets
    from evaluate.registry import EvaluationSettings
    from evaluate.results.metrics import IMAGE_ACCURACY
    from evaluate.results.table import ResultStore
    from evaluate.runner import evaluate
    from evaluate.selection import SelectionRule
    from evaluate.settings import Selection
    from stores import Store

    if root.name != _FOR_IMPORTS:
        _scored(root / _FOR_IMPORTS, what)
    analysis = {
        "kind": "image-classification",
        "pooled": ("class-token",),
        "classifiers": (what.split()[0],),
        "resamples": 0,
        **({"penalties": (1e-3,)} if what.endswith("one penalty") else {}),
    }
    selection = Selection(train=SelectionRule(split="train"), validation=SelectionRule(split="val"))
    with tempfile.TemporaryDirectory() as results:
        started = time.perf_counter()
        sets = {one.prefix.partition("/")[0]: one for one in Store(root).sets()}
        features, labels = sets["features"], sets["labels"]
        model = ModelSets("vectors", features, labels, False, "patchbank extract vectors.toml")
        settings = EvaluationSettings.model_validate({"selection": selection, "analyses": (analysis,)})
        table = evaluate("vectors", [model], settings, ResultStore(results)).table
        seconds = time.perf_counter() - started
    return seconds, float(table[table["metric"] == IMAGE_ACCURACY]["value"].iloc[0])


def rows() -> list[dict[str, Any]]:
    """Return a row each for reading dense and pooled features and for scoring, medians of alternating runs."""
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
        found += _scoring(theirs, Path(folder))
    return found


def _scoring(theirs: str, folder: Path) -> list[dict[str, Any]]:
    """Return a row for nearest neighbours and one for a linear probe."""
    import numpy as np

    rng = np.random.default_rng(0)
    classes = rng.integers(0, N_CLASSES, N_SCORED)
    centres = rng.standard_normal((N_CLASSES, CHANNELS)) * 0.15
    vectors = folder / "vectors.npz"
    values = centres[classes] + rng.standard_normal((N_SCORED, CHANNELS))
    np.savez(vectors, vectors=values.astype(np.float32), classes=classes)
    commands = {
        "theirs": [theirs, "-c", _THEIRS_SCORED, str(folder / "theirs-scored")],
        "ours": [sys.executable, "-m", "benchmarks.visbench", str(folder / "ours-scored")],
    }

    def run(side: str, what: str) -> tuple[float, float]:
        how = what.split()[0] if side == "theirs" else f"score {what}"
        command = [*commands[side], how, str(vectors), str(N_VALIDATED)]
        seconds, score = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        return seconds, score

    for side in commands:
        run(side, "write")
    found = []
    for what in ("knn", "probe", "probe with one penalty"):
        taken: dict[str, list[tuple[float, float]]] = {side: [] for side in commands}
        for repeat in range(REPEATS + 1):
            for side in ("ours", "theirs") if repeat % 2 else ("theirs", "ours"):
                one = run(side, what)
                if repeat:
                    taken[side].append(one)
        (mine, score), (peer, other) = (
            (statistics.median(seconds for seconds, _ in taken[side]), taken[side][0][1]) for side in ("ours", "theirs")
        )
        pairs = zip(taken["theirs"], taken["ours"], strict=True)
        ratio = statistics.median(one[0] / ours[0] for one, ours in pairs)
        line = {"stage": f"{what} of {N_SCORED} vectors, from the store to the score {score:.3f}", "ratio": ratio}
        line |= {"peer": f"VisBench 0.27.0, {peer:.3f} s, score {other:.3f}", "goal": 20.0, "goal_is": "at least"}
        found.append({**line, "seconds": mine, "peak_bytes": 0})
    return found


if __name__ == "__main__":
    _what = sys.argv[2]
    if _what == "score write":
        _write_scored(Path(sys.argv[1]), Path(sys.argv[3]))
        print(json.dumps([0.0, 0.0]))
    elif _what.startswith("score "):
        print(json.dumps(_scored(Path(sys.argv[1]), _what.removeprefix("score "))))
    else:
        print(json.dumps(_ours(Path(sys.argv[1]), _what)))
