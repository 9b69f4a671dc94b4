"""What a data set is to the pipeline: a list of sources, a class table and a way to read labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8


@dataclass(frozen=True)
class ClassEntry:
    """One row of a class table."""

    id: int
    """Id in the stored label maps, 0..254, where 255 is void; one class an image may go beyond."""
    name: str
    supercategory: str
    colour: tuple[int, int, int]
    """RGB, 0..255: the data set's own colour where it has one."""
    easy: bool = False
    """Whether the class belongs to the "easy" group of paper A's layer-wise figure."""


@dataclass(frozen=True)
class Source:
    """One source image with what is known about it."""

    name: str
    """Identity: the image's path relative to the data set's root, POSIX separators."""
    image: Path
    label: Path | None
    """Pixel-label file, or None."""
    group: str
    """What few-shot rules count by: a city, a video, a class."""
    split: str
    image_class: int | None = None
    """Id in the class table, for sets with one class an image."""


@runtime_checkable
class Dataset(Protocol):
    """A reader for one official layout. Implementations are frozen dataclasses that hold their root.

    Constructing one checks nothing; `sources` raises `stores.errors.MissingError` when the layout is not there
    and `stores.errors.UserError` when what is there contradicts itself.
    """

    @property
    def name(self) -> str:
        """Name in the table of data sets."""
        ...

    @property
    def revision(self) -> int:
        """Raised when the reader gives something else for the same files."""
        ...

    @property
    def licence(self) -> str:
        """Terms of use of the data, in one line."""
        ...

    @property
    def root(self) -> Path:
        """The folder that holds the data set."""
        ...

    def classes(self) -> Sequence[ClassEntry]:
        """Return the class table, ordered by id; empty for unlabelled data."""
        ...

    def sources(self) -> Sequence[Source]:
        """Return all sources of all splits, sorted by name, image files only checked for existence."""
        ...

    def pixel_classes(self, source: Source) -> UInt8[np.ndarray, "height width"]:
        """Return the class id of every pixel of the source image, 255 for void.

        An unlabelled image of a set with pixel labels is all void. Raises UserError naming the file when the
        label file is unreadable or holds an unknown id, or when the data set has no pixel labels at all.
        """
        ...

    def notes(self) -> Sequence[str]:
        """Return one sentence for every difference from the official release (counts, missing files)."""
        ...
