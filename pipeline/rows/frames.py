"""Turns source images into model inputs: resize the source, cut tiles, resize every tile to the input size.

Boxes are (left, top, right, bottom) with right and bottom exclusive. Every tile is resized on its own, so that
tiles are independent images (paper A, section 3.1: 256 x 256 tiles resized to 224 x 224).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float32, UInt8
from PIL import Image

from pipeline.frame_recipe import Interpolation
from stores.errors import UserError
from stores.specs import VOID, FrameSpec, ShorterSide, Size

REVISION = 1
"""Increased when the same source and frame give other pixels."""

Box = tuple[int, int, int, int]

_LONGEST_SIDE = 65_536
"""Longest side of a resized source, in pixels, as in `Size`."""

_RESAMPLING = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
}


@dataclass(frozen=True)
class Tile:
    """One tile of one source, in pixels of the resized source."""

    row: int
    column: int
    box: Box
    """The tile's box; with ``edge = "pad"`` it may reach beyond the source's right and bottom border."""
    owned: Box
    """The part that the tile is scored on: inside the source, and not in any earlier tile."""


def resized_size(frame: FrameSpec, source_size: Size) -> Size:
    """Return the size of the plane that tile boxes refer to, in pixels.

    Raises UserError when resizing the shorter side makes the longer one too long.
    """
    if not isinstance(frame.resize, ShorterSide):
        return frame.resize if frame.resize is not None else source_size
    height, width = frame.resize.resized(source_size)
    if max(height, width) > _LONGEST_SIDE:
        raise UserError(
            f"an image of {source_size} pixels (width x height) becomes {width}x{height} when its shorter side is "
            f"resized to {frame.resize.shorter}, and {_LONGEST_SIDE} is the longest side allowed: leave the image out"
        )
    return Size(height=height, width=width)


def tiles(frame: FrameSpec, source_size: Size) -> tuple[Tile, ...]:
    """Return the tiles of a source of this size, in row-major order.

    Raises UserError when the (resized) source is smaller than a tile and the frame does not pad.
    """
    size = resized_size(frame, source_size)
    if frame.tile is None:
        whole = (0, 0, size.width, size.height)
        return (Tile(0, 0, whole, whole),)
    if frame.edge != "pad" and (size.height < frame.tile.height or size.width < frame.tile.width):
        remedy = "a larger resize" if frame.edge == "centre" else 'edge = "pad"'
        raise UserError(
            f"an image of {size} pixels (width x height) is smaller than a tile of {frame.tile}; "
            f"choose a smaller tile, or set {remedy} in the frame"
        )
    rows = _spans(size.height, frame.tile.height, frame.edge)
    columns = _spans(size.width, frame.tile.width, frame.edge)
    return tuple(
        Tile(
            row=row,
            column=column,
            box=(x.start, y.start, x.stop, y.stop),
            owned=(x.owned_start, y.owned_start, x.owned_stop, y.owned_stop),
        )
        for row, y in enumerate(rows)
        for column, x in enumerate(columns)
    )


@dataclass(frozen=True)
class _Span:
    """A tile along one axis, in pixels."""

    start: int
    stop: int
    owned_start: int
    owned_stop: int


def _spans(extent: int, tile: int, edge: str) -> list[_Span]:
    """Cut one axis into spans; only the last one depends on the edge rule, unless there is a centre crop."""
    if edge == "centre":
        first = round((extent - tile) / 2)  # half to even, as in torchvision's CenterCrop
        return [_Span(first, first + tile, first, first + tile)]
    spans = [_Span(start, start + tile, start, start + tile) for start in range(0, extent - tile + 1, tile)]
    done = len(spans) * tile
    if done < extent and edge == "pad":
        spans.append(_Span(done, done + tile, done, extent))
    elif done < extent and edge == "shift-last":
        spans.append(_Span(extent - tile, extent, done, extent))
    return spans


def coverage(frame: FrameSpec, source_size: Size) -> float:
    """Return the share, 0..1, of the source's pixels that some tile shows; raises what `tiles` raises."""
    size = resized_size(frame, source_size)
    owned = (tile.owned for tile in tiles(frame, source_size))
    covered = sum((right - left) * (bottom - top) for left, top, right, bottom in owned)
    return covered / (size.height * size.width)


