"""Long passes over rows, cut in sections that several processes compute and that are merged in order.

Where a section begins follows from the data alone, and what is computed of it from nothing outside: bits are the same
whichever process computed which section. Workers keep what they computed as files until the task has merged them; a
process that works alone computes one section after another and keeps no file.

::

    RESULTS/answers/sections/<digest>/<number>.npz    arrays of one section, written whole or not at all
"""

import io
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from evaluate.results.files import SECTIONS, read_arrays, write_file
from stores.errors import UserError

Arrays = Mapping[str, np.ndarray]


class SectionFiles:
    """Arrays of sections in a results folder.

    Args:
        root: the results folder.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root) / SECTIONS

    def has(self, digest: str, number: int) -> bool:
        """Return whether the arrays of a section are there."""
        return self._path(digest, number).is_file()

    def has_all(self, digest: str, n_sections: int) -> bool:
        """Return whether the arrays of all sections are there."""
        return all(self.has(digest, number) for number in range(n_sections))

    def write(self, digest: str, number: int, arrays: Arrays) -> None:
        """Write the arrays of a section, without compression: they are read once."""
        sink = io.BytesIO()
        np.savez(sink, allow_pickle=False, **arrays)
        write_file(self._path(digest, number), sink.getvalue())

    def read(self, digest: str, number: int) -> dict[str, np.ndarray] | None:
        """Return the arrays of a section; None where they are gone, or no plain arrays: then they are computed."""
        try:
            return read_arrays(self._path(digest, number))
        except UserError:
            return None

    def remove(self, digest: str) -> None:
        """Remove all sections of a pass, if there are any."""
        shutil.rmtree(self.root / digest, ignore_errors=True)
        if self.root.is_dir() and not any(self.root.iterdir()):
            shutil.rmtree(self.root, ignore_errors=True)

    def _path(self, digest: str, number: int) -> Path:
        return self.root / digest / f"{number:06d}.npz"


class LongPass(ABC):
    """One look at many rows, whose sections can be computed on their own."""

    @property
    @abstractmethod
    def title(self) -> str:
        """What is computed, for a line on the terminal."""

    @property
    @abstractmethod
    def digests(self) -> tuple[str, ...]:
        """What names the files: digests of everything that decides the arrays of a section."""

    @property
    @abstractmethod
    def n_sections(self) -> int:
        """Number of sections; it depends on the data alone."""

    @abstractmethod
    def compute(self, number: int) -> Mapping[str, Arrays]:
        """Return the arrays of a section, by the digest that names them."""

    @property
    def needs(self) -> "tuple[LongPass, ...]":
        """Passes whose sections are read by each section of this one."""
        return ()

    def is_part_of(self, other: "LongPass") -> bool:
        """Return whether the task that merges another pass stores what this one is for."""
        return False

    def missing(self, files: SectionFiles) -> Iterator[int]:
        """Yield the numbers of the sections of which some file is missing."""
        for number in range(self.n_sections):
            if not all(files.has(digest, number) for digest in self.digests):
                yield number

    def compute_missing(self, number: int, files: SectionFiles) -> None:
        """Compute and keep one section, unless it is there."""
        if not all(files.has(digest, number) for digest in self.digests):
            for digest, arrays in self.compute(number).items():
                files.write(digest, number, arrays)

    def remove(self, files: SectionFiles) -> None:
        """Remove what was kept of all sections."""
        for digest in self.digests:
            files.remove(digest)
