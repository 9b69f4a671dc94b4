"""Geometry of the tokens: how alike they are, how many dimensions they spread over, and maps of them.

Three parts, each with what it reads.

* ``statistics``: cosines of two heads' outputs, of two positions and of a block's input and output, and the variance
  over positions, as captured (``captures = ["token-statistics"]``; pipeline/captures/token_statistics.py), against
  depth, mean over images.
* ``spectra``: of stored patch tokens, ``log s_i - log s_1`` with ``s`` the singular values of an image's centred tokens
  (mean over images), and of the images' centred mean tokens, and the participation ratio ``(sum lam)^2 / sum lam^2``,
  ``lam = s^2``, of each image's tokens (mean) and of all tokens together. The embedding and the sums after the
  attention are read too where ``sublayers`` stores them. Only ``images`` of the scored images are read. The spectrum of
  images and the ratio of all tokens have no interval: a resample repeats images, which lowers both. Tokens through the
  final norm, and tokens that are not, have other spectra: ``norm`` says which.
* ``maps``: principal components and t-SNE of the tokens of a few images, by class and by image, and one image's tokens
  before and after a layer in three dimensions. They are pictures: distances in a t-SNE and the size of its clusters
  mean little (Wattenberg et al., Distill 2016).

These are quantities of Park et al. (ICLR 2023), whose code has the t-SNE alone (naver-ai/cl-vs-mim,
representation_analysis.ipynb); the formulas of the others are the ones stated here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Int64
from pydantic import Field

from evaluate.inputs.captured import captured_arrays, captured_rows, capturing
from evaluate.inputs.memory import reading_bytes
from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.rows import RowSelection, RowSplit, spread_selection
from evaluate.inputs.work import Work
from evaluate.kernels.tokens.spectra import shown_ranks
from evaluate.results import metrics
from evaluate.results.rows import score_row
from evaluate.results.table import Result
from evaluate.scoring.tokens import maps
from evaluate.scoring.tokens.captured_task import CapturedTask, ScoredTask, reading_numbers
from evaluate.scoring.tokens.spectra import spectra_bytes, spectra_work, token_spectra
from evaluate.settings import BootstrapSettings, Context, Layers, LayerSettings
from evaluate.task import ModelTask

Part = Literal["statistics", "spectra", "maps"]

STATISTICS = {
    "head_cosine": metrics.HEAD_COSINE,
    "space_cosine": metrics.SPACE_COSINE,
    "depth_cosine": metrics.DEPTH_COSINE,
    "variance": metrics.SPATIAL_VARIANCE,
}
"""Metric of each captured statistic."""
TSNE = 2e6
"""Passes of t-SNE for every token: a thousand iterations that each look at the others in a tree."""
OF_ONE, OF_MEANS, OF_ALL = "one image", "means of images", "all images"
"""Outcomes: of the tokens of one image (mean over images), of the images' mean tokens, of the tokens of all images."""
INSIDE = ("embedding", maps.RESIDUAL)
"""Points of ``sublayers`` whose spectra are computed beside those of the layers."""


class TokenGeometry(LayerSettings, BootstrapSettings):
    """Likeness, spread and maps of the tokens of each layer (arXiv 2305.00729)."""

    kind: Literal["token-geometry"]
    layers: Layers = "all"
    """Layers to analyse: ``all`` stored ones, or numbers from 0; negative ones count from the last stored."""
    parts: Annotated[tuple[Part, ...], Field(min_length=1)] = ("statistics", "spectra", "maps")
    """What is computed: ``statistics`` of ``captures``, ``spectra`` and ``maps`` of stored patch tokens."""
    images: int = Field(default=64, ge=2)
    """Most images whose tokens are read for ``spectra``, spread evenly over those that validate (or train)."""
    map_layer: int = -1
    """Layer of ``maps``, counted from 0; negative numbers count from the last stored."""
    map_images: int = Field(default=9, ge=1, le=64)
    """Images of ``maps``, one input of each; t-SNE takes seconds for every thousand patches."""
    map_classes: int = Field(default=3, ge=1, le=64)
    """Classes of these images, where images have classes: the most common ones."""
    perplexity: float = Field(default=20.0, gt=0, allow_inf_nan=False)
    """Perplexity of t-SNE."""


