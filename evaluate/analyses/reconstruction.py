"""Reconstruction of images by MAE's own decoder, with some features of the encoder zeroed.

Paper A, Table 4 (experiment A-19). The decoder gets the encoder's last normed tokens, of all patches or of those a mask
left visible, with no feature zeroed, the m of highest variance, m random ones, or all but the m of highest variance.
The ranking is the checkpoint's own: that of its unmasked training patches. A tile is scored as a picture of its own.

**MSE** under a mask is over the masked patches, as in MAE's loss; without one it is over all. `mse_normalised` is in
the space of the decoder's targets: pixels under the encoder's mean and standard deviation, normalised patch by patch
too where it was trained on such. `mse_pixels`, PSNR and SSIM compare clipped RGB in 0..1; the last two count the whole
picture as the decoder reconstructs it, visible patches too, nothing pasted in. The error with nothing zeroed is also
divided by that of the mean visible patch in every place, for a ratio of two bad pictures says little.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64
from pydantic import Field

from evaluate.decoder import PatchDecoder
from evaluate.inputs.memory import reading_bytes
from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.patches import token_variance
from evaluate.inputs.rows import RowSplit, image_numbers, spread_evenly
from evaluate.kernels.moments import variance_ranking
from evaluate.kernels.treatments import Treatment, kept_features
from evaluate.results import metrics
from evaluate.results.table import Result
from evaluate.scoring import reconstruction
from evaluate.settings import BootstrapSettings, Context
from evaluate.task import ModelTask
from stores.errors import UserError

Outcome = Literal["none", "top", "random", "all-but-top"]
"""Which features are zeroed."""


class Reconstruction(BootstrapSettings):
    """How well MAE's decoder draws the image with features of the encoder zeroed (paper A, Table 4)."""

    kind: Literal["reconstruction"]
    models: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Titles of the models to evaluate, which must have a decoder; all by default."""
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


@dataclass(frozen=True)
class Variant:
    """One choice of features to zero."""

    outcome: Outcome
    draw: int | None
    zeroed: Bool[np.ndarray, " channel"]


def variants(ranking: Int64[np.ndarray, " channel"], m: int, draws: int, seed: int) -> list[Variant]:
    """Return every choice of features to zero.

    Args:
        ranking: features by decreasing variance.
        m: number of features to zero, or to leave alone.
        draws: number of random choices.
        seed: seed of the random choices.
    """
    top = ~kept_features(Treatment("remove-top", m), ranking, seed)
    random = [~kept_features(Treatment("remove-random", m, draw), ranking, seed) for draw in range(draws)]
    return [
        Variant("none", None, np.zeros(len(ranking), dtype=np.bool_)),
        Variant("top", None, top),
        *(Variant("random", draw, zeroed) for draw, zeroed in enumerate(random)),
        Variant("all-but-top", None, ~top),
    ]


_REFERENCES = {
    metrics.MSE_NORMALISED_RATIO: "none",
    metrics.MSE_PIXELS_RATIO: "none",
    metrics.MSE_NORMALISED_OVER_MEAN_PATCH: "mean patch",
}
"""What a metric is compared with."""


@dataclass(frozen=True, eq=False)
class ReconstructionTask(ModelTask[Reconstruction]):
    """Every score of every choice of zeroed features, and pictures of some tiles."""

    analysis = "reconstruction"
    revision = 3
    what = "reconstruction from {task.array}"
    key_settings = ("m", "draws", "prefix", "pictures", "resamples")

    stored: reconstruction.Stored
    decoder: PatchDecoder
    ratio: float
    """Share of masked patches."""

    @classmethod
    def tasks(
        cls, models: Sequence[ModelSets], settings: Reconstruction, context: Context
    ) -> Iterator["ReconstructionTask"]:
        """Yield one task a model and share of masked patches; raises UserError for a model without a decoder."""
        titles = [model.title for model in models]
        for title in settings.models or ():
            if title not in titles:
                raise UserError(f"reconstruction has the model {title!r}; the models are {', '.join(titles)}")
        for model in models:
            if settings.models is not None and model.title not in settings.models:
                continue
            if model.title not in context.decoders:
                raise UserError(
                    f"reconstruction needs the decoder of {model.title} and was given none: run `patchbank evaluate`, "
                    "or pass one to evaluate.runner.evaluate"
                )
            decoder = context.decoders[model.title]()
            split = RowSplit(model, context.selection, cls.analysis)
            for ratio in sorted(set(settings.masking)):
                stored = reconstruction.stored_arrays(model, decoder, ratio, settings.mask_seed)
                yield cls(model, stored.tokens, settings, context, split, stored, decoder, ratio)

    def check(self) -> None:
        """Raise UserError when m leaves no feature."""
        n_features = self.model.n_channels(self.stored.ranking)
        if self.settings.m >= n_features:
            raise UserError(f"reconstruction zeroes m = {self.settings.m} of {n_features} features: choose a smaller m")

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that the class lists, and the mask."""
        mask = {"mask_ratio": self.ratio, "mask_seed": self.settings.mask_seed if self.ratio else None}
        return {**super().parameters(), **mask}

    def inputs(self) -> dict[str, str]:
        """Return the digests of tokens, ids and pixels; the decoder is named by its own digest."""
        stored, features = self.stored, self.model.features
        inputs = self.model.inputs(stored.ranking)
        inputs |= {name: features.content[name] for name in (stored.tokens, stored.prefix, stored.ids) if name}
        return inputs | {stored.pixels: self.model.labels.content[stored.pixels], "decoder": self.decoder.digest}

    def compute(self) -> Result:
        """Return one row a metric and choice of zeroed features."""
        ranking = variance_ranking(token_variance(self.model, self.stored.ranking, self.train))
        choices = variants(ranking, self.settings.m, self.settings.draws, self.context.seed)
        scores: list[dict[str, list[np.ndarray]]] = [{} for _ in choices]
        pictures: dict[str, list[np.ndarray]] = {}
        mean_errors: list[np.ndarray] = []
        grid = self.model.grid(self.stored.tokens)
        for batch in reconstruction.batches(self.model, self.stored, self.validation.rows):
            here = np.isin(batch.indices, self.shown)
            shown = {"input": batch.pixels[here], "masked_input": reconstruction.greyed(batch, grid)[here]}
            mean_errors.append(reconstruction.mean_patch_errors(self.decoder, batch))
            for variant, of_variant in zip(choices, scores, strict=True):
                values, drawn = reconstruction.scored(self.decoder, batch, variant.zeroed, self.settings.prefix, grid)
                for name, some in values.items():
                    of_variant.setdefault(name, []).append(some)
                if not variant.draw:
                    shown[variant.outcome] = np.rint(drawn[here] * 255).astype(np.uint8)
            for name, some in shown.items():
                pictures.setdefault(name, []).append(some)
        arrays = {f"reconstruction_{name}": np.concatenate(parts) for name, parts in pictures.items()}
        samples = self.model.samples["sample"].to_numpy()[self.validation.rows[self.shown]]
        arrays["reconstruction_samples"] = np.array([str(name) for name in samples])
        arrays["reconstruction_mask_ratio"] = np.array(self.ratio)
        whole = [{name: np.concatenate(parts) for name, parts in of_variant.items()} for of_variant in scores]
        return Result(list(self._rows(choices, whole, np.concatenate(mean_errors))), arrays)

    @cached_property
    def shown(self) -> Int64[np.ndarray, " tile"]:
        """Indices into the validation rows of the tiles that are shown, spread evenly."""
        return spread_evenly(len(self.validation.rows), self.settings.pictures)

    def _rows(
        self,
        choices: Sequence[Variant],
        scores: Sequence[dict[str, Float64[np.ndarray, " sample"]]],
        mean_errors: Float64[np.ndarray, " sample"],
    ) -> Iterator[dict[str, Any]]:
        """Yield one row a metric and variant; the mean of the random choices comes before each of them."""
        listed = [(variant.outcome, variant.draw, of) for variant, of in zip(choices, scores, strict=True)]
        random = [of for outcome, _, of in listed if outcome == "random"]
        mean = {name: np.mean([of[name] for of in random], axis=0) for name in scores[0]}
        listed.insert(2, ("random", None, mean))
        images = image_numbers(self.model, self.validation)
        bootstrap = self.bootstrap(self.validation.sources)

        def by_image(values: Float64[np.ndarray, " sample"]) -> Float64[np.ndarray, " image"]:
            return np.bincount(images, weights=values, minlength=len(self.validation.sources))

        for outcome, draw, of in listed:
            x_name, x_value = ("mask_ratio", self.ratio) if draw is None else ("draw", float(draw))
            m = 0 if outcome == "none" else self.settings.m
            columns = {"m": m, "x_name": x_name, "x_value": x_value, "outcome": outcome}
            for metric, values, over in _ratios(outcome, of, scores[0], mean_errors):
                finite = bool(np.isfinite(values).all()) and over.sum() > 0  # a perfect picture has an infinite PSNR
                value = float(values.sum() / over.sum()) if finite else None
                draws = bootstrap.ratio(by_image(values), by_image(over)) if finite else None
                yield bootstrap.row(metric, value, draws, reference=_REFERENCES.get(metric), **columns)

    def peak_bytes(self) -> int:
        """Estimate peak memory beside the decoder: tiles stream, to rank the features and then to score."""
        n_rows, settings = len(self.validation.rows), self.settings
        tile = self.model.labels[self.stored.pixels].spec.row_bytes
        pictures = (5 + settings.draws) * 2 * min(settings.pictures, n_rows) * tile
        scores = 8 * 2 * 8 * (3 + settings.draws) * n_rows
        draws = 2 * 8 * settings.resamples * len(self.validation.sources)
        reading = reading_bytes(self.model, self.stored.ranking)
        return max(reading, reconstruction.batch_bytes(self.model, self.stored)) + pictures + scores + draws


def _ratios(
    outcome: Outcome,
    scores: dict[str, Float64[np.ndarray, " sample"]],
    untouched: dict[str, Float64[np.ndarray, " sample"]],
    mean_errors: Float64[np.ndarray, " sample"],
) -> Iterator[tuple[str, Float64[np.ndarray, " sample"], Float64[np.ndarray, " sample"]]]:
    """Yield metric, numerator and denominator of every score, one value a tile."""
    for metric, values in scores.items():
        yield metric, values, np.ones(len(values))
    if outcome == "none":
        yield metrics.MSE_NORMALISED_OF_MEAN_PATCH, mean_errors, np.ones(len(mean_errors))
        yield metrics.MSE_NORMALISED_OVER_MEAN_PATCH, scores[metrics.MSE_NORMALISED], mean_errors
    else:
        yield metrics.MSE_NORMALISED_RATIO, scores[metrics.MSE_NORMALISED], untouched[metrics.MSE_NORMALISED]
        yield metrics.MSE_PIXELS_RATIO, scores[metrics.MSE_PIXELS], untouched[metrics.MSE_PIXELS]
