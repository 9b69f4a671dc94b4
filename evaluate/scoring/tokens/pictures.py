"""Pictures of the patch tokens of a few inputs, at one or several layers of one model, as arrays for figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8

from evaluate.inputs.memory import reading_bytes
from evaluate.inputs.model_sets import ModelSets
from evaluate.kernels.progress import report
from evaluate.kernels.tokens import pictures as kernel
from evaluate.scoring.retrieval.examples import pixels_of
from evaluate.scoring.tokens.maps import patch_tokens
from stores.errors import UserError

LARGEST_SIDE = 256
"""Longer side of the inputs that are shown, in pixels at most."""


@dataclass(frozen=True)
class PictureOptions:
    """What is shown and how."""

    kinds: tuple[Literal["components", "norm", "cosine"], ...] = ("components", "norm", "cosine")
    queries: tuple[tuple[float, float], ...] = ((0.5, 0.5),)
    """Places of query patches: from the top and from the left, as shares of the input, 0..1."""
    basis: Literal["layer", "layers"] = "layer"
    """Whether every layer has components of its own, or all layers share those of their tokens together. Which values
    of a component are black and full colour is each layer's own in both."""
    foreground: bool = False
    """Whether only the foreground is coloured (`evaluate.kernels.tokens.pictures`)."""


def token_pictures(
    model: ModelSets, addresses: Sequence[str], rows: Int64[np.ndarray, " image"], options: PictureOptions
) -> tuple[dict[str, np.ndarray], list[float]]:
    """Return the arrays of the figures, and for each layer which share of the variance its three components have.

    Args:
        model: Stored sets of the model.
        addresses: Token arrays, inner layers first.
        rows: Rows that are shown.
        options: What is shown.

    Raises UserError for one basis of layers of unequal width.
    """
    arrays: dict[str, np.ndarray] = {
        "picture_layers": np.array([name.partition("/")[2] for name in addresses]),
        "picture_samples": model.samples["sample"].to_numpy(dtype=str)[rows],
        "picture_queries": np.array(options.queries, dtype=np.float64).reshape(-1, 2),
    }
    shares: list[float] = []
    if "components" in options.kinds:
        pictures, shares = _components(model, addresses, rows, options)
        arrays |= {f"picture_components/{number}": one for number, one in enumerate(pictures)}
    for number, address in enumerate(addresses):
        if {"norm", "cosine"}.isdisjoint(options.kinds):
            break
        report("layers", number, len(addresses))
        grid = model.grid(address)
        tokens = patch_tokens(model, address, rows)
        if "norm" in options.kinds:
            arrays[f"picture_norm/{number}"] = kernel.norms(tokens).reshape(len(rows), *grid).astype(np.float32)
        if "cosine" in options.kinds:
            maps = kernel.cosines(tokens, query_places(options.queries, grid))
            arrays[f"picture_cosine/{number}"] = maps.reshape(*maps.shape[:2], *grid).astype(np.float32)
    if (pixels := pixels_of(model)) is not None:
        arrays["picture_inputs"] = smaller(np.asarray(model.labels[pixels][rows]))
    return arrays, shares


def query_places(queries: Sequence[tuple[float, float]], grid: tuple[int, int]) -> Int64[np.ndarray, " query"]:
    """Return the numbers of the patches at some places, given as shares of height and width."""
    places = [min(int(y * grid[0]), grid[0] - 1) * grid[1] + min(int(x * grid[1]), grid[1] - 1) for y, x in queries]
    return np.array(places, dtype=np.int64)


def smaller(inputs: UInt8[np.ndarray, "image height width 3"]) -> UInt8[np.ndarray, "image rows columns 3"]:
    """Return inputs with every n-th pixel, the smallest n that brings both sides to `LARGEST_SIDE` or below."""
    step = -(-max(inputs.shape[1:3]) // LARGEST_SIDE)
    return np.ascontiguousarray(inputs[:, ::step, ::step])


def picture_bytes(model: ModelSets, addresses: Sequence[str], n_rows: int, basis: str) -> int:
    """Return the peak memory of `token_pictures`, in bytes."""
    n_tokens = max(n_rows * int(np.prod(model.grid(address))) for address in addresses)
    width = max(model.n_channels(address) for address in addresses)
    reading = max(reading_bytes(model, address) for address in addresses)
    together = len(addresses) if basis == "layers" else 1
    pixels = pixels_of(model)
    stored = None if pixels is None else model.labels[pixels]
    inputs = 0 if stored is None else (2 * n_rows + 2 * stored.layout.chunk_rows(stored.spec)) * stored.spec.row_bytes
    return 8 * (4 * together + 2) * n_tokens * width + 8 * 6 * width**2 + reading + inputs


def _components(
    model: ModelSets, addresses: Sequence[str], rows: Int64[np.ndarray, " image"], options: PictureOptions
) -> tuple[list[UInt8[np.ndarray, "image rows columns 3"]], list[float]]:
    """Return a picture a layer, and which share of its variance the three components have."""
    widths = {model.n_channels(address) for address in addresses}
    if options.basis == "layers" and len(widths) > 1:
        raise UserError(
            f"the layers of {model.title} have {min(widths)} to {max(widths)} features and can share no components: "
            'set basis = "layer" (`look`: leave --shared-basis out)'
        )
    groups = [list(addresses)] if options.basis == "layers" else [[address] for address in addresses]
    pictures, shares = [], []
    for number, group in enumerate(groups):
        report("components", number, len(groups))
        tokens = [patch_tokens(model, address, rows).reshape(len(rows), *model.grid(address), -1) for address in group]
        shown = [_shown(one, options.foreground) for one in tokens]
        axes = kernel.Axes.of(np.concatenate([one[here] for one, here in zip(tokens, shown, strict=True)]))
        placed = [axes.project(one) for one in tokens]
        # Later blocks' tokens are longer or shorter by far: with one scale a layer would be flat beside the others.
        pictures += [
            kernel.colours(one, here, kernel.limits(one[here])) for one, here in zip(placed, shown, strict=True)
        ]
        shares += [axes.share] * len(group)
    return pictures, shares


def _shown(
    tokens: Float32[np.ndarray, "image rows columns channel"], foreground: bool
) -> Bool[np.ndarray, "image rows columns"]:
    """Return which tokens are coloured; all where the foreground would have too few for three components."""
    everything = np.ones(tokens.shape[:3], dtype=bool)
    if not foreground:
        return everything
    first = kernel.Axes.of(tokens.reshape(-1, tokens.shape[-1])).project(tokens)[..., 0]
    chosen = kernel.foreground(first)
    return chosen if chosen.sum() > kernel.N_COLOURS else everything
