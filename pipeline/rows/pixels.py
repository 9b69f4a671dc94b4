"""Reads the pixels of rows: decodes a source image and cuts its tiles under the samples' view."""

import numpy as np
from jaxtyping import Float32, UInt8

from pipeline.datasets.reading.files import read_bytes
from pipeline.datasets.reading.images import read_image
from pipeline.frame_recipe import Interpolation
from pipeline.rows import under_view
from pipeline.rows.samples import Samples
from pipeline.rows.sources import MOST_SOURCE_BYTES
from stores.errors import MissingError


def read_tiles(
    samples: Samples, interpolation: Interpolation, start: int, stop: int
) -> tuple[UInt8[np.ndarray, "sample height width 3"], dict[str, Float32[np.ndarray, " sample"]]]:
    """Decode one source; return pixels and the view's statistics of its rows.

    The pixels of a bad image are black and its statistics are NaN; neither is stored. Raises UserError when the image's
    bytes are not those the samples were made from, MissingError when the file is gone.

    Args:
        samples: The rows under their view.
        interpolation: How sources and tiles are resized.
        start: First row.
        stop: Row after the last; all rows in between are tiles of one source.
    """
    name = samples.tiles[start][0]
    if name in samples.bad_images:
        size = samples.frame.input
        unknown = {name: np.full(stop - start, np.nan, np.float32) for name in samples.view.sample_stats}
        return np.zeros((stop - start, size.height, size.width, 3), np.uint8), unknown
    path = samples.sources[name].image
    try:
        with samples.noticing_changes():
            data = read_bytes(path, samples.image_digests[name], MOST_SOURCE_BYTES)
    except FileNotFoundError:
        raise MissingError(f"{path} was there when the rows were listed and is gone: restore it") from None
    image = read_image(data, str(path))
    tile_list = [tile for _, tile in samples.tiles[start:stop]]
    return under_view.pixels(samples.view, samples.frame, name, tile_list, image, interpolation)
