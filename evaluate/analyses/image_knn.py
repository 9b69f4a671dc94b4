"""Classes of whole images by nearest neighbours over a ladder of sizes: paper A, section 3.5 (experiment A-18).

The protocol of bair-climate-initiative/scale-mae, mae/eval/knn.py: features of training and validation images at the
same size, directions only (cosine), k = 20 neighbours that vote with exp(similarity / 0.07). Asked of the class token
and of the mean of the patch tokens, each as it is and without the m features whose variance over the training images'
*patch tokens* is highest. The x axis is the relative ground distance: the size the model saw over the native size.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Bool, Float32, Int64
from pydantic import Field

from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.patches import chunkwise, token_variance
from evaluate.inputs.rows import RowSelection, image_numbers, train_and_validation_rows
from evaluate.kernels.bootstrap import quantiles, resampled_ratio
from evaluate.kernels.memory import neighbours_bytes, reading_bytes, search_memory
from evaluate.kernels.moments import variance_ranking
from evaluate.neighbours.knn import nearest
from evaluate.neighbours.voting import vote
from evaluate.results.draws import DRAWS, BootstrapDraws, result_of, units_of
from evaluate.results.table import Result, ResultKey
from evaluate.settings import Context, Settings
from evaluate.task import Task, task_of
from stores.errors import MissingError, UserError

REVISION = 3
"""Raised when the same inputs and parameters give other numbers."""

Pooled = Literal["class-token", "mean-patch"]


class ImageKnn(Settings):
    """Accuracy of k nearest neighbours on whole images, at every size of the experiment (paper A, Fig. 8)."""

    kind: Literal["image-knn"]
    pooled: Annotated[tuple[Pooled, ...], Field(min_length=1)] = ("class-token", "mean-patch")
    """What stands for an image: the first prefix token, or the mean of the patch tokens."""
    remove: tuple[Annotated[int, Field(ge=0)], ...] = (0, 200)
    """Numbers m of features to leave out, those of highest variance over the training images' patch tokens."""
    k: Annotated[int, Field(ge=1)] = 20
    """Neighbours that vote."""
    temperature: Annotated[float, Field(gt=0)] = 0.07
    """Votes are exp(cosine similarity / temperature)."""
    layer: int = -1
    """Layer counted from 0; negative numbers count from the last stored."""
    norm: Literal["final", "none"] = "final"
    """Tokens through the model's final norm, or as the block left them."""
    resamples: int = Field(default=1000, ge=0)
    """Bootstrap resamples over validation images; 0 prints no intervals."""


def sizes(model: ModelSets) -> list[tuple[float | None, ModelSets]]:
    """Return what was extracted at each size: the clean input first, then the steps of the size ladder."""
    ladder = sorted(level for name, level in model.views if name == "size")
    return [(None, model), *((level, model.for_view("size", level)) for level in ladder)]


def image_vectors(
    model: ModelSets, array: str, chosen: RowSelection, pooled: Pooled
) -> Float32[np.ndarray, "image channel"]:
    """Return one vector an image: tiles of one source are averaged; raises MissingError without prefix tokens."""
    address = array
    if pooled == "class-token":
        address = array.replace("tokens/", "prefix/", 1)
        if address not in model.features.arrays or not model.features.sealed(address):
            raise MissingError(
                f"{model.title} has no stored class token: ask for mean-patch, or set prefix = true in [features] "
                f"and run `{model.extract_command}`"
            )
    stored = model.features[address]
    numbers = image_numbers(model, chosen)
    summed = np.zeros((len(chosen.sources), stored.shape[-1]))
    rows = (row for block in chunkwise(stored, chosen.rows) for row in block)
    for number, row in zip(numbers, rows, strict=True):
        summed[number] += row[0] if pooled == "class-token" else row.astype(np.float64).mean(axis=0)
    return (summed / np.bincount(numbers, minlength=len(chosen.sources))[:, None]).astype(np.float32)


def image_classes(model: ModelSets, chosen: RowSelection) -> Int64[np.ndarray, " image"]:
    """Return the class of every chosen image; raises UserError when one has none."""
    table = model.samples.iloc[chosen.rows].drop_duplicates("source").set_index("source")["image_class"]
    classes = table.loc[list(chosen.sources)].to_numpy(dtype=np.int64)
    if (classes < 0).any():
        raise UserError(
            f"image-knn needs a class for every image and {chosen.sources[int((classes < 0).argmax())]} of "
            f"{model.label_spec.dataset.name} has none: choose a data set of labelled images"
        )
    return classes


