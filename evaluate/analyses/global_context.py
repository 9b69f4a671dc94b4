"""Class shares of the image predicted from one patch: ridge regression from the central patch (paper A, section 4.3).

The target is the share of a tile's pixels (or of its whole source's) that show a class, void counted in the
denominator; the input is the token of the central patch, row and column ``grid // 2``. Features are standardised with
the training tiles' statistics, the penalty is chosen by five-fold cross-validation over training images from
``logspace(-3, 5)``, and R² is that of the validation tiles.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64
from pydantic import Field

from evaluate.inputs.chunks import of_chunks
from evaluate.inputs.memory import reading_bytes
from evaluate.inputs.model_sets import PIXELS, ModelSets
from evaluate.inputs.patches import token_variance
from evaluate.inputs.rows import RowSelection, image_numbers
from evaluate.inputs.work import CALL, Work, ranking, reading
from evaluate.kernels.bootstrap import draw_units
from evaluate.kernels.moments import variance_ranking
from evaluate.kernels.probing.ridge import PENALTIES, r2, ridge
from evaluate.kernels.treatments import Treatment, kept_features
from evaluate.results.metrics import R2, R2_DIFFERENCE
from evaluate.results.rows import Bootstrap
from evaluate.results.table import Result
from evaluate.settings import BootstrapSettings, SingleLayerSettings
from evaluate.task import ModelTask
from stores.errors import UserError

SHARE_BYTES = 4 << 20
"""Pixels whose classes are compared at a time, a byte each."""

DIFFERENCES = (
    ("without-top", "all"),
    ("random-alone", "without-top"),
    ("top-alone", "random-alone"),
    ("without-random", "without-top"),
)
"""Outcomes and what each is compared with, image by image. The paper's order is all ~ without the top m > m random ones
alone > the top m alone; the last pair is a control that the paper does not have."""


class GlobalContext(SingleLayerSettings, BootstrapSettings):
    """R² of class shares in the image from its central patch, with features left out (paper A, Table 6)."""

    kind: Literal["global-context"]
    classes: Annotated[tuple[str, ...], Field(min_length=1)] = ("road", "building", "vegetation")
    """Classes whose share is predicted, by name."""
    scope: Literal["tile", "image"] = "tile"
    """Whether the share is that of the patch's tile or of the whole source image."""
    m: Annotated[int, Field(ge=1)] = 200
    """Number of features that are left out, or kept alone: those of highest variance, or random ones."""
    draws: int = Field(default=5, ge=1, le=100)
    """Random choices of m features, each reported: kept alone (as in the paper), and left out (a control)."""


