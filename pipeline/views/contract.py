"""The contract of views: deterministic transforms of a source image and its tiles, applied to labels as well.

A view changes the pixels of the whole (resized) source, or maps every input pixel to a place in the tile, or uses
another input size. `clean` does none of these.
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

NOISE_STATS = ("noise_energy", "clipped_share", "noise_energy_input")
"""Statistics of every sample of a noisy view: the mean square of the noise over the tile before clipping, in squared
grey levels; the share of values, 0..1, that clipping changed; and the mean square of the noise after it is resized with
the tile, which is what reaches the model."""


@dataclass(frozen=True)
class Changed:
    """A changed source."""

    pixels: UInt8[np.ndarray, "height width 3"]
    noise: Float32[np.ndarray, "height width 3"] | None = None
    """Noise that was added before rounding and clipping, in grey levels."""


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
    """Returns for a tile size where the tile's pixels come from; the generator is seeded by view, source and tile."""
    input: Size | None = None
    """Input size instead of the frame's, in pixels."""
    sample_stats: tuple[str, ...] = ()
    """Names of the statistics that are stored of every sample."""

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
        """Name and level, for messages."""
        return self.name if self.level is None else f"{self.name} {self.level:g}"

    @property
    def moves_labels(self) -> bool:
        """Whether labels differ from those of the clean view; otherwise its label set is shared."""
        return self.place is not None or self.input is not None

    def generator(self, *names: str) -> np.random.Generator:
        """Return the random generator of a source, or of one tile of it; row numbers do not enter its seed."""
        key = hashlib.sha256("\n".join((digest(self.spec.canonical()), *names)).encode()).digest()
        return np.random.Generator(np.random.PCG64(int.from_bytes(key[:16], "little")))


CLEAN = View(ViewSpec())


class ViewRecipe(Record):
    """A view of the same tiles at some levels; each level is a feature set. The clean view needs no table."""

    layers: Literal["all"] | Annotated[tuple[int, ...], Field(min_length=1)] = (-1,)
    """Blocks to keep, counted from 0; negative numbers count from the end."""
    norm: Literal["final", "none", "both"] | None = None
    """Keep each layer after the model's final norm, without it, or both; by default as in [features]."""
    captures: tuple[Literal["grams"], ...] = ()
    """Also keep ``grams`` of these layers, with the ``capture_points`` and ``gram_rows`` of [features]: with them
    ``similarity`` compares patches of the view with those of clean inputs."""

    def all_levels(self) -> tuple[float, ...]:
        """Return the levels in the order of the experiment file."""
        return tuple(float(level) for level in getattr(self, "levels", ()))

    def at(self, level: float, frame: FrameSpec) -> View:
        """Return the view at one level; raises UserError when the frame does not allow it."""
        raise NotImplementedError


def scaled(size: Size, shorter: int) -> Size:
    """Return ``size`` scaled to a shorter side of ``shorter`` pixels; raises UserError when a side is not whole."""
    least = min(size.height, size.width)
    if size.height * shorter % least or size.width * shorter % least:
        raise UserError(
            f"an input of {size} pixels cannot be scaled to a shorter side of {shorter} without changing its aspect: "
            "choose other `levels` in [[views]]"
        )
    return Size(height=size.height * shorter // least, width=size.width * shorter // least)
