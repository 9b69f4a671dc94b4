"""FAIR1M version 1: satellite images with rotated boxes of 37 fine classes in five supercategories.

``train/part1/images/1.tif`` beside ``train/part1/labelXml/1.xml``, likewise ``train/part2`` and ``validation``
(``labelXmls`` in some archives), and ``test/images``. Each ``object`` holds ``possibleresult/name`` and
``points/point``: the four corners "x,y", the first repeated. Names, order and supercategories are those of
microsoft/torchgeo, ``torchgeo/datasets/fair1m.py``.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from xml.etree.ElementTree import ParseError

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import iterparse
from jaxtyping import UInt8

from pipeline.datasets.contract import ClassEntry, Dataset, LabelKind, ObjectEntry, Source
from pipeline.datasets.reading.colours import spread_colour
from pipeline.datasets.reading.files import is_file, is_folder, number, read_bytes
from pipeline.datasets.reading.folders import (
    by_name,
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

_NAMES = {
    "Ship": (
        *("Passenger Ship", "Motorboat", "Fishing Boat", "Tugboat", "other-ship", "Engineering Ship"),
        *("Liquid Cargo Ship", "Dry Cargo Ship", "Warship"),
    ),
    "Vehicle": (
        *("Small Car", "Bus", "Cargo Truck", "Dump Truck", "other-vehicle", "Van", "Trailer", "Tractor"),
        *("Excavator", "Truck Tractor"),
    ),
    "Airplane": (
        *("Boeing737", "Boeing747", "Boeing777", "Boeing787", "ARJ21", "C919", "A220", "A321", "A330", "A350"),
        "other-airplane",
    ),
    "Court": ("Baseball Field", "Basketball Court", "Football Field", "Tennis Court"),
    "Road": ("Roundabout", "Intersection", "Bridge"),
}
_FINE = [(name, group) for group, names in _NAMES.items() for name in names]
CLASSES = (
    BACKGROUND,
    *(ClassEntry(index, name, group, spread_colour(index)) for index, (name, group) in enumerate(_FINE, start=1)),
)
_IDS = {entry.name.lower(): entry.id for entry in CLASSES[1:]}

_PARTS = (
    ("train", "part1", "train/part1"),
    ("train", "part2", "train/part2"),
    ("val", "validation", "validation"),
    ("test", "test", "test"),
)
_LABEL_FOLDERS = ("labelXml", "labelXmls")


@dataclass(frozen=True)
class Fair1m(Dataset):
    """The images and their rotated boxes; ``root`` holds ``train``, ``validation`` and ``test``.

    Splits are train, val and test; groups are the parts of the release.
    """

    name: ClassVar[str] = "fair1m"
    revision: ClassVar[int] = 1
    labels: ClassVar[frozenset[LabelKind]] = frozenset({"pixels", "objects"})
    licence: ClassVar[str] = "FAIR1M: CC BY-NC-SA 3.0, https://www.gaofen-challenge.com/benchmark"

    def classes(self) -> Sequence[ClassEntry]:
        """Return "background" and the 37 fine classes."""
        return CLASSES

    def sources(self) -> Sequence[Source]:
        """Return all images of all splits, sorted by name."""
        require_folder(self.root, "give the folder that holds FAIR1M's train, validation and test")
        sources = by_name([source for part in _PARTS for source in self._part(*part)])
        if not sources:
            raise MissingError(
                f"{self.root} holds no train/part1/images/*.tif, train/part2, validation or test; give the folder "
                "that FAIR1M was unpacked in"
            )
        return sources

    def _part(self, split: str, group: str, path: str) -> Iterator[Source]:
        folder = self.root / path
        if not is_folder(folder / "images"):
            return
        labels = next((folder / name for name in _LABEL_FOLDERS if is_folder(folder / name)), None)
        for image in image_files(self.root, folder / "images"):
            label = None
            if labels is not None:
                label = inside(self.root, labels / f"{image.stem}.xml")
                if self.missing_labels == "stop" and not is_file(label):
                    raise MissingError(
                        f"{label} is missing, the labels of {relative_name(self.root, image)}; unpack the labels "
                        "again or remove the image"
                    )
            yield Source(relative_name(self.root, image), self.root, label, group=group, split=split)

    def pixel_classes(self, source: Source) -> UInt8[np.ndarray, "height width"]:
        """Return painted outlines on background, all void without labels."""
        return painted_objects(self, source)

    def objects(self, source: Source) -> Sequence[ObjectEntry]:
        """Return the rotated boxes in the order of the file; raises UserError naming file and object."""
        if source.label is None:
            return ()
        return tuple(_objects(source.label, source.label_sha256))

    def notes(self) -> Sequence[str]:
        """Return one sentence for every difference from the official release, which has over 15,000 images."""
        sources = self.sources()
        notes = [
            f"{self.name}: {path} is missing."
            for _, _, path in _PARTS
            if not any(source.name.startswith(f"{path}/") for source in sources)
        ]
        notes += [
            f"{self.name}: {group} has no labelXml folder, so its images count as unlabelled."
            for group in sorted({source.group for source in sources if source.label is None} - {"test"})
        ]
        return notes + unread_notes(self.name, image_folders(sources)) + outline_notes(self)


def _objects(path: Path, sha256: str) -> Iterator[ObjectEntry]:
    """Yield the objects of a file, forgetting each, so that memory does not grow with their number."""
    found = 0
    root: Any = None
    data = read_bytes(path, sha256)
    try:
        for event, element in iterparse(io.BytesIO(data), events=("start", "end"), forbid_dtd=True):
            if root is None:
                root = element
                if root.tag != "annotation":
                    raise UserError(f"{path} holds <{root.tag}> where FAIR1M has <annotation>; fetch it again")
            if event == "end" and element.tag == "object":
                found += 1
                yield _entry(element, f"{path}, object {found},")
                element.clear()
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        if isinstance(error, UserError):
            raise
        what = "it declares entities or a document type" if isinstance(error, DefusedXmlException) else str(error)
        raise UserError(f"{path} cannot be read as XML ({what}); fetch it again") from error


def _entry(element: Any, where: str) -> ObjectEntry:
    name = (element.findtext("possibleresult/name") or "").strip()
    if name.lower() not in _IDS:
        raise UserError(f"{where} has the class {name!r}, which FAIR1M does not have; correct or remove the object")
    points = [(point.text or "").split(",") for point in element.findall("points/point")]
    if any(len(point) != 2 for point in points):
        raise UserError(f"{where} has a point that is no pair x,y; correct or remove the object")
    corners = [(number(x.strip(), where), number(y.strip(), where)) for x, y in points]
    if len(corners) == 5 and corners[0] != corners[-1]:
        raise UserError(f"{where} has five points and is not closed; repeat the first point at the end")
    polygon = checked_outline(corners, where)
    if len(polygon) != 4:
        raise UserError(f"{where} has {len(polygon)} corners where a rotated box has four; correct or remove it")
    return ObjectEntry(polygon=polygon, category=_IDS[name.lower()])
