"""Intrinsic dimension of tokens and images: how many numbers would tell them apart, by TwoNN on exact distances.

The ratio of the distances to a vector's two nearest neighbours tells the dimension of what the vectors lie on near it
(Facco et al., Scientific Reports 2017; `evaluate.kernels.geometry.two_nn`), whatever its curvature and, nearly, its
density. Distances are exact in float64 (`evaluate.neighbours.knn`): in float32 many nearest distances of alike tokens
are 0. Vectors with an equal one have no ratio; they are left out, and ``equal_points`` says how many there are.

Patches are ``patches`` of all scored inputs, the same number of each; neighbours may be of the same image, which few
patches an image make rare. More vectors lie closer together and show finer structure, so numbers compare at equal
numbers of them. The estimate is biased low in high dimensions, where far more vectors would be needed: 20 and more are
lower bounds. Intervals resample the images whose ratios enter the fit; neighbours stay those among all.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float, Float64, Int64
from pydantic import Field

from evaluate.inputs.chunks import of_chunks
from evaluate.inputs.memory import neighbours_bytes, reading_bytes
from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.rows import RowSplit, image_numbers, spread_evenly
from evaluate.inputs.work import CALL, Work, comparing, reading
from evaluate.kernels.bootstrap import draw_units
from evaluate.kernels.geometry.two_nn import neighbour_ratios, two_nn_dimension
from evaluate.neighbours.knn import Neighbours, nearest
from evaluate.neighbours.query_sections import Last, QueryPass
from evaluate.results import metrics
from evaluate.results.rows import Draws, score_row
from evaluate.results.sections import LongPass
from evaluate.results.table import Result
from evaluate.scoring.images.vectors import image_vectors, vector_inputs, vectors_bytes
from evaluate.scoring.tokens.captured_task import ScoredTask
from evaluate.scoring.tokens.geometry import geometry_arrays
from evaluate.settings import BootstrapSettings, Context, Layers
from stores.errors import UserError

Vectors = Literal["patch", "class-token", "mean-patch"]

FEWEST = 5
"""Vectors below which the fit has too few points."""


class IntrinsicDimension(BootstrapSettings):
    """Dimension of what tokens and images lie on, by the two nearest neighbours of each (TwoNN)."""

    kind: Literal["intrinsic-dimension"]
    layers: Layers = "all"
    """Layers to analyse: ``all`` stored ones, or numbers from 0; negative ones count from the last stored."""
    norm: Literal["final", "none", "both"] = "final"
    """Tokens after the model's final norm, as the block left them, or both as far as they are stored."""
    vectors: Annotated[tuple[Vectors, ...], Field(min_length=1)] = ("patch",)
    """Patch tokens, or one vector an image: its first prefix token, or the mean of its patch tokens."""
    patches: int = Field(default=4096, ge=FEWEST)
    """Most patch tokens, the same number of every input, spread over the inputs."""
    trimmed: float = Field(default=0.1, ge=0, lt=0.9)
    """Share of the vectors, those with the largest ratios, that is left out of the fit (0.1 in the paper)."""

    @property
    def selected_layers(self) -> Layers:
        """The layers whose tokens are analysed."""
        return self.layers


