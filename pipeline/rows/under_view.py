"""Applies a view to samples: pixels, labels, scored regions and patch correspondences."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float32, Int32, UInt8
from PIL import Image

from pipeline.frame_recipe import Interpolation
from pipeline.rows import frames
from pipeline.rows.frames import Box, Tile
from pipeline.rows.samples import Samples
from pipeline.views.contract import Changed, View
from pipeline.views.placement import Placement, corresponding_patches, source_pixels
from stores.specs import VOID, FrameSpec, Size

_ROTATION_FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "nearest": Image.Resampling.NEAREST,
}
_IDENTITY = Placement()


def for_view(samples: Samples, view: View) -> Samples:
    """Return the same rows under a view, with its input size and scored regions."""
    frame = under_frame(samples.frame, view)
    table = samples.table.copy()
    if view.place is None:  # images of one size share their tiles, and those their boxes
        of_kinds = [frames.owned_in_input(frame, tile) for tile in samples.tiles.kinds]
        boxes = np.array(of_kinds, np.int64)[samples.tiles.kind]
    else:
        of_rows = [owned(view, frame, name, tile) for name, tile in samples.tiles]
        boxes = np.array(of_rows, np.int64).reshape(-1, 4)
    for column, edge in enumerate(("left", "top", "right", "bottom")):
        table[f"owned_{edge}"] = boxes[:, column]
    return dataclasses.replace(samples, frame=frame, view=view, table=table)


def under_frame(frame: FrameSpec, view: View) -> FrameSpec:
    """Return the frame with the input size of the view."""
    return frame if view.input is None else frame.model_copy(update={"input": view.input})


def placement(view: View, name: str, tile: Tile) -> Placement:
    """Return where the pixels of one tile come from under a view."""
    if view.place is None:
        return _IDENTITY
    return view.place(_size(tile.box), view.generator(name, str(tile.row), str(tile.column)))


def pixels(
    view: View,
    frame: FrameSpec,
    name: str,
    tile_list: Sequence[Tile],
    image: UInt8[np.ndarray, "source_height source_width 3"],
    interpolation: Interpolation,
) -> tuple[UInt8[np.ndarray, "sample height width 3"], dict[str, Float32[np.ndarray, " sample"]]]:
    """Return tiles of a source as model inputs, RGB 0..255, and the view's statistics of each.

    The whole resized source is changed first, so that overlapping tiles agree.

    Args:
        view: The view to apply.
        frame: The frame, with the view's input size.
        name: Name of the source, part of the seed of random numbers.
        tile_list: Tiles of the source.
        image: The source's pixels.
        interpolation: How source and tiles are resized.
    """
    plane = frames.resized(image, frame, interpolation)
    stats: dict[str, Float32[np.ndarray, " sample"]] = {}
    if view.change is not None:
        changed = view.change(plane, view.generator(name))
        stats = _noise_stats(plane, changed, frame, tile_list, interpolation) if view.sample_stats else {}
        plane = changed.pixels
    if view.place is None:
        chosen: Interpolation = "box" if view.input is not None else interpolation
        return frames.cut_plane(plane, frame, tile_list, chosen), stats
    inputs = np.empty((len(tile_list), frame.input.height, frame.input.width, 3), np.uint8)
    for sample, tile in enumerate(tile_list):
        inputs[sample] = _placed(plane, frame, tile, placement(view, name, tile), interpolation)
    return inputs, stats


def labels(
    view: View,
    frame: FrameSpec,
    name: str,
    tile_list: Sequence[Tile],
    pixel_classes: UInt8[np.ndarray, "source_height source_width"],
) -> UInt8[np.ndarray, "sample height width"]:
    """Return the class ids of the tiles' pixels under a view: the id at the source of each input pixel's centre.

    Pixels beyond the source are void, and beyond the tile where the view fills with black. Where a tile is rotated,
    the part that another tile is scored on is void as well, because a box cannot describe it.

    Args:
        view: The view to apply.
        frame: The frame, with the view's input size.
        name: Name of the source, part of the seed of random numbers.
        tile_list: Tiles of the source.
        pixel_classes: Class id of every pixel of the source.
    """
    if view.place is None:
        return frames.cut_labels(pixel_classes, frame, tile_list)
    plane = frames.resized_labels(pixel_classes, frame)
    shown = np.full((len(tile_list), frame.input.height, frame.input.width), VOID, np.uint8)
    for sample, tile in enumerate(tile_list):
        place = placement(view, name, tile)
        rows, columns = source_pixels(place, _size(tile.box), frame.input)
        rows, columns = rows + tile.box[1], columns + tile.box[0]
        inside = _within(rows, columns, (0, 0, plane.shape[1], plane.shape[0]))
        if place.fill == "black":
            inside &= _within(rows, columns, tile.box)
        if not place.upright:
            inside &= _within(rows, columns, tile.owned)
        shown[sample][inside] = plane[rows[inside], columns[inside]]
    return shown


def owned(view: View, frame: FrameSpec, name: str, tile: Tile) -> Box:
    """Return the part of an input that its tile is scored on, in input pixels, so that no pixel is scored twice.

    Where all tiles move alike it is that of the clean view. Otherwise it is what shows the tile's owned part of the
    source.

    Args:
        view: The view to apply.
        frame: The frame, with the view's input size.
        name: Name of the source, part of the seed of random numbers.
        tile: The tile.
    """
    place = placement(view, name, tile)
    if view.place is None or place.moves_the_grid:
        return frames.owned_in_input(frame, tile)
    if not place.upright:
        return 0, 0, frame.input.width, frame.input.height
    rows, columns = source_pixels(place, _size(tile.box), frame.input)
    mine = _within(rows + tile.box[1], columns + tile.box[0], tile.owned)
    y, x = np.flatnonzero(mine.any(axis=1)), np.flatnonzero(mine.any(axis=0))
    if not len(y):
        return 0, 0, 0, 0
    return int(x[0]), int(y[0]), int(x[-1]) + 1, int(y[-1]) + 1


def correspondence(
    samples: Samples, start: int, stop: int, grid: tuple[int, int], clean_grid: tuple[int, int]
) -> Int32[np.ndarray, "sample patch"]:
    """Return the clean patch of the same row that contains each patch's centre, -1 for none.

    Args:
        samples: The rows under their view.
        start: First row.
        stop: Row after the last.
        grid: Rows and columns of patches under the view.
        clean_grid: Rows and columns of patches in the clean view.
    """
    return np.stack(
        [
            corresponding_patches(placement(samples.view, name, tile), _size(tile.box), grid, clean_grid)
            for name, tile in samples.tiles[start:stop]
        ]
    )


def _size(box: Box) -> Size:
    left, top, right, bottom = box
    return Size(height=bottom - top, width=right - left)


def _within(rows: np.ndarray, columns: np.ndarray, box: tuple[int, int, int, int]) -> Bool[np.ndarray, "height width"]:
    left, top, right, bottom = box
    return (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)


def _noise_stats(
    plane: UInt8[np.ndarray, "height width 3"],
    changed: Changed,
    frame: FrameSpec,
    tile_list: Sequence[Tile],
    interpolation: Interpolation,
) -> dict[str, Float32[np.ndarray, " sample"]]:
    assert changed.noise is not None
    energy, clipped, arriving = [], [], []
    for tile in tile_list:
        left, top, right, bottom = tile.box
        noise = changed.noise[top:bottom, left:right].astype(np.float64)
        noisy = np.rint(plane[top:bottom, left:right] + noise)
        energy.append(np.square(noise).mean())
        clipped.append(((noisy < 0) | (noisy > 255)).mean())
        # Beyond the source there is no noise.
        padded = np.zeros((bottom - top, right - left, 3), np.float32)
        padded[: noise.shape[0], : noise.shape[1]] = noise
        arriving.append(np.square(frames.resample_floats(padded, frame.input, interpolation), dtype=np.float64).mean())
    stats = {"noise_energy": energy, "clipped_share": clipped, "noise_energy_input": arriving}
    return {name: np.array(values, np.float32) for name, values in stats.items()}


def _placed(
    plane: UInt8[np.ndarray, "plane_height plane_width 3"],
    frame: FrameSpec,
    tile: Tile,
    place: Placement,
    interpolation: Interpolation,
) -> UInt8[np.ndarray, "height width 3"]:
    size = _size(tile.box)
    if place.fill == "black":
        plane, left, top = frames.crop(plane, tile.box, fill=0), 0, 0
    else:
        left, top = tile.box[0], tile.box[1]
    if not place.upright:
        # Pillow looks up the source of an output pixel's centre and leaves the outside black, as labels do.
        x, y = place.x + left, place.y + top
        rotated = Image.fromarray(np.ascontiguousarray(plane)).transform(
            (size.width, size.height),
            Image.Transform.AFFINE,
            (place.xx, place.xy, x, place.yx, place.yy, y),
            _ROTATION_FILTERS.get(interpolation, Image.Resampling.BICUBIC),
        )
        chosen = _without_copies(interpolation, float(size.width), float(size.height), frame.input)
        return frames.resample(np.asarray(rotated), frame.input, chosen)
    xs = sorted((left + place.x, left + place.x + place.xx * size.width))
    ys = sorted((top + place.y, top + place.y + place.yy * size.height))
    first_x, first_y = math.floor(xs[0]), math.floor(ys[0])
    shown = frames.crop(plane, (first_x, first_y, math.ceil(xs[1]), math.ceil(ys[1])), fill=0)
    region = (xs[0] - first_x, ys[0] - first_y, xs[1] - first_x, ys[1] - first_y)
    chosen = _without_copies(interpolation, xs[1] - xs[0], ys[1] - ys[0], frame.input)
    inputs = frames.resample(shown, frame.input, chosen, region)
    return inputs[:: -1 if place.yy < 0 else 1, :: -1 if place.xx < 0 else 1]


def _without_copies(interpolation: Interpolation, width: float, height: float, size: Size) -> Interpolation:
    """Return the filter for a region of this size: bicubic instead of box where it is enlarged.

    Box averages the pixels below each output pixel, so that enlarging would copy pixels.
    """
    enlarges = size.width > width or size.height > height
    return "bicubic" if interpolation == "box" and enlarges else interpolation
