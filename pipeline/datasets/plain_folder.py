"""Any folder of images, without labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pipeline.datasets.contract import ClassEntry, Dataset, LabelKind, Source
from pipeline.datasets.reading.folders import by_name, image_names, relative_name, require_folder, unread_notes
from stores.errors import MissingError


@dataclass(frozen=True)
class PlainFolder(Dataset):
    """All images below ``root``; groups are their folders, "all" directly below the root."""

    name: ClassVar[str] = "folder"
    revision: ClassVar[int] = 1
    labels: ClassVar[frozenset[LabelKind]] = frozenset()

    def classes(self) -> Sequence[ClassEntry]:
        """Return no classes."""
        return ()

    def sources(self) -> Sequence[Source]:
        """Return all images, sorted by name, in the one split "all"."""
        require_folder(self.root, "give a folder of images")
        names = image_names(self.root, self.root)
        if not names:
            others = "".join(f" ({note})" for note in unread_notes(self.name, [self.root]))
            raise MissingError(f"{self.root} and its subfolders hold no image file{others}; give a folder of images")
        return by_name([self._source(name) for name in names])

    def _source(self, name: str) -> Source:
        folder, _, _ = name.rpartition("/")
        return Source(name, self.root, label=None, group=folder or "all", split="all")

    def notes(self) -> Sequence[str]:
        """Return one sentence for every linked folder, because links are not followed, and one on other files."""
        links = sorted(path for path in self.root.rglob("*") if path.is_symlink() and path.is_dir())
        notes = [f"{self.name}: {relative_name(self.root, link)} is a link and is not followed." for link in links]
        return notes + unread_notes(self.name, [self.root])
