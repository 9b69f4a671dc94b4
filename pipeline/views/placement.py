"""Affine maps from a moved tile to the tile it shows, used for pixels, labels and patches.

Coordinates are (x, y) in pixels of the tile, y downwards, 0 at its top left corner, so that pixel i covers i..i+1.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int32, Int64

from stores.specs import Size

Fill = Literal["black", "parent"]

_DECIMALS = 9  # a thousandth of the smallest distance between a pixel centre and a border that it does not meet


@dataclass(frozen=True)
class Placement:
    """An affine map from a point of the moved tile to the point of the tile that it shows."""

    xx: float = 1.0
    xy: float = 0.0
    yx: float = 0.0
    yy: float = 1.0
    x: float = 0.0
    y: float = 0.0
    fill: Fill = "black"
    """Content where the map leaves the tile: black and void, or the source image around it."""

    @property
    def upright(self) -> bool:
        """Whether rows stay rows, as with shifts, scales, crops and flips."""
        return self.xy == 0 and self.yx == 0

    @property
    def moves_the_grid(self) -> bool:
        """Whether all tiles of a source move alike, so that disjoint tiles stay disjoint."""
        return (self.xx, self.xy, self.yx, self.yy) == (1, 0, 0, 1) and self.fill == "parent"

    def source(
        self, x: Float64[np.ndarray, "*point"], y: Float64[np.ndarray, "*point"]
    ) -> tuple[Float64[np.ndarray, "*point"], Float64[np.ndarray, "*point"]]:
        """Return the points of the tile that the moved tile shows at (x, y)."""
        return self.xx * x + self.xy * y + self.x, self.yx * x + self.yy * y + self.y

    def moved(self, x: float, y: float) -> tuple[float, float]:
        """Return the point of the moved tile that shows a point of the tile."""
        area = self.xx * self.yy - self.xy * self.yx
        dx, dy = x - self.x, y - self.y
        return (self.yy * dx - self.xy * dy) / area, (self.xx * dy - self.yx * dx) / area


def about_centre(size: Size, xx: float, xy: float, yx: float, yy: float, fill: Fill) -> Placement:
    """Return the map with a given matrix that keeps a tile's centre fixed.

    The matrix is rounded to 12 decimals, so that ties do not depend on the mathematical library.

    Args:
        size: Size of the tile in pixels.
        xx: Derivative of the source's x by x.
        xy: Derivative of the source's x by y.
        yx: Derivative of the source's y by x.
        yy: Derivative of the source's y by y.
        fill: Content where the map leaves the tile.
    """
    xx, xy, yx, yy = (round(value, 12) for value in (xx, xy, yx, yy))
    x, y = size.width / 2, size.height / 2
    return Placement(xx, xy, yx, yy, x - xx * x - xy * y, y - yx * x - yy * y, fill)


def source_pixels(
    placement: Placement, tile: Size, shown: Size
) -> tuple[Int64[np.ndarray, "height width"], Int64[np.ndarray, "height width"]]:
    """Return row and column, in pixels of the tile, of the pixel that every input pixel shows; it may lie outside.

    It is the pixel that contains the source of the input pixel's centre. A centre on a border belongs to the pixel
    after it, as in `frames.cut_labels`; flipped labels are then the flip of the labels.
    """
    y = (2.0 * np.arange(shown.height) + 1) * tile.height / (2 * shown.height)
    x = (2.0 * np.arange(shown.width) + 1) * tile.width / (2 * shown.width)
    columns, rows = placement.source(*np.meshgrid(x, y))
    return _containing_cell(rows), _containing_cell(columns)


def _containing_cell(coordinates: Float64[np.ndarray, "*point"]) -> Int64[np.ndarray, "*point"]:
    """Return the unit cell that contains each coordinate, robust to rounding errors at cell borders."""
    return np.floor(np.round(coordinates, _DECIMALS)).astype(np.int64)


def corresponding_patches(
    placement: Placement, tile: Size, grid: tuple[int, int], clean_grid: tuple[int, int]
) -> Int32[np.ndarray, " patch"]:
    """Return, for every patch of the moved tile, the patch of the clean tile that contains its centre; -1 for none.

    Paper A, section 3.3: the corresponding patch is the original one that contains the centre of the transformed
    one. The share of patches that have one is the upper bound of retrieval.

    Args:
        placement: Where the moved tile's pixels come from.
        tile: Size of the tile in pixels.
        grid: Rows and columns of the moved tile's patches.
        clean_grid: Rows and columns of the clean tile's patches.
    """
    rows, columns = clean_grid
    y = (np.arange(grid[0]) + 0.5) * tile.height / grid[0]
    x = (np.arange(grid[1]) + 0.5) * tile.width / grid[1]
    source_x, source_y = placement.source(*np.meshgrid(x, y))
    row = _containing_cell(source_y * rows / tile.height)
    column = _containing_cell(source_x * columns / tile.width)
    inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    return np.where(inside, row * columns + column, -1).astype(np.int32).reshape(-1)
