"""What the features that vary most mean to MAE's own decoder, which draws the image with some of them zeroed.

Paper A, Table 4 (experiment A-19). The decoder gets the encoder's last normed tokens, of all patches or of those a mask
left visible, with no feature zeroed, the m of highest variance, m random ones, or all but the m of highest variance.
The ranking is the checkpoint's own: that of its unmasked training patches. A tile is scored as a picture of its own.

**MSE** under a mask is over the masked patches, as in MAE's loss; without one it is over all. `mse_normalised` is in
the space of the decoder's targets: pixels under the encoder's mean and standard deviation, normalised patch by patch
too where it was trained on such. `mse_pixels`, PSNR and SSIM compare clipped RGB in 0..1; the last two see the whole
picture as the decoder draws it, visible patches too, nothing pasted in. The error with nothing zeroed is also put over
that of drawing every patch as the mean of those the encoder saw, for a ratio to a bad picture says little.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64
from pydantic import Field

from evaluate.inputs.decoder import PatchDecoder
from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.patches import token_variance
from evaluate.inputs.rows import RowSelection, image_numbers
from evaluate.kernels.bootstrap import ratio_interval
from evaluate.kernels.memory import reading_bytes
from evaluate.kernels.moments import variance_ranking
from evaluate.kernels.treatments import Treatment, kept_features
from evaluate.results.table import Result, ResultKey
from evaluate.scoring.patch_classifiers import selected
from evaluate.scoring.reconstruction import (
    Stored,
    batch_bytes,
    batches,
    greyed,
    mean_patch_errors,
    scored,
    stored_arrays,
)
from evaluate.settings import Context, Settings
from evaluate.task import Task, task_of
from stores.errors import UserError

REVISION = 2
"""Raised when the same inputs and parameters give other numbers."""

Outcome = Literal["none", "top", "random", "all-but-top"]
"""Which features are zeroed."""


class Reconstruction(Settings):
    """How well MAE's decoder draws the image with features of the encoder zeroed (paper A, Table 4)."""

    kind: Literal["reconstruction"]
    models: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Titles of the models to ask, which must have a decoder; all by default."""
    m: Annotated[int, Field(ge=1)] = 200
    """Number of features of highest variance that are zeroed, or left alone."""
    draws: int = Field(default=5, ge=1, le=100)
    """Random choices of m features to zero, each reported, and their mean."""
    masking: Annotated[tuple[Annotated[float, Field(ge=0, lt=1)], ...], Field(min_length=1)] = (0.0, 0.75)
    """Shares of patches the encoder did not see; other than 0 they must be extracted with ``masked`` in [features]."""
    mask_seed: int = Field(default=0, ge=0)
    """Seed of the mask, as in ``masked``."""
    prefix: bool = True
    """Zero features of the class token too; the paper does not say."""
    pictures: int = Field(default=3, ge=0, le=32)
    """Validation tiles to show, spread evenly over the selection."""
    resamples: int = Field(default=1000, ge=0)
    """Bootstrap resamples over images; 0 prints no intervals."""


@dataclass(frozen=True)
class Variant:
    """One choice of features to zero."""

    outcome: Outcome
    draw: int | None
    zeroed: Bool[np.ndarray, " channel"]


def variants(ranking: Int64[np.ndarray, " channel"], m: int, draws: int, seed: int) -> list[Variant]:
    """Return every choice of features to zero; raises UserError when m leaves none."""
    if m >= len(ranking):
        raise UserError(f"reconstruction zeroes m = {m} of {len(ranking)} features: ask for fewer")
    top = ~kept_features(Treatment("remove-top", m), ranking, seed)
    random = [~kept_features(Treatment("remove-random", m, draw), ranking, seed) for draw in range(draws)]
    return [
        Variant("none", None, np.zeros(len(ranking), dtype=np.bool_)),
        Variant("top", None, top),
        *(Variant("random", draw, zeroed) for draw, zeroed in enumerate(random)),
        Variant("all-but-top", None, ~top),
    ]


def asked(
    model: ModelSets,
    stored: Stored,
    decoder: PatchDecoder,
    ratio: float,
    analysis: Reconstruction,
    context: Context,
) -> ResultKey:
    """Return what the answer depends on; the decoder counts by its digest."""
    train, validation = selected(model, context, "reconstruction")
    inputs = model.inputs(stored.ranking)
    inputs |= {name: model.features.content[name] for name in (stored.tokens, stored.prefix, stored.ids) if name}
    inputs |= {stored.pixels: model.labels.content[stored.pixels], "decoder": decoder.digest}
    return ResultKey(
        "reconstruction",
        REVISION,
        {
            "m": analysis.m,
            "draws": analysis.draws,
            "mask_ratio": ratio,
            "mask_seed": analysis.mask_seed if ratio else None,
            "prefix": analysis.prefix,
            "pictures": analysis.pictures,
            "resamples": analysis.resamples,
            "seed": context.seed,
            "train": list(train.sources),
            "validation": list(validation.sources),
        },
        inputs,
    )


def answer(
    model: ModelSets,
    stored: Stored,
    decoder: PatchDecoder,
    ratio: float,
    analysis: Reconstruction,
    context: Context,
) -> Result:
    """Return every score of every variant, and pictures of some tiles."""
    train, validation = selected(model, context, "reconstruction")
    ranking = variance_ranking(token_variance(model, stored.ranking, train))
    chosen = variants(ranking, analysis.m, analysis.draws, context.seed)
    scores: list[dict[str, list[np.ndarray]]] = [{} for _ in chosen]
    n_shown = min(analysis.pictures, len(validation.rows))
    shown = np.unique(np.linspace(0, len(validation.rows) - 1, n_shown).round().astype(np.int64))
    pictures: dict[str, list[np.ndarray]] = {}
    of_mean: list[np.ndarray] = []
    grid = model.grid(stored.tokens)
    for batch in batches(model, stored, validation.rows):
        here = np.isin(batch.places, shown)
        _keep(pictures, "input", batch.pixels[here])
        _keep(pictures, "masked_input", greyed(batch, grid)[here])
        of_mean.append(mean_patch_errors(decoder, batch))
        for variant, found in zip(chosen, scores, strict=True):
            one, drawn = scored(decoder, batch, variant.zeroed, analysis.prefix, grid)
            for name, values in one.items():
                found.setdefault(name, []).append(values)
            if not variant.draw:
                _keep(pictures, variant.outcome, np.rint(drawn[here] * 255).astype(np.uint8))
    whole = [{name: np.concatenate(parts) for name, parts in found.items()} for found in scores]
    arrays = {f"reconstruction_{name}": np.concatenate(parts) for name, parts in pictures.items()}
    named = model.samples["sample"].to_numpy()[validation.rows[shown]]
    arrays["reconstruction_samples"] = np.array([str(name) for name in named])
    arrays["reconstruction_mask_ratio"] = np.array(ratio)
    rows = _rows(model, train, validation, chosen, whole, np.concatenate(of_mean), ratio, analysis, context.seed)
    return Result(rows, arrays)


_REFERENCES = {
    "mse_normalised_ratio": "none",
    "mse_pixels_ratio": "none",
    "mse_normalised_over_mean_patch": "mean patch",
}
"""What a metric is compared with."""


def _keep(pictures: dict[str, list[np.ndarray]], name: str, some: np.ndarray) -> None:
    pictures.setdefault(name, []).append(some)


def _rows(
    model: ModelSets,
    train: RowSelection,
    validation: RowSelection,
    chosen: Sequence[Variant],
    scores: Sequence[dict[str, Float64[np.ndarray, " sample"]]],
    of_mean: Float64[np.ndarray, " sample"],
    ratio: float,
    analysis: Reconstruction,
    seed: int,
) -> list[dict[str, Any]]:
    """Return one row a metric and variant, the random choices one by one and, before them, their mean."""
    listed = [(variant.outcome, variant.draw, found) for variant, found in zip(chosen, scores, strict=True)]
    of_random = [found for outcome, _, found in listed if outcome == "random"]
    listed.insert(2, ("random", None, {name: np.mean([one[name] for one in of_random], axis=0) for name in scores[0]}))
    images = image_numbers(model, validation)
    n_images = len(validation.sources)

    def summed(values: Float64[np.ndarray, " sample"]) -> Float64[np.ndarray, " image"]:
        return np.bincount(images, weights=values, minlength=n_images)

    rows = []
    for outcome, draw, found in listed:
        compared = [(name, values, np.ones(len(values))) for name, values in found.items()]
        if outcome == "none":
            compared.append(("mse_normalised_of_mean_patch", of_mean, np.ones(len(of_mean))))
            compared.append(("mse_normalised_over_mean_patch", found["mse_normalised"], of_mean))
        else:
            compared += [(f"{name}_ratio", found[name], scores[0][name]) for name in ("mse_normalised", "mse_pixels")]
        for metric, values, over in compared:
            finite = bool(np.isfinite(values).all()) and over.sum() > 0  # a perfect picture has an infinite PSNR
            low, high = (
                ratio_interval(summed(values), summed(over), seed=seed, resamples=analysis.resamples)
                if finite
                else (None, None)
            )
            rows.append(
                {
                    "train": train.title,
                    "m": 0 if outcome == "none" else analysis.m,
                    "x_name": "mask_ratio" if draw is None else "draw",
                    "x_value": ratio if draw is None else float(draw),
                    "outcome": outcome,
                    "metric": metric,
                    "value": float(values.sum() / over.sum()) if finite else None,
                    "low": low,
                    "high": high,
                    "unit": "image",
                    "n_units": n_images,
                    "reference": _REFERENCES.get(metric),
                    "seed": seed,
                }
            )
    return rows


def peak_bytes(model: ModelSets, stored: Stored, analysis: Reconstruction, context: Context) -> int:
    """Return the bytes that answering holds beside the decoder: tiles stream, to rank the features and then to score.

    A few are decoded at a time.
    """
    _, validation = selected(model, context, "reconstruction")
    tile = model.labels[stored.pixels].spec.row_bytes
    pictures = (5 + analysis.draws) * 2 * min(analysis.pictures, len(validation.rows)) * tile
    scores = 8 * 2 * 8 * (3 + analysis.draws) * len(validation.rows)
    drawn = 2 * 8 * analysis.resamples * len(validation.sources)
    streamed = max(reading_bytes(model, stored.ranking), batch_bytes(model, stored))
    return streamed + pictures + scores + drawn


def cells(models: Sequence[ModelSets], analysis: Reconstruction, context: Context) -> Iterator[Task]:
    """Yield one answer a model and share of masked patches; raises UserError for a model that has no decoder."""
    titles = [model.title for model in models]
    for title in analysis.models or ():
        if title not in titles:
            raise UserError(f"reconstruction asks for the model {title!r}; the models are {', '.join(titles)}")
    for model in models:
        if analysis.models is not None and model.title not in analysis.models:
            continue
        if model.title not in context.decoders:
            raise UserError(
                f"reconstruction needs the decoder of {model.title} and was given none: run `patchbank evaluate`, "
                "or hand one to evaluate.runner.evaluate"
            )
        decoder = context.decoders[model.title]()
        for ratio in sorted(set(analysis.masking)):
            stored = stored_arrays(model, decoder, ratio, analysis.mask_seed)
            yield task_of(
                model,
                stored.tokens,
                asked(model, stored, decoder, ratio, analysis, context),
                partial(answer, model, stored, decoder, ratio, analysis, context),
                f"reconstruction from {stored.tokens}",
                partial(peak_bytes, model, stored, analysis, context),
            )
