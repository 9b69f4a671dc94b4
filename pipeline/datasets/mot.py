"""Videos in the layout of MOTChallenge, with their own classes.

``{video}/img1/000001.jpg`` and ``{video}/gt/gt.txt``, directly below the root or below split folders (``train``,
``val``, ``test``); ``{video}/seqinfo.ini`` tells the frame rate, and ``classes.txt`` in the root names the numbers of
the class column, one "number name" a line.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pipeline.datasets.contract import ClassEntry, Dataset, LabelKind, ObjectEntry, Source
from pipeline.datasets.reading.colours import spread_colour
from pipeline.datasets.reading.files import is_file, is_folder, read_lines
from pipeline.datasets.reading.folders import by_name, inside, require_folder, subfolders
from pipeline.datasets.reading.mot_files import (
    COLUMNS,
    Video,
    frame_objects,
    read_boxes,
    read_video,
    video_notes,
    video_sources,
)
from pipeline.datasets.reading.outlines import outline_notes
from stores.errors import MissingError, UserError

_COLUMNS = (COLUMNS.index("class"), len(COLUMNS))
_SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Mot(Dataset):
    """Videos with tracked boxes; groups are videos. Boxes with the flag 0 are marked as ignored."""

    name: ClassVar[str] = "mot"
    revision: ClassVar[int] = 1
    labels: ClassVar[frozenset[LabelKind]] = frozenset({"objects"})

    def classes(self) -> Sequence[ClassEntry]:
        """Return the classes of classes.txt, otherwise "class 1" and so on for the numbers that occur."""
        names = self._class_names
        return tuple(
            ClassEntry(index, names[number], names[number], spread_colour(index))
            for index, number in enumerate(sorted(names))
        )

    @functools.cached_property
    def _class_names(self) -> dict[int, str]:
        path = self.root / "classes.txt"
        if not is_file(path):
            truths = [video.truth for video in self._videos() if is_file(video.truth)]
            numbers = {int(number) for truth in truths for number in read_boxes(truth, _COLUMNS).values[:, 7]}
            return {number: f"class {number}" for number in numbers}
        names: dict[int, str] = {}
        for line_number, line in enumerate(read_lines(inside(self.root, path)), start=1):
            if not line.strip():
                continue
            number, _, name = line.strip().partition(" ")
            if not number.isdecimal() or not name.strip():
                raise UserError(f"{path}, line {line_number}, is no number and name; write for example `1 Car`")
            if int(number) in names or name.strip() in names.values():
                raise UserError(f"{path}, line {line_number}, gives a number or name again; list every class once")
            names[int(number)] = name.strip()
        return names

    def sources(self) -> Sequence[Source]:
        """Return all frames of all videos, sorted by name."""
        sources = by_name([source for video in self._videos() for source in video_sources(self.root, video)])
        if not sources:
            raise MissingError(f"{self.root} holds no video/img1/000001.jpg; give a folder of MOT videos")
        return sources

    def _videos(self) -> list[Video]:
        require_folder(self.root, "give a folder with one folder a video, each with img1 and gt")
        return [
            read_video(self.root, folder, f"{split}/{folder.name}" if split != "all" else folder.name, split)
            for split, parent in [("all", self.root), *((split, self.root / split) for split in _SPLITS)]
            for folder in (subfolders(parent) if is_folder(parent) else [])
            if is_file(folder / "seqinfo.ini") or is_folder(folder / "img1")
        ]

    def objects(self, source: Source) -> Sequence[ObjectEntry]:
        """Return the boxes of the frame; raises UserError naming file and line."""
        numbers = sorted(self._class_names)
        categories = {number: index for index, number in enumerate(numbers)}
        return frame_objects(source, categories, frozenset(numbers), _COLUMNS)

    def notes(self) -> Sequence[str]:
        """Return one sentence for every difference between what the files promise and what is there."""
        videos = self._videos()
        notes = []
        if not is_file(self.root / "classes.txt"):
            notes.append(f"{self.name}: no classes.txt names the classes, so they are called by their numbers.")
        for video in videos:
            if not is_file(video.truth):
                notes.append(f"{self.name}: {video.folder.name} has no gt/gt.txt and counts as unlabelled.")
            notes += video_notes(self.name, video, video_sources(self.root, video), _COLUMNS)
        return notes + outline_notes(self)
