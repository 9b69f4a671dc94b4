"""How alike layers and models represent the same images: CKA of all pairs of layers (papers B-1 to B-6).

Unbiased minibatch CKA (`evaluate.kernels.similarity.cka`: formula, sources and what other code does) serves every kind
of token. Of patch tokens and of all tokens, flattened to one vector an image, Gram matrices of consecutive rows were
captured while the models ran, so that models of other widths and patch sizes are compared; class tokens and mean
patches are cut into shuffled minibatches here. The other measures (`evaluate.kernels.similarity.vectors`) are of these
two alone. A pair of layers is at the same point of its blocks: outputs with outputs, attentions with attentions.

A result is the matrix of all layers of two models, or of one with itself; or layers on clean inputs, each with itself
under a view. Of two models of one depth a row says at which depth CKA first falls below 0.5. Intervals are bootstraps
over minibatches.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Int64
from pydantic import Field, model_validator

from evaluate.inputs.limits import check_k
from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.views import selected_views
from evaluate.inputs.work import CALL, READ, Work
from evaluate.kernels.similarity import cka, vectors
from evaluate.results.metrics import CHANCE_MUTUAL_KNN, CKA, DIVERGENCE_DEPTH, MUTUAL_KNN
from evaluate.results.rows import Bootstrap, score_row
from evaluate.results.table import Result
from evaluate.scoring.similarity.compared import ComparedModel, compared_images, vector_hsic, vector_matrix, vector_work
from evaluate.scoring.similarity.minibatches import (
    StoredGrams,
    gram_minibatches,
    shuffled_minibatches,
    stored_minibatches,
)
from evaluate.scoring.similarity.pairs import Wanted, left_out, pairs_of_models, pairs_of_views
from evaluate.scoring.similarity.representations import OUTPUT, VECTORS, Tokens, vector_bytes
from evaluate.settings import BootstrapSettings, Context, Layers, LayerSettings, Point
from evaluate.task import ModelTask
from stores.canonical import digest
from stores.errors import UserError

ROW_BYTES = 4096
"""One row of the result with its columns, before and after it is written."""

Measure = Literal["cka", "linear-cka", "procrustes", "cca", "rsa", "mutual-knn"]


class Similarity(LayerSettings, BootstrapSettings):
    """How alike layers and models represent the training images: CKA of all pairs of layers, and other measures."""

    kind: Literal["similarity"]
    layers: Layers = "all"
    """Layers to compare: ``all`` stored ones, or numbers from 0; negative ones count from the last stored."""
    points: Annotated[tuple[Point, ...], Field(min_length=1)] = ("output",)
    """Where in the blocks: their ``output``, or points that ``capture_points`` of [features] lists (``sublayers`` for
    class tokens and mean patches). Layers are compared at the same point."""
    tokens: Annotated[tuple[Tokens, ...], Field(min_length=1)] = ("patches",)
    """What stands for an image: the ``class-token``, the ``mean-patch``, all ``patches`` as one vector, or ``all``
    tokens. The last two need ``captures = ["grams"]`` in [features] and are compared within minibatches of consecutive
    rows: where images are listed class by class, these differ in little else than what classes share."""
    measures: Annotated[tuple[Measure, ...], Field(min_length=1)] = ("cka",)
    """Unbiased ``cka`` from minibatches; of class tokens and mean patches also ``linear-cka`` (biased, all images),
    ``procrustes``, ``cca`` (of components with 99 % of the variance), ``rsa`` and ``mutual-knn``."""
    minibatch: int = Field(default=32, ge=cka.FEWEST_ROWS, le=4096)
    """Rows of a minibatch of class tokens or mean patches, shuffled by the seed; Gram matrices have ``gram_rows``."""
    k: int = Field(default=10, ge=1)
    """Neighbours of ``mutual-knn``."""
    views: tuple[str, ...] | None = ()
    """Names of the views under which a layer is compared with itself on clean inputs; None takes all. Patches and all
    tokens need ``captures = ["grams"]`` in [[views]] too; the view ``size`` shows the images at another resolution."""

    @model_validator(mode="after")
    def _measures_fit_tokens(self) -> "Similarity":
        """Every kind of token has a measure, and every measure a kind of token."""
        of_vectors = [name for name in self.measures if name != "cka"]
        grams = [token for token in self.tokens if token not in VECTORS]
        if of_vectors and len(grams) == len(self.tokens):
            raise ValueError(
                f'{of_vectors[0]} needs vectors: add "class-token" or "mean-patch" to tokens, or measure "cka" alone'
            )
        if grams and "cka" not in self.measures:
            raise ValueError(f'{grams[0]} is compared by "cka" alone: add it to measures, or leave {grams[0]} out')
        return self


@dataclass(frozen=True, eq=False)
class SimilarityTask(ModelTask[Similarity]):
    """Similarity of every layer of a model with every layer of another, or of itself, at one point and of one token."""

    analysis = "similarity"
    revision = 2
    compared = (CKA,)
    what = "similarity of {task.tokens} tokens with {task.other.model.title} at {task.where}"
    key_settings = ("resamples",)
    key_rows = ()

    own: ComparedModel
    other: ComparedModel
    """The same object for a model with itself."""
    tokens: Tokens
    point: Point
    gram_rows: int | None
    """Rows of a minibatch of Gram matrices; None for vectors."""
    view: tuple[str, float] | None = None
    """Name and level of the view of the other side, whose layers are those of the one side; None for clean inputs."""

    @classmethod
    def tasks(cls, models: Sequence[ModelSets], settings: Similarity, context: Context) -> Iterator["SimilarityTask"]:
        """Yield one task a pair of models or view, point and kind of token; raises UserError for sets of other rows."""
        views = [(model, selected_views(model, settings.views, cls.analysis)) for model in models]
        for point in settings.points:
            for tokens in settings.tokens:
                wanted = Wanted(tokens, point, settings.layers, settings.norm, context.selection, cls.analysis)
                for pair in (*pairs_of_models(models, wanted), *pairs_of_views(views, wanted)):
                    own, first = pair.own, pair.own.layers[0].addresses[0]
                    yield cls(own.model, first, settings, context, own.split, own, pair.other, tokens, point,
                              pair.gram_rows, pair.view)  # fmt: skip

    @classmethod
    def notes(cls, models: Sequence[ModelSets], settings: Similarity) -> list[str]:
        """Return one note a model that has no class token, or no blocks, where these are compared."""
        return [f"similarity leaves out {what}" for what in left_out(models, settings.tokens, settings.points)]

    @property
    def where(self) -> str:
        """The point and the view, for the description."""
        return self.point + (f" under {self.view[0]} {self.view[1]:g}" if self.view else "")

    @cached_property
    def rows(self) -> Int64[np.ndarray, " row"]:
        """Training rows that are valid in the sets of both models."""
        rows = self.train.rows
        return rows if self.other is self.own else np.intersect1d(rows, self.other.split.train.rows)

    @cached_property
    def minibatches(self) -> list[Int64[np.ndarray, " _"]]:
        """Rows of every minibatch: of the set for Gram matrices, of `rows` for vectors."""
        if self.gram_rows is not None:
            return stored_minibatches(self.rows, self.gram_rows)
        return shuffled_minibatches(len(self.rows), self.settings.minibatch, self.context.seed)

    @property
    def measures(self) -> tuple[Measure, ...]:
        """What is computed of this kind of token, each once."""
        return tuple(dict.fromkeys(self.settings.measures)) if self.tokens in VECTORS else ("cka",)

    @property
    def columns(self) -> dict[str, Any]:
        """The shared columns, the other model and the point."""
        batches = [rows if self.gram_rows else self.rows[rows] for rows in self.minibatches]
        used = np.concatenate(batches) if batches and self.measures == ("cka",) else self.rows
        name, level = self.view or (self.model.spec.view.name, None)
        return {
            "data_set": self.model.spec.dataset.name,
            "model": self.model.spec.model.name,
            "view": name,
            "level": level,
            "token": self.tokens,
            **compared_images(self.model, used),
            "outcome": None if self.point == OUTPUT else self.point,
            "reference": self.other.model.title,
        }

    def check(self) -> None:
        """Raise UserError where too few rows are left to compare."""
        if not self.minibatches:
            of = f"{self.gram_rows or self.settings.minibatch} rows"
            raise UserError(
                f"similarity of {self.model.title} and {self.other.model.title} needs a minibatch of {of} with "
                f"{cka.FEWEST_ROWS} rows at least, and [selection.train] leaves {len(self.rows)} valid rows: choose "
                "more images"
            )
        if "mutual-knn" in self.measures:
            check_k(self.settings.k, len(self.rows) - 1, "images beside each")

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that the class lists, both sides' images, and how minibatches are made.

        Of the images there is a digest: a result has a row for every pair of layers, and each repeats the parameters.
        """
        key: dict[str, Any] = {
            "token": self.tokens,
            "point": self.point,
            "reference": self.other.model.title,
            "train": digest(list(self.train.sources)),
            "reference_train": digest(list(self.other.split.train.sources)),
            "measures": list(self.measures),
        }
        if self.gram_rows is None:
            key["minibatch"] = self.settings.minibatch
        if self.view is not None:
            key["view"] = list(self.view)
        if "mutual-knn" in self.measures:
            key["k"] = self.settings.k
        return {**super().parameters(), **key}

    def inputs(self) -> dict[str, str]:
        """Return the digests of the arrays of all layers of both models."""
        other = {} if self.other is self.own else self.other.inputs()
        return self.own.inputs() | {f"reference {name}": value for name, value in other.items()}

    def compute(self) -> Result:
        """Return one row a measure and pair of layers, and at which depth two models of one depth diverge."""
        if self.gram_rows is not None:
            own = StoredGrams(self.model, self.own.layers, self.gram_rows)
            other = own if self.other is self.own else StoredGrams(self.other.model, self.other.layers, self.gram_rows)
            return Result(self._cka_rows(cka.MinibatchHsic.of(gram_minibatches(own, other, self.minibatches))))
        rows: list[dict[str, Any]] = []
        own_vectors = self.own.vectors(self.tokens, self.rows)
        other_vectors = own_vectors if self.other is self.own else self.other.vectors(self.tokens, self.rows)
        for measure in self.measures:
            if measure == "cka":
                rows += self._cka_rows(vector_hsic(own_vectors, other_vectors, self.minibatches))
                continue
            values = vector_matrix(measure, own_vectors, other_vectors, self.settings.k)
            k = {"k": self.settings.k} if measure == "mutual-knn" else {}
            metric = measure.replace("-", "_")
            rows += [score_row(metric, float(values[at]), **self._pair(*at), **k) for at in self._shown()]
            if metric == MUTUAL_KNN:
                rows.append(score_row(CHANCE_MUTUAL_KNN, self.settings.k / (len(self.rows) - 1), **k))
        return Result(rows)

    def _cka_rows(self, hsic: cka.MinibatchHsic) -> list[dict[str, Any]]:
        """Return the rows of CKA, and of the depth at which two models of one depth diverge."""
        of_rows = self.minibatches if self.gram_rows else [self.rows[places] for places in self.minibatches]
        samples = self.model.spec.samples
        units = tuple(f"rows {','.join(map(str, rows))} of {samples}" for rows in of_rows)
        bootstrap = Bootstrap(units, "minibatch", self.context.seed, self.settings.resamples)
        values = hsic.cka()
        drawn = hsic.resampled(seed=self.context.seed, resamples=self.settings.resamples)
        rows = [
            bootstrap.row(CKA, float(values[at]), None if drawn is None else drawn[:, *at], **self._pair(*at))
            for at in self._shown()
        ]
        depths = [np.array([one.depth for one in side.layers]) for side in (self.own, self.other)]
        if self.view is None and self.other is not self.own and np.array_equal(depths[0], depths[1]):
            diverged = cka.divergence_depth(np.diagonal(values)[None], depths[0])[0]
            draws = None if drawn is None else cka.divergence_depth(np.diagonal(drawn, axis1=1, axis2=2), depths[0])
            row = bootstrap.row(DIVERGENCE_DEPTH, float(diverged), draws)
            rows.append(row | {name: None for name in ("low", "high") if row[name] == np.inf})
        return rows

    def _shown(self) -> list[tuple[int, int]]:
        """Return the pairs of layers that have a row, by their places: all, or under a view the same layers."""
        pairs = list(np.ndindex(len(self.own.layers), len(self.other.layers)))
        return pairs if self.view is None else [(own, other) for own, other in pairs if own == other]

    def _pair(self, layer: int, other_layer: int) -> dict[str, Any]:
        """Return the columns that name a pair of layers, by their places among the compared ones."""
        own = self.own.layers[layer]
        return {
            "array": own.name,
            "layer": own.layer,
            "normed": own.normed,
            "x_name": "reference_depth",
            "x_value": self.other.layers[other_layer].depth,
        }

    def work(self) -> Work:
        """Estimate the operations: reading, products of minibatches, and measures of all pairs of layers."""
        sides = [self.own] if self.other is self.own else [self.own, self.other]
        n_layers = sum(len(side.layers) for side in sides)
        n_pairs, n_rows = len(self.own.layers) * len(self.other.layers), float(len(self.rows))
        size = self.gram_rows or self.settings.minibatch
        compared = Work(4.0 * n_rows * size * n_pairs, 12.0 * n_rows * size * n_layers + 20 * CALL)
        compared += Work(4.0 * self.settings.resamples * len(self.minibatches) * n_pairs)
        numbers = sum(
            float(np.prod(side.model.features.arrays[address].row_shape))
            for side in sides
            for one in side.layers
            for address in one.addresses
        )
        total, widths = compared + Work(passes=READ * n_rows * numbers), [one for side in sides for one in side.widths]
        for measure in self.measures:
            if measure != "cka":
                total += vector_work(measure, len(self.rows), tuple(widths), n_pairs)
        return total

    def peak_bytes(self) -> int:
        """Estimate peak memory: Gram matrices stream by chunks of all layers, vectors of all layers are held."""
        sides = [self.own] if self.other is self.own else [self.own, self.other]
        lengths, size = (len(self.own.layers), len(self.other.layers)), self.gram_rows or self.settings.minibatch
        rows_of_table = ROW_BYTES * len(self._shown()) * len(self.measures)
        most = cka.peak_bytes(lengths[0], lengths[1], size, len(self.minibatches), self.settings.resamples)
        if self.gram_rows is not None:
            grams = [StoredGrams(side.model, side.layers, self.gram_rows) for side in sides]
            block_rows = max(one.block_rows for one in grams)
            return rows_of_table + most + sum(one.held_bytes(block_rows) for one in grams)
        widths = tuple(width for side in sides for width in side.widths)
        for measure in self.measures:
            if measure != "cka":
                most = max(most, vectors.peak_bytes(measure, len(self.rows), widths, self.settings.k))
        held, reading = zip(*(vector_bytes(side.model, side.layers, len(self.rows)) for side in sides), strict=True)
        return rows_of_table + sum(held) + max(most, *reading)
