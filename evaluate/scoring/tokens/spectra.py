"""Singular values and participation ratios of the stored tokens of some images, read in one pass."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from evaluate.inputs.chunks import ahead, of_chunks, readers
from evaluate.inputs.memory import reading_bytes
from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.rows import RowSelection, image_numbers
from evaluate.inputs.work import CALL, READ, Work
from evaluate.kernels.tokens.spectra import centred_gram, log_singular_values, participation_ratio

DECOMPOSED = 4.0
"""Passes for every element of a Gram matrix and row of it: its eigenvalues."""


@dataclass(frozen=True)
class TokenSpectra:
    """Singular values of the tokens of some images; all are logarithms less that of the first."""

    of_rows: Float64[np.ndarray, "row rank"]
    """Of each row's own tokens."""
    of_images: Float64[np.ndarray, " image_rank"]
    """Of the images' mean tokens."""
    participation: Float64[np.ndarray, " row"]
    """Participation ratio of each row's own tokens."""
    pooled_participation: float
    """Participation ratio of all tokens together."""


class _BlockSpectra(NamedTuple):
    """What the rows of one chunk give."""

    logs: list[np.ndarray]
    ratios: list[float]
    means: list[np.ndarray]
    within: np.ndarray
    """Scatter matrix of the tokens about the means of their rows, summed over the rows."""


def n_prefix(model: ModelSets, array: str) -> int:
    """Return how many tokens stand before the patches in an array's rows."""
    return int(model.features.arrays[array].attributes.get("n_prefix") or 0)


def token_spectra(model: ModelSets, array: str, images: RowSelection) -> TokenSpectra:
    """Return the singular values of a token array's rows, of its images, and participation ratios.

    The array is one of ``tokens/*``, or a point of ``sublayers/*``, whose prefix tokens are left out.
    """
    first_patch = n_prefix(model, array)

    def of_block(first: int, block: np.ndarray) -> _BlockSpectra:
        logs, ratios, means, within = [], [], [], np.zeros((block.shape[2], block.shape[2]))
        for row in block:
            tokens = row[first_patch:].astype(np.float64)
            gram = centred_gram(tokens)
            logs.append(log_singular_values(gram, len(tokens)))
            ratios.append(participation_ratio(gram))
            means.append(tokens.mean(axis=0))
            tokens -= means[-1]
            within += tokens.T @ tokens
        return _BlockSpectra(logs, ratios, means, within)

    logs: list[np.ndarray] = []
    ratios: list[float] = []
    means: list[np.ndarray] = []
    n_tokens, n_channels = model.features.arrays[array].row_shape
    within = np.zeros((n_channels, n_channels))
    for some in of_chunks(model.features[array], images.rows, of_block):
        logs += some.logs
        ratios += some.ratios
        means += some.means
        within += some.within
    centres = np.stack(means)
    between = centres - centres.mean(axis=0)
    numbers = image_numbers(model, images)
    counts = np.bincount(numbers, minlength=len(images.sources))
    sums = np.zeros((len(images.sources), centres.shape[1]))
    np.add.at(sums, numbers, centres)
    of_images = sums / counts[:, None]
    return TokenSpectra(
        np.stack(logs),
        log_singular_values(centred_gram(of_images), len(of_images)),
        np.array(ratios),
        participation_ratio(within + (n_tokens - first_patch) * between.T @ between),
    )


def spectra_bytes(model: ModelSets, array: str, n_rows: int, n_images: int) -> int:
    """Return what `token_spectra` holds: a chunk's results in every thread, and the vectors of all images.

    Args:
        model: stored sets of the model.
        array: token array.
        n_rows: rows that are read.
        n_images: images they belong to.
    """
    stored = model.features[array]
    n_tokens, n_channels = stored.spec.row_shape
    side = min(n_tokens, n_channels)
    of_row = 8 * (3 * n_tokens * n_channels + 4 * side * side + 2 * n_channels**2)
    chunk_bytes = stored.layout.chunk_rows(stored.spec) * stored.spec.row_bytes
    of_all = 8 * ((4 + ahead(chunk_bytes)) * n_channels**2 + 4 * min(n_images, n_channels) ** 2)
    kept = 8 * n_rows * (4 * n_channels + 2 * side) + 8 * 4 * n_images * n_channels
    return reading_bytes(model, array) + readers() * of_row + of_all + kept


def spectra_work(model: ModelSets, array: str, n_rows: int) -> Work:
    """Return the work of `token_spectra` for so many rows: products and eigenvalues of each."""
    n_tokens, n_channels = model.features.arrays[array].row_shape
    side = float(min(n_tokens, n_channels))
    products = 4.0 * n_tokens * n_channels * (side + n_channels)
    return Work(products, READ * n_tokens * n_channels + DECOMPOSED * side**3 / 8 + 4 * CALL) * n_rows
