"""DOTA version 1: aerial images with rotated boxes of 15 classes.

``{split}/images/P0001.png`` beside ``{split}/labelTxt/P0001.txt`` (or ``labelTxt-v1.0``, as in the archive), or
``images`` and ``labelTxt`` directly below the root. After up to two header lines (``imagesource:``, ``gsd:``), each
line is ``x1 y1 x2 y2 x3 y3 x4 y4 class difficult``, where difficult is 2 for an object that a tile of the official
devkit's ImgSplit cuts. Classes are those of the DOTA paper (arXiv 1711.10398, table 2);
it has no supercategories; ours follow FAIR1M's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import UInt8

from pipeline.datasets.contract import ClassEntry, Dataset, LabelKind, ObjectEntry, Source
from pipeline.datasets.reading.colours import spread_colour
from pipeline.datasets.reading.files import is_file, is_folder, number, read_lines
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
from pipeline.datasets.reading.outlines import BACKGROUND, checked_outline, outline_notes
from pipeline.datasets.reading.rasterise import painted_objects
from stores.errors import MissingError, UserError

OFFICIAL_COUNTS = {"train": 1411, "val": 458, "test": 937}

_NAMES = (
    ("plane", "aircraft"),
    ("baseball-diamond", "court"),
    ("bridge", "road"),
    ("ground-track-field", "court"),
    ("small-vehicle", "vehicle"),
    ("large-vehicle", "vehicle"),
    ("ship", "ship"),
    ("tennis-court", "court"),
    ("basketball-court", "court"),
    ("storage-tank", "facility"),
    ("soccer-ball-field", "court"),
    ("roundabout", "road"),
    ("harbor", "facility"),
    ("swimming-pool", "facility"),
    ("helicopter", "aircraft"),
)
CLASSES = (
    BACKGROUND,
    *(ClassEntry(index, name, group, spread_colour(index)) for index, (name, group) in enumerate(_NAMES, start=1)),
)
_IDS = {entry.name: entry.id for entry in CLASSES[1:]}
_LABEL_FOLDERS = ("labelTxt", "labelTxt-v1.0/labelTxt", "labelTxt-v1.0")
_HEADERS = ("imagesource:", "gsd:")
_FLAGS: dict[str, tuple[str, ...]] = {"0": (), "1": ("difficult",), "2": ("truncated",)}


@dataclass(frozen=True)
class Dota(Dataset):
    """The images and their rotated boxes; ``root`` holds ``train``, ``val``, ``test``, or ``images`` itself.

    Objects marked difficult or cut by a tile are painted, and ignored where objects are scored. All
    images are in the group "all".
    """

    name: ClassVar[str] = "dota"
    revision: ClassVar[int] = 1
    labels: ClassVar[frozenset[LabelKind]] = frozenset({"pixels", "objects"})
    licence: ClassVar[str] = "DOTA: academic use only, https://captain-whu.github.io/DOTA/dataset.html"

    def classes(self) -> Sequence[ClassEntry]:
        """Return "background" and the 15 classes."""
        return CLASSES

    def sources(self) -> Sequence[Source]:
        """Return all images of all splits, sorted by name."""
        require_folder(self.root, "give the folder that holds DOTA's train, val and test")
        sources = by_name([source for split, folder in self._splits() for source in self._split(split, folder)])
        if not sources:
            raise MissingError(
                f"{self.root} holds neither images/*.png nor train/images/*.png; give the folder that DOTA was "
                "unpacked in"
            )
        return sources

    def _splits(self) -> list[tuple[str, Path]]:
        if is_folder(self.root / "images"):
            return [("all", self.root)]
        return [(split, self.root / split) for split in OFFICIAL_COUNTS if is_folder(self.root / split / "images")]

    def _split(self, split: str, folder: Path) -> Iterator[Source]:
        labels = next((folder / name for name in _LABEL_FOLDERS if any((folder / name).glob("*.txt"))), None)
        for image in image_files(self.root, folder / "images"):
            label = None
            if labels is not None:
                label = inside(self.root, labels / f"{image.stem}.txt")
                if self.missing_labels == "stop" and not is_file(label):
                    raise MissingError(
                        f"{label} is missing, the labels of {relative_name(self.root, image)}; unpack the labels "
                        "again or remove the image"
                    )
            yield Source(relative_name(self.root, image), self.root, label, group="all", split=split)

    def pixel_classes(self, source: Source) -> UInt8[np.ndarray, "height width"]:
        """Return painted outlines on background, all void without labels."""
        return painted_objects(self, source)

    def objects(self, source: Source) -> Sequence[ObjectEntry]:
        """Return the rotated boxes in the order of their lines; raises UserError naming file and line."""
        if source.label is None:
            return ()
        return tuple(
            _entry(line.split(), f"{source.label}, line {line_number},")
            for line_number, line in enumerate(read_lines(source.label, source.label_sha256), start=1)
            if line.strip() and not line.startswith(_HEADERS)
        )

    def notes(self) -> Sequence[str]:
        """Return one sentence for every difference from the official release."""
        sources = self.sources()
        notes = count_notes(self.name, sources, OFFICIAL_COUNTS)
        notes += [
            f"{self.name}: the split {split} has no labelTxt folder, so its images count as unlabelled."
            for split in sorted({source.split for source in sources if source.label is None} - {"test"})
        ]
        return notes + unread_notes(self.name, image_folders(sources)) + outline_notes(self)


def _entry(words: list[str], where: str) -> ObjectEntry:
    if len(words) != 10:
        raise UserError(f"{where} holds {len(words)} words; write 8 coordinates, a class and difficult (0, 1 or 2)")
    *corners, name, difficult = words
    if name not in _IDS:
        raise UserError(f"{where} names the class {name!r}, which DOTA version 1 does not have; use its labelTxt")
    if difficult not in _FLAGS:
        raise UserError(f"{where} ends in {difficult!r}; difficult is 0, 1 or, where a tile cuts the object, 2")
    values = [number(word, where) for word in corners]
    return ObjectEntry(
        polygon=checked_outline(list(zip(values[::2], values[1::2], strict=True)), where),
        category=_IDS[name],
        ignore=difficult != "0",
        flags=_FLAGS[difficult],
    )
