"""Predicted patch classes of whole source images, beside the truth: paper A, appendix (qualitative maps)."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Integer, UInt8
from pydantic import Field

from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.patches import owned_patches, scored_labels
from evaluate.inputs.rows import RowSelection, image_numbers
from evaluate.kernels.memory import probed_bytes, search_memory, searched_bytes
from evaluate.kernels.penalties import PENALTIES
from evaluate.results.table import Result, ResultKey
from evaluate.scoring.patch_classifiers import predict_knn, predict_probe, read_patches, selected
from evaluate.settings import Context, Settings
from evaluate.task import Task, task_of
from stores.specs import VOID

REVISION = 1
"""Raised when the same inputs and parameters give other maps."""


class LabelMaps(Settings):
    """Predicted patch classes of some validation images, beside the truth (paper A, appendix)."""

    kind: Literal["label-maps"]
    classifier: Literal["knn", "probe"] = "knn"
    """What predicts the classes."""
    images: int = Field(default=4, ge=1, le=64)
    """Validation images, spread evenly over the selection."""
    layer: int = -1
    """Layer counted from 0; negative numbers count from the last stored."""
    norm: Literal["final", "none"] = "final"
    """Tokens through the model's final norm, or as the block left them."""
    remove: tuple[Annotated[int, Field(ge=0)], ...] = (0,)
    """Numbers m of highest-variance features to leave out; one map for each."""


def shown(model: ModelSets, analysis: LabelMaps, context: Context) -> tuple[RowSelection, RowSelection]:
    """Return the training rows and the rows of the validation images that are shown, evenly spread."""
    train, validation = selected(model, context, "label-maps")
    n_images = min(analysis.images, len(validation.sources))
    places = np.linspace(0, len(validation.sources) - 1, n_images).round().astype(int)
    sources = tuple(validation.sources[place] for place in places)
    of_row = model.samples["source"].to_numpy()[validation.rows]
    return train, RowSelection(sources, validation.rows[np.isin(of_row, sources)])


def asked(model: ModelSets, array: str, analysis: LabelMaps, context: Context) -> ResultKey:
    """Return what the answer depends on."""
    model.need_labels("label-maps")
    train, images = shown(model, analysis, context)
    parameters: dict[str, Any] = {
        "classifier": analysis.classifier,
        "remove": sorted(set(analysis.remove)),
        "seed": context.seed,
        "batchnorm": model.probe_batchnorm,
        "train": list(train.sources),
        "images": list(images.sources),
    }
    return ResultKey("label-maps", REVISION, parameters, model.inputs(array, labelled=True))


def answer(model: ModelSets, array: str, analysis: LabelMaps, context: Context) -> Result:
    """Return the maps of every image, stitched from its tiles, one cell a patch."""
    train, images = shown(model, analysis, context)
    given = read_patches(model, array, train, images)
    remove = sorted(set(analysis.remove))
    predicted: dict[int, np.ndarray]
    if analysis.classifier == "knn":
        left = search_memory(context.memory_bytes, peak_bytes(model, array, analysis, context))
        predicted = {m: classes for (m, _), (classes, _) in predict_knn(given, remove, memory_bytes=left).items()}
    else:
        predicted = {m: classes for m, (classes, _, _) in predict_probe(given, remove, context.seed).items()}
    truth = scored_labels(model, array, images)
    maps = {"truth": stitch(model, array, images, truth)}
    maps |= {f"predicted_m{m}": stitch(model, array, images, classes) for m, classes in predicted.items()}
    n_patches = len(truth) // len(images.rows)
    numbers = image_numbers(model, images, n_patches)
    rows = []
    for m, classes in predicted.items():
        for number, _ in enumerate(images.sources):
            here = (numbers == number) & (truth != VOID)
            right = float((classes[here] == truth[here]).mean()) if here.any() else None
            rows.append(
                {
                    "classifier": analysis.classifier,
                    "train": train.title,
                    "m": m,
                    "x_name": "image",
                    "x_value": float(number),
                    "metric": "patch_accuracy",
                    "value": right,
                }
            )
    colours = model.classes[["red", "green", "blue"]].to_numpy(dtype=np.uint8)
    extras = {"colours": colours, "class_names": np.array(model.class_names), "sources": np.array(images.sources)}
    return Result(rows, {**maps, **extras})


def stitch(
    model: ModelSets, array: str, images: RowSelection, classes: Integer[np.ndarray, " patch"]
) -> UInt8[np.ndarray, "image height width"]:
    """Return one map an image from the classes of its tiles' patches; void where no tile is scored.

    A patch is put where its centre lies in the source; where tiles overlap only the one that owns the place counts.
    The map has as many cells as patches fit the source side by side; images of mixed size are padded with void.
    """
    rows, columns = model.grid(array)
    table = model.samples.iloc[images.rows]
    left, top, right, bottom = (table[name].to_numpy(dtype=np.float64) for name in ("left", "top", "right", "bottom"))
    cell_height, cell_width = (bottom - top) / rows, (right - left) / columns
    y = (top[:, None] + (np.arange(rows) + 0.5) * cell_height[:, None]) / cell_height[:, None]
    x = (left[:, None] + (np.arange(columns) + 0.5) * cell_width[:, None]) / cell_width[:, None]
    row = np.repeat(np.floor(y).astype(int)[:, :, None], columns, axis=2).reshape(-1)
    column = np.repeat(np.floor(x).astype(int)[:, None, :], rows, axis=1).reshape(-1)
    owned = owned_patches(model, array, images)
    numbers = image_numbers(model, images, rows * columns)
    maps = np.full((len(images.sources), row[owned].max() + 1, column[owned].max() + 1), VOID, np.uint8)
    maps[numbers[owned], row[owned], column[owned]] = classes[owned].astype(np.uint8)
    return maps


def peak_bytes(model: ModelSets, array: str, analysis: LabelMaps, context: Context) -> int:
    """Return the bytes that answering holds: the training patches and those of the images that are shown."""
    train, images = shown(model, analysis, context)
    n_m = len(set(analysis.remove))
    if analysis.classifier == "probe":
        return probed_bytes(model, array, train, images, n_m, len(PENALTIES))
    return searched_bytes(model, array, train, images, n_m, (1,), "exact")


def cells(models: Sequence[ModelSets], analysis: LabelMaps, context: Context) -> Iterator[Task]:
    """Yield one answer a model."""
    for model in models:
        for array in model.arrays((analysis.layer,), analysis.norm):
            yield task_of(
                model,
                array,
                asked(model, array, analysis, context),
                partial(answer, model, array, analysis, context),
                f"label maps of {array}",
                partial(peak_bytes, model, array, analysis, context),
            )
