"""Converts the ids in a label file to class ids, and checks them against the image and the class table."""

from collections.abc import Collection, Mapping

import numpy as np
from jaxtyping import Int16, UInt8

from pipeline.datasets.contract import Source
from pipeline.datasets.reading.images import image_size, read_label_map
from stores.errors import UserError
from stores.specs import VOID

_UNKNOWN = -1


def class_lookup(classes: Mapping[int, int], void: Collection[int]) -> Int16[np.ndarray, " 256"]:
    """Return a table from every 8-bit id in a file to its class id, 255 for void, -1 for unknown ids."""
    table = np.full(256, _UNKNOWN, np.int16)
    table[list(void)] = VOID
    for file_id, class_id in classes.items():
        table[file_id] = class_id
    return table


def read_pixel_classes(
    source: Source, lookup: Int16[np.ndarray, " 256"], known: str, advice: str = "use the data set's own id maps"
) -> UInt8[np.ndarray, "height width"]:
    """Return the class id of every pixel of a source, all void when it has no label file.

    ``known`` names the valid ids in errors, and ``advice`` says what to do about others. Raises UserError, naming the
    file, when the label file is unreadable, has another size than the image or contains an unknown id.
    """
    size = image_size(source.image)
    if source.label is None:
        return np.full((size.height, size.width), VOID, np.uint8)
    ids = read_label_map(source.label, source.label_sha256)
    if ids.shape != (size.height, size.width):
        raise UserError(
            f"{source.label} is {ids.shape[1]}x{ids.shape[0]} pixels (width x height) and its image {size}; "
            "give both the same size"
        )
    classes: np.ndarray = lookup[ids]
    if (classes == _UNKNOWN).any():
        unknown = sorted(set(ids[classes == _UNKNOWN].tolist()))
        raise UserError(f"{source.label} holds the unknown ids {unknown[:8]} ({known} are known); {advice}")
    return classes.astype(np.uint8)
