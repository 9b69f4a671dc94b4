"""The contract of data sets: sources, a class table and methods that read labels."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import UInt8

from stores.errors import UserError


@dataclass(frozen=True)
class ClassEntry:
    """One row of a class table."""

    id: int
    """Id in stored label maps, 0..254; 255 is void. Ids of data sets with one class per image may exceed 254."""
    name: str
    supercategory: str
    colour: tuple[int, int, int]
    """RGB, 0..255: the data set's own colour where it has one."""
    easy: bool = False
    """Whether the class belongs to the "easy" group of paper A's layer-wise figure."""


LabelKind = Literal["pixels", "objects", "image"]
"""A class for every pixel, objects with outlines, or one class per image."""


MissingLabels = Literal["stop", "keep"]
"""Whether a reader stops at a missing label file, or keeps the source in its list."""


@dataclass(frozen=True)
class ObjectEntry:
    """One annotated object of one source image."""

    polygon: tuple[tuple[float, float], ...]
    """Corners (x, y) in source pixels, without repeating the first. Coordinates are those of pixel edges: pixel i
    covers i..i+1, so a box over the pixels 0..9 ends at 10."""
    category: int
    """Id in the class table."""
    track: str = ""
    """Identity of the object over the frames of one video, empty if there is none."""
    ignore: bool = False
    """Whether evaluations ignore the object: crowds, distractors, reflections."""
    flags: tuple[str, ...] = ()
    """Other flags of the annotation, such as ``difficult``, ``occluded`` or ``truncated``."""
    visibility: float = 1.0
    """Visible share of the object, 0..1; 1 if the annotation does not say."""

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of the outline."""
        x, y = zip(*self.polygon, strict=True)
        return min(x), min(y), max(x), max(y)


@dataclass(frozen=True, slots=True)
class Source:
    """One source image with its metadata."""

    name: str
    """Identity: the image's path relative to ``root``, POSIX separators."""
    root: Path
    """The data set's root folder. The image's path is not kept: that of a million images would take a gigabyte."""
    label: Path | None
    """The file that holds the source's labels, or None; many sources may share one annotation file."""
    group: str
    """The unit that selection rules count by: a city, a video, a class."""
    split: str
    image_class: int | None = None
    """Id in the class table, for data sets with one class per image."""
    video: str = ""
    """The video that the image is a frame of, empty for stills."""
    frame: int = -1
    """Number of the frame in its video, as the annotation counts; -1 for stills."""
    seconds: float = float("nan")
    """Time since frame 0 of the video; NaN if the frame rate is unknown."""
    label_sha256: str = ""
    """sha256 that the bytes of ``label`` must have when they are read; empty accepts any."""

    @property
    def image(self) -> Path:
        """Path of the image file."""
        return self.root / self.name


_NO_PIXEL_LABELS: Mapping[frozenset[LabelKind], str] = {
    frozenset({"image"}): "has one class for the whole image; choose an image-level analysis",
    frozenset({"objects"}): "has boxes and no pixel labels; choose an analysis of objects",
    frozenset(): "has no labels; choose an analysis that needs none, or a labelled data set",
}


@dataclass(frozen=True)
class Dataset(ABC):
    """A reader for one official layout; subclasses are frozen dataclasses.

    Constructing one checks nothing; `sources` raises `stores.errors.MissingError` when the layout is not found
    and `stores.errors.UserError` when its files contradict each other.
    """

    root: Path
    """The folder that holds the data set."""
    missing_labels: MissingLabels = field(default="stop", kw_only=True)
    """Whether a missing label file stops `sources`, or stays listed for `check_samples` to report. Readers without one
    label file per image or video ignore it."""
    name: ClassVar[str]
    """Name in the table of data sets."""
    revision: ClassVar[int]
    """Increased when the reader returns something else for the same files."""
    licence: ClassVar[str] = "not stated"
    """Terms of use of the data, in one line."""

    @property
    @abstractmethod
    def labels(self) -> frozenset[LabelKind]:
        """Kinds of labels; empty for unlabelled data."""

    @property
    def label_settings(self) -> list[object]:
        """Settings of the experiment file that decide what label files mean, as JSON values; part of label digests."""
        return []

    @abstractmethod
    def classes(self) -> Sequence[ClassEntry]:
        """Return the class table, ordered by id; empty for unlabelled data."""

    @abstractmethod
    def sources(self) -> Sequence[Source]:
        """Return all sources of all splits, sorted by name, image files only checked for existence."""

    def pixel_classes(self, source: Source) -> UInt8[np.ndarray, "height width"]:
        """Return the class id of every pixel of the source image, 255 for void.

        An unlabelled image of a set with pixel labels is all void. Raises UserError naming the file when the
        label file is unreadable, holds an unknown id or has another sha256 than the source says, and by default
        because there are no pixel labels.
        """
        raise UserError(f"{source.image} {_NO_PIXEL_LABELS[self.labels]}")

    def objects(self, source: Source) -> Sequence[ObjectEntry]:
        """Return the annotated objects of a source, in the order of its annotation; none by default.

        Raises UserError naming file and object when the annotation is unreadable or has another sha256 than the
        source says, or an outline has no area.
        """
        return ()

    @abstractmethod
    def notes(self) -> Sequence[str]:
        """Return one sentence for every difference from the official release (counts, missing files)."""
