"""Two models side by side: what must be equal, vectors of all layers, and measures of all pairs of layers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.rows import RowSplit
from evaluate.inputs.work import Work
from evaluate.kernels.similarity.cka import MinibatchHsic
from evaluate.kernels.similarity.vectors import VECTOR_MEASURES
from evaluate.scoring.similarity.representations import Representation, Tokens, image_vectors
from stores.errors import UserError


@dataclass(frozen=True, eq=False)
class ComparedModel:
    """One side of a comparison: a model with its layers."""

    split: RowSplit
    layers: tuple[Representation, ...]

    @property
    def model(self) -> ModelSets:
        """The model's sets."""
        return self.split.model

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of every layer's vectors."""
        return tuple(self.model.n_channels(one.addresses[0]) for one in self.layers)

    def inputs(self) -> dict[str, str]:
        """Return the content digests of the arrays of all layers."""
        addresses = [address for one in self.layers for address in one.addresses]
        return {name: value for address in addresses for name, value in self.model.inputs(address).items()}

    def vectors(self, tokens: Tokens, rows: Int64[np.ndarray, " row"]) -> list[np.ndarray]:
        """Return the vectors of some rows, layer by layer."""
        return [image_vectors(self.model, one, tokens, rows) for one in self.layers]


def check_same_rows(model: ModelSets, other: ModelSets) -> None:
    """Raise UserError unless two models saw the same images of the same data, row by row."""
    one, two = model.spec, other.spec
    pair = f"{model.title} and {other.title} cannot be compared image by image"
    if one.dataset != two.dataset:
        raise UserError(
            f"{pair}: their data sets differ ({one.dataset.name}, {one.dataset.n_sources} images, sources "
            f"{one.dataset.sources[:12]}; {two.dataset.name}, {two.dataset.n_sources} images, sources "
            f"{two.dataset.sources[:12]}): extract both from the same images"
        )
    if one.samples != two.samples or len(model.samples) != len(other.samples):
        raise UserError(
            f"{pair}: their rows differ (samples {one.samples[:12]}, {len(model.samples)} rows; {two.samples[:12]}, "
            f"{len(other.samples)} rows): extract both with the same [frame] and [selection]"
        )


def compared_images(model: ModelSets, rows: Int64[np.ndarray, " row"]) -> dict[str, Any]:
    """Return the columns that say how many images are compared, and in how many rows where these are tiles."""
    n_images = int(model.samples["source"].iloc[rows].nunique())
    title = f"{n_images} image{'' if n_images == 1 else 's'}"
    return {"train": title if n_images == len(rows) else f"{len(rows)} rows of {title}", "n_train": n_images}


def vector_hsic(
    own: list[np.ndarray], other: list[np.ndarray], minibatches: Sequence[Int64[np.ndarray, " _"]]
) -> MinibatchHsic:
    """Return HSIC1 of minibatches of vectors.

    Args:
        own: vectors of every layer of the one model.
        other: those of the other; the same object for a model with itself.
        minibatches: rows of every minibatch.
    """

    def grams(layers: list[np.ndarray], rows: Int64[np.ndarray, " row"]) -> np.ndarray:
        return np.stack([_gram(layer[rows]) for layer in layers])

    def pairs() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for rows in minibatches:
            first = grams(own, rows)
            yield first, first if other is own else grams(other, rows)

    return MinibatchHsic.of(pairs())


def vector_matrix(
    measure: str, own: list[np.ndarray], other: list[np.ndarray], k: int
) -> Float64[np.ndarray, "layer other"]:
    """Return a measure of all pairs of layers.

    Args:
        measure: its name in `VECTOR_MEASURES`.
        own: vectors of every layer of the one model.
        other: those of the other; the same object for a model with itself.
        k: neighbours.
    """
    of = VECTOR_MEASURES[measure]
    prepared = [of.prepare(layer, k) for layer in own]
    other_prepared = prepared if other is own else [of.prepare(layer, k) for layer in other]
    return np.array([[of.compare(one, two) for two in other_prepared] for one in prepared], dtype=np.float64)


def vector_work(measure: str, n_rows: int, widths: tuple[int, ...], n_pairs: int) -> Work:
    """Return the work of a measure of all pairs of layers.

    Args:
        measure: its name in `VECTOR_MEASURES`.
        n_rows: images.
        widths: channels of every layer of both models.
        n_pairs: pairs of layers.
    """
    n, width = float(n_rows), float(min(n_rows, max(widths)))
    if measure in ("rsa", "mutual-knn"):
        distances = sum((Work(2.0 * n**2 * one, 40.0 * n**2) for one in widths), Work())
        return distances + Work(passes=n**2 * n_pairs)
    singular = 20.0 * width**3 if measure != "linear-cka" else 0.0
    return Work(20.0 * n * width**2 * len(widths) + (2.0 * n * width**2 + singular) * n_pairs)


def _gram(vectors: np.ndarray) -> Float64[np.ndarray, "row row"]:
    """Return the products of rows, their mean taken away first: CKA does not see it, and rounding is smaller."""
    wide = vectors.astype(np.float64)
    wide -= wide.mean(axis=0)
    product: np.ndarray = wide @ wide.T
    return product
