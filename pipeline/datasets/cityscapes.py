"""Cityscapes in its official layout: street scenes with 19 evaluated classes.

``leftImg8bit/{split}/{city}/{city}_{seq}_{frame}_leftImg8bit.png`` beside
``gtFine/{split}/{city}/{city}_{seq}_{frame}_gtFine_labelIds.png``. Names, ids, categories and colours are those
of cityscapesScripts, ``helpers/labels.py``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import UInt8

from pipeline.datasets.contract import ClassEntry, Dataset, LabelKind, Source
from pipeline.datasets.reading.files import is_file, is_folder
from pipeline.datasets.reading.folders import (
    by_name,
    count_notes,
    image_files,
    image_folders,
    inside,
    relative_name,
    require_folder,
    subfolders,
    unread_notes,
)
from pipeline.datasets.reading.labels import class_lookup, read_pixel_classes
from stores.errors import MissingError

IMAGE_SUFFIX = "_leftImg8bit.png"
LABEL_SUFFIX = "_gtFine_labelIds.png"
OFFICIAL_COUNTS = {"train": 2975, "val": 500, "test": 1525}

# labelId, name, category, colour; the position in the list is the trainId.
_EVALUATED = (
    (7, "road", "flat", (128, 64, 128)),
    (8, "sidewalk", "flat", (244, 35, 232)),
    (11, "building", "construction", (70, 70, 70)),
    (12, "wall", "construction", (102, 102, 156)),
    (13, "fence", "construction", (190, 153, 153)),
    (17, "pole", "object", (153, 153, 153)),
    (19, "traffic light", "object", (250, 170, 30)),
    (20, "traffic sign", "object", (220, 220, 0)),
    (21, "vegetation", "nature", (107, 142, 35)),
    (22, "terrain", "nature", (152, 251, 152)),
    (23, "sky", "sky", (70, 130, 180)),
    (24, "person", "human", (220, 20, 60)),
    (25, "rider", "human", (255, 0, 0)),
    (26, "car", "vehicle", (0, 0, 142)),
    (27, "truck", "vehicle", (0, 0, 70)),
    (28, "bus", "vehicle", (0, 60, 100)),
    (31, "train", "vehicle", (0, 80, 100)),
    (32, "motorcycle", "vehicle", (0, 0, 230)),
    (33, "bicycle", "vehicle", (119, 11, 32)),
)
_EASY = frozenset({"road", "vegetation", "sky", "car", "building"})  # paper A, section 4.2

CLASSES = tuple(
    ClassEntry(train_id, name, category, colour, easy=name in _EASY)
    for train_id, (_, name, category, colour) in enumerate(_EVALUATED)
)
LABEL_IDS = {name: label_id for label_id, name, _, _ in _EVALUATED}
"""The labelId of every evaluated class, as it stands in the PNG files."""

# Ids 0..33 exist; those without a trainId and the licence plate (-1, which is 255 in a PNG) are void.
_LOOKUP = class_lookup(
    classes={label_id: train_id for train_id, (label_id, *_) in enumerate(_EVALUATED)},
    void=({*range(34), 255} - set(LABEL_IDS.values())),
)


@dataclass(frozen=True)
class Cityscapes(Dataset):
    """The finely annotated images; ``root`` holds ``leftImg8bit`` and ``gtFine``.

    The test split's public label files are blank, so it counts as unlabelled, and so does a split without a
    folder in ``gtFine``. Groups are cities.
    """

    name: ClassVar[str] = "cityscapes"
    revision: ClassVar[int] = 1
    labels: ClassVar[frozenset[LabelKind]] = frozenset({"pixels"})
    licence: ClassVar[str] = (
        "Cityscapes licence: non-commercial research use, https://www.cityscapes-dataset.com/license"
    )

    def classes(self) -> Sequence[ClassEntry]:
        """Return the 19 evaluated classes; ids are trainIds."""
        return CLASSES

    def sources(self) -> Sequence[Source]:
        """Return all images of all splits, sorted by name."""
        images = require_folder(
            self.root / "leftImg8bit",
            "unpack leftImg8bit_trainvaltest.zip there, or give the folder that holds leftImg8bit",
        )
        sources = by_name([source for split in subfolders(images) for source in self._split(split)])
        if not sources:
            raise MissingError(
                f"{images} holds no split/city/*{IMAGE_SUFFIX} file; unpack leftImg8bit_trainvaltest.zip there"
            )
        return sources

    def _split(self, folder: Path) -> Iterator[Source]:
        split = folder.name
        labels = self.root / "gtFine" / split
        labelled = split != "test" and is_folder(labels)
        for city in subfolders(folder):
            for image in image_files(self.root, city):
                if not image.name.endswith(IMAGE_SUFFIX):
                    continue
                label = None
                if labelled:
                    label = labels / city.name / (image.name.removesuffix(IMAGE_SUFFIX) + LABEL_SUFFIX)
                    if self.missing_labels == "stop" and not is_file(label):
                        raise MissingError(
                            f"{label} is missing, the labels of {relative_name(self.root, image)}; "
                            "unpack gtFine_trainvaltest.zip again or remove the image"
                        )
                    inside(self.root, label)
                yield Source(relative_name(self.root, image), self.root, label, group=city.name, split=split)

    def pixel_classes(self, source: Source) -> UInt8[np.ndarray, "height width"]:
        """Return trainIds, 255 for void; an unlabelled image is all void."""
        return read_pixel_classes(source, _LOOKUP, "labelIds 0..33")

    def notes(self) -> Sequence[str]:
        """Return one sentence for every difference from the official release."""
        sources = self.sources()
        notes = count_notes(self.name, sources, OFFICIAL_COUNTS)
        unlabelled = sorted({source.split for source in sources if source.label is None} - {"test"})
        notes += [
            f"{self.name}: the split {split} has no folder in gtFine, so its images count as unlabelled."
            for split in unlabelled
        ]
        known = {source.label for source in sources}
        stray = [path for path in sorted(self.root.glob(f"gtFine/*/*/*{LABEL_SUFFIX}")) if path not in known]
        stray = [path for path in stray if path.relative_to(self.root).parts[1] != "test"]
        if stray:
            notes.append(f"{self.name}: {len(stray)} label files have no image, the first is {stray[0].name}.")
        return notes + unread_notes(self.name, image_folders(sources))