def shown_pixels(frame: FrameSpec, samples: pd.DataFrame) -> float | None:
    """Return the share, 0..1, of the pixels of a sample table's valid images that its rows show; None without any."""
    valid = samples[samples["valid"]] if "valid" in samples.columns else samples
    shown = total = 0.0
    for height, width in valid[["source_height", "source_width"]].drop_duplicates().to_numpy(dtype=int).tolist():
        rows = valid[(valid["source_height"] == height) & (valid["source_width"] == width)]
        plane = resized_size(frame, Size(height=height, width=width))
        owned = (rows["owned_right"] - rows["owned_left"]) * (rows["owned_bottom"] - rows["owned_top"])
        shown += float(owned.sum()) / (plane.height * plane.width) * width * height
        total += rows["source"].nunique() * width * height
    return shown / total if total else None


def cut(
    image: UInt8[np.ndarray, "source_height source_width 3"],
    frame: FrameSpec,
    tile_list: Sequence[Tile],
    interpolation: Interpolation,
) -> UInt8[np.ndarray, "sample height width 3"]:
    """Return tiles of a source as model inputs, RGB 0..255; beyond the source they are black.

    Shrinking is antialiased (Pillow's filters widen with the scale); equal sizes leave the bytes unchanged.

    Args:
        image: The source's pixels.
        frame: Sizes of source and input.
        tile_list: Tiles of the source.
        interpolation: How source and tiles are resized.
    """
    return cut_plane(resized(image, frame, interpolation), frame, tile_list, interpolation)


def cut_plane(
    plane: UInt8[np.ndarray, "plane_height plane_width 3"],
    frame: FrameSpec,
    tile_list: Sequence[Tile],
    interpolation: Interpolation,
) -> UInt8[np.ndarray, "sample height width 3"]:
    """Return the tiles of an already resized source as model inputs, with the arguments of `cut`.

    Args:
        plane: The resized source's pixels.
        frame: Size of the input.
        tile_list: Tiles of the source.
        interpolation: How tiles are resized.
    """
    inputs = np.empty((len(tile_list), frame.input.height, frame.input.width, 3), np.uint8)
    for sample, tile in enumerate(tile_list):
        inputs[sample] = resample(crop(plane, tile.box, fill=0), frame.input, interpolation)
    return inputs


def cut_labels(
    pixel_classes: UInt8[np.ndarray, "source_height source_width"],
    frame: FrameSpec,
    tile_list: Sequence[Tile],
) -> UInt8[np.ndarray, "sample height width"]:
    """Return the class ids of the tiles' pixels, resized with nearest; beyond the source they are void.

    Nearest is the pixel-centre rule, floor((i + 1/2) source / input), in integers. Pillow's NEAREST is the same
    rule in accumulated floats, whose rounding decides ties: 32 of the 224 columns of a 256-pixel tile.
    """
    plane = resized_labels(pixel_classes, frame)
    labels = np.empty((len(tile_list), frame.input.height, frame.input.width), np.uint8)
    for sample, tile in enumerate(tile_list):
        labels[sample] = _nearest(crop(plane, tile.box, fill=VOID), frame.input)
    return labels


def owned_in_input(frame: FrameSpec, tile: Tile) -> Box:
    """Return the tile's owned part in pixels of the model input.

    An input pixel is owned when its centre lies in the owned part, which are exactly the pixels whose label
    `cut_labels` takes from there. A centre on a border belongs to the part after it, in every tile alike.
    """
    left, top, right, bottom = tile.box
    owned_left, owned_top, owned_right, owned_bottom = tile.owned
    width, height = right - left, bottom - top
    return (
        _first_centre_at(owned_left - left, width, frame.input.width),
        _first_centre_at(owned_top - top, height, frame.input.height),
        _first_centre_at(owned_right - left, width, frame.input.width),
        _first_centre_at(owned_bottom - top, height, frame.input.height),
    )


