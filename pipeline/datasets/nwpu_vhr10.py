"""NWPU VHR-10: aerial images with outlines of ten classes, in COCO format.

``NWPU VHR-10 dataset/positive image set/001.jpg``, ``negative image set/`` with images of none of the classes, and
``annotations.json`` beside them. The folder is called ``NWPU VHR-10_dataset_coco`` in some copies; the one with
``annotations.json`` is used. The data set has no supercategories; ours follow FAIR1M's.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import UInt8

from pipeline.datasets.contract import ClassEntry, Dataset, LabelKind, ObjectEntry, Source
from pipeline.datasets.reading.colours import spread_colour
from pipeline.datasets.reading.files import cache_key, first_duplicate, is_file, is_folder, number, read_json
from pipeline.datasets.reading.folders import (
    by_name,
    image_files,
    image_folders,
    inside,
    relative_name,
    require_folder,
    subfolders,
    unread_notes,
)
from pipeline.datasets.reading.outlines import BACKGROUND, checked_outline, outline_notes
from pipeline.datasets.reading.rasterise import painted_objects
from stores.errors import MissingError, UserError

OFFICIAL_COUNTS = {"positive": 650, "negative": 150}

_NAMES = (
    ("airplane", "aircraft"),
    ("ship", "ship"),
    ("storage tank", "facility"),
    ("baseball diamond", "court"),
    ("tennis court", "court"),
    ("basketball court", "court"),
    ("ground track field", "court"),
    ("harbor", "facility"),
    ("bridge", "road"),
    ("vehicle", "vehicle"),
)
CLASSES = (
    BACKGROUND,
    *(ClassEntry(index, name, group, spread_colour(index)) for index, (name, group) in enumerate(_NAMES, start=1)),
)
_IDS = {entry.name: entry.id for entry in CLASSES[1:]}
_UNREADABLE: dict[str, Any] = {"segmentation": dict | None}
"""JSON types that a key may not have: a run-length mask is no outline, and ids and names are no lists."""


@dataclass(frozen=True)
class NwpuVhr10(Dataset):
    """The images and their outlines in the one split "all"; groups are "positive" and "negative"."""

    name: ClassVar[str] = "nwpu-vhr10"
    revision: ClassVar[int] = 1
    labels: ClassVar[frozenset[LabelKind]] = frozenset({"pixels", "objects"})
    licence: ClassVar[str] = "NWPU VHR-10: research use only, https://github.com/chaozhong2010/VHR-10_dataset_coco"

    def classes(self) -> Sequence[ClassEntry]:
        """Return "background" and the ten classes, ids as in the annotation."""
        return CLASSES

    def sources(self) -> Sequence[Source]:
        """Return all images, sorted by name; negative images are labelled: all background."""
        file = self._annotations()
        sources = by_name([source for group in OFFICIAL_COUNTS for source in self._group(file, group)])
        if not sources:
            raise MissingError(f"{file.parent} holds no image in `positive image set`; unpack the images there")
        return sources

    def _annotations(self) -> Path:
        require_folder(self.root, "give the folder that holds `NWPU VHR-10 dataset`")
        for folder in (self.root, *subfolders(self.root)):
            if is_file(folder / "annotations.json"):
                return inside(self.root, folder / "annotations.json")
        raise MissingError(
            f"{self.root} and its folders hold no annotations.json; put the COCO annotation beside `positive image set`"
        )

    def _group(self, file: Path, group: str) -> Iterator[Source]:
        folder = file.parent / f"{group} image set"
        known = _annotation(file) if is_folder(folder) else {}
        for image in image_files(self.root, folder) if is_folder(folder) else []:
            label = file if group == "negative" or image.name in known else None
            yield Source(relative_name(self.root, image), self.root, label, group=group, split="all")

    def pixel_classes(self, source: Source) -> UInt8[np.ndarray, "height width"]:
        """Return painted outlines on background, all void for images the annotation does not know."""
        return painted_objects(self, source)

    def objects(self, source: Source) -> Sequence[ObjectEntry]:
        """Return the outlines by their ids; raises UserError naming file and annotation."""
        if source.label is None or source.group == "negative":
            return ()
        return tuple(
            _entry(annotation, f"{source.label}, annotation {annotation['id']!r},")
            for annotation in _annotation(source.label, source.label_sha256)[source.image.name]
        )

    def notes(self) -> Sequence[str]:
        """Return one sentence for every difference from the official release."""
        sources = self.sources()
        notes = []
        for group, official in OFFICIAL_COUNTS.items():
            count = sum(source.group == group for source in sources)
            if count != official:
                notes.append(f"{self.name}: there are {count} {group} images, officially {official}.")
        unknown = [source.name for source in sources if source.label is None]
        if unknown:
            notes.append(
                f"{self.name}: {len(unknown)} positive images are not in annotations.json and count as unlabelled, "
                f"the first is {unknown[0]}."
            )
        here = {source.image.name for source in sources if source.group == "positive"}
        absent = sorted(_annotation(self._annotations()).keys() - here)
        if absent:
            notes.append(f"{self.name}: {len(absent)} annotated images are missing, the first is {absent[0]}.")
        return notes + unread_notes(self.name, image_folders(sources)) + outline_notes(self)


def _annotation(file: Path, sha256: str = "") -> dict[str, list[dict[str, Any]]]:
    """Return the annotations of every image, by file name and in the order of their ids."""
    return _read(file, sha256, cache_key(file, sha256))


@functools.lru_cache(maxsize=2)
def _read(file: Path, sha256: str, key: object) -> dict[str, list[dict[str, Any]]]:
    found = read_json(file, sha256)
    if not isinstance(found, dict) or not {"images", "annotations", "categories"} <= found.keys():
        raise UserError(f"{file} is not in the COCO form (images, annotations, categories); fetch it again")
    images = _by_id(found["images"], "image", ("file_name",), file)
    categories = _by_id(found["categories"], "category", ("name",), file)
    annotations = _by_id(found["annotations"], "annotation", ("image_id", "category_id", "segmentation"), file)
    by_image: dict[Any, list[dict[str, Any]]] = {identity: [] for identity in images}
    for identity in sorted(annotations):
        annotation = annotations[identity]
        for key, known in (("image_id", by_image), ("category_id", categories)):
            if annotation[key] not in known:
                raise UserError(
                    f"{file}, annotation {identity!r}, has the unknown {key} {annotation[key]!r}; fetch the file again"
                )
        name = str(categories[annotation["category_id"]]["name"])
        by_image[annotation["image_id"]].append({**annotation, "class": name.replace("_", " ").replace("-", " ")})
    names = [str(image["file_name"]) for image in images.values()]
    twice = first_duplicate(names)
    if twice is not None:
        raise UserError(f"{file} lists the image {twice} twice; list every image once")
    return dict(zip(names, by_image.values(), strict=True))


def _by_id(entries: Any, kind: str, keys: tuple[str, ...], file: Path) -> dict[int, dict[str, Any]]:
    if not isinstance(entries, list):
        raise UserError(f"{file} holds no list of {kind} entries; fetch it again")
    found: dict[int, dict[str, Any]] = {}
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), int):
            raise UserError(f"{file}: {kind} number {index} (from 0) has no integer id; fetch the file again")
        missing = [key for key in keys if isinstance(entry.get(key), _UNREADABLE.get(key, list | dict | None))]
        if missing:
            raise UserError(f"{file}, {kind} {entry['id']}, has no {missing[0]} that can be read; fetch the file again")
        if entry["id"] in found:
            raise UserError(f"{file} has two {kind} entries of the id {entry['id']}; give each its own")
        found[entry["id"]] = entry
    return found


def _entry(annotation: dict[str, Any], where: str) -> ObjectEntry:
    if annotation["class"] not in _IDS:
        raise UserError(f"{where} has the class {annotation['class']!r}, which NWPU VHR-10 does not have; remove it")
    parts = annotation["segmentation"]
    if not isinstance(parts, list) or not parts or not all(isinstance(part, list) for part in parts):
        raise UserError(f"{where} has no outline; give `segmentation` a list of polygons")
    if any(len(part) % 2 for part in parts):
        raise UserError(f"{where} has an odd number of coordinates; correct or remove the object")
    corners: list[tuple[float, float]] = []
    for part in parts:  # several parts become one outline, joined by edges that are passed forth and back
        values = [number(value, where) for value in part]
        polygon = checked_outline(list(zip(values[::2], values[1::2], strict=True)), where)
        corners += polygon if len(parts) == 1 else (*polygon, polygon[0])
    if len(parts) > 1:
        starts = [number(value, where) for part in parts[-2::-1] for value in part[:2]]
        corners += zip(starts[::2], starts[1::2], strict=True)
    crowd = bool(annotation.get("iscrowd"))
    return ObjectEntry(
        polygon=checked_outline(corners, where),
        category=_IDS[annotation["class"]],
        ignore=crowd,
        flags=("crowd",) if crowd else (),
    )
