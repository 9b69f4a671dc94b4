"""Data sets: one file a layout, listed in one table."""

import difflib
from collections.abc import Callable
from pathlib import Path

from pipeline.datasets.camvid import CamVid
from pipeline.datasets.cityscapes import Cityscapes
from pipeline.datasets.contract import Dataset
from pipeline.datasets.image_folder import ImageFolder
from pipeline.datasets.plain_folder import PlainFolder
from stores.errors import UserError

DATASETS: dict[str, Callable[[Path], Dataset]] = {
    "cityscapes": Cityscapes,
    "camvid": CamVid,
    "image-folder": ImageFolder,
    "folder": PlainFolder,
}
"""Every layout that can be read, by the name experiments use."""


def open_dataset(name: str, root: Path) -> Dataset:
    """Return the reader of this name for the data below ``root``; raises UserError when the name is unknown."""
    if name not in DATASETS:
        nearest = difflib.get_close_matches(name, DATASETS, n=2, cutoff=0.4) or sorted(DATASETS)
        raise UserError(f"{name!r} is no data set; did you mean {' or '.join(nearest)}?")
    return DATASETS[name](root)