@dataclass(frozen=True, eq=False)
class TokenGeometryTask(CapturedTask[TokenGeometry]):
    """Captured statistics of one layer."""

    analysis = "token-geometry"
    what = "statistics of {task.array}"

    @classmethod
    def tasks(
        cls, models: Sequence[ModelSets], settings: TokenGeometry, context: Context
    ) -> Iterator[ModelTask[TokenGeometry]]:
        """Yield the tasks of every part: one a layer or point, and one a model for its maps."""
        described = {model.title for model in capturing(models, "statistics")[0]}
        for model in models:
            split = RowSplit(model, context.selection, cls.analysis)
            if "statistics" in settings.parts and model.title in described:
                for one in captured_arrays(model, "statistics", "token-statistics", layers=settings.layers):
                    yield cls(model, one.address, settings, context, split, one)
            if "spectra" in settings.parts:
                for array, depth in _token_arrays(model, settings):
                    yield TokenSpectraTask(model, array, settings, context, split, depth)
            if "maps" in settings.parts:
                [array] = model.arrays((settings.map_layer,), settings.norm)
                yield TokenMapsTask(model, array, settings, context, split)

    @classmethod
    def notes(cls, models: Sequence[ModelSets], settings: TokenGeometry) -> list[str]:
        """Return one note a backbone of stages without statistics, beside models that have them."""
        left_out = capturing(models, "statistics")[1] if "statistics" in settings.parts else []
        return [f'token-geometry leaves out statistics of {one.title}, whose `captures` have no "token-statistics"'
                for one in left_out]  # fmt: skip

    def compute(self) -> Result:
        """Return the mean of every statistic that the layer has."""
        values = captured_rows(self.model, self.array, self.scored.rows)
        names = self.captured.statistics
        return Result([self.mean_row(STATISTICS[name], values[:, place]) for place, name in enumerate(names)])


def _token_arrays(model: ModelSets, settings: TokenGeometry) -> list[tuple[str, float]]:
    """Return the addresses of the arrays whose spectra are computed, with their depths in blocks."""
    layers = model.arrays(settings.layers, settings.norm)
    numbers = {model.layer(array) for array in layers}
    found = [(array, model.layer(array) + 1.0) for array in layers]
    for address, array in model.features.arrays.items():
        point = array.attributes.get("point")
        if array.group == "sublayers" and point in INSIDE and array.layer in numbers and model.features.sealed(address):
            found.append((address, float(array.attributes["depth"] or 0.0)))
    return sorted(found, key=lambda one: (one[1], one[0]))


@dataclass(frozen=True, eq=False)
class TokenSpectraTask(ScoredTask[TokenGeometry]):
    """Singular values and participation ratios of one array of tokens."""

    depth: float

    analysis = "token-geometry"
    what = "singular values of {task.array}"

    @cached_property
    def scored(self) -> RowSelection:
        """The rows of the images that are read."""
        return spread_selection(self.model, self.split.scored, self.settings.images)

    def compute(self) -> Result:
        """Return some singular values of images' tokens and of images, then participation ratios; all as arrays."""
        spectra = token_spectra(self.model, self.array, self.scored)
        metric = metrics.LOG_SINGULAR_VALUE
        rows = [
            self.mean_row(metric, spectra.of_rows[:, rank - 1], outcome=OF_ONE, x_name="rank", x_value=float(rank))
            for rank in shown_ranks(spectra.of_rows.shape[1])
        ]
        rows += [
            score_row(metric, spectra.of_images[rank - 1], outcome=OF_MEANS, x_name="rank", x_value=float(rank))
            for rank in shown_ranks(len(spectra.of_images))
        ]
        ratio, depth = metrics.PARTICIPATION_RATIO, {"x_value": self.depth}
        rows.append(self.mean_row(ratio, spectra.participation, outcome=OF_ONE, **depth))
        rows.append(score_row(ratio, spectra.pooled_participation, outcome=OF_ALL, **depth))
        return Result(rows, {"token_spectrum": spectra.of_rows.mean(axis=0), "image_spectrum": spectra.of_images})

    def work(self) -> Work:
        """Estimate the operations: the singular values of every row, and the intervals of their means."""
        ranks = shown_ranks(min(self.model.features.arrays[self.array].row_shape))
        return spectra_work(self.model, self.array, len(self.scored.rows)) + self.resampling_work(len(ranks))

    def peak_bytes(self) -> int:
        """Estimate peak memory: tokens stream, and products of a few rows are there."""
        n_rows, n_images = len(self.scored.rows), len(self.scored.sources)
        return spectra_bytes(self.model, self.array, n_rows, n_images) + self.resampling_bytes


