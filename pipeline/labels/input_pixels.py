"""Input pixels in the label set, for comparison with a decoder's predictions and for figures.

They are the model inputs before normalisation, shared by all models of one interpolation; every interpolation has its
own array. Views have none.
"""

import dataclasses
import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import UInt8

from pipeline.frame_recipe import Interpolation
from pipeline.rows.pixels import read_tiles
from pipeline.rows.samples import Samples
from pipeline.views import CLEAN
from stores.specs import ArraySpec

GROUP = "inputs"


def input_array(samples: Samples, interpolation: Interpolation) -> ArraySpec:
    """Return the record of the input pixels of one interpolation."""
    size = samples.frame.input
    return ArraySpec(
        name=f"{GROUP}/pixels.{interpolation}",
        row_shape=(size.height, size.width, 3),
        dtype="uint8",
        dimension_names=("sample", "height", "width", "colour"),
        # The label set's own record lacks the revision of image decoding, because labels do not depend on it.
        attributes={"interpolation": interpolation, "images_revision": samples.images_revision},
    )


def input_pixels(
    samples: Samples, interpolation: Interpolation, start: int, stop: int
) -> UInt8[np.ndarray, "sample height width 3"]:
    """Return some rows as model inputs, RGB 0..255; images are decoded again.

    Raises UserError when an image's bytes are not those the samples were made from.

    Args:
        samples: The rows under their view.
        interpolation: How sources and tiles are resized.
        start: First row.
        stop: Row after the last.
    """
    # A view that moves no labels shares the clean view's label set, which keeps the clean inputs.
    shown = samples if samples.view.moves_labels else dataclasses.replace(samples, view=CLEAN)
    runs = [list(run) for _, run in itertools.groupby(range(start, stop), key=lambda row: samples.tiles[row][0])]
    with ThreadPoolExecutor(2) as pool:
        parts = pool.map(lambda run: read_tiles(shown, interpolation, run[0], run[-1] + 1)[0], runs)
        return np.concatenate(list(parts))
