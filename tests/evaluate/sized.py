"""One set for every analysis, as large as wanted, and the peak memory of each analysis.

Run as a program it runs analyses in a process of its own, each with just the memory that it states.
"""

import ctypes
import gc
import json
import sys
import tempfile
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

from evaluate.inputs.model_sets import ModelSets, ViewSets
from evaluate.registry import ANALYSES, EvaluationSettings
from evaluate.results.table import ResultStore
from evaluate.runner import evaluate
from evaluate.selection import SelectionRule
from evaluate.settings import Context, Selection
from stores import Store
from stores.specs import FrameSpec, Size
from tests.evaluate.planted import write_set
from tests.evaluate.planted_similarity import lower_triangles
from tests.stores.specs_for_tests import FEATURES, LABELS

GRID = 14
"""Patches on a side; a source is one tile."""
VALIDATED = 12
CLASSES = pd.DataFrame(
    {
        "id": [0, 1, 2],
        "name": ["background", "car", "person"],
        "supercategory": ["background", "vehicle", "human"],
        "red": [0, 0, 220],
        "green": [0, 0, 20],
        "blue": [0, 142, 60],
        "easy": [False, True, False],
    }
)
TREATED = {"treatments": ("remove-position", "pca-k"), "kept_components": (10,), "remove": ()}

SETTINGS = {
    "variance-spectrum": {},
    "ranking-overlap": {"layers": "all", "m": (10,)},
    "patch-classification": {"classifiers": ("knn",), "remove": (0, 10)},
    "patch-classification by probes": {"classifiers": ("probe",), "penalties": (1e-2, 1e-1)},
    "patch-classification by FAISS": {"classifiers": ("knn",), "search": "faiss"},
    "feature-treatments": {"classifiers": ("knn",), "treatments": ("l2",)},
    "feature-treatments by probes": {"classifiers": ("probe",), "treatments": ("whiten",), "penalties": (1e-1,)},
    "feature-treatments by directions": {
        "treatments": ("remove-top", "remove-position", "remove-first-components", "pca-k", "drop-outlier-tokens"),
        "classifiers": ("knn",),
        "parts": ("scores", "removed"),
    },
    "in-context-segmentation": {"k": 5, "remove": (0, 10)},
    "in-context-segmentation by directions": {"k": 5, **TREATED},
    "patch-classification by directions": {"classifiers": ("knn",), **TREATED},
    "retrieval by directions": {"left_out": ("nothing",), **TREATED},
    "tracking by directions": {"gaps": (1,), **TREATED},
    "image-knn by directions": {"k": 5, **TREATED},
    "overclustering": {"clusters": ("classes", 5), "draws": 1, "patches": 5000},
    "global-context": {"classes": ("car",), "m": 10, "draws": 1},
    "reconstruction": {"masking": (0.0,), "m": 10, "draws": 1},
    "robustness": {"classifiers": ("knn",)},
    "retrieval": {"left_out": ("nothing",), "pictures": 1},
    "tracking": {"gaps": (1,)},
    "association": {},
    "image-knn": {"k": 5, "remove": (0, 10)},
    "image-classification": {"k": (5,), "penalties": (1e-1,)},
    "image-classification by attention": {"classifiers": ("attentive-probe",), "epochs": 1},
    "agreement": {"penalties": (1e-1,)},
    "information": {"features": (5, 50), "draws": 1, "penalties": (1e-1,)},
    "robustness by images": {"classes": "images", "image_k": 5, "penalties": (1e-1,)},
    "invariance": {},
    "object-positions": {},
    "label-maps": {"images": 2},
    "attention": {"pictures": 2},
    "frequency": {},
    "token-geometry": {"map_images": 2},
    "token-pictures": {"images": 2, "queries": ((0.5, 0.5), (0.0, 0.9))},
    "gram-drift": {},
    "feature-geometry": {},
    "intrinsic-dimension": {"patches": 1024},
    "lidar": {},
    "similarity": {"tokens": ("all",)},
    "similarity by components": {"tokens": ("class-token",), "measures": ("cka", "linear-cka", "procrustes", "cca")},
    "similarity by distances": {"tokens": ("class-token",), "measures": ("rsa", "mutual-knn")},
}
"""Settings by the analysis and a variant of it; every analysis has one at least."""
STREAMS = {"variance-spectrum", "ranking-overlap", "global-context", "reconstruction", "tracking", "association"}
STREAMS |= {
    "tracking by directions",
    "image-knn by directions",
    "image-knn",
    "invariance",
    "object-positions",
    "attention",
    "frequency",
    "token-geometry",
    "token-pictures",
    "similarity",
    "gram-drift",
    "feature-geometry",
    "intrinsic-dimension",
    "lidar",
}
"""Analyses whose memory does not grow with the number of patches; the others hold all patches, or fit probes of images,
whose buffers are larger than this set."""


