"""How much of the whole image a single patch knows: ridge regression from the central patch (paper A, section 4.3).

The target is the share of a tile's pixels (or of its whole source's) that show a class, void counted in the
denominator; the input is the token of the central patch, row and column ``grid // 2``. Features are standardised with
the training tiles' statistics, the penalty is chosen by five-fold cross-validation over training images from
``logspace(-3, 5)``, and R² is that of the validation tiles.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64
from pydantic import Field

from evaluate.inputs.model_sets import PIXELS, ModelSets
from evaluate.inputs.patches import chunkwise, token_variance
from evaluate.inputs.rows import RowSelection, image_numbers
from evaluate.kernels.bootstrap import FEWEST_UNITS
from evaluate.kernels.memory import reading_bytes
from evaluate.kernels.moments import variance_ranking
from evaluate.kernels.ridge import r2, ridge
from evaluate.kernels.treatments import Treatment, kept_features
from evaluate.results.table import Result, ResultKey
from evaluate.scoring.patch_classifiers import selected
from evaluate.scoring.variance_bootstrap import bounds
from evaluate.settings import Context, Settings
from evaluate.task import Task, task_of
from stores.errors import UserError

REVISION = 3
"""Raised when the same inputs and parameters give other numbers."""

SHARE_BYTES = 4 << 20
"""Pixels whose classes are compared at a time, a byte each."""

DIFFERENCES = (("without-top", "all"), ("without-random", "without-top"), ("top-alone", "without-random"))
"""What is compared with what, image by image: the paper's order is all ~ top left out > random left out > top alone."""


class GlobalContext(Settings):
    """R² of class shares in the image from its central patch, with features left out (paper A, Table 6)."""

    kind: Literal["global-context"]
    classes: Annotated[tuple[str, ...], Field(min_length=1)] = ("road", "building", "vegetation")
    """Classes whose share is predicted, by name."""
    scope: Literal["tile", "image"] = "tile"
    """Whether the share is that of the patch's tile or of the whole source image."""
    m: Annotated[int, Field(ge=1)] = 200
    """Number of features of highest variance that are left out, or kept alone."""
    draws: int = Field(default=5, ge=1, le=100)
    """Random choices of m features to leave out, each reported."""
    layer: int = -1
    """Layer counted from 0; negative numbers count from the last stored."""
    norm: Literal["final", "none"] = "final"
    """Tokens through the model's final norm, or as the block left them."""
    resamples: int = Field(default=1000, ge=0)
    """Bootstrap resamples over images; 0 prints no intervals."""


