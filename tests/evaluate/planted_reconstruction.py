"""Sealed sets whose tokens are the true patches plus noise, and a linear decoder that knows how to read them."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from evaluate.inputs.model_sets import ModelSets
from pipeline.models.loading.patch_pixels import PatchPixels
from stores.specs import FrameSpec, Size
from tests.evaluate.planted import CLASSES, write_set
from tests.stores.specs_for_tests import FEATURES, LABELS, MODEL

SIDE, PATCH, GRID = 16, 4, 4
N_VALUES, N_PATCHES = PATCH * PATCH * 3, GRID * GRID
VISIBLE = 4
BOLD = np.array([3, 10, 17, 24, 31, 40])
"""Values of a patch that vary more than the others, and so the features that do."""
MEAN, STD = np.array(MODEL.mean), np.array(MODEL.std)


@dataclass
class LinearDecoder:
    """Token channel j is value j of the patch; a masked patch is predicted as the class token says."""

    target: str = "pixels"
    encoder: str = MODEL.weights
    layer: int = 0
    digest: str = "a linear decoder"
    seen: list = field(default_factory=list)
    """Shape of the tokens of every call."""

    @property
    def pixels(self):
        return PatchPixels((GRID, GRID), PATCH, self.target, MODEL.mean, MODEL.std)

    def __call__(self, tokens, ids=None):
        self.seen.append(tokens.shape)
        if ids is None:
            return tokens[:, 1:].copy()
        patches = np.repeat(tokens[:, :1], N_PATCHES, axis=1)
        np.put_along_axis(patches, ids[:, :, None].astype(np.int64), tokens[:, 1:], axis=1)
        return patches

    def targets(self, pixels):
        return self.pixels.targets(pixels)

    def images(self, patches, pixels):
        return self.pixels.images(patches, pixels)


def planted_reconstruction(folder, *, n_images=24, tiles=2, noise=0.3, seed=0, bold_in_validation=BOLD):
    """Half of the images train, half validate; BOLD values of each patch run over 0..255, the others over 118..138."""
    rng = np.random.default_rng(seed)
    n_rows = n_images * tiles
    patches = rng.integers(118, 139, (n_rows, N_PATCHES, N_VALUES))
    for rows, bold in ((slice(None, n_rows // 2), BOLD), (slice(n_rows // 2, None), bold_in_validation)):
        patches[rows, :, bold] = rng.integers(0, 256, (n_rows // 2, N_PATCHES, len(bold)))
    cells = patches.reshape(n_rows, GRID, GRID, PATCH, PATCH, 3).transpose(0, 1, 3, 2, 4, 5)
    pixels = np.ascontiguousarray(cells).reshape(n_rows, SIDE, SIDE, 3).astype(np.uint8)
    true = ((patches.reshape(-1, PATCH * PATCH, 3) / 255 - MEAN) / STD).reshape(patches.shape)
    tokens = (true + rng.normal(size=true.shape) * noise).astype(np.float32)
    ids = np.sort(rng.permuted(np.tile(np.arange(N_PATCHES), (n_rows, 1)), axis=1)[:, :VISIBLE], axis=1)
    visible = np.take_along_axis(tokens, ids[:, :, None], axis=1) + np.float32(0.1)
    prefix = rng.normal(size=(2, n_rows, 1, N_VALUES)).astype(np.float32)
    table = pd.DataFrame(
        [
            {
                "sample": f"image{image:02d}.png[0,{tile}]",
                "source": f"image{image:02d}.png",
                "group": "a",
                "split": "train" if image < n_images // 2 else "val",
                "valid": True,
                "reason": "",
            }
            for image in range(n_images)
            for tile in range(tiles)
        ]
    )
    grid = {"grid_rows": GRID, "grid_columns": GRID}
    facts = {"layer": 0, "norm": True}
    mask = {"mask_ratio": 0.75, "mask_seed": 0}
    few = f"visible_{VISIBLE}"
    features = {
        "tokens/block.0.norm": (tokens, ("sample", "patch", "channel"), facts | grid),
        "prefix/block.0.norm": (prefix[0], ("sample", "prefix", "channel"), facts),
        "visible/mask75.seed0.ids": (ids.astype(np.int32), ("sample", few), mask | grid),
        "visible/mask75.seed0.block.0.norm": (visible, ("sample", few, "channel"), facts | mask | grid),
        "prefix/mask75.seed0.block.0.norm": (prefix[1], ("sample", "prefix", "channel"), facts | mask),
    }
    labels = {"inputs/pixels.bicubic": (pixels, ("sample", "height", "width", "colour"), {})}
    size = Size(height=SIDE, width=SIDE)
    frame = {"frame": FrameSpec(input=size, tile=size)}
    tables = {"samples": table, "classes": CLASSES}
    feature_set = write_set(folder, FEATURES.model_copy(update=frame), features, {"samples": table}, 1 << 17)
    label_set = write_set(folder, LABELS.model_copy(update=frame), labels, tables, 1 << 17)
    return ModelSets("planted", feature_set, label_set, False, "patchbank extract planted.toml")