def central_tokens(model: ModelSets, array: str, selection: RowSelection) -> Float64[np.ndarray, "sample channel"]:
    """Return the token of each row's central patch."""
    rows, columns = model.grid(array)
    patch = (rows // 2) * columns + columns // 2
    stored = model.features[array]
    return np.concatenate(list(of_chunks(stored, selection.rows, lambda _, block: block[:, patch].astype(np.float64))))


def class_ids(model: ModelSets, names: Sequence[str]) -> Int64[np.ndarray, " class"]:
    """Return the ids of classes by name; raises UserError for a name that the class table lacks."""
    known = model.class_names
    absent = [name for name in names if name not in known]
    if absent:
        raise UserError(f"global-context has the class {absent[0]!r}; the classes are {', '.join(known)}")
    return np.array([known.index(name) for name in names], dtype=np.int64)


def class_shares(
    model: ModelSets, selection: RowSelection, names: Sequence[str], scope: str
) -> Float64[np.ndarray, "sample class"]:
    """Return the share of pixels of each named class, void in the denominator, of each row's tile or source.

    Args:
        model: stored sets of the model.
        selection: rows whose shares are taken.
        names: names of the classes.
        scope: ``tile``, or ``image`` for the mean over all tiles of a source.
    """
    ids = class_ids(model, names)
    shares = np.concatenate(
        [
            (block.reshape(len(block), -1, 1) == ids).mean(axis=1)
            for _, block in model.labels[PIXELS].blocks(selection.rows, SHARE_BYTES)
        ]
    )
    if scope == "image":
        numbers = image_numbers(model, selection)
        mean = np.stack([shares[numbers == number].mean(axis=0) for number in range(len(selection.sources))])
        shares = mean[numbers]
    return shares


def _variants(
    ranking: Int64[np.ndarray, " channel"], analysis: GlobalContext, seed: int
) -> Iterator[tuple[str, int | None, Bool[np.ndarray, " channel"]]]:
    top = kept_features(Treatment("remove-top", analysis.m), ranking, seed)
    yield "all", None, np.ones(len(ranking), dtype=np.bool_)
    yield "without-top", None, top
    for draw in range(analysis.draws):
        without = kept_features(Treatment("remove-random", analysis.m, draw), ranking, seed)
        yield "random-alone", draw, ~without
        yield "without-random", draw, without
    yield "top-alone", None, ~top


def _resampled(
    truth: Float64[np.ndarray, "row class"],
    predicted: Float64[np.ndarray, "row class"],
    images: Int64[np.ndarray, " row"],
    bootstrap: Bootstrap,
) -> Float64[np.ndarray, "resample class_and_mean"] | None:
    """Return R² of every class and, last, of their mean in every resample; equal seeds draw equal images."""
    if not bootstrap.enabled:
        return None
    n_images = len(bootstrap.units)
    values = np.empty((bootstrap.resamples, truth.shape[1] + 1))
    for number, units in enumerate(draw_units(n_images, bootstrap.seed, bootstrap.resamples)):
        times = np.bincount(units, minlength=n_images).astype(np.float64)
        values[number, :-1] = r2(truth, predicted, times[images])
        values[number, -1] = values[number, :-1].mean()
    return values


@dataclass(frozen=True, eq=False)
class GlobalContextTask(ModelTask[GlobalContext]):
    """R² of every class and their mean: all features, without or with only the top m or m random ones."""

    analysis = "global-context"
    revision = 5
    what = "global context from {task.array}"
    labelled = True
    key_settings = ("classes", "scope", "m", "draws", "resamples")
    fixed_columns: ClassVar[Mapping[str, Any]] = {"classifier": "ridge"}

    def check(self) -> None:
        """Raise UserError for data without labels, unknown classes, and m that leaves no feature."""
        super().check()
        class_ids(self.model, self.settings.classes)
        if self.settings.m >= self.n_channels:
            raise UserError(
                f"global-context leaves out m = {self.settings.m} of {self.n_channels} features: choose a smaller m"
            )

    def compute(self) -> Result:
        """Return R² by outcome and class, and differences of the means, random choices averaged."""
        model, settings, rows_of = self.model, self.settings, (self.train, self.validation)
        inputs, queries = (central_tokens(model, self.array, rows) for rows in rows_of)
        targets, truth = (class_shares(model, rows, settings.classes, settings.scope) for rows in rows_of)
        train_images, images = (image_numbers(model, rows) for rows in rows_of)
        ranking = variance_ranking(token_variance(model, self.array, self.train))
        bootstrap = self.bootstrap(self.validation.sources)
        rows: list[dict[str, Any]] = []
        means: dict[str, list[tuple[float, np.ndarray | None]]] = {}
        for outcome, draw, kept in _variants(ranking, settings, self.context.seed):
            predicted = ridge(inputs[:, kept], targets, train_images, queries[:, kept])
            columns: dict[str, Any] = {"m": 0 if outcome == "all" else settings.m, "outcome": outcome}
            if draw is not None:
                columns |= {"x_name": "draw", "x_value": float(draw)}
            scores = r2(truth, predicted)
            draws = _resampled(truth, predicted, images, bootstrap)
            mean = float(np.nanmean(scores)) if (~np.isnan(scores)).any() else float("nan")
            of_mean = None if draws is None else draws[:, -1]
            means.setdefault(outcome, []).append((mean, of_mean))
            rows.append(bootstrap.row(R2, mean, of_mean, **columns))
            for index, name in enumerate(settings.classes):
                of_class = None if draws is None else draws[:, index]
                rows.append(bootstrap.row(R2, scores[index], of_class, **columns, **{"class": name}))
        return Result([*rows, *self._differences(means, bootstrap)])

    def _differences(
        self, means: dict[str, list[tuple[float, np.ndarray | None]]], bootstrap: Bootstrap
    ) -> Iterator[dict[str, Any]]:
        for outcome, reference in DIFFERENCES:
            sides = [means[outcome], means[reference]]
            values = [[value for value, _ in side if not np.isnan(value)] for side in sides]
            if not all(values):
                continue
            draws = [[drawn for _, drawn in side if drawn is not None] for side in sides]
            paired = np.mean(draws[0], axis=0) - np.mean(draws[1], axis=0) if all(draws) else None
            difference = float(np.mean(values[0]) - np.mean(values[1]))
            columns = {"m": self.settings.m, "outcome": outcome, "reference": reference}
            yield bootstrap.row(R2_DIFFERENCE, difference, paired, **columns)

    def work(self) -> Work:
        """Estimate the operations: a ridge for every choice of features, fold and penalty, and R² of every resample."""
        settings, n_rows, width = self.settings, len(self.train.rows), float(self.n_channels)
        n_fits = (3 + 2 * settings.draws) * (1 + 5 * len(PENALTIES))
        side = min(float(n_rows), width)
        fit = Work(4.0 * n_rows * width * side + side**3, 8.0 * n_rows * width + 200 * CALL)
        n_validated = len(self.validation.rows) * len(settings.classes)
        draws = Work(passes=settings.resamples * (12.0 * n_validated + 5 * CALL)) * (3 + 2 * settings.draws)
        read = reading(self.model, self.array, n_rows + len(self.validation.rows))
        return read + ranking(self.model, self.array, n_rows) + fit * n_fits + draws

    def peak_bytes(self) -> int:
        """Estimate peak memory: patches stream, and regression copies one token of every tile."""
        n_channels, settings = self.n_channels, self.settings
        tokens = 8 * n_channels * (8 * len(self.train.rows) + 4 * len(self.validation.rows)) + 4 * 8 * n_channels**2
        pixels = self.model.labels[PIXELS]
        shares = 4 * pixels.layout.chunk_rows(pixels.spec) * pixels.spec.row_bytes
        shares += 2 * len(settings.classes) * SHARE_BYTES
        draws = 8 * settings.resamples * (1 + len(settings.classes)) * (3 + 2 * settings.draws)
        return reading_bytes(self.model, self.array) + tokens + shares + draws
