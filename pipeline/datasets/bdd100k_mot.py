"""BDD100K MOT 2020: drives at 5 frames a second with tracked boxes of eight classes.

``images/track/{split}/{video}/{video}-0000001.jpg`` beside ``labels/box_track_20/{split}/{video}.json`` (in older
releases ``labels-20/box-track``). A file is a list of frames, in newer exports ``{"frames": [...]}``; each frame has
``name``, ``frameIndex`` (older ``index``) from 0 and ``labels``: ``id``, ``category``, ``attributes`` and ``box2d``,
whose x2 and y2 are the last pixel inside (bdd100k/bdd100k, ``doc/source/format.rst``; scalabel/scalabel,
``doc/src/format.rst``).
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pipeline.datasets.contract import ClassEntry, Dataset, LabelKind, ObjectEntry, Source
from pipeline.datasets.reading.colours import spread_colour
from pipeline.datasets.reading.files import (
    MOST_FRAME,
    cache_key,
    first_duplicate,
    is_file,
    is_folder,
    number,
    read_json,
)
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
from pipeline.datasets.reading.outlines import checked_box, outline_notes
from stores.errors import MissingError, UserError

OFFICIAL_COUNTS = {"train": 1400, "val": 200, "test": 400}
"""Videos of each split."""
FRAMES_PER_SECOND = 5.0

_NAMES = (
    *(("pedestrian", "human"), ("rider", "human"), ("car", "vehicle"), ("truck", "vehicle"), ("bus", "vehicle")),
    *(("train", "vehicle"), ("motorcycle", "bike"), ("bicycle", "bike")),
    *(("other person", "distractor"), ("trailer", "distractor"), ("other vehicle", "distractor")),
)
CLASSES = tuple(ClassEntry(index, name, group, spread_colour(index)) for index, (name, group) in enumerate(_NAMES))
# Names in older labels, updated as in bdd100k/label/to_scalabel.py.
_IDS = {entry.name: entry.id for entry in CLASSES}
_IDS |= {
    old: _IDS[new]
    for old, new in (
        *(("person", "pedestrian"), ("motor", "motorcycle"), ("bike", "bicycle")),
        *(("van", "car"), ("caravan", "car")),
    )
}
_DISTRACTORS = frozenset(entry.id for entry in CLASSES if entry.supercategory == "distractor")
_FILES_READ = 50
_LABEL_FOLDERS = ("labels/box_track_20", "labels-20/box-track")


@dataclass(frozen=True)
class Bdd100kMot(Dataset):
    """The tracked videos; ``root`` holds ``images`` and ``labels``. Groups are videos.

    Distractors ("other person", "trailer", "other vehicle") and crowds are marked as ignored. Images of a split
    without a label folder count as unlabelled.
    """

    name: ClassVar[str] = "bdd100k-mot"
    revision: ClassVar[int] = 1
    labels: ClassVar[frozenset[LabelKind]] = frozenset({"objects"})
    licence: ClassVar[str] = "BDD100K: non-commercial research and education, https://doc.bdd100k.com/license.html"

    def classes(self) -> Sequence[ClassEntry]:
        """Return the eight evaluated classes, then the three distractors."""
        return CLASSES

    def sources(self) -> Sequence[Source]:
        """Return all frames of all videos, sorted by name."""
        images = require_folder(
            self.root / "images" / "track", "unpack the MOT 2020 images there, or give the folder that holds images"
        )
        sources = by_name(
            [source for split in subfolders(images) for video in subfolders(split) for source in self._video(video)]
        )
        if not sources:
            raise MissingError(f"{images} holds no split/video/*.jpg file; unpack the MOT 2020 images there")
        return sources

    def _labels(self, split: str) -> Path | None:
        return next((self.root / name / split for name in _LABEL_FOLDERS if is_folder(self.root / name / split)), None)

    def _video(self, folder: Path) -> Iterator[Source]:
        split, video = folder.parent.name, folder.name
        labels, label = self._labels(split), None
        if labels is not None:
            label = inside(self.root, labels / f"{video}.json")
            if self.missing_labels == "stop" and not is_file(label):
                raise MissingError(f"{label} is missing, the labels of {folder}; unpack them again or remove the video")
        for image in image_files(self.root, folder):
            count = image.stem.removeprefix(f"{video}-")
            if not count.isdecimal() or not 1 <= float(count) <= MOST_FRAME:
                raise UserError(f"{image} is not named {video}-0000001.jpg or the like; unpack the images again")
            frame = int(count) - 1
            yield Source(
                relative_name(self.root, image),
                self.root,
                label,
                group=video,
                split=split,
                video=video,
                frame=frame,
                seconds=frame / FRAMES_PER_SECOND,
            )

    def objects(self, source: Source) -> Sequence[ObjectEntry]:
        """Return the boxes of the frame; raises UserError naming file, frame and label."""
        if source.label is None:
            return ()
        frame = _frames(source.label, source.label_sha256).get(source.image.name)
        if frame is None:
            return ()
        where = f"{source.label}, frame {source.image.name},"
        index = frame.get("frameIndex", frame.get("index"))
        if index != source.frame:
            raise UserError(f"{where} has the index {index!r} and its image {source.frame}; unpack both again")
        labels = frame.get("labels") or []
        if not isinstance(labels, list) or not all(isinstance(label, dict) for label in labels):
            raise UserError(f"{where} has labels that are no list of objects; fetch the file again")
        entries = [_entry(label, source.video, f"{where} label {label.get('id')!r},") for label in labels]
        twice = first_duplicate(entry.track for entry in entries)
        if twice is not None:
            raise UserError(f"{where} holds the id {twice.removeprefix(source.video + '/')!r} twice; remove one")
        return tuple(entries)

    def notes(self) -> Sequence[str]:
        """Return one sentence for every difference from the official release, from up to 50 label files."""
        sources = self.sources()
        videos = {(source.split, source.video): source.label for source in sources}
        notes = []
        for split, official in OFFICIAL_COUNTS.items():
            count = sum(split == found for found, _ in videos)
            if count != official:
                notes.append(f"{self.name}: the split {split} has {count} videos, officially {official}.")
        notes += [
            f"{self.name}: the split {split} has no label folder, so its images count as unlabelled."
            for split in sorted({source.split for source in sources if source.label is None} - {"test"})
        ]
        images: dict[Path, set[str]] = {}
        for source in sources:
            if source.label is not None:
                images.setdefault(source.label, set()).add(source.image.name)
        for label in sorted(images)[:: max(1, len(images) // _FILES_READ)][:_FILES_READ]:
            try:
                frames = _frames(label)
            except UserError as error:
                notes.append(f"{self.name}: {label.name} cannot be used: {error}.")
                continue
            absent, bare = sorted(frames.keys() - images[label]), sorted(images[label] - frames.keys())
            if absent:
                notes.append(
                    f"{self.name}: {label.name} annotates {len(absent)} frames that are missing, "
                    f"the first is {absent[0]}."
                )
            if bare:
                notes.append(f"{self.name}: {label.name} lacks {len(bare)} images, the first is {bare[0]}.")
        return notes + unread_notes(self.name, image_folders(sources)) + outline_notes(self)


def _frames(file: Path, sha256: str = "") -> dict[str, dict[str, Any]]:
    """Return the frames of one video by image name."""
    return _read(file, sha256, cache_key(file, sha256))


@functools.lru_cache(maxsize=4)
def _read(file: Path, sha256: str, key: object) -> dict[str, dict[str, Any]]:
    found = read_json(file, sha256)
    frames = found.get("frames") if isinstance(found, dict) else found
    if not isinstance(frames, list):
        raise UserError(f"{file} holds neither a list of frames nor one called `frames`; use the box-track labels")
    by_image: dict[str, dict[str, Any]] = {}
    for position, frame in enumerate(frames):
        if not isinstance(frame, dict) or not isinstance(frame.get("name"), str):
            raise UserError(f"{file}: frame number {position} (from 0) has no name; use the box-track labels")
        video = frame.get("videoName", frame.get("video_name", file.stem))
        if video != file.stem:
            raise UserError(f"{file}, frame {frame['name']}, is of the video {video!r}; give every video its own file")
        name = frame["name"].rpartition("/")[2]
        if name in by_image:
            raise UserError(f"{file} holds the frame {name} twice; remove one")
        by_image[name] = frame
    return by_image


def _entry(label: dict[str, Any], video: str, where: str) -> ObjectEntry:
    if not isinstance(label.get("id"), str | int):
        raise UserError(f"{where} has no id; use the box-track labels")
    name = label.get("category")
    if not isinstance(name, str) or name not in _IDS:
        raise UserError(f"{where} has the category {name!r}, which BDD100K MOT does not have; use its labels")
    box = label.get("box2d")
    if not isinstance(box, dict) or not {"x1", "y1", "x2", "y2"} <= box.keys():
        raise UserError(f"{where} has no box2d with x1, y1, x2, y2; use the box-track labels")
    left, top, right, bottom = (number(box[key], where) for key in ("x1", "y1", "x2", "y2"))
    attributes = label.get("attributes") or {}
    if not isinstance(attributes, dict):
        raise UserError(f"{where} has attributes that are no table; fetch the file again")
    flags = tuple(sorted(str(key).lower() for key, value in attributes.items() if value is True))
    category = _IDS[name]
    return ObjectEntry(
        polygon=checked_box(left, top, right + 1, bottom + 1, where),
        category=category,
        track=f"{video}/{label['id']}",
        ignore=category in _DISTRACTORS or "crowd" in flags or "ignored" in flags,
        flags=flags,
    )
