"""Input pixels in the label set, for comparison with a decoder's predictions and for figures.

They are the model inputs before normalisation, shared by all models of one interpolation; every interpolation has its
own array. Views have none.
"""

import contextlib
import dataclasses
import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import PIL
from jaxtyping import UInt8

from pipeline.frame_recipe import Interpolation
from pipeline.rows.pixels import read_tiles
from pipeline.rows.samples import Samples
from pipeline.views import CLEAN
from stores import ZarrSet
from stores.canonical import checksummed, digest, read_checksummed
from stores.errors import UserError
from stores.format.paths import SOURCES
from stores.format.records import record_bytes
from stores.specs import ArraySpec

GROUP = "inputs"


def note_decoder(label_set: ZarrSet, array: ArraySpec) -> None:
    """Note which version of Pillow decoded and resized all rows of a sealed array; a cache, nothing depends on it."""
    note = checksummed({"content": label_set.content[array.name], "pillow": PIL.__version__})
    with contextlib.suppress(UserError):  # without the note images are decoded again
        label_set.objects.put(_note_of(label_set, array), [note])


def are_of_this_decoder(label_set: ZarrSet, array: ArraySpec) -> bool:
    """Return whether the rows of a sealed array are known to be what this version of Pillow decodes."""
    note = read_checksummed(record_bytes(label_set.objects, _note_of(label_set, array)))
    return note == {"content": label_set.content[array.name], "pillow": PIL.__version__}


def _note_of(label_set: ZarrSet, array: ArraySpec) -> str:
    return f"{SOURCES}/{digest(['inputs', label_set.digest, array.name])[:32]}.json"


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
