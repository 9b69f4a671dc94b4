"""LiDAR: how many directions tell images apart that the experiment's views leave alone (Thilak et al., ICLR 2024).

The vectors of an input, clean and under every view, are one class of a linear discriminant analysis, and LiDAR is the
effective rank of its matrix (arXiv 2312.04000; formula in `evaluate.kernels.geometry.lidar`). The paper takes 50 views
drawn by the training augmentation of 1,000 or more images; here it is the views that the experiment stores, so values
compare within an experiment only. No interval: a resample repeats inputs, which lowers a rank.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.views import check_rows, selected_views
from evaluate.inputs.work import CALL, Work, reading
from evaluate.kernels.geometry.lidar import lidar
from evaluate.results.metrics import LIDAR
from evaluate.results.rows import score_row
from evaluate.results.table import Result
from evaluate.scoring.images.vectors import Pooled, row_vectors, vector_addresses, vector_inputs, vectors_bytes
from evaluate.scoring.tokens.captured_task import ScoredTask
from evaluate.settings import LayerSettings
from stores.errors import MissingError, UserError
from stores.format.paths import OF_LAYERS


class Lidar(LayerSettings):
    """Effective rank of images against the experiment's views (arXiv 2312.04000)."""

    kind: Literal["lidar"]
    pooled: Annotated[tuple[Pooled, ...], Field(min_length=1)] = ("class-token", "mean-patch")
    """What stands for an input: the first prefix token, the mean of the patch tokens, or both one after the other."""
    views: tuple[str, ...] | None = None
    """Names of the views; None takes all of the experiment."""


@dataclass(frozen=True, eq=False)
class LidarTask(ScoredTask[Lidar]):
    """LiDAR of one layer, for every kind of vector."""

    analysis = "lidar"
    groups = OF_LAYERS
    what = "LiDAR of {task.array}"
    key_settings = ("pooled",)

    @property
    def columns(self) -> dict[str, Any]:
        """The shared columns, and the depth in blocks."""
        return {**super().columns, "x_value": self.model.layer(self.array) + 1.0}

    @cached_property
    def views(self) -> list[tuple[str, float]]:
        """The views by name and level; raises UserError when there is none."""
        views = selected_views(self.model, self.settings.views, self.analysis)
        if not views:
            raise UserError("lidar needs [[views]] such as colour-jitter or flip in the experiment file: add one")
        return views

    def _sides(self) -> list[tuple[str, ModelSets]]:
        """Return the sets of the clean rows and of every view, each with a name."""
        viewed = [(f"{name} {level:g}", self.model.for_view(name, level)) for name, level in self.views]
        return [("clean", self.model), *viewed]

    def check(self) -> None:
        """Raise UserError without a view or with other rows under one, MissingError for what is not stored of one."""
        if len(self.scored.rows) < 2:
            raise UserError("lidar compares inputs with each other and one is selected: select more")
        for name, level in self.views:
            check_rows(self.model, self.model.views[name, level])
        layer = self.array.partition("/")[2]
        for side, model in self._sides():
            for pooled in self.settings.pooled:
                try:
                    vector_addresses(model, self.array, pooled)
                except MissingError as error:
                    if side == "clean":
                        raise
                    raise MissingError(
                        f"lidar needs the {pooled} of {layer} of {model.title} under {side}, which is not stored: list "
                        f"this layer in `layers` of [[views]], and run `{model.extract_command}`"
                    ) from error

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that the class lists, and the views."""
        return {**super().parameters(), "views": [list(view) for view in self.views]}

    def inputs(self) -> dict[str, str]:
        """Return the digests of what vectors are made of, clean and under every view."""
        return {
            f"{name} {address}": content
            for name, model in self._sides()
            for address, content in vector_inputs(model, self.array, self.settings.pooled).items()
        }

    def compute(self) -> Result:
        """Return one row a kind of vector."""
        rows = []
        for pooled in self.settings.pooled:
            sides = [row_vectors(model, self.array, self.scored.rows, pooled) for _, model in self._sides()]
            rows.append(score_row(LIDAR, lidar(np.stack(sides, axis=1)), token=pooled))
        return Result(rows)

    def work(self) -> Work:
        """Estimate the operations: what vectors are made of is read under every view, and matrices are decomposed."""
        work, n_rows = Work(passes=CALL), len(self.scored.rows)
        for pooled in self.settings.pooled:
            for _, model in self._sides():
                for address in vector_addresses(model, self.array, pooled):
                    work += reading(model, address, n_rows)
            width = float(self._width([pooled]))
            work += Work(4.0 * n_rows * (len(self.views) + 2) * width**2 + 60.0 * width**3)
        return work

    def _width(self, pooled: Sequence[Pooled]) -> int:
        widths = [sum(map(self.model.n_channels, vector_addresses(self.model, self.array, one))) for one in pooled]
        return max(widths)

    def peak_bytes(self) -> int:
        """Estimate peak memory: the vectors of all views twice, and a few matrices of their width."""
        n_rows, width = len(self.scored.rows), self._width(self.settings.pooled)
        read = max(
            vectors_bytes(model, self.array, [self.scored], [pooled])
            for _, model in self._sides()
            for pooled in self.settings.pooled
        )
        vectors = 8 * n_rows * width * (2 * (len(self.views) + 1) + 3)
        return read + vectors + 8 * 6 * width**2 + 8 * 2 * min(n_rows, width) ** 2
