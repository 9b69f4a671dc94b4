"""Scores a backbone while it is trained: 1-NN and a ridge classifier on patches of painted scenes it never saw.

Small and quick; the numbers to report come from `patchbank evaluate`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8

from demo.backbones.encoder import GRID, PIXELS, embed, encode
from demo.backbones.frames import HEIGHT, VOID, Frames
from pipeline.datasets.cityscapes import CLASSES
from pipeline.labels.patch_labels import patch_labels

_RIDGE = 1e-2  # of the mean variance of a feature
_GALLERY = 4000  # patches for 1-NN


@dataclass(frozen=True)
class Scores:
    """Mean intersection over union of patches, over the classes that occur."""

    probe: float
    knn: float
    spread: float
    """Largest over median variance of the features."""


def tiles_of(frames: Frames) -> tuple[Float[torch.Tensor, "sample 3 row column"], UInt8[np.ndarray, "sample patch"]]:
    """Return the two square tiles of every frame as inputs of -1..1, and the classes of their patches."""
    halves = slice(0, HEIGHT), slice(HEIGHT, 2 * HEIGHT)
    pictures = torch.from_numpy(np.concatenate([frames.pictures[:, :, half] for half in halves])).permute(0, 3, 1, 2)
    classes = torch.from_numpy(np.concatenate([frames.classes[:, :, half] for half in halves]))[:, None]
    size = (PIXELS, PIXELS)
    images = torch.nn.functional.interpolate(pictures.float(), size, mode="bilinear", antialias=True) / 127.5 - 1
    nearest = torch.nn.functional.interpolate(classes, size, mode="nearest-exact")
    return images, patch_labels(nearest[:, 0].numpy(), GRID, GRID)


@torch.inference_mode()
def score(encoder: Any, training: Frames, validation: Frames) -> Scores:
    """Return the scores of an encoder's last normed patch tokens.

    Args:
        encoder: The backbone.
        training: Frames whose patches are the gallery and fit the classifier.
        validation: Frames whose patches are classified.
    """
    features, labels = [], []
    for frames in (training, validation):
        images, classes = tiles_of(frames)
        tokens = torch.cat([encode(encoder, embed(encoder, part))[:, 1:] for part in torch.split(images, 8)])
        known = torch.from_numpy(classes.ravel() != VOID)
        features.append(tokens.reshape(-1, tokens.shape[2]).float()[known].double())
        labels.append(torch.from_numpy(classes.ravel()).long()[known])
    mean, std = features[0].mean(0), features[0].std(0)
    inputs = [(one - mean) / (std + 1e-6) for one in features]
    onehot = torch.nn.functional.one_hot(labels[0], len(CLASSES)).double()
    gram = inputs[0].T @ inputs[0] + _RIDGE * len(inputs[0]) * torch.eye(inputs[0].shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(gram, inputs[0].T @ (onehot - onehot.mean(0)))
    guessed = (inputs[1] @ weights + onehot.mean(0)).argmax(1)
    step = max(1, len(features[0]) // _GALLERY)
    nearest = torch.cdist(features[1].float(), features[0][::step].float()).argmin(1)
    spread = float(std.square().max() / std.square().median())
    return Scores(miou(guessed, labels[1]), miou(labels[0][::step][nearest], labels[1]), spread)


def miou(guessed: Int64[torch.Tensor, " patch"], labels: Int64[torch.Tensor, " patch"]) -> float:
    """Return the mean intersection over union over the classes in labels or guesses."""
    n = len(CLASSES)
    counts = torch.bincount(labels * n + guessed, minlength=n * n).reshape(n, n).double()
    union = counts.sum(0) + counts.sum(1) - counts.diag()
    return float((counts.diag() / union)[union > 0].mean())
