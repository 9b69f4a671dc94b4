"""UC Merced Land Use: aerial scenes of 21 classes at about 0.3 m a pixel.

``Images/agricultural/agricultural00.tif``, 100 images a class. A few are not 256 x 256 pixels. Splits are optional
lists of file names, ``uc_merced-train.txt`` and so on (arXiv 1911.06721).
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from pipeline.datasets.contract import ClassEntry, Dataset, LabelKind, Source
from pipeline.datasets.reading.colours import spread_colour
from pipeline.datasets.reading.folders import by_name, require_folder
from pipeline.datasets.reading.scene_folders import listed_splits, scene_notes, scene_sources
from stores.specs import Size

OFFICIAL_COUNTS = {"all": 2_100}

_NAMES = (
    *("agricultural", "airplane", "baseballdiamond", "beach", "buildings", "chaparral", "denseresidential"),
    *("forest", "freeway", "golfcourse", "harbor", "intersection", "mediumresidential", "mobilehomepark"),
    *("overpass", "parkinglot", "river", "runway", "sparseresidential", "storagetanks", "tenniscourt"),
)
CLASSES = tuple(ClassEntry(index, name, name, spread_colour(index)) for index, name in enumerate(_NAMES))
_IDS = {entry.name: entry.id for entry in CLASSES}
_SIZE = Size(height=256, width=256)
_LISTS = ({"train": "uc_merced-train.txt", "val": "uc_merced-val.txt", "test": "uc_merced-test.txt"},)


@dataclass(frozen=True)
class UcMerced(Dataset):
    """The scenes; ``root`` holds ``Images``. Groups are classes."""

    name: ClassVar[str] = "ucmerced"
    revision: ClassVar[int] = 1
    labels: ClassVar[frozenset[LabelKind]] = frozenset({"image"})
    licence: ClassVar[str] = (
        "UC Merced Land Use: public domain (USGS National Map), http://weegee.vision.ucmerced.edu/datasets/landuse.html"
    )

    def classes(self) -> Sequence[ClassEntry]:
        """Return the 21 classes in sorted order, whichever are here; a class is its own supercategory."""
        return CLASSES

    @functools.cached_property
    def _splits(self) -> Mapping[str, str]:
        return listed_splits(self.root, _LISTS)

    def sources(self) -> Sequence[Source]:
        """Return all images, sorted by name, in the split "all" or in those of the lists."""
        require_folder(self.root, "give the folder UCMerced_LandUse")
        return by_name(scene_sources(self.root, self.root / "Images", _IDS, self._splits))

    def notes(self) -> Sequence[str]:
        """Return one sentence for every difference from the official release."""
        return scene_notes(self.name, self.sources(), OFFICIAL_COUNTS["all"], _SIZE, self._splits)