@dataclass(frozen=True, eq=False)
class TokenMapsTask(ScoredTask[TokenGeometry]):
    """Maps of the tokens of a few images, and what share of their variance the linear ones show."""

    analysis = "token-geometry"
    what = "maps of {task.array}"
    key_settings = ("perplexity",)
    key_rows = ("shown_samples",)

    @cached_property
    def shown(self) -> Int64[np.ndarray, " image"]:
        """The rows whose tokens are shown, one an image."""
        return maps.shown_rows(self.model, self.scored, self.settings.map_images, self.settings.map_classes)

    @property
    def shown_samples(self) -> list[str]:
        """Names of these rows, for the key."""
        return [str(name) for name in self.model.samples["sample"].to_numpy()[self.shown]]

    @cached_property
    def step(self) -> maps.Step | None:
        """The arrays between which the first image's tokens are followed."""
        return maps.step_of(self.model, self.array)

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that the class lists, and the rows that are shown."""
        return {**self.settings.model_dump(mode="json", include={"perplexity"}), "samples": self.shown_samples,
                "seed": self.context.seed}  # fmt: skip

    def inputs(self) -> dict[str, str]:
        """Return the digests of the tokens, of those before and after the layer, and of the patches' classes."""
        step, content, inputs = self.step, self.model.features.content, super().inputs()
        if step is not None:
            inputs |= {name: content[name] for name in (step.before, step.after)}
        if self.model.label_spec.pixel_labels:
            labels = self.model.label_array(self.model.grid(self.array))
            inputs |= {labels: self.model.labels.content[labels]}
        return inputs

    def compute(self) -> Result:
        """Return the shares of variance that the linear maps show, and the maps."""
        tokens = maps.patch_tokens(self.model, self.array, self.shown)
        arrays, share = maps.flat_maps(tokens, self.settings.perplexity, self.context.seed)
        depth = {"x_value": self.model.layer(self.array) + 1.0}
        rows = [score_row(metrics.MAP_VARIANCE_SHARE, share, outcome="two components", **depth)]
        n_images, n_patches, _ = tokens.shape
        arrays |= {
            "token_image": np.repeat(np.arange(n_images), n_patches),
            "token_samples": np.array(self.shown_samples),
        }
        classes = maps.token_classes(self.model, self.array, self.shown)
        if classes is not None:
            arrays |= {
                "token_class": classes.reshape(-1),
                "class_names": np.array(self.model.class_names),
                "colours": self.model.classes[["red", "green", "blue"]].to_numpy(dtype=np.uint8),
            }
        if self.step is not None:
            sides = (
                maps.patch_tokens(self.model, name, self.shown[:1])[0] for name in (self.step.before, self.step.after)
            )
            placed, share = maps.moves(*sides)
            rows.append(score_row(metrics.MAP_VARIANCE_SHARE, share, outcome="three directions", **depth))
            arrays |= {"token_moves": placed, "token_moves_title": np.array(self.step.title)}
        return Result(rows, arrays)

    def work(self) -> Work:
        """Estimate the operations: the iterations of t-SNE, and the products of all tokens."""
        n_tokens, n_channels = self._n_tokens, self.model.n_channels(self.array)
        decomposed = Work(4.0 * n_tokens * n_channels**2, 10.0 * n_channels**3 + TSNE * n_tokens)
        return decomposed + reading_numbers(self.model, self.array, len(self.shown))

    @property
    def _n_tokens(self) -> int:
        rows, columns = self.model.grid(self.array)
        return rows * columns * len(self.shown)

    def peak_bytes(self) -> int:
        """Estimate peak memory: the tokens of the images in float32 and float64, and neighbours of each for t-SNE."""
        n_tokens, n_channels = self._n_tokens, self.model.n_channels(self.array)
        neighbours = int(16 * 8 * min(n_tokens, 3 * self.settings.perplexity + 1)) * n_tokens
        products = 8 * 4 * n_channels**2
        return 8 * 5 * n_tokens * n_channels + neighbours + products + 2 * reading_bytes(self.model, self.array)