def _first_centre_at(border: int, tile: int, extent: int) -> int:
    """Return the first input pixel whose centre, (i + 1/2) tile / extent, is not before the border."""
    return max(0, -((tile - 2 * border * extent) // (2 * tile)))


def resized(
    image: UInt8[np.ndarray, "source_height source_width 3"], frame: FrameSpec, interpolation: Interpolation
) -> UInt8[np.ndarray, "plane_height plane_width 3"]:
    """Return the plane that tile boxes refer to: the source at the frame's ``resize``, or unchanged."""
    return image if frame.resize is None else resample(image, _resized_size(frame, image), interpolation)


def resized_labels(
    pixel_classes: UInt8[np.ndarray, "source_height source_width"], frame: FrameSpec
) -> UInt8[np.ndarray, "plane_height plane_width"]:
    """Return the class ids of the plane that tile boxes refer to, resized with nearest."""
    return pixel_classes if frame.resize is None else _nearest(pixel_classes, _resized_size(frame, pixel_classes))


def _resized_size(frame: FrameSpec, source: UInt8[np.ndarray, "source_height source_width *colour"]) -> Size:
    return resized_size(frame, Size(height=source.shape[0], width=source.shape[1]))


def crop(
    plane: UInt8[np.ndarray, "plane_height plane_width *colour"], box: Box, fill: int
) -> UInt8[np.ndarray, "tile_height tile_width *colour"]:
    """Return the part of a plane inside a box, with ``fill`` beyond the plane."""
    left, top, right, bottom = box
    height, width = plane.shape[:2]
    if left >= 0 and top >= 0 and right <= width and bottom <= height:
        return plane[top:bottom, left:right]
    padded = np.full((bottom - top, right - left, *plane.shape[2:]), fill, np.uint8)
    shown = plane[max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
    down, across = max(0, -top), max(0, -left)
    padded[down : down + shown.shape[0], across : across + shown.shape[1]] = shown
    return padded


def resample(
    plane: UInt8[np.ndarray, "from_height from_width *colour"],
    size: Size,
    interpolation: Interpolation,
    region: tuple[float, float, float, float] | None = None,
) -> UInt8[np.ndarray, "to_height to_width *colour"]:
    """Return a plane, or a part of it, at another size, antialiased where it shrinks.

    Args:
        plane: Pixels to resize.
        size: Size of the result in pixels.
        interpolation: Pillow's filter.
        region: Part to resize (left, top, right, bottom), in pixels of the plane; None for all.
    """
    whole = (0, 0, plane.shape[1], plane.shape[0])
    if (region is None or region == whole) and plane.shape[:2] == (size.height, size.width):
        return plane
    image = Image.fromarray(np.ascontiguousarray(plane))
    return np.asarray(image.resize((size.width, size.height), _RESAMPLING[interpolation], region))


def resample_floats(
    plane: Float32[np.ndarray, "from_height from_width 3"], size: Size, interpolation: Interpolation
) -> Float32[np.ndarray, "to_height to_width 3"]:
    """Return floating-point values at another size, by the same filters as pixels and without rounding."""
    if plane.shape[:2] == (size.height, size.width):
        return plane
    resized = [
        Image.fromarray(np.ascontiguousarray(plane[:, :, channel])).resize(
            (size.width, size.height), _RESAMPLING[interpolation]
        )
        for channel in range(3)
    ]
    return np.stack([np.asarray(one) for one in resized], axis=2)


def _nearest(plane: UInt8[np.ndarray, "from_height from_width"], size: Size) -> UInt8[np.ndarray, "to_height to_width"]:
    height, width = plane.shape
    rows = (2 * np.arange(size.height) + 1) * height // (2 * size.height)
    columns = (2 * np.arange(size.width) + 1) * width // (2 * size.width)
    nearest: np.ndarray = plane[rows[:, None], columns]
    return nearest
