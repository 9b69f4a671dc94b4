"""One vector an object: stored patch tokens averaged over its box.

A frame's tiles are stitched to one map of patches in the plane that tile boxes refer to (the resized source). Boxes,
given in source pixels, are brought to that plane. ``roi-align`` samples the map as He et al., "Mask R-CNN" (2017),
section 3, do, through torchvision's operator; ``centres`` averages the patches whose centre lies in the box.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Float64

from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.rows import RowSelection
from evaluate.settings import Pooling
from stores.errors import UserError
from stores.specs import ShorterSide, Size


@dataclass(frozen=True)
class PatchMap:
    """All patches of one source, side by side."""

    values: Float[np.ndarray, "channel row column"]
    """NaN where no tile is."""
    cell: tuple[float, float]
    """Height and width of a patch in pixels of the plane."""
    scale: tuple[float, float]
    """Plane pixels a source pixel, (y, x)."""
    origin: tuple[int, int] = (0, 0)
    """Pixel of the plane, (y, x), where the map begins: the first of a centre crop."""


def frame_rows(model: ModelSets, selection: RowSelection) -> dict[str, np.ndarray]:
    """Return the positions in the sample table of every selected source's tiles."""
    sources = model.samples["source"].to_numpy()[selection.rows]
    return {str(name): selection.rows[sources == name] for name in dict.fromkeys(sources)}


def check_one_lattice(model: ModelSets, rows: np.ndarray) -> None:
    """Raise UserError where tiles of a source overlap, because their patches then do not lie on one lattice."""
    if model.spec.frame.edge == "centre":  # one tile a source
        return
    table = model.samples.iloc[rows]
    left, top, right, bottom = (table[name].to_numpy(dtype=np.int64) for name in ("left", "top", "right", "bottom"))
    overlapping = (top % np.maximum(bottom - top, 1) != 0) | (left % np.maximum(right - left, 1) != 0)
    if overlapping.any():
        raise UserError(
            f"tiles of {table['source'].iloc[int(overlapping.argmax())]} overlap, and patches of overlapping tiles do "
            'not lie on one lattice: set edge = "pad" or "drop" in [frame], or a resize that the tile divides'
        )


def patch_map(model: ModelSets, array: str, rows: np.ndarray) -> PatchMap:
    """Return the map of one source from the rows of its tiles.

    Raises UserError when its tiles overlap, because patches then do not lie on one lattice.
    """
    check_one_lattice(model, rows)
    table = model.samples.iloc[rows]
    grid_rows, grid_columns = model.grid(array)
    left, top, right, bottom = (table[name].to_numpy(dtype=np.int64) for name in ("left", "top", "right", "bottom"))
    height, width = int(bottom[0] - top[0]), int(right[0] - left[0])
    frame = model.spec.frame
    origin = (int(top[0]), int(left[0])) if frame.edge == "centre" else (0, 0)
    top, bottom, left, right = top - origin[0], bottom - origin[0], left - origin[1], right - origin[1]
    tokens = model.features[array][rows].astype(np.float32)
    n_rows, n_columns = int(bottom.max()) // height, int(right.max()) // width
    channels = tokens.shape[-1]
    values = np.full((channels, n_rows * grid_rows, n_columns * grid_columns), np.nan, dtype=np.float32)
    for index, (y, x) in enumerate(zip(top // height, left // width, strict=True)):
        patch = tokens[index].reshape(grid_rows, grid_columns, channels).transpose(2, 0, 1)
        values[:, y * grid_rows : (y + 1) * grid_rows, x * grid_columns : (x + 1) * grid_columns] = patch
    source = Size(height=int(table["source_height"].iloc[0]), width=int(table["source_width"].iloc[0]))
    plane = frame.resize or source
    plane_height, plane_width = plane.resized(source) if isinstance(plane, ShorterSide) else (plane.height, plane.width)
    scale = (plane_height / source.height, plane_width / source.width)
    return PatchMap(values, (height / grid_rows, width / grid_columns), scale, origin)


def boxes_in_map(objects: pd.DataFrame, patches: PatchMap) -> Float64[np.ndarray, "object 4"]:
    """Return (left, top, right, bottom) of objects in pixels of the plane, counted from the map's origin."""
    (y, x), (first_y, first_x) = patches.scale, patches.origin
    boxes = objects[["left", "top", "right", "bottom"]].to_numpy(dtype=np.float64)
    return boxes * np.array([x, y, x, y]) - np.array([first_x, first_y, first_x, first_y])


def pooled(
    patches: PatchMap, boxes: Float64[np.ndarray, "object 4"], pooling: Pooling
) -> tuple[Float64[np.ndarray, "object channel"], np.ndarray]:
    """Return one vector a box, and which boxes lie on the map at all.

    Boxes are clipped to the part that tiles cover. A box too small to hold a patch's centre takes the patch that
    holds its own centre.
    """
    _, n_rows, n_columns = patches.values.shape
    cell_height, cell_width = patches.cell
    in_cells = boxes / np.array([cell_width, cell_height, cell_width, cell_height])
    covered = ~np.isnan(patches.values[0])
    limit_x, limit_y = covered.any(axis=0).sum(), covered.any(axis=1).sum()
    clipped = np.clip(in_cells, 0.0, np.array([limit_x, limit_y, limit_x, limit_y], dtype=np.float64))
    seen = (clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1])
    vectors = np.full((len(boxes), patches.values.shape[0]), np.nan)
    if not seen.any():
        return vectors, seen
    if pooling == "roi-align":
        import torch
        from torchvision.ops import roi_align

        values = torch.from_numpy(np.nan_to_num(patches.values[:, :limit_y, :limit_x]))[None]
        regions = torch.from_numpy(clipped[seen].astype(np.float32))
        aligned = roi_align(values, [regions], output_size=1, spatial_scale=1.0, sampling_ratio=-1, aligned=True)
        vectors[seen] = aligned[:, :, 0, 0].numpy()
        return vectors, seen
    for number in np.flatnonzero(seen):
        left, top, right, bottom = clipped[number]
        x = np.flatnonzero((np.arange(n_columns) + 0.5 >= left) & (np.arange(n_columns) + 0.5 < right))
        y = np.flatnonzero((np.arange(n_rows) + 0.5 >= top) & (np.arange(n_rows) + 0.5 < bottom))
        x = x if len(x) else np.array([min(int((left + right) / 2), n_columns - 1)])
        y = y if len(y) else np.array([min(int((top + bottom) / 2), n_rows - 1)])
        inside = patches.values[:, y[:, None], x[None, :]].reshape(len(patches.values), -1)
        vectors[number] = np.nanmean(inside.astype(np.float64), axis=1)
    return vectors, seen
