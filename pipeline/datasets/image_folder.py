"""Images in one folder per class, as for torchvision's ImageFolder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pipeline.datasets.contract import ClassEntry, Dataset, LabelKind, Source
from pipeline.datasets.reading.colours import spread_colour
from pipeline.datasets.reading.folders import (
    by_name,
    image_names,
    relative_name,
    require_folder,
    subfolders,
    unread_notes,
)
from stores.errors import MissingError, UserError

SPLITS = frozenset({"train", "val", "test"})


@dataclass(frozen=True)
class _ClassFolder:
    """The images of one class in one split."""

    split: str
    class_name: str
    images: tuple[str, ...]
    """Their names, relative to the root."""


@dataclass(frozen=True)
class ImageFolder(Dataset):
    """``{class}/**/image`` in the one split "all", or ``{split}/{class}/**/image`` with train, val, test.

    Class ids are the positions of the class names in sorted order, over all splits. Groups are classes.
    """

    name: ClassVar[str] = "image-folder"
    revision: ClassVar[int] = 1
    labels: ClassVar[frozenset[LabelKind]] = frozenset({"image"})

    def classes(self) -> Sequence[ClassEntry]:
        """Return one class for every folder name; a class is its own supercategory."""
        names = sorted({found.class_name for found in self._found()})
        return tuple(ClassEntry(index, name, name, spread_colour(index)) for index, name in enumerate(names))

    def sources(self) -> Sequence[Source]:
        """Return all images of all splits, sorted by name."""
        found = self._found()
        ids = {name: index for index, name in enumerate(sorted({folder.class_name for folder in found}))}
        return by_name(
            [
                Source(
                    name,
                    self.root,
                    label=None,
                    group=folder.class_name,
                    split=folder.split,
                    image_class=ids[folder.class_name],
                )
                for folder in found
                for name in folder.images
            ]
        )

    def _found(self) -> list[_ClassFolder]:
        """Return the class folders with at least one image."""
        found = [
            _ClassFolder(split, folder.name, tuple(image_names(self.root, folder)))
            for split, folder in self._class_folders()
        ]
        found = [folder for folder in found if folder.images]
        if not found:
            raise MissingError(f"{self.root} holds no class/image file; sort the images into one folder a class")
        return found

    def _class_folders(self) -> list[tuple[str, Path]]:
        """Return (split, class folder), with or without images."""
        top = subfolders(require_folder(self.root, "give a folder with one subfolder a class"))
        splits = [folder for folder in top if folder.name in SPLITS and subfolders(folder)]
        if not splits:
            return [("all", folder) for folder in top]
        if len(splits) < len(top):
            other = next(folder for folder in top if folder not in splits)
            raise UserError(
                f"{other} stands beside the split folder {splits[0].name}; "
                "give a folder of splits or a folder of classes, not both"
            )
        return [(split.name, folder) for split in splits for folder in subfolders(split)]

    def notes(self) -> Sequence[str]:
        """Return one sentence on class folders without images and on images outside of class folders."""
        notes = [
            f"{self.name}: {relative_name(self.root, folder)} holds no image and is no class."
            for _, folder in self._class_folders()
            if not image_names(self.root, folder)
        ]
        read = {source.name for source in self.sources()}
        stray = [name for name in image_names(self.root, self.root) if name not in read]
        if stray:
            notes.append(
                f"{self.name}: {len(stray)} images outside of the class folders are left out, the first is {stray[0]}."
            )
        return notes + unread_notes(self.name, [self.root])
