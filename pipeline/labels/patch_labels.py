"""Computes a class for every patch from the classes of its pixels."""

import numpy as np
from jaxtyping import Int64, UInt8

from stores.errors import UserError

REVISION = 1
"""Increased when the same pixel classes give other patch labels."""

_IDS = 256
_PIXELS_AT_ONCE = 1 << 22
_CELLS_AT_ONCE = 1 << 14  # their counts take 32 MB


def patch_labels(
    pixel_classes: UInt8[np.ndarray, "sample height width"], grid_rows: int, grid_columns: int
) -> UInt8[np.ndarray, "sample patch"]:
    """Return the most common class id in each patch, patches in row-major order.

    Paper A, section 3.1: "most common class in the patch". Void (255) is a candidate like any other id, and
    ties go to the lowest id. Uses about 100 MB for any number of samples. Raises UserError when the grid
    does not divide the pixels.
    """
    n_samples, height, width = pixel_classes.shape
    if grid_rows < 1 or grid_columns < 1 or height % grid_rows or width % grid_columns:
        raise UserError(
            f"a label map of {width}x{height} pixels (width x height) does not divide into "
            f"{grid_columns}x{grid_rows} patches; choose an input size that is a multiple of the patch size"
        )
    patch_height, patch_width = height // grid_rows, width // grid_columns
    bands = pixel_classes.reshape(n_samples * grid_rows, patch_height, grid_columns, patch_width)
    labels = np.empty((n_samples * grid_rows, grid_columns), np.uint8)
    step = max(1, min(_PIXELS_AT_ONCE // (patch_height * width), _CELLS_AT_ONCE // grid_columns))
    for start in range(0, len(bands), step):
        cells = bands[start : start + step].transpose(0, 2, 1, 3)
        labels[start : start + step] = (
            _counts(cells.reshape(-1, patch_height * patch_width)).argmax(1).reshape(-1, grid_columns)
        )
    return labels.reshape(n_samples, grid_rows * grid_columns)


def _counts(cells: UInt8[np.ndarray, "cell pixel"]) -> Int64[np.ndarray, "cell 256"]:
    """Return how often every id occurs in every cell."""
    address = cells.astype(np.int64) + np.arange(len(cells), dtype=np.int64)[:, None] * _IDS
    return np.bincount(address.ravel(), minlength=len(cells) * _IDS).astype(np.int64, copy=False).reshape(-1, _IDS)
