"""ADE20K for scene parsing (ADEChallengeData2016): scenes with 150 classes.

``images/{training,validation}/ADE_train_00000001.jpg`` beside ``annotations/{training,validation}/*.png``, whose ids
are 0 for unlabelled and 1..150; ``objectInfo150.txt`` names the classes (CSAILVision/semantic-segmentation-pytorch).
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import UInt8

from pipeline.datasets.contract import ClassEntry, Dataset, LabelKind, Source
from pipeline.datasets.reading.colours import spread_colour
from pipeline.datasets.reading.files import is_file, is_folder, read_lines
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

OFFICIAL_COUNTS = {"train": 20_210, "val": 2_000}

_N_CLASSES = 150
_SPLITS = {"training": "train", "validation": "val"}
_LOOKUP = class_lookup(classes={number: number - 1 for number in range(1, _N_CLASSES + 1)}, void={0})


@dataclass(frozen=True)
class Ade20k(Dataset):
    """The images of both splits; ``root`` holds ``images`` and ``annotations``. All are in the group "all"."""

    name: ClassVar[str] = "ade20k"
    revision: ClassVar[int] = 1
    labels: ClassVar[frozenset[LabelKind]] = frozenset({"pixels"})
    licence: ClassVar[str] = "ADE20K: annotations BSD 3-Clause, images for non-commercial research and education only"

    def classes(self) -> Sequence[ClassEntry]:
        """Return the 150 classes; ids are the file's minus one.

        Without objectInfo150.txt names are "class 1" and so on. A name is the first of the synonyms if no other class
        has it, otherwise all of them. A class is its own supercategory.
        """
        return tuple(
            ClassEntry(index, name, name, spread_colour(index)) for index, name in enumerate(self._class_names)
        )

    @functools.cached_property
    def _class_names(self) -> tuple[str, ...]:
        path = self.root / "objectInfo150.txt"
        if not is_file(path):
            return tuple(f"class {number}" for number in range(1, _N_CLASSES + 1))
        rows = [line.split("\t") for line in read_lines(inside(self.root, path)) if line.strip()]
        for line_number, row in enumerate(rows[1:], start=2):
            if len(row) != 5 or row[0].strip() != str(line_number - 1) or not row[4].strip():
                raise UserError(
                    f"{path}, line {line_number}, does not describe class {line_number - 1} (Idx, Ratio, Train, Val, "
                    "Name between tabs); fetch the file again"
                )
        if len(rows) != _N_CLASSES + 1:
            raise UserError(f"{path} describes {len(rows) - 1} classes and not {_N_CLASSES}; fetch the file again")
        full = [row[4].strip() for row in rows[1:]]
        first = [name.partition(",")[0].strip() for name in full]
        return tuple(short if first.count(short) == 1 else name for short, name in zip(first, full, strict=True))

    def sources(self) -> Sequence[Source]:
        """Return all images of both splits, sorted by name."""
        images = require_folder(self.root / "images", "give the folder ADEChallengeData2016")
        sources = by_name([source for folder in _SPLITS for source in self._split(folder)])
        if not sources:
            raise MissingError(
                f"{images} holds no training/*.jpg or validation/*.jpg; unpack ADEChallengeData2016 there"
            )
        return sources

    def _split(self, folder: str) -> Iterator[Source]:
        images, labels = self.root / "images" / folder, self.root / "annotations" / folder
        labelled = is_folder(labels)
        for image in image_files(self.root, images) if is_folder(images) else []:
            label = None
            if labelled:
                label = inside(self.root, labels / f"{image.stem}.png")
                if self.missing_labels == "stop" and not is_file(label):
                    raise MissingError(
                        f"{label} is missing, the labels of {relative_name(self.root, image)}; unpack "
                        "ADEChallengeData2016 again or remove the image"
                    )
            yield Source(relative_name(self.root, image), self.root, label, group="all", split=_SPLITS[folder])

    def pixel_classes(self, source: Source) -> UInt8[np.ndarray, "height width"]:
        """Return class ids, 255 for unlabelled pixels."""
        return read_pixel_classes(source, _LOOKUP, "0 for unlabelled and 1..150")

    def notes(self) -> Sequence[str]:
        """Return one sentence for every difference from the official release."""
        sources = self.sources()
        notes = count_notes(self.name, sources, OFFICIAL_COUNTS)
        notes += [
            f"{self.name}: the split {split} has no folder in annotations, so its images count as unlabelled."
            for split in sorted({source.split for source in sources if source.label is None})
        ]
        if not is_file(self.root / "objectInfo150.txt"):
            notes.append(f"{self.name}: objectInfo150.txt is missing, so classes are called by their numbers.")
        return notes + unread_notes(self.name, image_folders(sources))
