"""What stands for every image at a layer: one vector (class token, mean patch), or its row of a Gram matrix."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32, Int64

from evaluate.inputs.captured import captured_arrays
from evaluate.inputs.chunks import of_chunks
from evaluate.inputs.memory import reading_bytes
from evaluate.inputs.model_sets import ModelSets
from evaluate.settings import Layers
from stores.errors import MissingError, UserError
from stores.format.paths import MEANS

Tokens = Literal["class-token", "mean-patch", "patches", "all"]
"""Tokens that stand for an image: the class token, the mean patch, all patches as one vector, or all tokens."""
VECTORS = ("class-token", "mean-patch")
"""Those that are stored as vectors; of the others only Gram matrices are."""
OUTPUT = "output"
"""The point after a block, both residuals added."""


@dataclass(frozen=True)
class Representation:
    """The stored arrays of one layer."""

    name: str
    """For tables: ``block.3.norm``, ``block.3.mlp``."""
    layer: int
    """Block or stage, counted from 0."""
    depth: float
    """Blocks that were passed: 0 for the embedding, 0.5 inside the first block, 1 after it."""
    normed: bool | None
    """Whether vectors went through the model's final norm; None where there is no norm to choose."""
    addresses: tuple[str, ...]
    """The array of vectors, or the arrays whose Gram matrices are added."""


def has_class_token(model: ModelSets) -> bool:
    """Return whether some array of a model holds prefix tokens, of which the first is the class token."""
    arrays = model.features.arrays.values()
    return any(
        array.group == "prefix" or array.attributes.get("tokens") == "prefix" or array.attributes.get("n_prefix")
        for array in arrays
    )


def shared_gram_rows(model: ModelSets, other: ModelSets) -> int | None:
    """Return the rows of a minibatch of both models' Gram matrices, the largest; None where one has no such matrices.

    Raises UserError where both have some and none of the same size.
    """
    sizes = [
        {array.row_shape[0] for array in one.features.arrays.values() if array.group == "grams"}
        for one in (model, other)
    ]
    if all(sizes) and not sizes[0] & sizes[1]:
        raise UserError(
            f"the Gram matrices of {model.title} are of {max(sizes[0])} rows (gram_rows) and those of {other.title} of "
            f"{max(sizes[1])}, which cannot be compared: give both the same gram_rows in [features] and run "
            f"`{other.extract_command}`"
        )
    return max(sizes[0] & sizes[1], default=None)


def representations(
    model: ModelSets, tokens: Tokens, point: str, layers: Layers, norm: str, gram_rows: int | None
) -> tuple[Representation, ...]:
    """Return the layers' arrays by depth; raises MissingError where they are not stored.

    Args:
        model: stored sets of the model.
        tokens: what stands for an image; of ``all`` the matrices of patches and of prefix tokens are added.
        point: where in the block; for vectors all but the output need tensors of sub-layers.
        layers: ``all`` or numbers.
        norm: ``final`` or ``none``, for vectors of outputs.
        gram_rows: rows of a minibatch of Gram matrices; None where there are none.
    """
    if tokens in VECTORS:
        return tuple(_of_vectors(model, tokens, point, layers, norm))
    return tuple(_of_grams(model, tokens, point, layers, gram_rows))


def _of_grams(model: ModelSets, tokens: Tokens, point: str, layers: Layers, n_rows: int | None) -> list[Representation]:
    suffix = "" if n_rows is None else f".patches.rows{n_rows}"
    found = captured_arrays(model, "grams", "grams", layers=layers, points=(point,), suffix=suffix)
    addresses: list[tuple[str, ...]] = [(one.address,) for one in found]
    of_prefix = suffix.replace(".patches.", ".prefix.")
    if tokens == "all" and any(address.endswith(of_prefix) for address in model.features.arrays):
        prefix = captured_arrays(model, "grams", "grams", layers=layers, points=(point,), suffix=of_prefix)
        addresses = [(*own, one.address) for own, one in zip(addresses, prefix, strict=True)]
    return [
        Representation(one.address.partition("/")[2].removesuffix(suffix), one.layer, one.depth, None, own)
        for one, own in zip(found, addresses, strict=True)
    ]


def _of_vectors(model: ModelSets, tokens: Tokens, point: str, layers: Layers, norm: str) -> list[Representation]:
    if point == OUTPUT:
        addresses = model.arrays(layers, norm, ("prefix",) if tokens == "class-token" else (MEANS, "tokens"))
        return [
            Representation(
                address.partition("/")[2],
                model.layer(address),
                model.layer(address) + 1.0,
                model.is_normed(address),
                (address,),
            )
            for address in addresses
        ]
    try:
        found = captured_arrays(model, "sublayers", "sublayers", layers=layers, points=(point,))
    except MissingError:
        raise MissingError(
            f'{model.title} has no stored tokens at "{point}", of which similarity of "{tokens}" is computed: add '
            f'"{point}" to `sublayers` in [features] and run `{model.extract_command}`, or ask for tokens = '
            '["patches"], of which Gram matrices are enough'
        ) from None
    return [Representation(one.address.partition("/")[2], one.layer, one.depth, None, (one.address,)) for one in found]


def image_vectors(
    model: ModelSets, representation: Representation, tokens: Tokens, rows: Int64[np.ndarray, " row"]
) -> Float32[np.ndarray, "row channel"]:
    """Return one vector a row: its class token, or the mean of its patch tokens, taken in float64.

    Args:
        model: stored sets of the model.
        representation: the layer.
        tokens: ``class`` or ``mean``.
        rows: rows to read, increasing.
    """
    stored = model.features[representation.addresses[0]]
    n_prefix = int(stored.spec.attributes.get("n_prefix") or 0)

    def vectors(first: int, block: np.ndarray) -> np.ndarray:
        if tokens == "class-token":
            return block[:, 0].astype(np.float32)
        is_mean = block.ndim == 2
        return (block if is_mean else block[:, n_prefix:].mean(axis=1, dtype=np.float64)).astype(np.float32)

    return np.concatenate(list(of_chunks(stored, rows, vectors)))


def vector_bytes(model: ModelSets, representations: Sequence[Representation], n_rows: int) -> tuple[int, int]:
    """Return what the vectors of all layers hold, and what reading the last of them holds besides."""
    widths = [model.n_channels(one.addresses[0]) for one in representations]
    reading = max(reading_bytes(model, one.addresses[0]) for one in representations)
    return 4 * n_rows * sum(widths), 4 * n_rows * max(widths) + reading
