"""Reads the MOTChallenge files of one video: ``img1/000001.jpg``, ``gt/gt.txt`` and ``seqinfo.ini``.

A line of ``gt.txt`` is ``frame, id, left, top, width, height, flag, class, visibility``. Flag 0 marks boxes that are
not scored. Everything is counted from 1, so 1 is subtracted from each left and top
(JonathonLuiten/TrackEval, ``docs/MOTChallenge-format.txt``).
"""

import configparser
import functools
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from pipeline.datasets.contract import ObjectEntry, Source
from pipeline.datasets.reading.files import MOST_FRAME, cache_key, is_file, read_text
from pipeline.datasets.reading.folders import image_files, inside, relative_name, require_folder, unread_notes
from pipeline.datasets.reading.outlines import checked_box
from stores.errors import UserError

COLUMNS = ("frame", "id", "left", "top", "width", "height", "flag", "class", "visibility")

_WITH_WORLD = 10
"""Columns of the ground truth of 2D MOT 2015: seven, then world coordinates x, y, z instead of class and visibility."""
_WHOLE = ("frame", "id", "flag", "class")
_DEFAULTS = (1.0, 1.0)  # class and visibility, where lines end before them


@dataclass(frozen=True)
class Video:
    """One video with the data of its seqinfo.ini."""

    name: str
    """Identity; equal for copies with the same images."""
    split: str
    folder: Path
    images: Path
    frames_per_second: float
    """NaN if seqinfo.ini does not say."""
    n_frames: int | None
    """Number of frames according to seqinfo.ini."""

    @property
    def truth(self) -> Path:
        """File of the boxes, for training videos."""
        return self.folder / "gt" / "gt.txt"


@dataclass(frozen=True)
class Boxes:
    """All boxes of a video, sorted by frame and, within a frame, in the order of the file."""

    values: Float64[np.ndarray, "box 9"]
    """One column for each of `COLUMNS`, as in the file."""
    lines: Int64[np.ndarray, " box"]
    """Line of each box in the file, from 1."""


def read_video(root: Path, folder: Path, name: str, split: str) -> Video:
    """Return a video; raises UserError for an unreadable seqinfo.ini, MissingError without its image folder.

    Args:
        root: The data set's root, which no path may leave.
        folder: Folder of the video.
        name: Identity of the video.
        split: Split of the video.
    """
    path = folder / "seqinfo.ini"
    images, rate, length = "img1", math.nan, None
    if is_file(path):
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read_string(read_text(inside(root, path)), source=path.name)
            section = parser["Sequence"]
            images = section.get("imDir", images)
            rate = section.getfloat("frameRate", rate)
            length = section.getint("seqLength", length)
        except (configparser.Error, KeyError, ValueError) as error:
            if isinstance(error, UserError):
                raise
            what = " ".join(str(error).split())
            raise UserError(f"{path} cannot be read as a MOT seqinfo.ini ({what}); fetch it again") from error
        if rate <= 0 or math.isinf(rate):
            raise UserError(f"{path} gives the frameRate {rate:g}; give frames a second")
    where = require_folder(inside(root, folder / images), f"the images of {folder.name} belong there")
    return Video(name, split, folder, where, rate, length)


def video_sources(root: Path, video: Video) -> list[Source]:
    """Return a source for every image; raises UserError for names that are not frame numbers, or are equal."""
    by_frame: dict[int, Source] = {}
    label = inside(root, video.truth) if is_file(video.truth) else None
    for image in image_files(root, video.images):
        if not image.stem.isdecimal():
            raise UserError(f"{image} is not named by a frame number; rename it to 000001{image.suffix} or the like")
        if float(image.stem) > MOST_FRAME:
            raise UserError(f"{image} has a frame number above {MOST_FRAME}; number the frames from 1 on")
        frame = int(image.stem)
        if frame in by_frame:
            raise UserError(f"{image} and {by_frame[frame].image.name} are both frame {frame}; remove one")
        by_frame[frame] = Source(
            relative_name(root, image),
            root,
            label,
            group=video.name,
            split=video.split,
            video=video.name,
            frame=frame,
            seconds=frame / video.frames_per_second,
        )
    return list(by_frame.values())


def frame_objects(
    source: Source, categories: Mapping[int, int], scored: frozenset[int], columns: tuple[int, int]
) -> tuple[ObjectEntry, ...]:
    """Return the boxes of one frame; tracks include the video's name, so that no two videos share one.

    Raises UserError like `read_boxes`, and for classes that have no id.

    Args:
        source: The frame.
        categories: Id in the class table by class number of the file.
        scored: Class numbers that are scored; objects of others are marked as ignored.
        columns: Fewest and most columns of a line.
    """
    if source.label is None:
        return ()
    boxes = read_boxes(source.label, columns, source.label_sha256)
    start, stop = np.searchsorted(boxes.values[:, 0], [source.frame, source.frame + 1])
    found = []
    for row, line in zip(boxes.values[start:stop].tolist(), boxes.lines[start:stop].tolist(), strict=True):
        _, track, left, top, width, height, flag, class_number, visibility = row
        where = f"{source.label}, line {line},"
        if class_number not in categories:
            known = ", ".join(str(number) for number in sorted(categories))
            raise UserError(f"{where} has the class {class_number:g}; known are {known}")
        found.append(
            ObjectEntry(
                polygon=checked_box(left - 1, top - 1, left - 1 + width, top - 1 + height, where),
                category=categories[class_number],
                track=f"{source.video}/{track:.0f}",
                ignore=flag == 0 or class_number not in scored,
                flags=() if flag else ("unscored",),
                visibility=visibility if visibility >= 0 else 1.0,
            )
        )
    return tuple(found)


