"""The nearest-neighbour searches of experiments/cityscapes.toml with one search for all, over a search for each.

A constructed set has the shape of the experiment's last layer with a fortieth of its rows: 32 tiles an image, 196
patches of 768 channels. Without stored neighbours every analysis searches for itself: the removal list, the sizes of
the training set and the label maps; equal results are reused on both sides. The second stage evaluates the removal list
once more with other resamples; the third adds robustness, three of whose four searches are of views.
"""

import dataclasses
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.measure import Measurement, measure, row
from benchmarks.neighbours import features as correlated
from benchmarks.store import specs
from evaluate.inputs.model_sets import ModelSets, ViewSets
from evaluate.registry import EvaluationSettings
from evaluate.results.table import ResultStore
from evaluate.runner import evaluate
from evaluate.scoring import stored_neighbours
from evaluate.selection import SelectionRule
from evaluate.settings import Selection
from stores.format.layout import plan_layout
from stores.sets import ZarrSet
from stores.specs import ArraySpec, FeatureSpec, FrameSpec, LabelSpec, Size
from stores.storage.local import LocalObjects
from stores.writing.sealing import seal
from stores.writing.writer import SetWriter

TILES, GRID = 32, 14
TRAIN, VALIDATION = 4, 1
"""Images that are there for training, of which half train but for one size of the sweep, and for validation."""
REMOVED = (0, 5, 10, 20, 50, 100, 150, 200, 250, 300, 400, 500, 600)
REPEATS = 3
CLASSIFICATION: dict[str, Any] = {"kind": "patch-classification", "classifiers": ("knn",), "resamples": 0}
FIRST = (
    {**CLASSIFICATION, "remove": REMOVED},
    {**CLASSIFICATION, "layers": "all"},
    {**CLASSIFICATION, "train_per_group": (1, 2, 4)},
    {"kind": "label-maps", "images": 1, "remove": (0, 200)},
)
AGAIN = ({**CLASSIFICATION, "remove": REMOVED, "k": (1,), "metric": "euclidean", "resamples": 10},)
ROBUST = ({"kind": "robustness", "classifiers": ("knn",), "remove": (0, 200), "resamples": 0},)


def write(folder: Path) -> ModelSets:
    """Write the set and return it as a model with three views that change nothing."""
    n_images = TRAIN + VALIDATION
    n_rows = n_images * TILES
    rng = np.random.Generator(np.random.PCG64(0))
    names = [f"image{number:02d}.png" for number in range(n_images) for _ in range(TILES)]
    table = pd.DataFrame(
        {
            "sample": [f"{name}[0,{number % TILES}]" for number, name in enumerate(names)],
            "source": names,
            "group": "all",
            "split": ["train"] * (TRAIN * TILES) + ["val"] * (VALIDATION * TILES),
            "tile_row": 0,
            "tile_column": np.arange(n_rows) % TILES,
            "left": np.arange(n_rows) % TILES * GRID,
            "top": 0,
            "right": np.arange(n_rows) % TILES * GRID + GRID,
            "bottom": GRID,
            "owned_left": 0,
            "owned_top": 0,
            "owned_right": GRID,
            "owned_bottom": GRID,
            "image_class": -1,
            "source_sha256": "",
            "label_sha256": "",
            "valid": True,
            "reason": "",
        }
    )
    frame = FrameSpec(input=Size(height=GRID, width=GRID), tile=Size(height=GRID, width=GRID))
    features = specs()[0].model_copy(update={"frame": frame})
    label_spec = LabelSpec(
        dataset=features.dataset, samples=features.samples, frame=frame, view=features.view, label_files="4" * 64,
        classes="5" * 64, facts="f" * 64, pixel_labels=True, objects=False, revisions={"frames": 1},
    )  # fmt: skip
    colours = {name: [0, 100, 200] for name in ("red", "green", "blue")}
    class_table = pd.DataFrame(
        {"id": [0, 1, 2], "name": list("abc"), "supercategory": list("abc"), "easy": True, **colours}
    )
    tokens = correlated(n_rows * GRID * GRID, rng).astype(np.float16).reshape(n_rows, GRID * GRID, -1)
    classes = rng.integers(0, len(class_table), (n_rows, GRID, GRID)).astype(np.uint8)
    grid = {"grid_rows": GRID, "grid_columns": GRID}
    axes = ("sample", "patch", "channel")
    made = write_set(
        folder,
        features,
        {"tokens/block.0.norm": (tokens, axes, {"layer": 0, "norm": True, **grid})},
        {"samples": table},
    )
    labels = write_set(
        folder,
        label_spec,
        {
            "pixels/classes": (classes, ("sample", "height", "width"), {}),
            "patches/14x14": (classes.reshape(n_rows, -1), ("sample", "patch_14x14"), grid),
        },
        {"samples": table, "classes": class_table},
    )
    model = ModelSets("constructed", made, labels, False, "patchbank extract constructed.toml")
    views = {("noise", level): ViewSets("noise", level, made, labels) for level in (1.0, 2.0, 3.0)}
    return dataclasses.replace(model, views=views)


