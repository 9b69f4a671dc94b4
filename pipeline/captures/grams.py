"""Gram matrices of fixed minibatches of rows, from which any two models are compared without running either.

A minibatch is ``gram_rows`` consecutive rows of the set, counted from row 0; every range begins with one. For tokens
flattened to one vector a row, ``X = [minibatch, patch * channel]``, row ``i`` of the array holds the products of row
``i`` with the rows of its minibatch *up to itself* (`X X^T`'s lower triangle; the reader mirrors it), so that rows can
be written as the model makes them. Patch tokens and prefix tokens have an array each: the Gram matrix of all tokens is
their sum. Products are summed in float64, because centring takes what is common to all rows away again.

They serve the minibatch CKA of Nguyen, Raghu and Kornblith (ICLR 2021, equation 3), also between models of other
widths and patch sizes.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from jaxtyping import Float

from pipeline.captures.contract import Capture, array_name, facts, point_of
from pipeline.captures.points import Point, Take, points_of
from pipeline.models.contract import FrozenModel
from pipeline.recipe import FeatureRecipe
from stores.specs import ArraySpec

REVISION = 1
"""Increased when the same tokens give other products."""

_NUMBERS_AT_ONCE = 4096
"""Numbers of every row that are in float64 at a time."""


class Grams(Capture):
    """Products of a row's tokens with those of the earlier rows of its minibatch, at some points of every block."""

    group = "grams"

    def __init__(self, model: FrozenModel, arrays: Sequence[ArraySpec]) -> None:
        super().__init__(model, arrays)
        self._earlier: dict[str, Float[torch.Tensor, "row number"]] = {}
        """Tokens of the current minibatch's rows so far, by array."""
        self._next_row = -1

    @classmethod
    def wanted(cls, model: FrozenModel, features: FeatureRecipe, layers: Sequence[int]) -> list[ArraySpec]:
        """Return an array of patch tokens and one of prefix tokens a point for ``grams``."""
        if "grams" not in features.captures:
            return []
        n_rows = features.gram_rows
        return [
            ArraySpec(
                name=f"{cls.group}/{array_name(model, point)}.{tokens}.rows{n_rows}",
                row_shape=(n_rows,),
                dtype="float64",
                dimension_names=("sample", f"minibatch_{n_rows}"),
                attributes={**facts(point), "revision": REVISION, "tokens": tokens, "rows_together": n_rows},
            )
            for point in points_of(model, layers, features.capture_points, "capture_points")
            for tokens in (("patches", "prefix") if model.n_prefix else ("patches",))
        ]

    def takes(self) -> Mapping[Point, Take]:
        """Return what takes the tokens of each point."""
        by_point: dict[Point, list[ArraySpec]] = {}
        for array in self.arrays:
            by_point.setdefault(point_of(array), []).append(array)
        return {point: partial(self._take, arrays) for point, arrays in by_point.items()}

    def begin(self, rows: Sequence[int], size: tuple[int, int]) -> None:
        """Begin a batch, which goes on with the current minibatch where its rows follow the last ones."""
        super().begin(rows, size)
        if rows and rows[0] != self._next_row:
            self._earlier = {}
        self._next_row = rows[-1] + 1 if rows else self._next_row

    def _take(self, arrays: Sequence[ArraySpec], tokens: torch.Tensor) -> None:
        n_prefix = self.model.n_prefix
        for array in arrays:
            part = tokens[:, :n_prefix] if array.attributes["tokens"] == "prefix" else tokens[:, n_prefix:]
            self.keep(array, self._products(array, part.flatten(1)))

    def _products(
        self, array: ArraySpec, vectors: Float[torch.Tensor, "row number"]
    ) -> Float[torch.Tensor, "row minibatch"]:
        """Return the products of the batch's rows, and remember those of an unfinished minibatch."""
        n_rows = array.row_shape[0]
        products = vectors.new_zeros((len(vectors), n_rows), dtype=torch.float64)
        done = 0
        while done < len(self.rows):
            place = self.rows[done] % n_rows
            new = vectors[done : done + n_rows - place][: len(self.rows) - done]
            earlier = self._earlier.get(array.name)
            # Rows before the first of this pass are of no range that it makes: their products stay 0.
            known = new if earlier is None or place == 0 else torch.cat([earlier, new])
            first = place + len(new) - len(known)
            block = _products_in_float64(new, known)
            products[done : done + len(new), first : place + len(new)] = block.tril(diagonal=len(known) - len(new))
            if place + len(new) == n_rows:
                self._earlier.pop(array.name, None)
            else:
                self._earlier[array.name] = known.clone() if known is new else known
            done += len(new)
        return products


def remembered_bytes(model: FrozenModel, array: ArraySpec) -> int:
    """Return the memory that the tokens of a minibatch take until it is complete, in bytes; 0 for other arrays."""
    if array.group != Grams.group:
        return 0
    layer = model.layers[array.layer or 0]
    n_tokens = model.n_prefix if array.attributes["tokens"] == "prefix" else layer.n_patches
    return 4 * array.row_shape[0] * n_tokens * layer.width


def _products_in_float64(
    rows: Float[torch.Tensor, "row number"], others: Float[torch.Tensor, "other number"]
) -> Float[torch.Tensor, "row other"]:
    total = rows.new_zeros((len(rows), len(others)), dtype=torch.float64)
    for start in range(0, rows.shape[1], _NUMBERS_AT_ONCE):
        some = others[:, start : start + _NUMBERS_AT_ONCE].double()
        total += rows[:, start : start + _NUMBERS_AT_ONCE].double() @ some.T
    return total
