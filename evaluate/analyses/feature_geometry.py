"""What is wrong with patch features, layer by layer: outliers, rank, spatial structure, position, and collapse.

Six families from one pass over each array of patch tokens; formulas and sources stand in the modules of
``evaluate/kernels/geometry``, and docs/geometry.md says what each number means and what it does not.

1. Norm outliers (``norms``): tokens longer than median + k MAD, and where on the grid they are.
2. Massive activations and outlier features (``activations``; the features' shares of the mean cosine in ``spread``).
3. Effective rank (``rank``): RankMe, alpha-ReQ, participation ratio, stable rank, centred and not.
4. Spatial structure (``structure``): LDS, CDS, RMSC, the mean cosine by distance, and SRSS where patches have labels.
5. Positional leakage (``position``): R² of row and column on other images, and the share of variance of position.
6. Spread (``spread``): the share of variance within images, mean cosines, uniformity.

``source = "covariances"`` gives the third family and one number of the sixth from captured covariances, where no tokens
are stored.

Intervals resample images where a number is made of numbers of images. Ranks, R², bimodality and uniformity have none: a
resample repeats images, which changes them by itself. Thresholds and medians are those of all images in every resample.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Bool, Float64
from pydantic import Field, model_validator

from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.rows import RowSplit
from evaluate.inputs.work import Work
from evaluate.kernels.bootstrap import draw_units
from evaluate.kernels.geometry import activations, position, spread, structure
from evaluate.kernels.geometry.norms import NormThreshold, bimodality
from evaluate.kernels.geometry.rank import spectra
from evaluate.results import metrics
from evaluate.results.rows import score_row
from evaluate.results.table import Result
from evaluate.scoring.tokens.captured_task import ScoredTask
from evaluate.scoring.tokens.geometry import ArrayGeometry, geometry_arrays, geometry_bytes, geometry_work, patch_grid
from evaluate.scoring.tokens.geometry_sections import GeometryPass, array_geometry
from evaluate.scoring.tokens.ranks import CapturedRanksTask, rank_rows
from evaluate.settings import BootstrapSettings, Context, Layers

Rows = list[dict[str, Any]]

EDGES = ("inside the grid", "border", "corners")
"""Outcomes of the share of outliers, by how many sides of the grid a patch touches."""


class FeatureGeometry(BootstrapSettings):
    """Outliers, rank, spatial structure, positional leakage and collapse of patch tokens, layer by layer."""

    kind: Literal["feature-geometry"]
    layers: Layers = "all"
    """Layers to analyse: ``all`` stored ones, or numbers from 0; negative ones count from the last stored."""
    source: Literal["tokens", "covariances"] = "tokens"
    """What is read: stored patch tokens, or what ``captures = ["covariances"]`` keeps, which gives the ranks and the
    share of variance within images, at every captured point and without tokens."""
    norm: Literal["final", "none", "both"] = "both"
    """Tokens after the model's final norm, as the block left them, or both as far as they are stored."""
    deviations: float = Field(default=5.0, gt=0, allow_inf_nan=False)
    """Median absolute deviations (MAD, not scaled) above the median from which a token's length is an outlier."""
    top: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (1, 3, 10)
    """Numbers of leading features whose share of the mean cosine is reported, those that a model has."""
    fitted_ranks: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=3)]] = (10, 100)
    """First and last rank of the eigenvalues to which alpha-ReQ is fitted, from 1."""
    pair_images: int = Field(default=512, ge=1)
    """Most images whose patches are compared with each other, all pairs, and whose tokens' kurtosis is computed; spread
    evenly over the selected ones."""

    @model_validator(mode="after")
    def _ranks_increase(self) -> "FeatureGeometry":
        first, last = self.fitted_ranks
        if last < first + 2:
            raise ValueError(f"fitted_ranks = [{first}, {last}] holds fewer than three ranks: give first and last rank")
        return self

    @property
    def selected_layers(self) -> Layers:
        """The layers whose tokens are analysed."""
        return self.layers


