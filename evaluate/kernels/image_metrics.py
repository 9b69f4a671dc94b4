"""Reconstruction metrics: squared errors of patches, PSNR and SSIM of whole pictures."""

from collections.abc import Callable
from functools import partial

import numpy as np
from jaxtyping import Bool, Float, Float64

from stores.errors import UserError

Score = Callable[[np.ndarray, np.ndarray], float]
"""Takes the true picture and the reconstructed one."""

SSIM_WINDOW = 11
"""Side of the window of SSIM, in pixels."""


def patch_errors(
    truth: Float[np.ndarray, "sample height width 3"],
    pictures: Float[np.ndarray, "sample height width 3"],
    grid: tuple[int, int],
) -> Float64[np.ndarray, "sample patch"]:
    """Return the mean squared error of every patch over its pixels and channels, patches in row-major order."""
    rows, columns = grid
    n_samples, height, width, _ = truth.shape
    squared = (pictures.astype(np.float64) - truth) ** 2
    cells = squared.reshape(n_samples, rows, height // rows, columns, width // columns, 3)
    return cells.mean(axis=(2, 4, 5)).reshape(n_samples, rows * columns)


def mean_over(
    errors: Float64[np.ndarray, "sample patch"], counted: Bool[np.ndarray, "sample patch"]
) -> Float64[np.ndarray, " sample"]:
    """Return the mean error of each sample over its counted patches; nan where none counts.

    As the loss of MAE is the mean over masked patches: arXiv 2111.06377, section 3 ("Reconstruction target").
    """
    total = counted.sum(axis=1)
    return np.where(total > 0, (errors * counted).sum(axis=1) / np.maximum(total, 1), np.nan)


def psnr(
    truth: Float64[np.ndarray, "sample height width 3"], pictures: Float64[np.ndarray, "sample height width 3"]
) -> Float64[np.ndarray, " sample"]:
    """Return the peak signal-to-noise ratio of each picture in dB, for values in 0..1; infinite for equal ones."""
    from skimage.metrics import peak_signal_noise_ratio

    with np.errstate(divide="ignore"):
        return _each(partial(peak_signal_noise_ratio, data_range=1.0), truth, pictures)


def ssim(
    truth: Float64[np.ndarray, "sample height width 3"], pictures: Float64[np.ndarray, "sample height width 3"]
) -> Float64[np.ndarray, " sample"]:
    """Return the structural similarity of each picture, mean over pixels and channels, for values in 0..1.

    Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to structural similarity"
    (2004), section III.B: a Gaussian window of 11x11 pixels with sigma 1.5, population moments, K1 = 0.01, K2 = 0.03.
    Raises UserError for pictures smaller than the window.
    """
    from skimage.metrics import structural_similarity

    height, width = truth.shape[1:3]
    if min(height, width) < SSIM_WINDOW:
        raise UserError(
            f"SSIM needs {SSIM_WINDOW}x{SSIM_WINDOW} pixels and the inputs have {width}x{height}: choose "
            "a larger `input` in [frame]"
        )

    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    return _each(partial(structural_similarity, channel_axis=2, **settings), truth, pictures)


def _each(score: Score, truth: np.ndarray, pictures: np.ndarray) -> Float64[np.ndarray, " sample"]:
    return np.array([score(true, shown) for true, shown in zip(truth, pictures, strict=True)], dtype=np.float64)
