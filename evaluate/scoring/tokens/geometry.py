"""The geometry of a stored token array from one pass over its chunks, and what that takes."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int64
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from evaluate.inputs.chunks import ahead, of_chunks, readers
from evaluate.inputs.memory import reading_bytes
from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.patches import patch_labels
from evaluate.inputs.rows import RowSelection, image_numbers, spread_selection
from evaluate.inputs.work import READ, Work
from evaluate.kernels.geometry import sums as kernel
from evaluate.kernels.geometry.grid import PatchGrid
from evaluate.kernels.geometry.position import FOLDS, FoldMoments
from evaluate.kernels.geometry.spread import PAIR_ROWS, ImageSums
from evaluate.kernels.geometry.sums import BlockSums, Plan, RowNumbers, read_block
from evaluate.settings import Layers
from stores.arrays import ZarrArray
from stores.errors import MissingError, UserError

SAMPLED = 2048
"""Patch tokens that are kept for quantities of all pairs, spread over the rows; more where there are more rows, one
each."""
SECTION_TOKENS = 1 << 20
"""Most tokens of a section of the pass: about half a minute of one core for 768 channels."""
PASSES = 40.0
"""Passes over every value: sums, products with weights, magnitudes and their table."""


@dataclass(frozen=True, eq=False)
class ArrayGeometry:
    """What one pass over the selected rows of a token array gives."""

    plan: Plan
    rows: RowNumbers
    sums: BlockSums
    images: Int64[np.ndarray, " row"]
    """Number of each row's image."""
    n_images: int

    @cached_property
    def moments(self) -> FoldMoments:
        """Moments of all tokens."""
        return kernel.joined(self.sums.folds)

    @cached_property
    def of_images(self) -> ImageSums:
        """Sums over the tokens of each image."""
        return ImageSums(
            self.by_image(np.full(len(self.images), float(self.plan.grid.n_patches))),
            _rows_added(self.rows.sums, self.images, self.n_images),
            self.by_image(self.rows.squares),
            _rows_added(self.rows.unit_sums, self.images, self.n_images),
            self.by_image(self.rows.units),
        )

    def by_image(self, values: Float64[np.ndarray, " row"]) -> Float64[np.ndarray, " image"]:
        """Return the sum of a number over the rows of each image."""
        return np.bincount(self.images, weights=values, minlength=self.n_images)


def _rows_added(
    values: Float64[np.ndarray, "row channel"], numbers: Int64[np.ndarray, " row"], n: int
) -> Float64[np.ndarray, "image channel"]:
    added = np.zeros((n, values.shape[1]))
    np.add.at(added, numbers, values)
    return added


def geometry_arrays(model: ModelSets, layers: Layers, norm: str) -> list[str]:
    """Return the token arrays of some layers, of ``both`` those that are stored, inner layers first; raises
    MissingError."""
    if norm != "both":
        return model.arrays(layers, norm)
    found: list[str] = []
    problem: MissingError | None = None
    for one in ("none", "final"):
        try:
            found += [array for array in model.arrays(layers, one) if array not in found]
        except MissingError as error:
            problem = error
    if problem is not None and not found:
        raise problem
    return sorted(found, key=model.layer)


def patch_grid(model: ModelSets, array: str) -> PatchGrid:
    """Return the grid of an array's patches."""
    return PatchGrid(*model.grid(array))


