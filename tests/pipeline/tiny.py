"""A tiny data set on disk, a tiny ViT, and the recipe that joins them."""

import numpy as np
from PIL import Image

from pipeline.dataset_recipe import DatasetRecipe
from pipeline.recipe import FeatureRecipe, ModelRecipe, Recipe, StorageRecipe
from stores.specs import FrameSpec

TINY = ModelRecipe(name="test_vit", weights="random", seed=3)


def write_camvid(root, n_train=4, n_val=3, size=(48, 64), seed=0):
    """Write a miniature of the CamVid layout with random pixels and labels."""
    rng = np.random.default_rng(seed)
    for split, count in (("train", n_train), ("val", n_val)):
        (root / split).mkdir(parents=True)
        (root / f"{split}annot").mkdir()
        lines = []
        for number in range(count):
            name = f"0001TP_{split}{number:03d}.png"
            smooth = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
            Image.fromarray(smooth).resize((size[1], size[0]), Image.Resampling.BICUBIC).save(root / split / name)
            labels = rng.integers(0, 12, (6, 8), dtype=np.uint8)
            Image.fromarray(labels).resize((size[1], size[0]), Image.Resampling.NEAREST).save(
                root / f"{split}annot" / name
            )
            lines.append(f"/SegNet/CamVid/{split}/{name} /SegNet/CamVid/{split}annot/{name}")
        (root / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return root


def recipe(*models, tile=32, **changes):
    """Ranges hold 4 of the 28 rows, so that there is something to resume and to share."""
    settings = {
        "dataset": DatasetRecipe(name="camvid"),
        "frame": FrameSpec(input=32, tile=tile, edge="shift-last"),
        "models": models or (TINY,),
        "features": FeatureRecipe(norm="both"),
        "storage": StorageRecipe(range_megabytes=0.002),
    }
    return Recipe(**(settings | changes))
