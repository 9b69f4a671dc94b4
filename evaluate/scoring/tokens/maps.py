"""Tokens of a few inputs in two and three dimensions: which inputs, their classes, and the arrays of the pictures."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64

from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.rows import RowSelection, spread_evenly
from evaluate.kernels.tokens.projections import leading_directions, tsne_map
from evaluate.scoring.tokens.spectra import n_prefix

RESIDUAL = "attention-residual"
"""Point of a block after its attention."""


def shown_rows(model: ModelSets, scored: RowSelection, n_images: int, n_classes: int) -> Int64[np.ndarray, " image"]:
    """Return one row, the first, of each image that is shown.

    Where images have classes, they are of the most common ones, as many of each; else they are spread evenly.

    Args:
        model: stored sets of the model.
        scored: rows to choose from.
        n_images: most images.
        n_classes: most classes of images.
    """
    samples = model.samples.iloc[scored.rows]
    firsts = np.sort(np.unique(samples["source"].to_numpy(dtype=str), return_index=True)[1])
    firsts = firsts[np.argsort(samples["source"].to_numpy(dtype=str)[firsts], kind="stable")]
    classes = image_classes(model, scored.rows[firsts])
    if classes is None:
        return np.sort(scored.rows[firsts[spread_evenly(len(firsts), n_images)]])
    counts = np.bincount(classes)
    common = [number for number in np.argsort(-counts, kind="stable")[:n_classes] if counts[number]]
    of_class = [np.flatnonzero(classes == number) for number in common]
    places = [some[spread_evenly(len(some), max(1, n_images // len(common)))] for some in of_class]
    return np.sort(scored.rows[firsts[np.concatenate(places)]])


def image_classes(model: ModelSets, rows: Int64[np.ndarray, " row"]) -> Int64[np.ndarray, " row"] | None:
    """Return the class of the image of every row, None where one has none."""
    if "image_class" not in model.samples:
        return None
    classes = model.samples["image_class"].to_numpy(dtype=np.int64)[rows]
    return None if (classes < 0).any() else classes


def token_classes(
    model: ModelSets, array: str, rows: Int64[np.ndarray, " row"]
) -> Int64[np.ndarray, "row patch"] | None:
    """Return the class of every patch, or of its image, 255 (void) where it has none; None for data without classes."""
    rows_of_grid, columns = model.grid(array)
    if model.label_spec.pixel_labels:
        return np.asarray(model.labels[model.label_array((rows_of_grid, columns))][rows]).astype(np.int64)
    classes = image_classes(model, rows)
    return None if classes is None else np.repeat(classes[:, None], rows_of_grid * columns, axis=1)


def patch_tokens(
    model: ModelSets, array: str, rows: Int64[np.ndarray, " row"]
) -> Float32[np.ndarray, "row patch channel"]:
    """Return the patches of some rows, prefix tokens left out."""
    return np.asarray(model.features[array][rows])[:, n_prefix(model, array) :].astype(np.float32)


@dataclass(frozen=True)
class Step:
    """Two arrays between which tokens are followed."""

    before: str
    after: str
    title: str
    """What lies between them, for the figure."""


def step_of(model: ModelSets, array: str) -> Step | None:
    """Return the step that ends with a layer's attention where that is stored, else with the layer; None without both.

    It begins with the output of the layer before, or the embedding. Normed tokens are followed from layer to layer
    only: what is inside a block is not normed.
    """
    features, layer = model.features, model.layer(array)
    normed = model.is_normed(array)
    suffix = ".norm" if normed else ""
    inside = f"sublayers/block.{layer}.{RESIDUAL}"
    before = f"tokens/block.{layer - 1}{suffix}" if layer else "sublayers/embedding"
    after = inside if normed is False and features.sealed(inside) else array
    if not features.sealed(before) or (normed and not layer):
        return None
    first, second = (features.arrays[name] for name in (before, after))
    n_patches = [one.row_shape[0] - n_prefix(model, one.name) for one in (first, second)]
    if n_patches[0] != n_patches[1] or first.row_shape[1] != second.row_shape[1]:
        return None
    what = "attention of " if after == inside else ""
    return Step(before, after, f"{what}block {layer}")


def flat_maps(
    tokens: Float32[np.ndarray, "image patch channel"], perplexity: float, seed: int
) -> tuple[dict[str, np.ndarray], float]:
    """Return principal components and t-SNE of all tokens together, by token, and the share that the first show.

    Args:
        tokens: tokens of some images.
        perplexity: of t-SNE.
        seed: of t-SNE's start.
    """
    vectors = tokens.reshape(-1, tokens.shape[2])
    directions, mean, share = leading_directions(vectors, 2)
    return {
        "token_pca": ((vectors - mean) @ directions).astype(np.float32),
        "token_tsne": tsne_map(vectors, perplexity, seed),
    }, share


def moves(
    before: Float32[np.ndarray, "patch channel"], after: Float32[np.ndarray, "patch channel"]
) -> tuple[Float64[np.ndarray, "when patch 3"], float]:
    """Return one image's tokens before and after a step, on the first three right singular vectors of both together."""
    both = np.concatenate([before, after])
    directions, mean, share = leading_directions(both, 3)
    placed = (both - mean) @ directions
    return placed.reshape(2, len(before), -1), share