def n_sampled(n_rows: int) -> int:
    """Return how many tokens of each row are kept."""
    return max(1, -(-SAMPLED // max(1, n_rows)))


def plan_of(model: ModelSets, array: str, selection: RowSelection, pair_images: int, seed: int) -> Plan:
    """Return what is computed of each selected row.

    Args:
        model: stored sets of the model.
        array: address of the token array.
        selection: rows to read.
        pair_images: most images whose patches are compared with each other, spread evenly.
        seed: seed of the choice of tokens that are kept.
    """
    grid, n_rows = patch_grid(model, array), len(selection.rows)
    images = image_numbers(model, selection)
    compared = np.isin(selection.rows, spread_selection(model, selection, pair_images).rows)
    generator, n_kept = np.random.Generator(np.random.PCG64(seed)), min(n_sampled(n_rows), grid.n_patches)
    sampled = np.stack([generator.permutation(grid.n_patches)[:n_kept] for _ in range(n_rows)])
    labels = None
    if model.label_spec.pixel_labels:
        labels = patch_labels(model, array, selection).reshape(n_rows, -1)
    return Plan(grid, images * FOLDS // len(selection.sources), compared, sampled.astype(np.int64), labels)


def section_rows(model: ModelSets, array: str) -> int:
    """Return how many rows of an array a section of the pass has."""
    return max(1, SECTION_TOKENS // patch_grid(model, array).n_patches)


def n_sections(model: ModelSets, array: str, selection: RowSelection) -> int:
    """Return how many sections the pass over some rows of an array has."""
    return max(1, -(-len(selection.rows) // section_rows(model, array)))


def read_geometry(
    stored: ZarrArray, selected: Int64[np.ndarray, " row"], plan: Plan, into: RowNumbers | None = None
) -> tuple[RowNumbers, BlockSums]:
    """Return the numbers of some rows of an array and their sums, each chunk read once; raises UserError for nan.

    Products are of one thread each: there are as many readers as cores, and BLAS's own threads would wait for each
    other.

    Args:
        stored: the array.
        selected: rows to read, increasing.
        plan: what is computed of each.
        into: room for the numbers of the rows, as `RowNumbers.empty` makes it.
    """
    rows, sums = RowNumbers.empty(plan, stored.shape[-1]) if into is None else into, BlockSums()
    with threadpool_limits(limits=1, user_api="blas"):
        for some in of_chunks(stored, selected, lambda first, block: read_block(block, first, plan, rows)):
            sums.add(some)
    finite = np.isfinite(rows.squares)
    if not finite.all():
        raise UserError(
            f"row {int(selected[np.argmin(finite)])} of {stored.spec.name} holds a value that is not finite, so it has "
            "no geometry; verify the set, and extract it with float32 storage if float16 overflowed"
        )
    return rows, sums


def geometry_bytes(model: ModelSets, array: str, selection: RowSelection, resamples: int) -> int:
    """Return what the pass and the quantities of its sums hold at most.

    Numbers of every row are kept, and sums of every chunk that is under way; after the pass come three matrices of the
    size of the second moment with their decompositions, or pairs of the kept tokens, or resamples of the images' sums.

    Args:
        model: stored sets of the model.
        array: token array.
        selection: rows that are read.
        resamples: bootstrap resamples.
    """
    stored, grid = model.features[array], patch_grid(model, array)
    n_rows, n_images, n_channels = len(selection.rows), len(selection.sources), stored.shape[-1]
    window = ahead(stored.layout.chunk_rows(stored.spec) * stored.spec.row_bytes)
    of_threads = readers() * kernel.thread_bytes(grid.n_patches, n_channels, grid.n_distances, has_labels=True)
    of_blocks = (window + readers() + 2) * kernel.block_bytes(n_channels, grid.n_patches, FOLDS)
    of_row = kernel.row_bytes(n_channels, grid.n_patches, grid.n_distances, n_sampled(n_rows)) + 24 * grid.n_patches
    kept = n_rows * of_row + 8 * grid.n_patches**2 * 4
    if n_sections(model, array, selection) > 1:  # one section as a worker kept it, its bytes and its arrays
        kept += 2 * (section_rows(model, array) * of_row + kernel.block_bytes(n_channels, grid.n_patches, FOLDS))
    sampled = n_rows * min(n_sampled(n_rows), grid.n_patches)
    pairs = 8 * (2 * sampled * n_channels + 2 * PAIR_ROWS * sampled)
    resampled = 8 * (3 * resamples * (n_images + n_channels) + 6 * n_images * n_channels)
    after = max(8 * (FOLDS + 8) * n_channels**2, pairs + 8 * n_images * n_channels, resampled)
    return reading_bytes(model, array) + kept + max(of_threads + of_blocks, after + 8 * FOLDS * n_channels**2)


def geometry_work(model: ModelSets, array: str, selection: RowSelection, pair_images: int) -> Work:
    """Return the work of the pass, and of decomposing its second moments.

    Float64 products count twice. Arguments are those of `array_geometry`.
    """
    grid, n_channels = patch_grid(model, array), float(model.n_channels(array))
    n_rows, n_images = float(len(selection.rows)), len(selection.sources)
    compared = n_rows * min(1.0, pair_images / n_images)
    products = n_rows * 2.0 * grid.n_patches * n_channels**2 + compared * 2.0 * grid.n_patches**2 * n_channels
    passes = n_rows * (READ + PASSES) * grid.n_patches * n_channels + compared * 10.0 * grid.n_patches**2
    return Work(products + 100.0 * n_channels**3, passes)