@dataclass(frozen=True, eq=False)
class FeatureGeometryTask(ScoredTask[FeatureGeometry]):
    """All quantities of one array."""

    analysis = "feature-geometry"
    revision = 5
    what = "geometry of {task.array}"
    key_settings = ("deviations", "fitted_ranks", "pair_images", "resamples")
    key_counts = ("top",)

    @classmethod
    def of_model(cls, model: ModelSets, settings: FeatureGeometry, context: Context) -> Iterator[Any]:
        """Yield one task a layer, and one more where it is stored after the final norm too; or one a captured point."""
        if settings.source == "covariances":
            yield from CapturedRanksTask.of_model(model, settings, context)
            return
        split = RowSplit(model, context.selection, cls.analysis)
        for array in geometry_arrays(model, settings.layers, settings.norm):
            yield cls(model, array, settings, context, split)

    @property
    def columns(self) -> dict[str, Any]:
        """The shared columns, and the depth in blocks."""
        return {**super().columns, "x_value": self.model.layer(self.array) + 1.0}

    def inputs(self) -> dict[str, str]:
        """Return the digests of the tokens, and of the patches' classes where there are any."""
        inputs = super().inputs()
        if self.model.label_spec.pixel_labels:
            labels = self.model.label_array(self.model.grid(self.array))
            inputs |= {labels: self.model.labels.content[labels]}
        return inputs

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that the class lists, and the rows of a section where there are several."""
        return {**super().parameters(), **self._pass.parameters}

    @property
    def _pass(self) -> GeometryPass:
        chosen = self.settings.pair_images, self.context.seed
        return GeometryPass(self.model, self.array, self.scored, *chosen, self.inputs())

    def passes(self) -> list[GeometryPass]:
        """Return the pass over the array, if it has several sections."""
        return [self._pass] if self._pass.n_sections > 1 else []

    def compute(self) -> Result:
        """Return the rows of all families, the map of outliers and the largest magnitude of every feature."""
        found = array_geometry(self._pass, self.context.results)
        norms = found.rows.norms
        threshold = NormThreshold.of(norms, self.settings.deviations)
        outliers = threshold.outliers(norms)
        rows = [
            *self._norm_rows(found, threshold, outliers),
            *self._activation_rows(found),
            *self._rank_rows(found),
            *self._structure_rows(found),
            *self._position_rows(found),
            *self._spread_rows(found),
        ]
        grid = found.plan.grid
        arrays = {
            "outlier_map": outliers.mean(axis=0).reshape(grid.rows, grid.columns),
            "norm_map": norms.mean(axis=0, dtype=np.float64).reshape(grid.rows, grid.columns),
            "largest_magnitude": np.asarray(found.sums.largest),
        }
        return Result(rows, arrays)

    def _norm_rows(
        self, found: ArrayGeometry, threshold: NormThreshold, outliers: Bool[np.ndarray, "row patch"]
    ) -> Rows:
        edges, share = found.plan.grid.edges, metrics.NORM_OUTLIER_SHARE
        places = [("all patches", np.ones(len(edges), dtype=np.bool_))]
        places += [(name, edges == number) for number, name in enumerate(EDGES)]
        return [
            score_row(metrics.NORM_MEDIAN, threshold.median),
            score_row(metrics.NORM_THRESHOLD, threshold.value, outcome=f"median + {threshold.k:g} MAD"),
            score_row(metrics.NORM_BIMODALITY, bimodality(found.rows.norms)),
            *(self._row(share, outliers[:, where].mean(axis=1), outcome=name) for name, where in places if where.any()),
        ]

    def _activation_rows(self, found: ArrayGeometry) -> Rows:
        counts, of_bins = np.asarray(found.sums.counts), activations.magnitudes(self._dtype)
        median = activations.median_magnitude(counts, of_bins)
        many, large = activations.TIMES_MEDIAN * median, activations.LARGE
        both = max(many, large)
        n_values = float(counts.sum())
        share, largest = metrics.MASSIVE_SHARE, np.asarray(found.sums.largest)
        has_massive = np.zeros(found.n_images)
        np.maximum.at(has_massive, found.images, (found.rows.largest > both).astype(np.float64))
        bootstrap = self.bootstrap(self.scored.sources)
        draws = bootstrap.ratio(has_massive, np.ones(found.n_images))
        limits = {"above 1000 medians": many, "above both": both}
        above = {
            name: activations.count_above(counts, of_bins, limit) / n_values if limit > 0 else None
            for name, limit in limits.items()
        }
        return [
            score_row(metrics.MEDIAN_MAGNITUDE, median),
            score_row(metrics.LARGEST_TO_MEDIAN, float(largest.max()) / median if median > 0 else None),
            self._row(share, found.rows.n_large / found.rows.norms.shape[1] / len(largest), outcome="above 100"),
            *(score_row(share, value, outcome=name) for name, value in above.items()),
            bootstrap.row(metrics.MASSIVE_IMAGES, float(has_massive.mean()), draws),
            score_row(metrics.MASSIVE_CHANNELS, float(np.count_nonzero(largest > both))),
            self._row(metrics.CHANNEL_KURTOSIS, found.rows.kurtosis),
        ]

    def _rank_rows(self, found: ArrayGeometry) -> Rows:
        moments, sums = found.moments, found.sums
        of_tokens = spectra(moments.count, moments.total, moments.second, sums.fourth, np.asarray(sums.cubic))
        return list(rank_rows(of_tokens, self.settings.fitted_ranks))

    def _structure_rows(self, found: ArrayGeometry) -> Rows:
        grid, cosines = found.plan.grid, found.rows.cosines
        means = structure.mean_cosines(cosines, grid)
        contrast = structure.contrast(found.rows.unit_sums, found.rows.units, grid.n_patches)
        rows = [
            self._row(metrics.LDS, structure.local_contrast(cosines, grid)),
            self._row(metrics.CDS, structure.decay_slope(cosines, grid)),
            self._row(metrics.RMSC, contrast),
            *(
                self._row(metrics.DISTANCE_COSINE, means[:, apart], x_name="distance", x_value=float(apart))
                for apart in range(1, grid.n_distances)
            ),
        ]
        return rows if found.plan.labels is None else [*rows, self._row(metrics.SRSS, found.rows.regions)]

    def _position_rows(self, found: ArrayGeometry) -> Rows:
        folds = [found.sums.folds[number] for number in sorted(found.sums.folds)]
        share = position.position_share(
            np.asarray(found.sums.positions), found.rows.sums, float(found.rows.squares.sum())
        )
        row, column = position.position_r2(folds)
        return [
            score_row(metrics.POSITION_R2, row, outcome="row"),
            score_row(metrics.POSITION_R2, column, outcome="column"),
            score_row(metrics.POSITION_SHARE, share),
        ]

    def _spread_rows(self, found: ArrayGeometry) -> Rows:
        sums, bootstrap, times = found.of_images, self.bootstrap(self.scored.sources), self._times
        means = spread.unit_length(sums.totals)
        n_images = len(means)

        def drawn(metric: str, of: Any, **columns: Any) -> dict[str, Any]:
            draws = None if times is None else of(times)
            return bootstrap.row(metric, float(of(np.ones((1, n_images)))[0]), draws, **columns)

        def parts(drawn_times: spread.Times) -> Float64[np.ndarray, "resample channel"]:
            return spread.cosine_parts(sums.unit_totals, sums.units, drawn_times)

        def of_means(drawn_times: spread.Times) -> Float64[np.ndarray, " resample"]:
            return spread.cosine_parts(means, (means**2).sum(axis=1).round(), drawn_times).sum(axis=1)

        within = spread.cosine_within(sums)
        defined = ~np.isnan(within)
        value = float(within[defined].mean()) if defined.any() else None
        draws = bootstrap.ratio(np.where(defined, within, 0.0), defined.astype(np.float64))
        cosine, kept = metrics.MEAN_COSINE, found.rows.sample.reshape(-1, means.shape[1])
        return [
            drawn(metrics.SHARE_WITHIN_IMAGES, lambda some: spread.share_within(sums, some)),
            bootstrap.row(cosine, value, draws, outcome="tokens of one image"),
            drawn(cosine, lambda some: parts(some).sum(axis=1), outcome="tokens of two images"),
            drawn(cosine, of_means, outcome="means of two images"),
            *(
                drawn(metrics.COSINE_SHARE, lambda some, m=m: spread.leading_share(parts(some), m), m=m)
                for m in sorted(set(self.settings.top))
                if m <= self.n_channels
            ),
            score_row(metrics.UNIFORMITY, spread.uniformity(spread.unit_length(kept)), outcome="tokens"),
            score_row(metrics.UNIFORMITY, spread.uniformity(means), outcome="means of images"),
        ]

    @cached_property
    def _times(self) -> spread.Times | None:
        """How often each image is drawn in every resample; None where no intervals are drawn."""
        bootstrap = self.bootstrap(self.scored.sources)
        if not bootstrap.enabled:
            return None
        n_images = len(self.scored.sources)
        drawn = draw_units(n_images, bootstrap.seed, bootstrap.resamples)
        return np.stack([np.bincount(units, minlength=n_images) for units in drawn]).astype(np.float64)

    @property
    def _dtype(self) -> np.dtype:
        return np.dtype(self.model.features.arrays[self.array].dtype)

    def _row(self, metric: str, values: Float64[np.ndarray, " row"], **columns: Any) -> dict[str, Any]:
        """Return the mean over the rows that define a number, with its interval; inputs of one image go together."""
        defined = ~np.isnan(values)
        sums = self._by_image(np.where(defined, values, 0.0))
        counts = self._by_image(defined.astype(np.float64))
        there = counts > 0  # pairs are compared in some images only
        bootstrap = self.bootstrap([one for one, is_there in zip(self.scored.sources, there, strict=True) if is_there])
        value = float(sums.sum() / counts.sum()) if defined.any() else None
        return bootstrap.row(metric, value, bootstrap.ratio(sums[there], counts[there]), **columns)

    def work(self) -> Work:
        """Estimate the operations: one pass, its decompositions, and the intervals."""
        n_numbers = 16 + patch_grid(self.model, self.array).n_distances
        once = geometry_work(self.model, self.array, self.scored, self.settings.pair_images)
        resampled = 2.0 * self.settings.resamples * len(self.scored.sources) * self.n_channels
        return once + self.resampling_work(n_numbers) + Work(resampled * (4 + 2 * len(self.settings.top)))

    def peak_bytes(self) -> int:
        """Estimate peak memory: patches stream, and sums of every row and the second moments are kept."""
        held = geometry_bytes(self.model, self.array, self.scored, self.settings.resamples)
        return held + self.resampling_bytes
