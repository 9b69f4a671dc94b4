"""Bootstrap of feature variances over images, from which intervals of shares, ratios and rankings are computed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int32, Int64

from evaluate.inputs.chunks import of_chunks
from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.patches import row_moments
from evaluate.inputs.rows import RowSelection, image_numbers
from evaluate.kernels.bootstrap import FEWEST_UNITS, draw_units
from evaluate.kernels.moments import Moments
from evaluate.results.sections import Arrays, LongPass, SectionFiles
from evaluate.results.table import ResultKey, ResultStore
from stores.format.paths import DEVIATIONS, MEANS

REVISION = 1
"""Raised when the same key would have other moments."""
SECTION_TOKENS = 1 << 21
"""Most tokens of a section: 3 GB of 768 channels in float16, for which a disk takes longer than a core."""


def ranking_arrays(array: str) -> tuple[str, ...]:
    """Return the addresses of what the variance of an array's features is made of."""
    group, _, name = array.partition("/")
    return (array,) if group != DEVIATIONS else (array, f"{MEANS}/{name}")


def moments_by_row(model: ModelSets, array: str, selection: RowSelection) -> Iterator[Moments]:
    """Yield the moments of every selected row's patch tokens, of the tokens or of their stored means and deviations."""
    if array.partition("/")[0] != DEVIATIONS:
        yield from row_moments(model, array, selection)
        return
    deviations, means = (model.features[one] for one in ranking_arrays(array))
    n_patches = int(deviations.spec.attributes["n_patches"] or 1)
    read = (
        of_chunks(stored, selection.rows, lambda first, block: block.astype(np.float64))
        for stored in (deviations, means)
    )
    for blocks in zip(*read, strict=True):
        for deviation, mean in zip(*blocks, strict=True):
            yield Moments(n_patches, mean, n_patches * deviation**2)


@dataclass(frozen=True, eq=False)
class MomentsPass(LongPass):
    """The moments of every selected row's patch tokens, in sections of rows."""

    model: ModelSets
    array: str
    """Address of the token array, or of stored deviations."""
    selection: RowSelection

    @property
    def title(self) -> str:
        """What is computed, for a line on the terminal."""
        return f"moments of {self.array}"

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """What names the files."""
        parameters = {"sources": list(self.selection.sources), "section_rows": self.section_rows}
        inputs = self.model.inputs(self.array)
        return (ResultKey("moments of sections", REVISION, parameters, inputs).digest,)

    @property
    def section_rows(self) -> int:
        """Rows of a section; all of those whose moments are made of stored means and deviations."""
        if self.array.partition("/")[0] == DEVIATIONS:
            return len(self.selection.rows)
        rows, columns = self.model.grid(self.array)
        return max(1, SECTION_TOKENS // (rows * columns))

    @property
    def n_sections(self) -> int:
        """Number of sections."""
        return max(1, -(-len(self.selection.rows) // self.section_rows))

    @property
    def several(self) -> "list[MomentsPass]":
        """The pass, if it has several sections."""
        return [self] if self.n_sections > 1 else []

    @property
    def n_bytes(self) -> int:
        """What reading a section that a worker has kept holds, its bytes and its arrays."""
        of_row = 8 * (1 + 2 * self.model.n_channels(self.array))
        return 2 * self.section_rows * of_row if self.n_sections > 1 else 0

    def compute(self, number: int) -> dict[str, Arrays]:
        """Return the moments of every row of a section."""
        moments = list(self._computed(number))
        counts, means = np.array([one.count for one in moments]), np.stack([one.mean for one in moments])
        squares = np.stack([one.squared_deviations for one in moments])
        return {self.digests[0]: {"counts": counts, "means": means, "squared_deviations": squares}}

    def by_row(self, results: ResultStore | None) -> Iterator[Moments]:
        """Yield the moments of every row, in order; sections that no worker has computed are computed here.

        Args:
            results: where workers keep sections; None looks nowhere.
        """
        files = None if results is None or self.n_sections == 1 else SectionFiles(results.root)
        for number in range(self.n_sections):
            arrays = None if files is None else files.read(self.digests[0], number)
            if arrays is None:
                yield from self._computed(number)
            else:
                parts = (arrays[name] for name in ("counts", "means", "squared_deviations"))
                yield from (Moments(int(count), mean, squares) for count, mean, squares in zip(*parts, strict=True))

    def _computed(self, number: int) -> Iterator[Moments]:
        rows = self.selection.rows[number * self.section_rows : (number + 1) * self.section_rows]
        return moments_by_row(self.model, self.array, RowSelection(self.selection.sources, rows))


def moments_by_image(
    model: ModelSets, array: str, selection: RowSelection, results: ResultStore | None = None
) -> tuple[Moments, list[Moments]]:
    """Return the moments of the selected rows' patch tokens, and those of every source image; the tokens are read once.

    The first are merged row by row, to the bits of `patches.token_variance`.

    Args:
        model: stored sets of the model.
        array: address of the token array, or of stored deviations.
        selection: rows to read.
        results: where workers keep sections (`MomentsPass`).
    """
    numbers = image_numbers(model, selection)
    nothing = np.zeros(int(model.features.arrays[array].row_shape[-1]))
    whole = Moments(0, nothing, nothing)
    of_image = [whole] * len(selection.sources)
    for number, moments in zip(numbers, MomentsPass(model, array, selection).by_row(results), strict=True):
        whole = whole.merge(moments)
        of_image[number] = of_image[number].merge(moments)
    return whole, of_image


def resampled_variances(
    of_image: Sequence[Moments], *, seed: int, resamples: int
) -> Float64[np.ndarray, "resample channel"] | None:
    """Return the population variance of every feature over each resample of the images; None below ten images.

    With n, mean and S (sum of squared deviations) of each image and w the times it was drawn, the variance is
    ``sum w (S + n (mean - c)^2) / sum w n - (resampled mean - c)^2``; c is the mean of all, so that nothing cancels.
    """
    n_images = len(of_image)
    if n_images < FEWEST_UNITS or not resamples:
        return None
    drawn = draw_units(n_images, seed, resamples)
    times = np.stack([np.bincount(units, minlength=n_images) for units in drawn]).astype(np.float64)
    counts = np.array([moments.count for moments in of_image], dtype=np.float64)
    means = np.stack([moments.mean for moments in of_image])
    squares = np.stack([moments.squared_deviations for moments in of_image])
    offsets = means - (counts @ means) / counts.sum()
    n_rows = (times @ counts)[:, None]
    shift = (times * counts) @ offsets / n_rows
    second = (times @ squares + (times * counts) @ offsets**2) / n_rows
    return np.maximum(second - shift**2, 0.0)


def rankings(variances: Float64[np.ndarray, "resample channel"]) -> Int32[np.ndarray, "resample channel"]:
    """Return the features of every resample by decreasing variance, ties by number."""
    return np.argsort(-variances, axis=1, kind="stable").astype(np.int32)


def overlaps(
    one: Int32[np.ndarray, "resample channel"], other: Int32[np.ndarray, "resample channel"], m: int
) -> Int64[np.ndarray, " resample"]:
    """Return how many of the first m features of both rankings are the same, resample by resample."""
    member = np.zeros(one.shape, dtype=np.bool_)
    np.put_along_axis(member, one[:, :m].astype(np.int64), True, axis=1)
    return np.take_along_axis(member, other[:, :m].astype(np.int64), axis=1).sum(axis=1).astype(np.int64)