class Decoder:
    """Draws the truth, whatever the tokens."""

    encoder, layer, digest = FEATURES.model.weights, 0, "a decoder for tests"

    def __init__(self, cell):
        self.n_values = cell * cell * 3

    def __call__(self, tokens, ids=None):
        return np.full((len(tokens), GRID * GRID, self.n_values), tokens[0, 0, 0], np.float32)

    def targets(self, pixels):
        return np.full((len(pixels), GRID * GRID, self.n_values), 0.5, np.float32)

    def images(self, patches, pixels):
        return (pixels / 255).astype(np.float32)


def write(folder, n_sources, channels=384, cell=2, grid=GRID, validated=VALIDATED):
    """Write sets of one tile a source, of which ``validated`` validate and the others train; return their digests.

    A tile has ``grid`` patches on a side, and a patch ``cell`` pixels.
    A patch of fifty shows an object; every source is a frame of one of two videos, with two objects.
    """
    rng, side = np.random.default_rng(0), grid * cell
    names = [f"v{number % 2}/{number:05d}.png" for number in range(n_sources)]
    table = pd.DataFrame(
        {
            "sample": [f"{name}[0,0]" for name in names],
            "source": names,
            "group": "all",
            "split": ["val" if number < validated else "train" for number in range(n_sources)],
            "source_width": side,
            "source_height": side,
            "tile_row": 0,
            "tile_column": 0,
            "left": 0,
            "top": 0,
            "right": side,
            "bottom": side,
            "owned_left": 0,
            "owned_top": 0,
            "owned_right": side,
            "owned_bottom": side,
            "image_class": [number % 3 for number in range(n_sources)],
            "video": [name[:2] for name in names],
            "frame": [number // 2 for number in range(n_sources)],
            "seconds": [number / 10 for number in range(n_sources)],
            "source_sha256": "",
            "label_sha256": "",
            "valid": True,
            "reason": "",
        }
    )
    objects = pd.DataFrame(
        [
            {
                "source": name,
                "video": name[:2],
                "frame": number // 2,
                "seconds": number / 10,
                "track": f"{name[:2]}/{track}",
                "category": 1,
                "ignore": False,
                "flags": "",
                "visibility": 1.0,
                "left": 2.0 + 8 * track,
                "top": 2.0,
                "right": 8.0 + 8 * track,
                "bottom": 8.0,
                "polygon": [0.0, 0.0, 1.0, 0.0, 1.0, 1.0],
            }
            for number, name in enumerate(names)
            for track in range(2)
        ]
    )
    labels = np.where(rng.random((n_sources, grid, grid)) < 0.02, rng.integers(1, 3, (n_sources, grid, grid)), 0)
    labels[:, :2, :2] = [[0, 1], [2, 0]]  # every image shows every class
    labels = labels.astype(np.uint8)
    pixels = labels.repeat(cell, axis=1).repeat(cell, axis=2)
    tokens = rng.standard_normal((n_sources, grid * grid, channels), dtype=np.float32).astype(np.float16)
    tokens[..., :3] += 2 * np.eye(3, dtype=np.float16)[labels.reshape(n_sources, -1)]
    parts = {"patches": tokens[:, 1:3], "prefix": tokens[:, :1]}
    shape = {"grid_rows": grid, "grid_columns": grid}
    patch = ("sample", "patch", "channel")
    frame = {"frame": FrameSpec(input=Size(height=side, width=side), tile=Size(height=side, width=side))}
    features = write_set(
        folder,
        FEATURES.model_copy(update=frame),
        {
            "tokens/block.0.norm": (tokens, patch, {"layer": 0, "norm": True, **shape}),
            "prefix/block.0.norm": (tokens[:, :1], ("sample", "prefix", "channel"), {"layer": 0, "norm": True}),
            **captured(rng, n_sources, grid, shape),
            **{f"grams/block.0.{kind}.rows32": grams(part, kind) for kind, part in parts.items()},
        },
        {"samples": table},
        16 << 20,
    )
    axes = ("sample", "height", "width")
    label_set = write_set(
        folder,
        LABELS.model_copy(update={**frame, "objects": True}),
        {
            "pixels/classes": (pixels, axes, {}),
            f"patches/{grid}x{grid}": (labels.reshape(n_sources, -1), ("sample", f"patch_{grid}x{grid}"), shape),
            "inputs/pixels.bicubic": (pixels[..., None].repeat(3, axis=3), (*axes, "colour"), {}),
        },
        {"samples": table, "classes": CLASSES, "objects": objects},
        16 << 20,
    )
    return features.digest, label_set.digest


def captured(rng, n_sources, grid, shape):
    """Arrays that were captured of one block with six heads, by address."""
    point = {"layer": 0, "norm": None, "point": "output", "depth": 1.0}
    rows = {
        "attention/block.0": (4, 6),
        "attention/block.0.class": (6, grid * grid),
        "frequency/block.0": (grid // 2,),
        "statistics/block.0": (4,),
    }
    axes = {
        "attention/block.0": ("statistic", "head"),
        "attention/block.0.class": ("head", "patch"),
        "frequency/block.0": (f"frequency_{grid // 2}",),
        "statistics/block.0": ("statistic",),
    }
    names = {
        "attention/block.0": "distance_px distance_unit entropy_nats nmi",
        "statistics/block.0": "space_cosine depth_cosine variance head_cosine",
    }
    return {
        name: (
            rng.random((n_sources, *of_row), dtype=np.float32),
            ("sample", *axes[name]),
            {**point, **shape, **({"statistics": names[name]} if name in names else {})},
        )
        for name, of_row in rows.items()
    }


def grams(tokens, kind):
    """Return Gram matrices of minibatches of 32 rows, with axes and facts."""
    facts = {"layer": 0, "norm": None, "point": "output", "depth": 1.0, "tokens": kind, "rows_together": 32}
    return lower_triangles(tokens, 32), ("sample", "minibatch_32"), facts


def opened(folder, features, labels):
    """Return the set, under a view that changes nothing too, as two models that are compared."""
    store = Store(folder)
    sets = store.open(features), store.open(labels)
    views = {("noise", 10.0): ViewSets("noise", 10.0, *sets)}
    return [ModelSets(title, *sets, False, "patchbank extract sized.toml", views) for title in ("one", "other")]


def settings_of(name):
    """Return the settings of one entry of `SETTINGS`."""
    selection = Selection(train=SelectionRule(split="train"), validation=SelectionRule(split="val"))
    analysis = {"kind": name.partition(" by ")[0], **SETTINGS[name]}
    return EvaluationSettings.model_validate({"selection": selection, "analyses": [analysis]})


def tasks_of(name, models):
    """Return the settings, the models that are evaluated, their decoders and the tasks."""
    some = models if name in ("ranking-overlap", "agreement", "similarity", "gram-drift") else models[:1]
    settings = settings_of(name)
    given = {one.title: partial(Decoder, one.spec.frame.input.height // GRID) for one in some}
    (analysis,) = settings.analyses
    context = Context(settings.selection, 0, decoders=given)
    tasks = [one for task in ANALYSES[type(analysis)].tasks(some, analysis, context) for one in task.variants()]
    return settings, some, given, tasks


def run(name, models, folder, memory_bytes):
    settings, some, given, _ = tasks_of(name, models)
    return evaluate("sized", some, settings, ResultStore(folder), memory_bytes=memory_bytes, decoders=given)


def give_back():
    """Hand freed memory back to the system, so that the next analysis cannot hide in it."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


def peaks(*sets):
    """Return, for every analysis, the memory it states and the peak of the resident size above the imports.

    Every set is a folder, the digests of features and labels, and the analyses that are run on it.
    """
    process = psutil.Process()
    found = {}
    with tempfile.TemporaryDirectory() as work:
        small = opened(Path(work) / "store", *write(Path(work) / "store", 40, channels=32))
        for name in {name for *_, names in sets for name in names}:  # whatever is imported only when it is needed
            run(name, small, Path(work) / name, 1 << 40)
        for models, name in [(opened(*one), name) for *one, names in sets for name in names]:
            for one in models:
                _ = one.samples, one.classes, one.objects
            stated = max(task.peak_bytes() for task in tasks_of(name, models)[3])
            give_back()
            before = process.memory_info().rss
            done = threading.Event()
            sizes = [before]

            def sample(done=done, sizes=sizes):
                while not done.wait(0.004):
                    sizes.append(process.memory_info().rss)

            sampler = threading.Thread(target=sample, daemon=True)
            sampler.start()
            run(name, models, Path(work) / f"{name} large", stated)
            done.set()
            sampler.join()
            found[name] = stated, max(sizes) - before
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(peaks(*json.loads(sys.argv[1]))))
