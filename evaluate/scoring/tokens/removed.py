"""What treatments take out of training patches: shares of the variance, positional ones, and overlaps.

All of the labelled training patches, the bank, about its mean. Intervals are over the training images, with the
directions and the ranking as they are: a resample does not choose others.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from evaluate.inputs.memory import PATCH_BYTES, n_patches, reading_bytes, rows_bytes
from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.rows import RowSelection
from evaluate.inputs.work import Work, ranking
from evaluate.kernels import treatments as kernels
from evaluate.kernels.bootstrap import draw_units
from evaluate.kernels.subspaces import BLOCK_CHANNELS, BLOCK_RESAMPLES, BLOCK_ROWS, overlap
from evaluate.kernels.treatments import Treatment, kept_tokens, removed_directions
from evaluate.results import metrics
from evaluate.results.rows import Bootstrap, score_row
from evaluate.scoring.patch_classifiers import PatchData

SPLIT = ("none", "remove-top")
"""Treatments whose features' variance is split into positional and other."""


@dataclass(frozen=True)
class Removed:
    """The bank of one layer, and what treatments take out of it."""

    patches: PatchData
    bootstrap: Bootstrap
    """Over the training images."""
    seed: int
    """Seed of random choices."""

    def rows(
        self, treatments: Sequence[Treatment], rankings: Mapping[str | None, Int64[np.ndarray, " channel"]]
    ) -> list[dict[str, Any]]:
        """Return the rows of all treatments; ``rankings`` are by the experiment of each."""
        bank, placement = self.patches.bank, self.patches.placement
        rows: list[dict[str, Any]] = []
        removed: dict[Treatment, Float64[np.ndarray, "channel direction"]] = {}
        for one in treatments:
            if one.name == "none":
                continue
            directions = removed_directions(one, bank, rankings[one.experiment], self.seed, placement)
            if one.deviations is not None:
                rows.append(self._share(one, kept_tokens(one, bank)))
            elif directions is not None:
                rows.append(self._share(one, directions))
                if directions.shape[1] and not one.draw:
                    removed[one] = directions
        rows += self._positional([one for one in treatments if one.name in SPLIT], rankings)
        return rows + list(_overlaps(removed))

    @cached_property
    def _mean(self) -> Float64[np.ndarray, " channel"]:
        bank = self.patches.bank
        sums = [
            bank[start : start + BLOCK_ROWS].sum(axis=0, dtype=np.float64) for start in range(0, len(bank), BLOCK_ROWS)
        ]
        mean: np.ndarray = np.sum(sums, axis=0) / len(bank)
        return mean

    def _share(self, one: Treatment, removed: np.ndarray) -> dict[str, Any]:
        """Return the row of the share of squared deviations that directions hold, or tokens that a mask leaves out."""
        bank, images = self.patches.bank, self.patches.bank_images
        part, whole = np.zeros((2, len(self.bootstrap.units)))
        for start in range(0, len(bank), BLOCK_ROWS):
            here = slice(start, start + BLOCK_ROWS)
            centred = bank[here].astype(np.float64) - self._mean
            squares = np.einsum("rc,rc->r", centred, centred)
            taken = squares * ~removed[here] if removed.dtype == np.bool_ else ((centred @ removed) ** 2).sum(axis=1)
            whole += np.bincount(images[here], squares, len(whole))
            part += np.bincount(images[here], taken, len(part))
        share = float(part.sum() / whole.sum()) if whole.sum() > 0 else None
        return self.bootstrap.row(
            metrics.REMOVED_VARIANCE_SHARE, share, self.bootstrap.ratio(part, whole), **one.columns
        )

    def _positional(
        self, treatments: Sequence[Treatment], rankings: Mapping[str | None, Int64[np.ndarray, " channel"]]
    ) -> Iterator[dict[str, Any]]:
        """Yield how much of the variance of all features, and of those of highest variance, is positional."""
        patches, n_images = self.patches, len(self.bootstrap.units)
        weights = np.ones((1, n_images))
        if self.bootstrap.enabled:
            drawn = draw_units(n_images, self.bootstrap.seed, self.bootstrap.resamples)
            times = np.stack([np.bincount(units, minlength=n_images) for units in drawn])
            weights = np.concatenate([weights, times.astype(np.float64)])
        positional, whole = patches.placement.variances(patches.bank, weights)
        for one in treatments:
            features = rankings[None][: one.m]
            total = whole[:, features].sum(axis=1)
            shares = np.divide(
                positional[:, features].sum(axis=1), total, out=np.full(len(total), np.nan), where=total > 0
            )
            draws = shares[1:] if self.bootstrap.enabled else None
            yield self.bootstrap.row(metrics.POSITION_SHARE, float(shares[0]), draws, **one.columns)


def _overlaps(removed: Mapping[Treatment, Float64[np.ndarray, "channel direction"]]) -> Iterator[dict[str, Any]]:
    """Yield the overlap of what every two treatments take out, and that of random directions."""
    for one, other in combinations(removed, 2):
        n_channels, larger = len(removed[one]), max(removed[one].shape[1], removed[other].shape[1])
        columns = {**one.columns, "reference": other.label}
        yield score_row(metrics.REMOVED_OVERLAP, overlap(removed[one], removed[other]), **columns)
        yield score_row(metrics.CHANCE_REMOVED_OVERLAP, larger / n_channels, **columns)


def removed_work(model: ModelSets, array: str, train: RowSelection, resamples: int, n_treatments: int) -> Work:
    """Return the work of reading and ranking patches, of a PCA a treatment, and of sums in every resample."""
    n_bank, width = n_patches(model, array, len(train.rows)), model.n_channels(array)
    decomposed = Work(4.0 * n_bank * width**2, 6.0 * n_bank * width + 20.0 * width**3) * n_treatments
    sums = float(n_patches(model, array, 1)) * width * resamples
    return ranking(model, array, len(train.rows)) + decomposed + Work(8.0 * 3 * len(train.sources) * sums, 12.0 * sums)


def removed_bytes(model: ModelSets, array: str, train: RowSelection, resamples: int, n_treatments: int) -> int:
    """Return what `Removed.rows` holds: patches, a treatment's PCA, directions of all, and sums by image and place."""
    n_rows, width, n_images = len(train.rows), model.n_channels(array), len(train.sources)
    n_bank, n_places = n_patches(model, array, n_rows), n_patches(model, array, 1)
    sums = 8 * BLOCK_CHANNELS * (3 * n_bank + n_places * (4 * n_images + 8 * BLOCK_RESAMPLES))
    drawn = 8 * (1 + resamples) * (4 * width + 4 * n_images)
    patches = rows_bytes(model, array, n_rows) + PATCH_BYTES * n_bank + reading_bytes(model, array)
    return patches + kernels.peak_bytes(0, width) + 8 * n_treatments * width**2 + sums + drawn
