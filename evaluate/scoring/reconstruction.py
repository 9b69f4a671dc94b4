"""Inputs of a decoder, read batch by batch, and scores of what it reconstructs with some features zeroed."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, Integer, UInt8

from evaluate.decoder import PatchDecoder
from evaluate.inputs.model_sets import ModelSets
from evaluate.kernels.image_metrics import mean_over, patch_errors, psnr, ssim
from evaluate.results.metrics import MSE_NORMALISED, MSE_PIXELS, PSNR, SSIM
from stores.errors import MissingError, UserError

BLOCK_BYTES = 8 << 20
"""Stored bytes that are read at a time."""
DECODED = 8
"""Tiles that are decoded at a time; part of what makes equal bytes."""


@dataclass(frozen=True)
class Stored:
    """Addresses of the arrays a reconstruction reads."""

    ranking: str
    """Unmasked last tokens, whose variance over the training rows ranks the features."""
    tokens: str
    """Last tokens of all patches or of the visible ones."""
    prefix: str
    """Class token of the same pass."""
    ids: str | None
    """Which patches were visible; None where all were."""
    pixels: str
    """Inputs, in the label set."""


@dataclass(frozen=True)
class Batch:
    """Some validation tiles."""

    indices: Int64[np.ndarray, " sample"]
    """Their indices in the selection."""
    tokens: Float32[np.ndarray, "sample token channel"]
    """Class token first."""
    ids: Integer[np.ndarray, "sample visible"] | None
    pixels: UInt8[np.ndarray, "sample height width 3"]

    def masked(self, n_patches: int) -> Bool[np.ndarray, "sample patch"]:
        """Return which patches the encoder did not see."""
        hidden = np.ones((len(self.pixels), n_patches), dtype=np.bool_)
        if self.ids is None:
            return ~hidden
        np.put_along_axis(hidden, self.ids.astype(np.int64), False, axis=1)
        return hidden


def stored_arrays(model: ModelSets, decoder: PatchDecoder, ratio: float, mask_seed: int) -> Stored:
    """Return the arrays to read for one share of masked patches.

    Raises MissingError, with the key and the command that make it, when one is not there; UserError when the decoder
    belongs to another encoder.

    Args:
        model: stored sets of the model.
        decoder: the model's decoder.
        ratio: share of masked patches.
        mask_seed: seed of the mask.
    """
    if decoder.encoder != model.spec.model.weights:
        raise UserError(
            f"the decoder of {model.title} belongs to an encoder with other weights than set "
            f"{model.features.digest[:12]} was made with: run `{model.extract_command}` with the present file"
        )
    ranking = model.arrays((decoder.layer,), "final")[0]
    last = ranking.partition("/")[2]
    command, where = model.extract_command, model.features.objects.url
    pixels = f"inputs/pixels.{model.spec.model.interpolation}"
    title = f"mask{100 * ratio:g}.seed{mask_seed}"
    masked = ratio > 0
    stored = Stored(
        ranking=ranking,
        tokens=f"visible/{title}.{last}" if masked else ranking,
        prefix=f"prefix/{title}.{last}" if masked else f"prefix/{last}",
        ids=f"visible/{title}.ids" if masked else None,
        pixels=pixels,
    )
    key = f"`masked = {{ ratio = {ratio:g}, seed = {mask_seed} }}`" if masked else "`prefix = true`"
    for name in filter(None, (stored.tokens, stored.prefix, stored.ids)):
        if not model.features.sealed(name):
            raise MissingError(
                f"{name} of {model.title} is not complete in {where}: set {key} in [features] and run `{command}`"
            )
    if not model.labels.sealed(pixels):
        raise MissingError(
            f"{pixels} is not complete in label set {model.labels.digest[:12]}: set `input_pixels = true` in "
            f"[features] and run `{command}`"
        )
    return stored


def batches(model: ModelSets, stored: Stored, rows: Int64[np.ndarray, " row"]) -> Iterator[Batch]:
    """Yield the tiles of some rows in order, a few at a time; what is read ahead is bounded."""
    sets = {name: model.features[name] for name in (stored.tokens, stored.prefix, stored.ids) if name}
    pixels = model.labels[stored.pixels]
    row_bytes = pixels.spec.row_bytes + sum(array.spec.row_bytes for array in sets.values())
    step = max(1, BLOCK_BYTES // row_bytes // DECODED) * DECODED
    for start in range(0, len(rows), step):
        here = rows[start : start + step]
        read = {name: array[here] for name, array in sets.items()}
        true = pixels[here]
        tokens = np.concatenate([read[stored.prefix], read[stored.tokens]], axis=1, dtype=np.float32)
        for first in range(0, len(here), DECODED):
            some = slice(first, first + DECODED)
            yield Batch(
                indices=np.arange(start, start + len(here), dtype=np.int64)[some],
                tokens=tokens[some],
                ids=None if stored.ids is None else read[stored.ids][some],
                pixels=true[some],
            )


def batch_bytes(model: ModelSets, stored: Stored) -> int:
    """Return the bytes that reading ahead and scoring hold: float32 tokens, and float64 copies of a few pictures.

    What was read before is there until the next is, and one chunk, packed and unpacked, is read at a time.
    """
    sets = [model.features[name] for name in (stored.tokens, stored.prefix, stored.ids) if name]
    pixels = model.labels[stored.pixels]
    row_bytes = pixels.spec.row_bytes + sum(array.spec.row_bytes for array in sets)
    chunk = max(2 * array.layout.chunk_rows(array.spec) * array.spec.row_bytes for array in (pixels, *sets))
    values = sum(math.prod(array.spec.row_shape) for array in sets)
    read = 2 * (row_bytes + 4 * values) * max(1, BLOCK_BYTES // row_bytes // DECODED) * DECODED
    return chunk + read + DECODED * (2 * 4 * values + 6 * 8 * pixels.spec.row_bytes)


def scored(
    decoder: PatchDecoder,
    batch: Batch,
    zeroed: Bool[np.ndarray, " channel"],
    prefix: bool,
    grid: tuple[int, int],
) -> tuple[dict[str, Float64[np.ndarray, " sample"]], Float32[np.ndarray, "sample height width 3"]]:
    """Return the scores of each tile by metric, and the reconstructed tiles in 0..1, with some features zeroed.

    Args:
        decoder: the model's decoder.
        batch: tiles to reconstruct.
        zeroed: which features are set to zero.
        prefix: whether those of the class token are too.
        grid: rows and columns of patches.
    """
    tokens = batch.tokens.copy()
    tokens[:, 0 if prefix else 1 :, zeroed] = 0.0
    predicted = decoder(tokens, batch.ids)
    drawn = np.clip(decoder.images(predicted, batch.pixels), 0.0, 1.0)
    truth = batch.pixels / 255.0
    squared = ((predicted.astype(np.float64) - decoder.targets(batch.pixels)) ** 2).mean(axis=2)
    errors = {MSE_NORMALISED: squared, MSE_PIXELS: patch_errors(truth, drawn, grid)}
    masked = batch.masked(squared.shape[1])
    scores = {}
    for name, of_patches in errors.items():
        if batch.ids is None:
            scores[name] = of_patches.mean(axis=1)
        else:
            scores[name] = mean_over(of_patches, masked)
            scores[f"{name}_visible"] = mean_over(of_patches, ~masked)
            scores[f"{name}_all"] = of_patches.mean(axis=1)
    wide = drawn.astype(np.float64)
    return {**scores, PSNR: psnr(truth, wide), SSIM: ssim(truth, wide)}, drawn


def mean_patch_errors(decoder: PatchDecoder, batch: Batch) -> Float64[np.ndarray, " sample"]:
    """Return each tile's squared error, over the patches `scored` counts, when every patch is the mean visible patch.

    The mean is that of the decoder's targets over the patches the encoder saw, value by value: a prediction that needs
    no feature.
    """
    targets = decoder.targets(batch.pixels).astype(np.float64)
    masked = batch.masked(targets.shape[1])
    seen = ~masked[:, :, None]
    mean = (targets * seen).sum(axis=1, keepdims=True) / seen.sum(axis=1, keepdims=True)
    squared = ((targets - mean) ** 2).mean(axis=2)
    return squared.mean(axis=1) if batch.ids is None else mean_over(squared, masked)


def greyed(batch: Batch, grid: tuple[int, int]) -> UInt8[np.ndarray, "sample height width 3"]:
    """Return the inputs with masked patches in grey."""
    rows, columns = grid
    height, width = batch.pixels.shape[1:3]
    masked = batch.masked(rows * columns).reshape(-1, rows, columns)
    covered = masked.repeat(height // rows, axis=1).repeat(width // columns, axis=2)
    return np.where(covered[..., None], np.uint8(128), batch.pixels)
