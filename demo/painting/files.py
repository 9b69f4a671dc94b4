"""Writes pictures and label maps with fixed settings."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image


def save_picture(path: Path, picture: UInt8[np.ndarray, "height width 3"]) -> None:
    """Write a picture as PNG at the fastest level, because noise compresses little."""
    Image.fromarray(picture).save(path, format="PNG", compress_level=1)


def save_map(path: Path, labels: UInt8[np.ndarray, "height width"]) -> None:
    """Write a label map as PNG."""
    Image.fromarray(labels).save(path, format="PNG", compress_level=6)


def save_jpeg(path: Path, picture: UInt8[np.ndarray, "height width 3"]) -> None:
    """Write a picture as JPEG; its bytes depend on the library version."""
    Image.fromarray(picture).save(path, format="JPEG", quality=92)
