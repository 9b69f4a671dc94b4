"""What a view is: a deterministic transform of (source image, tile box) that its labels follow.

A view changes the pixels of the whole (resized) source, or says where in the tile every pixel of the input comes
from, or asks for another input size. `clean` does none of these.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float32, UInt8
from pydantic import Field

from pipeline.views.placement import Placement
from stores.canonical import digest
from stores.errors import UserError
from stores.specs import FrameSpec, Record, Size, ViewSpec

NOISE_STATS = ("noise_energy", "clipped_share")
"""What is kept of every sample of a noisy view: the mean square of the noise over the tile before clipping, in squared
grey levels, and the share of its values, 0..1, that clipping changed."""


@dataclass(frozen=True)
class Changed:
    """A changed source."""

    pixels: UInt8[np.ndarray, "height width 3"]
    noise: Float32[np.ndarray, "height width 3"] | None = None
    """What was added before rounding and clipping, in grey levels."""


Change = Callable[[UInt8[np.ndarray, "height width 3"], np.random.Generator], Changed]
Place = Callable[[Size, np.random.Generator], Placement]


@dataclass(frozen=True)
class View:
    """One view at one level."""

    spec: ViewSpec
    """Its ``level`` parameter is the strength, in the view's own unit."""
    change: Change | None = None
    """Changes the whole resized source; the generator is seeded by view and source."""
    place: Place | None = None
    """Says for a tile of some size where its pixels come from; the generator is seeded by view, source and tile."""
    input: Size | None = None
    """Input size in place of the frame's, in pixels."""
    sample_stats: tuple[str, ...] = ()
    """Names of the numbers that are stored for every sample."""

    @property
    def name(self) -> str:
        """``clean``, ``blur``, ..."""
        return self.spec.name

    @property
    def level(self) -> float | None:
        """Strength in the view's own unit; None for clean."""
        level = self.spec.parameters.get("level")
        return None if level is None else float(level)

    @property
    def title(self) -> str:
        """For people: name and level."""
        return self.name if self.level is None else f"{self.name} {self.level:g}"

    @property
    def moves_labels(self) -> bool:
        """Whether labels differ from those of the clean view; the others share its label set."""
        return self.place is not None or self.input is not None

    def generator(self, *names: str) -> np.random.Generator:
        """Return the random numbers for a source, or for one tile of it: never those of a row."""
        key = hashlib.sha256("\n".join((digest(self.spec.canonical()), *names)).encode()).digest()
        return np.random.Generator(np.random.PCG64(int.from_bytes(key[:16], "little")))


CLEAN = View(ViewSpec())


class ViewRecipe(Record):
    """A view of the same tiles at some levels, each a feature set of its own; the clean view needs no table."""

    layers: Literal["all"] | Annotated[tuple[int, ...], Field(min_length=1)] = (-1,)
    """Blocks that are kept of this view, counted from 0; negative numbers count from the end."""
    norm: Literal["final", "none", "both"] | None = None
    """Keep each layer through the model's final norm, as it is, or both; None does as [features] says."""

    def all_levels(self) -> tuple[float, ...]:
        """Return the levels in the order of the file."""
        return tuple(float(level) for level in getattr(self, "levels", ()))

    def at(self, level: float, frame: FrameSpec) -> View:
        """Return the view at one level; raises UserError when the frame does not allow it."""
        raise NotImplementedError


def scaled(size: Size, shorter: int) -> Size:
    """Return ``size`` with its shorter side brought to ``shorter`` pixels; raises UserError when that is not whole."""
    least = min(size.height, size.width)
    if size.height * shorter % least or size.width * shorter % least:
        raise UserError(
            f"an input of {size} pixels cannot be brought to a shorter side of {shorter} without changing its aspect: "
            "choose other `levels` in [[views]]"
        )
    return Size(height=size.height * shorter // least, width=size.width * shorter // least)
