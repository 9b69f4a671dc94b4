"""ImageNet-1k: one of 1,000 classes per image.

``train/n01440764/*.JPEG`` and ``val/n01440764/*.JPEG``, with the validation images sorted into folders, as for
torchvision's ImageFolder. A class's id is the position of its folder name (WordNet id) in sorted order, as in common
ImageNet models.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pipeline.datasets.contract import ClassEntry, Dataset, LabelKind, Source
from pipeline.datasets.reading.colours import spread_colour
from pipeline.datasets.reading.files import is_folder
from pipeline.datasets.reading.folders import (
    by_name,
    image_names,
    require_folder,
    split_notes,
    subfolders,
    unread_notes,
)
from pipeline.datasets.reading.images import EXTENSIONS
from pipeline.datasets.reading.scene_folders import scene_sources
from stores.errors import MissingError, UserError

OFFICIAL_COUNTS = {"train": 1_281_167, "val": 50_000}

_N_CLASSES = 1000
_CLASS = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class ImageNet(Dataset):
    """The labelled images; ``root`` holds ``train``, ``val`` or both. Groups are classes."""

    name: ClassVar[str] = "imagenet"
    revision: ClassVar[int] = 1
    labels: ClassVar[frozenset[LabelKind]] = frozenset({"image"})
    licence: ClassVar[str] = "ImageNet: non-commercial research and education, https://www.image-net.org/download.php"

    def classes(self) -> Sequence[ClassEntry]:
        """Return the classes that are here, called by their WordNet ids; a class is its own supercategory."""
        return tuple(
            ClassEntry(index, name, name, spread_colour(index)) for index, name in enumerate(self._class_names())
        )

    def _folders(self) -> dict[str, list[Path]]:
        """Return the class folders of each split."""
        require_folder(self.root, "give the folder that holds ImageNet's train and val")
        found = {split: subfolders(self.root / split) for split in OFFICIAL_COUNTS if is_folder(self.root / split)}
        if not found:
            raise MissingError(f"{self.root} holds neither train nor val; give the folder that holds them")
        for split, folders in found.items():
            if not folders:
                raise MissingError(
                    f"{self.root / split} holds no class folders such as n01440764; sort its images into one folder a "
                    "class"
                )
            for folder in folders:
                if not _CLASS.fullmatch(folder.name):
                    raise UserError(f"{folder} is not named by a WordNet id such as n01440764; rename or remove it")
        return found

    def _class_names(self) -> list[str]:
        return sorted({folder.name for folders in self._folders().values() for folder in folders})

    def sources(self) -> Sequence[Source]:
        """Return all images of both splits, sorted by name."""
        ids = {name: index for index, name in enumerate(self._class_names())}
        return by_name(
            [source for split in self._folders() for source in scene_sources(self.root, self.root / split, ids, split)]
        )

    def notes(self) -> Sequence[str]:
        """Return one sentence for every difference from the official release."""
        counts = {
            split: sum(len(image_names(self.root, folder)) for folder in folders)
            for split, folders in self._folders().items()
        }
        notes = split_notes(self.name, counts, OFFICIAL_COUNTS)
        n_classes = len(self._class_names())
        if n_classes != _N_CLASSES:
            notes.append(
                f"{self.name}: {n_classes} classes are here, officially {_N_CLASSES}; ids are places among those here, "
                "not the official ones."
            )
        stray = [
            path
            for split in self._folders()
            for path in sorted((self.root / split).iterdir())
            if path.suffix.lower() in EXTENSIONS
        ]
        if stray:
            notes.append(f"{self.name}: {len(stray)} images lie in no class folder, the first is {stray[0].name}.")
        return notes + unread_notes(self.name, [self.root / split for split in self._folders()])
