"""Treatments for vectors that are means of tokens, fitted on the stored tokens of rows without holding them."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float64

from evaluate.inputs.chunks import of_chunks
from evaluate.inputs.memory import n_patches, reading_bytes
from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.rows import RowSelection, image_numbers
from evaluate.kernels.treatments import Treatment, streamed
from evaluate.kernels.treatments.streamed import AffineTreatment, fit_affine


def fit_on_tokens(
    model: ModelSets,
    array: str,
    selection: RowSelection,
    mean: Float64[np.ndarray, " channel"],
    treatment: Treatment,
    seed: int,
) -> AffineTreatment:
    """Return a treatment fitted on all patch tokens of the selected rows, which are read once; not for ``centre``.

    Args:
        model: stored sets of the model.
        array: address of the token array.
        selection: rows to read.
        mean: mean of their tokens.
        treatment: an affine one.
        seed: seed of random signs.
    """
    images = image_numbers(model, selection)

    def rows() -> Iterator[tuple[int, np.ndarray]]:
        for first, block in of_chunks(model.features[array], selection.rows, lambda first, block: (first, block)):
            for at, tokens in enumerate(block, start=first):
                yield int(images[at]), tokens

    return fit_affine(treatment, mean, rows(), len(selection.sources), seed)


def fitting_bytes(model: ModelSets, array: str, treatment: Treatment) -> int:
    """Return what `fit_on_tokens` holds, in bytes."""
    width = model.n_channels(array)
    return reading_bytes(model, array) + streamed.peak_bytes(treatment, n_patches(model, array, 1), width)