def write_set(
    folder: Path,
    spec: FeatureSpec | LabelSpec,
    values: dict[str, tuple[np.ndarray, tuple[str, ...], dict[str, Any]]],
    tables: dict[str, pd.DataFrame],
) -> ZarrSet:
    """Write and seal a set of arrays and tables."""
    arrays = [
        ArraySpec.model_validate(
            {
                "name": name,
                "row_shape": rows.shape[1:],
                "dtype": str(rows.dtype),
                "dimension_names": axes,
                "attributes": facts,
            }
        )
        for name, (rows, axes, facts) in values.items()
    ]
    layout = plan_layout(len(tables["samples"]), max((array.row_bytes for array in arrays), default=1))
    made = ZarrSet.create(LocalObjects(folder), spec, layout, tables, {"device": "cpu"}, {})
    made.add_arrays(arrays)
    if not arrays:
        return made
    with SetWriter(made, [array.name for array in arrays]) as writer:
        for row_range in layout.ranges():
            one = writer.range(row_range)
            for name, (rows, _, _) in values.items():
                one.write(name, rows[row_range.start : row_range.stop])
            one.commit().result()
    seal(made, [array.name for array in arrays])
    return made


def run(model: ModelSets, results: Path, searches: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return the table of some searches."""
    train = SelectionRule(split="train", per_group=TRAIN // 2)
    selection = Selection(train=train, validation=SelectionRule(split="val"))
    settings = EvaluationSettings.model_validate({"selection": selection, "analyses": tuple(searches)})
    return evaluate("searches", [model], settings, ResultStore(results)).table


def rows() -> list[dict[str, Any]]:
    """Return time now over time with a search for each, medians of alternating runs."""
    taken: dict[tuple[str, bool], list[Measurement]] = {}
    stages = {
        "searches of cityscapes.toml, last layer": FIRST,
        "the removal list again, other resamples": AGAIN,
        "robustness after it, three views": ROBUST,
    }
    with tempfile.TemporaryDirectory() as name:
        model = write(Path(name) / "store")
        kept = stored_neighbours.MOST_BYTES
        for repeat in range(REPEATS):
            for shared in (True, False) if repeat % 2 else (False, True):
                results = Path(name) / f"results{repeat}{shared}"
                stored_neighbours.MOST_BYTES = kept if shared else 0
                for stage, searches in stages.items():
                    taken.setdefault((stage, shared), []).append(
                        measure(lambda results=results, searches=searches: run(model, results, searches))  # type: ignore[misc]
                    )
        stored_neighbours.MOST_BYTES = kept
    table = []
    for stage in stages:
        ours, theirs = taken[stage, True], taken[stage, False]
        for mine, other in zip(ours, theirs, strict=True):
            pd.testing.assert_frame_equal(mine.result, other.result)
        ratio = statistics.median(mine.seconds / other.seconds for mine, other in zip(ours, theirs, strict=True))
        seconds = statistics.median(one.seconds for one in ours)
        table.append(row(stage, ratio, "at most", 0.6, seconds, max(o.peak_bytes for o in ours), "a search for each"))
    return table
