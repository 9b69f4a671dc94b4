"""A site: objects are planned on it, then painted by decreasing size."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from demo.painting.canvas import Canvas, Number, Point
from demo.painting.noise import turned
from demo.satellite.categories import LABEL_IDS
from demo.satellite.courts import (
    paint_baseball_diamond,
    paint_basketball_court,
    paint_soccer_field,
    paint_tennis_court,
    paint_track_field,
)
from demo.satellite.plot import Plot, patch_of, plot_at
from demo.satellite.sprite import Sprite, cast_shadow, sprite_of
from demo.satellite.vehicles import (
    paint_helicopter,
    paint_large_vehicle,
    paint_plane,
    paint_ship,
    paint_small_vehicle,
)
from demo.satellite.works import (
    paint_bridge,
    paint_harbor,
    paint_house,
    paint_pool,
    paint_roundabout,
    paint_storage_tank,
    paint_tree,
)

_GRID = 4  # pixels in a cell of the map of what is taken

Painter = Callable[[Sprite, np.random.Generator], None]
PAINTERS: Mapping[str, tuple[Painter, Number]] = {
    "plane": (paint_plane, 5.0),
    "baseball-diamond": (paint_baseball_diamond, 0.0),
    "bridge": (paint_bridge, 5.0),
    "ground-track-field": (paint_track_field, 0.0),
    "small-vehicle": (paint_small_vehicle, 1.5),
    "large-vehicle": (paint_large_vehicle, 3.5),
    "ship": (paint_ship, 4.0),
    "tennis-court": (paint_tennis_court, 0.0),
    "basketball-court": (paint_basketball_court, 0.0),
    "storage-tank": (paint_storage_tank, 9.0),
    "soccer-ball-field": (paint_soccer_field, 0.0),
    "roundabout": (paint_roundabout, 0.0),
    "harbor": (paint_harbor, 2.0),
    "swimming-pool": (paint_pool, 0.0),
    "helicopter": (paint_helicopter, 3.0),
    "house": (paint_house, 7.0),
    "tree": (paint_tree, 5.0),
}
"""Painter and height in metres (for the shadow) by name; houses and trees are background."""


@dataclass(frozen=True)
class Planned:
    """One planned object."""

    name: str
    plot: Plot
    seed: int
    instance: int
    """0 for background."""


class BuildingSite:
    """A square site, in metres around its centre, at a random angle."""

    def __init__(self, canvas: Canvas, pixel: Number, generator: np.random.Generator) -> None:
        self.canvas = canvas
        self.pixel = pixel
        self.generator = generator
        self.planned: list[Planned] = []
        self.turn = turned(generator.random())
        self.reach = math.sqrt(canvas.height * canvas.height + canvas.width * canvas.width) * pixel / 2
        """Metres from the middle to the corners of the picture."""
        self._taken = np.zeros((canvas.height // _GRID + 1, canvas.width // _GRID + 1), np.bool_)
        self._built = self._taken.copy()
        self._instances = 0

    def between(self, low: Number, high: Number) -> float:
        """Return a random number; on sites so small that the bounds swap it may lie beyond ``low``."""
        return low + (high - low) * self.generator.random()

    def plot(self, x: Number, y: Number, length: Number, width: Number, share: Number = 0.0) -> Plot:
        """Return a plot given in metres of the site.

        Args:
            x: X coordinate of the centre, in metres from the site's.
            y: Y coordinate of the centre, in metres from the site's.
            length: Length in metres.
            width: Width in metres.
            share: Direction, as a share of a full circle from the x axis.
        """
        (cos, sin), (right, down) = self.turn, turned(share)
        centre = (
            self.canvas.width / 2 + (x * cos - y * sin) / self.pixel,
            self.canvas.height / 2 + (x * sin + y * cos) / self.pixel,
        )
        direction: Point = (right * cos - down * sin, right * sin + down * cos)
        return plot_at(centre, direction, length / self.pixel, width / self.pixel)

    def put(self, name: str, plot: Plot, *, upon: bool = False, on_road: bool = False, margin: Number = 1.0) -> bool:
        """Plan an object if it is wholly in the picture on free ground; return whether it was planned.

        Args:
            name: Category of the object.
            plot: Where to place it.
            upon: Whether it may be on top of other objects.
            on_road: Whether it may be on ground that is kept free.
            margin: Width of the gap around it, in metres.
        """
        if not plot.is_inside(self.canvas.height, self.canvas.width):
            return False
        rows, columns, inside = self._cells(plot, margin)
        if not upon and ((self._built if on_road else self._taken)[rows, columns] & inside).any():
            return False
        self._built[rows, columns] |= inside
        self._taken[rows, columns] |= inside
        self._instances += name in LABEL_IDS
        number = self._instances if name in LABEL_IDS else 0
        self.planned.append(Planned(name, plot, int(self.generator.integers(2**63)), number))
        return True

    def is_free(self, plot: Plot) -> bool:
        """Return whether a plot is empty and not kept free."""
        rows, columns, inside = self._cells(plot, 0.0)
        return not (self._taken[rows, columns] & inside).any()

    def keep_free(self, plot: Plot) -> None:
        """Reserve a plot for traffic."""
        rows, columns, inside = self._cells(plot, 0.0)
        self._taken[rows, columns] |= inside

    def _cells(self, plot: Plot, margin: Number) -> tuple[slice, slice, Bool[np.ndarray, "row column"]]:
        """Return the cells of a plot and the gap around it."""
        wide = 2 * margin / self.pixel
        length, width = plot.half
        direction = (plot.ahead[0] / length, plot.ahead[1] / length)
        size = ((2 * half + wide) / _GRID + 0.5 for half in (length, width))
        patch = patch_of(plot_at((plot.x / _GRID, plot.y / _GRID), direction, *size), *self._taken.shape)
        if patch is None:
            return slice(0, 0), slice(0, 0), np.zeros((0, 0), np.bool_)
        return patch.rows, patch.columns, patch.inside

    def build(self, sun: Point) -> list[Planned]:
        """Paint everything planned by decreasing area, trees last; ``sun`` is the shadow of one metre, in metres."""
        order = sorted(self.planned, key=lambda item: (item.name == "tree", -item.plot.area, item.seed))
        for item in order:
            sprite = sprite_of(item.plot, self.canvas, self.pixel)
            if sprite is None:
                continue
            paint, tall = PAINTERS[item.name]
            paint(sprite, np.random.Generator(np.random.PCG64(item.seed)))
            patch = sprite.patch
            reach = min(tall, 3 * sprite.width) / self.pixel
            shift = (math.floor(sun[1] * reach + 0.5), math.floor(sun[0] * reach + 0.5))
            if shift != (0, 0):
                cast_shadow(self.canvas, patch, sprite.mask, shift, 0.58)
            label, colour = LABEL_IDS.get(item.name, 0), sprite.colour[sprite.mask]
            self.canvas.paint(patch.rows, patch.columns, sprite.mask, colour, label, 0.06, item.instance)
        return order
