"""How listing a data set grows with its images: rows, digests and tables of images that earlier runs have hashed.

ImageNet's layout with one image under many names (hard links), so that the disk holds little. Each line is a process of
its own; ``ratio`` is seconds over those of a tenth of the images, divided by ten: above 1 it grows worse than they do.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.measure import measure

SIZES = (10_000, 100_000)
"""Images; `python -m benchmarks.listing 1281167` lists as many as ImageNet-1k has for training."""
_N_CLASSES = 1000
_MOST_LINKS = 60_000  # of one file; ext4 allows 65,000
_EXPERIMENT = {
    "dataset": {"name": "imagenet"},
    "frame": {"resize": {"shorter": 256}, "tile": 224, "edge": "centre", "input": 224},
    "models": [{"name": "vit_tiny_patch16_224", "weights": "random", "mean": [0.5] * 3, "std": [0.5] * 3}],
}


def _write(root: Path, n_images: int) -> None:
    for number in range(n_images):
        kind = number // _MOST_LINKS
        image = root / f"{kind}.JPEG"
        if number % _MOST_LINKS == 0:
            height, width = ((375, 500), (333, 500), (500, 375), (400, 400))[kind % 4]
            Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(image, quality=30)
        folder = root / "imagenet" / "train" / f"n{number % _N_CLASSES:08d}"
        if number < _N_CLASSES:
            folder.mkdir(parents=True)
        os.link(image, folder / f"{folder.name}_{number}.JPEG")


def _list(root: Path) -> int:
    from pipeline.recipe import Recipe
    from pipeline.workspace import Workspace, read_samples
    from stores import Store

    workspace = Workspace(Store(root / "store"), root, root)
    return len(read_samples(Recipe.model_validate(_EXPERIMENT), workspace).tiles)


def _measure(root: Path) -> None:
    taken = measure(lambda: _list(root))
    print(json.dumps({"seconds": taken.seconds, "peak_bytes": taken.peak_bytes}))


def rows(sizes: tuple[int, ...] = SIZES) -> list[dict[str, Any]]:
    """Return one row a number of images, listed for the first time and again."""
    found: list[dict[str, Any]] = []
    before: dict[str, tuple[int, float]] = {}
    for n_images in sizes:
        with tempfile.TemporaryDirectory(dir=os.environ.get("PATCHBANK_BENCH_DIR")) as folder:
            _write(Path(folder), n_images)
            for what in ("first listing, with sha256 and sizes", "listing again"):
                command = [sys.executable, "-m", "benchmarks.listing", "in", folder]
                line = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                n_before, seconds = before.get(what, (0, 0.0))
                ratio = line["seconds"] / seconds * n_before / n_images if seconds else float("nan")
                before[what] = n_images, line["seconds"]
                peer = "a tenth of the images, divided by ten"
                found.append(
                    {"stage": f"{what}, {n_images:,} images", "ratio": ratio, "goal": 0.0, "peer": peer, **line}
                )
    return found


if __name__ == "__main__":
    if sys.argv[1] == "in":
        _measure(Path(sys.argv[2]))
    else:
        for row in rows(tuple(map(int, sys.argv[1:]))):
            print(f"{row['stage']}: {row['seconds']:.1f} s, {row['peak_bytes'] / 1e6:,.0f} MB")
