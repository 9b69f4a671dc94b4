"""NWPU-RESISC45: aerial scenes of 45 classes at 0.2 to 30 m a pixel.

``airplane/airplane_001.jpg``, 700 images a class, all 256 x 256 pixels. Splits are optional lists of file names in the
root: ``resisc45-train.txt`` and so on (arXiv 1911.06721), or Scale-MAE's ``train-resisc.txt`` and ``val-resisc.txt``.
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

OFFICIAL_COUNTS = {"all": 31_500}

_NAMES = (
    *("airplane", "airport", "baseball_diamond", "basketball_court", "beach", "bridge", "chaparral", "church"),
    *("circular_farmland", "cloud", "commercial_area", "dense_residential", "desert", "forest", "freeway"),
    *("golf_course", "ground_track_field", "harbor", "industrial_area", "intersection", "island", "lake", "meadow"),
    *("medium_residential", "mobile_home_park", "mountain", "overpass", "palace", "parking_lot", "railway"),
    *("railway_station", "rectangular_farmland", "river", "roundabout", "runway", "sea_ice", "ship", "snowberg"),
    *("sparse_residential", "stadium", "storage_tank", "tennis_court", "terrace", "thermal_power_station"),
    "wetland",
)
CLASSES = tuple(ClassEntry(index, name, name, spread_colour(index)) for index, name in enumerate(_NAMES))
_IDS = {entry.name: entry.id for entry in CLASSES}
_SIZE = Size(height=256, width=256)
_LISTS = (
    {"train": "resisc45-train.txt", "val": "resisc45-val.txt", "test": "resisc45-test.txt"},
    {"train": "train-resisc.txt", "val": "val-resisc.txt"},
)


@dataclass(frozen=True)
class Resisc45(Dataset):
    """The scenes; ``root`` holds one folder a class. Groups are classes."""

    name: ClassVar[str] = "resisc45"
    revision: ClassVar[int] = 1
    labels: ClassVar[frozenset[LabelKind]] = frozenset({"image"})
    licence: ClassVar[str] = "NWPU-RESISC45: research use only, https://doi.org/10.1109/JPROC.2017.2675998"

    def classes(self) -> Sequence[ClassEntry]:
        """Return the 45 classes in sorted order, whichever are here; a class is its own supercategory."""
        return CLASSES

    @functools.cached_property
    def _splits(self) -> Mapping[str, str]:
        return listed_splits(self.root, _LISTS)

    def sources(self) -> Sequence[Source]:
        """Return all images, sorted by name, in the split "all" or in those of the lists."""
        require_folder(self.root, "give the folder NWPU-RESISC45")
        return by_name(scene_sources(self.root, self.root, _IDS, self._splits))

    def notes(self) -> Sequence[str]:
        """Return one sentence for every difference from the official release."""
        return scene_notes(self.name, self.sources(), OFFICIAL_COUNTS["all"], _SIZE, self._splits)