@dataclass(frozen=True, eq=False)
class IntrinsicDimensionTask(ScoredTask[IntrinsicDimension]):
    """Intrinsic dimension of one layer."""

    analysis = "intrinsic-dimension"
    what = "intrinsic dimension of {task.array}"
    key_settings = ("vectors", "patches", "trimmed", "resamples")

    @classmethod
    def of_model(
        cls, model: ModelSets, settings: IntrinsicDimension, context: Context
    ) -> Iterator["IntrinsicDimensionTask"]:
        """Yield one task a layer, and one more where both norms are asked for and stored."""
        split = RowSplit(model, context.selection, cls.analysis)
        for array in geometry_arrays(model, settings.layers, settings.norm):
            yield cls(model, array, settings, context, split)

    @property
    def columns(self) -> dict[str, Any]:
        """The shared columns, and the depth in blocks."""
        return {**super().columns, "x_value": self.model.layer(self.array) + 1.0}

    def check(self) -> None:
        """Raise UserError for fewer than five vectors, MissingError for vectors that are not stored."""
        self.inputs()
        for kind in self.settings.vectors:
            n = self._n_patches if kind == "patch" else len(self.scored.sources)
            if n < FEWEST:
                raise UserError(f"intrinsic-dimension needs {FEWEST} vectors and {n} are selected: select more images")

    def inputs(self) -> dict[str, str]:
        """Return the digests of the tokens, and of what images' vectors are made of."""
        pooled = [kind for kind in self.settings.vectors if kind != "patch"]
        return super().inputs() | vector_inputs(self.model, self.array, pooled)

    def compute(self) -> Result:
        """Return the dimension and the share of equal vectors of each kind."""
        rows, last = [], Last[tuple[np.ndarray, np.ndarray]]()
        for kind in self.settings.vectors:
            vectors, images = last.of(kind, partial(self._vectors, kind))
            search = self._search(kind, last, self.searched())
            [found] = search.neighbours(len(vectors), self.kept_sections()).values()
            ratios = neighbour_ratios(found.squared_distances)
            defined = ~np.isnan(ratios)
            token = {"token": kind, "outcome": f"{100 * self.settings.trimmed:g} % trimmed"}
            draws = self._draws(ratios[defined], images[defined])
            value = two_nn_dimension(ratios[defined], self.settings.trimmed) if defined.sum() >= FEWEST else None
            bootstrap = self.bootstrap(self.scored.sources)
            rows.append(bootstrap.row(metrics.INTRINSIC_DIMENSION, value, draws, **token))
            rows.append(score_row(metrics.EQUAL_POINTS, float(1.0 - defined.mean()), token=kind))
        return Result(rows)

    def _search(
        self, kind: Vectors, last: Last[tuple[np.ndarray, np.ndarray]], results: Mapping[int, str]
    ) -> QueryPass:
        """Return the search of vectors of one kind among the others.

        Args:
            kind: what the vectors are of.
            last: what `_vectors` returns.
            results: digests of the results that neighbours are for.
        """

        def search(removed: Sequence[int], start: int, stop: int) -> dict[int, Neighbours]:
            vectors, _ = last.of(kind, lambda: self._vectors(kind))
            own = np.arange(len(vectors))
            found = nearest(
                vectors, vectors[start:stop], 2, bank_groups=own, query_groups=own[start:stop],
                memory_bytes=self.search_bytes, device=self.context.device.name,
            )  # fmt: skip
            return dict.fromkeys(removed, found)

        n = self._n_patches if kind == "patch" else len(self.scored.sources)
        return QueryPass(f"the {kind} of {self.array}", (kind,), results, 2, "euclidean", n, n, 1, search)

    def passes(self) -> list[LongPass]:
        """Return the search of every kind of vector."""
        if self.kept_sections() is None:
            return []
        last, results = Last[tuple[np.ndarray, np.ndarray]](), self.searched(is_missing_alone=True)
        return [one for kind in self.settings.vectors for one in self._search(kind, last, results).several]

    @cached_property
    def _places(self) -> Int64[np.ndarray, " row"]:
        """Places of the rows whose patches are read, among the scored ones."""
        return spread_evenly(len(self.scored.rows), self.settings.patches)

    @property
    def _of_row(self) -> int:
        rows, columns = self.model.grid(self.array)
        return min(rows * columns, max(1, self.settings.patches // len(self._places)))

    @property
    def _n_patches(self) -> int:
        return self._of_row * len(self._places)

    def _vectors(self, kind: Vectors) -> tuple[Float[np.ndarray, "vector channel"], Int64[np.ndarray, " vector"]]:
        """Return vectors and the number of the image of each."""
        if kind != "patch":
            return image_vectors(self.model, self.array, self.scored, kind), np.arange(len(self.scored.sources))
        rows, columns = self.model.grid(self.array)
        generator = np.random.Generator(np.random.PCG64(self.context.seed))
        chosen = [np.sort(generator.permutation(rows * columns)[: self._of_row]) for _ in self._places]

        def some(first: int, block: np.ndarray) -> np.ndarray:
            return np.concatenate([row[chosen[first + number]] for number, row in enumerate(block)])

        selected = self.scored.rows[self._places]
        vectors = np.concatenate(list(of_chunks(self.model.features[self.array], selected, some)))
        images = image_numbers(self.model, self.scored)[self._places]
        return vectors, np.repeat(images, self._of_row)

    def _draws(self, ratios: Float64[np.ndarray, " vector"], images: Int64[np.ndarray, " vector"]) -> Draws | None:
        bootstrap = self.bootstrap(self.scored.sources)
        if not bootstrap.enabled or len(ratios) < FEWEST:
            return None
        order = np.argsort(ratios, kind="stable")
        ratios, images, n_images = ratios[order], images[order], len(self.scored.sources)
        values = []
        for units in draw_units(n_images, bootstrap.seed, bootstrap.resamples):
            some = np.repeat(ratios, np.bincount(units, minlength=n_images)[images])
            enough = len(some) >= FEWEST
            values.append(two_nn_dimension(some, self.settings.trimmed) if enough else float("nan"))
        return np.array(values)

    def work(self) -> Work:
        """Estimate the operations: reading, the searches, and a fit for every resample."""
        n_rows, found = len(self.scored.rows), Work(passes=CALL)
        for kind in self.settings.vectors:
            n = float(self._n_patches if kind == "patch" else len(self.scored.sources))
            found += reading(self.model, self.array, n_rows) + comparing(n * n, self.n_channels, 1)
            found += Work(passes=self.settings.resamples * (20.0 * n + CALL))
        return found

    def peak_bytes(self) -> int:
        """Estimate peak memory: the vectors twice, and what the search holds."""
        n, n_images = max(self._n_patches, len(self.scored.sources)), len(self.scored.sources)
        held = 4 * 4 * n * self.n_channels + 8 * 12 * n + 8 * 2 * self.settings.resamples * n_images
        pooled = [kind for kind in self.settings.vectors if kind != "patch"]
        read = reading_bytes(self.model, self.array)
        if pooled:
            read = max(read, vectors_bytes(self.model, self.array, [self.scored], pooled))
        return read + held + neighbours_bytes(n, 2, 1, 0, (n, self.n_channels), self.context.device.name)
