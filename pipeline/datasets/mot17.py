"""MOT17: street videos with tracked pedestrians, in the layout of MOTChallenge.

``train/MOT17-02-FRCNN`` holds ``img1``, ``gt/gt.txt`` and ``seqinfo.ini``; ``test`` has no ``gt``. Every video exists
three times, with the boxes of the detectors DPM, FRCNN and SDP beside the same images and ground truth. Classes are
those of the MOT16 paper (arXiv 1603.00831); pedestrian alone is scored.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pipeline.datasets.contract import ClassEntry, Dataset, LabelKind, ObjectEntry, Source
from pipeline.datasets.reading.colours import spread_colour
from pipeline.datasets.reading.files import is_file, is_folder, read_bytes
from pipeline.datasets.reading.folders import by_name, require_folder, subfolders
from pipeline.datasets.reading.mot_files import Video, frame_objects, read_video, video_notes, video_sources
from pipeline.datasets.reading.outlines import outline_notes
from stores.errors import MissingError

OFFICIAL_COUNTS = {"train": 7, "test": 7}
"""Videos of each split."""

_NAMES = (
    ("pedestrian", "person"),
    ("person on vehicle", "person"),
    ("car", "vehicle"),
    ("bicycle", "vehicle"),
    ("motorbike", "vehicle"),
    ("non-motorised vehicle", "vehicle"),
    ("static person", "person"),
    ("distractor", "other"),
    ("occluder", "other"),
    ("occluder on the ground", "other"),
    ("full occluder", "other"),
    ("reflection", "other"),
    ("crowd", "person"),
)
CLASSES = tuple(ClassEntry(index, name, group, spread_colour(index)) for index, (name, group) in enumerate(_NAMES))
_CATEGORIES = {entry.id + 1: entry.id for entry in CLASSES}
_SCORED = frozenset({1})
_COLUMNS = (9, 9)
_DETECTORS = ("FRCNN", "SDP", "DPM", "")  # the first that is there is read
_FOLDER = re.compile(r"(MOT17-\d\d)(?:-(FRCNN|SDP|DPM))?")


@dataclass(frozen=True)
class Mot17(Dataset):
    """One copy of every video; ``root`` holds ``train`` and ``test``. Groups are videos, such as "MOT17-02".

    Boxes that are not scored, and those of other classes than pedestrian, are marked as ignored.
    """

    name: ClassVar[str] = "mot17"
    revision: ClassVar[int] = 1
    labels: ClassVar[frozenset[LabelKind]] = frozenset({"objects"})
    licence: ClassVar[str] = "MOT17: CC BY-NC-SA 3.0, https://motchallenge.net/data/MOT17"

    def classes(self) -> Sequence[ClassEntry]:
        """Return the 13 annotated classes; ids are the file's less one."""
        return CLASSES

    def sources(self) -> Sequence[Source]:
        """Return all frames of one copy of every video, sorted by name."""
        sources = by_name([source for video in self._videos() for source in video_sources(self.root, video)])
        if not sources:
            raise MissingError(f"{self.root} holds no train/MOT17-*/img1/*.jpg; give the folder of train and test")
        return sources

    def _copies(self) -> dict[tuple[str, str], dict[str, Path]]:
        """Return the folders of every (split, video), by detector."""
        require_folder(self.root, "give the folder that holds MOT17's train and test")
        copies: dict[tuple[str, str], dict[str, Path]] = {}
        for split in OFFICIAL_COUNTS:
            for folder in subfolders(self.root / split) if is_folder(self.root / split) else []:
                if match := _FOLDER.fullmatch(folder.name):
                    copies.setdefault((split, match[1]), {})[match[2] or ""] = folder
        return copies

    def _videos(self) -> list[Video]:
        return [
            read_video(self.root, next(copies[name] for name in _DETECTORS if name in copies), video, split)
            for (split, video), copies in self._copies().items()
        ]

    def objects(self, source: Source) -> Sequence[ObjectEntry]:
        """Return the boxes of the frame; raises UserError naming file and line."""
        return frame_objects(source, _CATEGORIES, _SCORED, _COLUMNS)

    def notes(self) -> Sequence[str]:
        """Return one sentence for every difference from the official release, and on the copies that are not read."""
        copies = self._copies()
        notes = []
        for split, official in OFFICIAL_COUNTS.items():
            count = sum(split == found for found, _ in copies)
            if count != official:
                notes.append(f"{self.name}: the split {split} has {count} videos, officially {official}.")
        for video in self._videos():
            others = [folder for folder in copies[video.split, video.name].values() if folder != video.folder]
            if others:
                names = " and ".join(sorted(folder.name for folder in others))
                notes.append(f"{self.name}: {video.folder.name} is read and its copies are not: {names}.")
            truth = read_bytes(video.truth) if is_file(video.truth) else None
            for other in others:
                path = other / "gt" / "gt.txt"
                if (read_bytes(path) if is_file(path) else None) != truth:
                    notes.append(f"{self.name}: gt.txt of {other.name} differs from that of {video.folder.name}.")
            notes += video_notes(self.name, video, video_sources(self.root, video), _COLUMNS)
        return notes + outline_notes(self)