def read_boxes(path: Path, columns: tuple[int, int], sha256: str = "") -> Boxes:
    """Return the boxes of a gt.txt; ``columns`` are the fewest and the most columns of a line.

    With a ``sha256`` the file's bytes must have it. Where fewer than nine columns are allowed, lines of ten are read as
    those of 2D MOT 2015: the last three are world coordinates and ignored.

    Raises UserError, naming file and line, for lines of another length, words that are no numbers, fractions instead
    of whole numbers, boxes without area, and an id that occurs twice in a frame.
    """
    return _read_boxes(path, columns, sha256, cache_key(path, sha256))


@functools.lru_cache(maxsize=4)
def _read_boxes(path: Path, columns: tuple[int, int], sha256: str, key: object) -> Boxes:
    text = read_text(path, sha256)
    lines = np.array([n for n, line in enumerate(text.splitlines(), start=1) if line.strip()], np.int64)
    if not len(lines):
        return Boxes(np.empty((0, len(COLUMNS))), lines)
    try:
        values = np.loadtxt(io.StringIO(text), delimiter=",", dtype=np.float64, ndmin=2, comments=None)
    except ValueError:
        values = None
    if values is not None and values.shape[1] == _WITH_WORLD and columns[0] < len(COLUMNS):
        values = values[:, : COLUMNS.index("class")]
    # numpy splits lines at fewer characters than Python; a separator inside a line is an error, like a wrong word.
    if values is None or len(values) != len(lines) or not columns[0] <= values.shape[1] <= columns[1]:
        _raise_first_bad_line(path, text, columns)
    assert values is not None
    missing = len(COLUMNS) - values.shape[1]
    if missing:
        values = np.hstack([values, np.tile(_DEFAULTS[-missing:], (len(values), 1))])
    _check_values(path, values, lines)
    order = np.lexsort((lines, values[:, 0]))
    return Boxes(values[order], lines[order])


def _raise_first_bad_line(path: Path, text: str, columns: tuple[int, int]) -> None:
    fewest, most = columns
    for line_number, line in enumerate(text.splitlines(), start=1):
        words = line.split(",")
        where = f"{path}, line {line_number},"
        is_with_world = len(words) == _WITH_WORLD and fewest < most
        if line.strip() and not fewest <= len(words) <= most and not is_with_world:
            wanted = str(most) if fewest == most else f"{fewest} to {most}"
            raise UserError(f"{where} has {len(words)} columns; write {wanted}: {', '.join(COLUMNS[:most])}")
        for word in words if line.strip() else []:
            try:
                float(word)
            except ValueError:
                raise UserError(f"{where} has {word.strip()!r} where a number belongs; correct the line") from None
    raise UserError(f"{path} has lines of different lengths; write as many columns in every line")


def _check_values(path: Path, values: Float64[np.ndarray, "box 9"], lines: Int64[np.ndarray, " box"]) -> None:
    def refuse(bad: np.ndarray, what: str) -> None:
        if bad.any():
            raise UserError(f"{path}, line {lines[int(np.argmax(bad))]}, {what}; correct or remove the line")

    column = dict(zip(COLUMNS, values.T, strict=True))
    refuse(~np.isfinite(values).all(axis=1), "has a value that is no number")
    for name in _WHOLE:
        refuse(column[name] != np.floor(column[name]), f"has a fraction for its {name}")
    refuse(column["frame"] < 1, "has a frame below 1")
    refuse((column["width"] <= 0) | (column["height"] <= 0), "has a box without area")
    refuse(column["visibility"] > 1, "has a visibility above 1")
    order = np.lexsort((lines, column["id"], column["frame"]))
    same = (np.diff(column["frame"][order]) == 0) & (np.diff(column["id"][order]) == 0)
    if same.any():
        first, second = (int(lines[order[int(np.argmax(same)) + step]]) for step in (0, 1))
        raise UserError(f"{path}, line {second}, gives frame and id of line {first} again; remove one of the two")


def video_notes(dataset: str, video: Video, sources: list[Source], columns: tuple[int, int]) -> list[str]:
    """Return one sentence for every difference between a video's metadata and its files.

    Args:
        dataset: Name of the data set, with which the sentences begin.
        video: The video.
        sources: Its frames.
        columns: Fewest and most columns of a line of gt.txt.
    """
    notes = []
    if video.n_frames is not None and video.n_frames != len(sources):
        notes.append(
            f"{dataset}: seqinfo.ini of {video.folder.name} promises {video.n_frames} frames, {len(sources)} are here."
        )
    if math.isnan(video.frames_per_second):
        notes.append(f"{dataset}: no seqinfo.ini tells the frame rate of {video.folder.name}; its times are unknown.")
    if is_file(video.truth):
        annotated = set(read_boxes(video.truth, columns).values[:, 0].tolist())
        absent = sorted(annotated - {source.frame for source in sources})
        if absent:
            notes.append(
                f"{dataset}: gt.txt of {video.folder.name} annotates {len(absent)} frames that are missing, "
                f"the first is {absent[0]:g}."
            )
    return notes + unread_notes(dataset, [video.images])
