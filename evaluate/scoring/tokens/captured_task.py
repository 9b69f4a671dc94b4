"""Tasks about numbers of every scored row: their means over images, with bootstrap intervals."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from jaxtyping import Float, Float64, Int64

from evaluate.inputs.captured import CapturedArray
from evaluate.inputs.memory import reading_bytes, rows_bytes
from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.rows import RowSelection, image_numbers
from evaluate.inputs.work import CALL, READ, RESAMPLED, Work
from evaluate.settings import Settings
from evaluate.task import ModelTask

S = TypeVar("S", bound=Settings)


def reading_numbers(model: ModelSets, array: str, n_rows: int) -> Work:
    """Return the work of reading rows of any array."""
    return Work(passes=READ * n_rows * float(np.prod(model.features.arrays[array].row_shape)))


@dataclass(frozen=True, eq=False)
class ScoredTask(ModelTask[S], Generic[S]):
    """A task about the scored rows: those that validate, or those that train where none does."""

    key_settings: ClassVar[tuple[str, ...]] = ("resamples",)
    key_rows = ("scored",)
    trains = False
    fixed_columns: ClassVar[Mapping[str, Any]] = {"x_name": "depth"}

    @property
    def scored(self) -> RowSelection:
        """The scored rows."""
        return self.split.scored

    @cached_property
    def _images(self) -> Int64[np.ndarray, " row"]:
        return image_numbers(self.model, self.scored)

    def mean_row(self, metric: str, values: Float[np.ndarray, " row"], **columns: Any) -> dict[str, Any]:
        """Return the mean over the scored rows with its interval; rows of one image are resampled together."""
        sums, counts = self._by_image(values), self._by_image(np.ones(len(values)))
        bootstrap = self.bootstrap(self.scored.sources)
        return bootstrap.row(metric, float(sums.sum() / counts.sum()), bootstrap.ratio(sums, counts), **columns)

    def _by_image(self, values: Float[np.ndarray, " row"]) -> Float64[np.ndarray, " image"]:
        return np.bincount(self._images, weights=values.astype(np.float64), minlength=len(self.scored.sources))

    @property
    def resampling_bytes(self) -> int:
        """What the intervals hold: the images of every resample, and the values of both sums."""
        return 3 * 8 * getattr(self.settings, "resamples", 0) * len(self.scored.sources)

    def resampling_work(self, n_numbers: int) -> Work:
        """Estimate the operations of so many intervals."""
        resamples = getattr(self.settings, "resamples", 0)
        return Work(passes=(RESAMPLED * resamples * len(self.scored.sources) + CALL) * n_numbers)


@dataclass(frozen=True, eq=False)
class CapturedTask(ScoredTask[S], Generic[S]):
    """A task about one captured array, of which a row is a few numbers."""

    captured: CapturedArray

    @property
    def columns(self) -> dict[str, Any]:
        """The shared columns, and the depth in blocks."""
        return {**super().columns, "x_value": self.captured.depth}

    def work(self) -> Work:
        """Estimate the operations: reading the rows, and an interval for each of their numbers."""
        n_numbers = int(np.prod(self.model.features.arrays[self.array].row_shape))
        return reading_numbers(self.model, self.array, len(self.scored.rows)) + self.resampling_work(n_numbers)

    def peak_bytes(self) -> int:
        """Estimate peak memory: the rows of the array, in float64 too."""
        rows = 4 * rows_bytes(self.model, self.array, len(self.scored.rows))
        return rows + reading_bytes(self.model, self.array) + self.resampling_bytes