def asked(model: ModelSets, array: str, analysis: ImageKnn, context: Context) -> ResultKey:
    """Return what the answer depends on."""
    train, validation = train_and_validation_rows(model, context.selection, "image-knn")
    image_classes(model, train)
    inputs = model.inputs(array)
    for level, for_view in sizes(model):
        for address in (array, array.replace("tokens/", "prefix/", 1)):
            if for_view.features.sealed(address):
                inputs[f"size {level} {address}"] = for_view.features.content[address]
    parameters: dict[str, Any] = {
        "pooled": list(analysis.pooled),
        "remove": sorted(set(analysis.remove)),
        "k": analysis.k,
        "temperature": analysis.temperature,
        "resamples": analysis.resamples,
        "seed": context.seed,
        "train": list(train.sources),
        "validation": list(validation.sources),
    }
    return ResultKey("image-knn", REVISION, parameters, inputs)


def answer(model: ModelSets, array: str, analysis: ImageKnn, context: Context) -> Result:
    """Return the accuracy of every pooled token, m and size, and that of always saying the most common class."""
    train, validation = train_and_validation_rows(model, context.selection, "image-knn")
    classes, truth = image_classes(model, train), image_classes(model, validation)
    if analysis.k > len(classes):
        raise UserError(f"k = {analysis.k} neighbours are asked of {len(classes)} training images: lower k")
    search_bytes = search_memory(context.memory_bytes, peak_bytes(model, array, analysis, context))
    frame = model.spec.frame
    native = (frame.resize or frame.input).height
    rows: list[dict[str, Any]] = [
        {
            "train": train.title,
            "metric": "majority_accuracy",
            "reference": "majority",
            **_share(truth == np.bincount(classes).argmax(), validation.sources, analysis.resamples, context.seed),
        }
    ]
    for level, for_view in sizes(model):
        ranking = variance_ranking(token_variance(for_view, array, train))
        seen = for_view.spec.frame.input.height if level is None else level
        for pooled in analysis.pooled:
            bank, queries = (image_vectors(for_view, array, chosen, pooled) for chosen in (train, validation))
            for m in sorted(set(analysis.remove)):
                if m >= bank.shape[1]:
                    continue
                kept = np.sort(ranking[m:])
                found = nearest(
                    np.take(bank, kept, axis=1),
                    np.take(queries, kept, axis=1),
                    analysis.k,
                    metric="cosine",
                    memory_bytes=search_bytes,
                )
                predicted = vote(
                    found,
                    classes,
                    len(model.classes),
                    analysis.k,
                    weights="softmax",
                    temperature=analysis.temperature,
                )
                rows.append(
                    {
                        "view": "clean" if level is None else "size",
                        "level": level,
                        "token": pooled,
                        "classifier": "knn",
                        "train": train.title,
                        "m": m,
                        "k": analysis.k,
                        "x_name": "relative_gsd",
                        "x_value": float(seen / native),
                        "metric": "image_accuracy",
                        **_share(predicted == truth, validation.sources, analysis.resamples, context.seed),
                    }
                )
    return result_of(rows, ("image_accuracy",))


def _share(right: Bool[np.ndarray, " image"], names: Sequence[str], resamples: int, seed: int) -> dict[str, Any]:
    drawn = resampled_ratio(right.astype(np.float64), np.ones(len(right)), seed=seed, resamples=resamples)
    low, high = quantiles(drawn)
    kept = None if drawn is None else BootstrapDraws(drawn, units_of(names, seed, resamples))
    counted = {"unit": "image", "n_units": len(right), "seed": seed, DRAWS: kept}
    return {"value": float(right.mean()), "low": low, "high": high, **counted}


def peak_bytes(model: ModelSets, array: str, analysis: ImageKnn, context: Context) -> int:
    """Return the bytes that answering holds; patches stream, and every image is one vector.

    Vectors are summed in float64, divided, kept in float32, and copied without their top features; those of one size
    are there while the next are made.
    """
    chosen = train_and_validation_rows(model, context.selection, "image-knn")
    n_train, n_queries = (len(one.sources) for one in chosen)
    numbers = 8 * 4 * (n_train + n_queries) + 8 * 2 * analysis.resamples * n_queries
    per_channel = 4 * (n_train + n_queries) + max(20 * n_train, 4 * n_train + 20 * n_queries, 8 * (n_train + n_queries))
    reading = max(reading_bytes(for_view, array) for _, for_view in sizes(model))
    searching = neighbours_bytes(n_queries, analysis.k, 1, 1)
    return reading + model.n_channels(array) * per_channel + numbers + searching


def cells(models: Sequence[ModelSets], analysis: ImageKnn, context: Context) -> Iterator[Task]:
    """Yield one answer a model."""
    for model in models:
        for array in model.arrays((analysis.layer,), analysis.norm):
            yield task_of(
                model,
                array,
                asked(model, array, analysis, context),
                partial(answer, model, array, analysis, context),
                f"image k-NN on {array}",
                partial(peak_bytes, model, array, analysis, context),
            )