def central_tokens(model: ModelSets, array: str, chosen: RowSelection) -> Float64[np.ndarray, "sample channel"]:
    """Return the token of each row's central patch."""
    rows, columns = model.grid(array)
    patch = (rows // 2) * columns + columns // 2
    blocks = chunkwise(model.features[array], chosen.rows)
    return np.concatenate([block[:, patch].astype(np.float64) for block in blocks])


def class_ids(model: ModelSets, names: Sequence[str]) -> Int64[np.ndarray, " class"]:
    """Return the ids of classes by name; raises UserError for a name that the class table lacks."""
    known = model.class_names
    absent = [name for name in names if name not in known]
    if absent:
        raise UserError(f"global-context asks for the class {absent[0]!r}; the classes are {', '.join(known)}")
    return np.array([known.index(name) for name in names], dtype=np.int64)


def class_shares(
    model: ModelSets, chosen: RowSelection, names: Sequence[str], scope: str
) -> Float64[np.ndarray, "sample class"]:
    """Return the share of pixels of each named class, void in the denominator, of each row's tile or source."""
    ids = class_ids(model, names)
    shares = np.concatenate(
        [
            (block.reshape(len(block), -1, 1) == ids).mean(axis=1)
            for _, block in model.labels[PIXELS].blocks(chosen.rows, SHARE_BYTES)
        ]
    )
    if scope == "image":
        numbers = image_numbers(model, chosen)
        mean = np.stack([shares[numbers == number].mean(axis=0) for number in range(len(chosen.sources))])
        shares = mean[numbers]
    return shares


def asked(model: ModelSets, array: str, analysis: GlobalContext, context: Context) -> ResultKey:
    """Return what the answer depends on."""
    model.need_labels("global-context")
    class_ids(model, analysis.classes)  # says so before anything is computed
    train, validation = selected(model, context, "global-context")
    return ResultKey(
        "global-context",
        REVISION,
        {
            "classes": list(analysis.classes),
            "scope": analysis.scope,
            "m": analysis.m,
            "draws": analysis.draws,
            "resamples": analysis.resamples,
            "seed": context.seed,
            "train": list(train.sources),
            "validation": list(validation.sources),
        },
        model.inputs(array, labelled=True),
    )


def answer(model: ModelSets, array: str, analysis: GlobalContext, context: Context) -> Result:
    """Return R² of every class and their mean: all features, top m left out, random m left out, top m alone.

    Differences are of the means, random choices averaged, with intervals paired over images.
    """
    train, validation = selected(model, context, "global-context")
    inputs, queries = (central_tokens(model, array, chosen) for chosen in (train, validation))
    targets, truth = (class_shares(model, chosen, analysis.classes, analysis.scope) for chosen in (train, validation))
    train_images, images = (image_numbers(model, chosen) for chosen in (train, validation))
    ranking = variance_ranking(token_variance(model, array, train))
    if analysis.m >= len(ranking):
        raise UserError(f"global-context leaves out m = {analysis.m} of {len(ranking)} features: ask for fewer")
    rows: list[dict[str, Any]] = []
    means: dict[str, list[tuple[float | None, np.ndarray | None]]] = {}
    for outcome, draw, kept in _variants(ranking, analysis, context.seed):
        predicted = ridge(inputs[:, kept], targets, train_images, queries[:, kept])
        common: dict[str, Any] = {
            "classifier": "ridge",
            "train": train.title,
            "m": 0 if outcome == "all" else analysis.m,
            "x_name": None if draw is None else "draw",
            "x_value": None if draw is None else float(draw),
            "outcome": outcome,
            "metric": "r2",
            "unit": "image",
            "n_units": len(validation.sources),
            "seed": context.seed,
        }
        scores = r2(truth, predicted)
        drawn = _resampled(truth, predicted, images, len(validation.sources), analysis.resamples, context.seed)
        means.setdefault(outcome, []).append((_mean(scores), None if drawn is None else drawn[:, -1]))
        rows.append({**common, "value": _mean(scores), **bounds(None if drawn is None else drawn[:, -1])})
        rows += [
            {**common, "class": name, "value": _number(scores[place]),
             **bounds(None if drawn is None else drawn[:, place])}
            for place, name in enumerate(analysis.classes)
        ]  # fmt: skip
    shared = {name: rows[0][name] for name in ("classifier", "train", "unit", "n_units", "seed")}
    return Result(rows + [{**shared, "m": analysis.m, **row} for row in _differences(means)])


def _differences(means: dict[str, list[tuple[float | None, np.ndarray | None]]]) -> Iterator[dict[str, Any]]:
    for outcome, reference in DIFFERENCES:
        sides = [means[outcome], means[reference]]
        known = [[value for value, _ in side if value is not None] for side in sides]
        if not all(known):
            continue
        drawn = [[values for _, values in side if values is not None] for side in sides]
        paired = np.mean(drawn[0], axis=0) - np.mean(drawn[1], axis=0) if all(drawn) else None
        value = float(np.mean(known[0]) - np.mean(known[1]))
        yield {"outcome": outcome, "reference": reference, "metric": "r2_difference", "value": value, **bounds(paired)}


def _variants(
    ranking: Int64[np.ndarray, " channel"], analysis: GlobalContext, seed: int
) -> Iterator[tuple[str, int | None, Bool[np.ndarray, " channel"]]]:
    top = kept_features(Treatment("remove-top", analysis.m), ranking, seed)
    yield "all", None, np.ones(len(ranking), dtype=np.bool_)
    yield "without-top", None, top
    for draw in range(analysis.draws):
        yield "without-random", draw, kept_features(Treatment("remove-random", analysis.m, draw), ranking, seed)
    yield "top-alone", None, ~top


def _resampled(
    truth: Float64[np.ndarray, "row class"],
    predicted: Float64[np.ndarray, "row class"],
    images: Int64[np.ndarray, " row"],
    n_images: int,
    resamples: int,
    seed: int,
) -> Float64[np.ndarray, "resample class_and_mean"] | None:
    """Return R² of every class and, last, of their mean in every resample; equal seeds draw equal images."""
    if n_images < FEWEST_UNITS or not resamples:
        return None
    generator = np.random.Generator(np.random.PCG64(seed))
    values = np.empty((resamples, truth.shape[1] + 1))
    for number in range(resamples):
        times = np.bincount(generator.integers(0, n_images, n_images), minlength=n_images).astype(np.float64)
        values[number, :-1] = r2(truth, predicted, times[images])
        values[number, -1] = values[number, :-1].mean()
    return values


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _mean(scores: Float64[np.ndarray, " class"]) -> float | None:
    return _number(float(np.nanmean(scores))) if (~np.isnan(scores)).any() else None


def peak_bytes(model: ModelSets, array: str, analysis: GlobalContext, context: Context) -> int:
    """Return the bytes that answering holds; patches stream, and regression copies a token of every tile."""
    train, validation = selected(model, context, "global-context")
    n_channels = model.n_channels(array)
    tokens = 8 * n_channels * (8 * len(train.rows) + 4 * len(validation.rows)) + 4 * 8 * n_channels**2
    pixels = model.labels[PIXELS]
    shares = 4 * pixels.layout.chunk_rows(pixels.spec) * pixels.spec.row_bytes + 2 * len(analysis.classes) * SHARE_BYTES
    drawn = 8 * analysis.resamples * (1 + len(analysis.classes)) * (3 + analysis.draws)
    return reading_bytes(model, array) + tokens + shares + drawn


def cells(models: Sequence[ModelSets], analysis: GlobalContext, context: Context) -> Iterator[Task]:
    """Yield one answer a model."""
    for model in models:
        for array in model.arrays((analysis.layer,), analysis.norm):
            yield task_of(
                model,
                array,
                asked(model, array, analysis, context),
                partial(answer, model, array, analysis, context),
                f"global context from {array}",
                partial(peak_bytes, model, array, analysis, context),
            )
