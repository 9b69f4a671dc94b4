"""Invariance of whole-image representations to changes of the image: "Objectives Matter" (arXiv 2304.13089).

For every view of the experiment: ``cosine`` is the mean cosine of an image's vector and its vector under the view,
``random_cosine`` that of an image and *another* image under the view, over all pairs, and ``invariance`` their
difference. The difference is needed because representations differ in how alike all their vectors are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float64
from pydantic import Field

from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.rows import RowSelection, image_numbers
from evaluate.inputs.views import check_rows, selected_views
from evaluate.inputs.work import CALL, Work, reading
from evaluate.results.metrics import COSINE, INVARIANCE, RANDOM_COSINE
from evaluate.results.table import Result
from evaluate.scoring.images.pooled_task import PooledTask
from evaluate.scoring.images.vectors import Pooled, row_vectors, vector_addresses, vectors_bytes
from evaluate.settings import BootstrapSettings, LayerSettings
from stores.errors import UserError
from stores.format.paths import OF_LAYERS


class Invariance(LayerSettings, BootstrapSettings):
    """Likeness of an image's representation and that under a view, less that of unrelated images."""

    kind: Literal["invariance"]
    pooled: Annotated[tuple[Pooled, ...], Field(min_length=1)] = ("class-token", "mean-patch")
    """What stands for an image: the first prefix token, the mean of the patch tokens, or both one after the other."""
    views: tuple[str, ...] | None = None
    """Names of the views; None takes all of the experiment."""


def cosines(
    one: Float64[np.ndarray, "row channel"], other: Float64[np.ndarray, "row channel"]
) -> tuple[Float64[np.ndarray, " row"], Float64[np.ndarray, " row"]]:
    """Return each row's cosine with its counterpart, and its mean cosine with the counterparts of all other rows."""
    units = [rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) for rows in (one, other)]
    own = (units[0] * units[1]).sum(axis=1)
    return own, (units[0] @ units[1].sum(axis=0) - own) / max(1, len(one) - 1)


@dataclass(frozen=True, eq=False)
class InvarianceTask(PooledTask[Invariance]):
    """Cosines of clean and changed images, for every view, level and kind of token of one layer."""

    analysis = "invariance"
    groups = OF_LAYERS
    what = "invariance of {task.array}"
    key_settings = ("pooled", "resamples")
    key_rows = ("scored",)
    trains = False

    @property
    def scored(self) -> RowSelection:
        """Rows whose vectors are compared: those for validation, or all that are selected."""
        return self.split.scored

    @cached_property
    def views(self) -> list[tuple[str, float]]:
        """The views by name and level; raises UserError when there is none."""
        views = selected_views(self.model, self.settings.views, self.analysis)
        if not views:
            raise UserError("invariance needs [[views]] such as flip or blur in the experiment file: add one")
        return views

    def _viewed(self) -> list[tuple[str, float, ModelSets]]:
        return [(name, level, self.model.for_view(name, level)) for name, level in self.views]

    def check(self) -> None:
        """Raise UserError without a view or with other rows under one, MissingError for what is not stored of one."""
        if len(self.scored.rows) < 2:
            raise UserError("invariance compares images with each other and one is selected: select more")
        for name, level, viewed in self._viewed():
            check_rows(self.model, self.model.views[name, level])
            for pooled in self.settings.pooled:
                vector_addresses(viewed, self.array, pooled)

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that the class lists, and the views."""
        return {**super().parameters(), "views": [list(view) for view in self.views]}

    def inputs(self) -> dict[str, str]:
        """Return the digests of what vectors are made of, clean and under every view."""
        inputs = {"features": self.model.features.digest, "labels": self.model.labels.digest}
        sets: Sequence[tuple[str, ModelSets]] = [
            ("", self.model),
            *((f"{name} {level:g} ", viewed) for name, level, viewed in self._viewed()),
        ]
        for prefix, model in sets:
            for pooled in self.settings.pooled:
                for address in vector_addresses(model, self.array, pooled):
                    inputs[f"{prefix}{address}"] = model.features.content[address]
        return inputs

    def compute(self) -> Result:
        """Return three rows a view, level and kind of token."""
        rows_of, bootstrap = self.scored, self.bootstrap(self.scored.sources)
        images = image_numbers(self.model, rows_of)
        counts = np.bincount(images, minlength=len(rows_of.sources)).astype(np.float64)
        rows = []
        for pooled in self.settings.pooled:
            clean = row_vectors(self.model, self.array, rows_of.rows, pooled)
            for name, level, viewed in self._viewed():
                own, others = cosines(clean, row_vectors(viewed, self.array, rows_of.rows, pooled))
                columns = {"view": name, "level": level, "token": pooled, "x_name": "level", "x_value": float(level)}
                columns |= {"layer": self.model.layer(self.array)}
                for metric, values in ((COSINE, own), (RANDOM_COSINE, others), (INVARIANCE, own - others)):
                    draws = bootstrap.ratio(np.bincount(images, values, len(counts)), counts)
                    rows.append(bootstrap.row(metric, float(values.mean()), draws, **columns))
        return Result(rows)

    def work(self) -> Work:
        """Estimate the operations: what vectors are made of is read under every view."""
        work = Work(passes=CALL)
        for _, _, viewed in [("", 0.0, self.model), *self._viewed()]:
            for pooled in self.settings.pooled:
                for address in vector_addresses(viewed, self.array, pooled):
                    work += reading(viewed, address, len(self.scored.rows))
        return work

    def peak_bytes(self) -> int:
        """Estimate peak memory: one vector a row, clean and under one view."""
        n_rows = len(self.scored.rows)
        held = max(
            vectors_bytes(viewed, self.array, [self.scored], [pooled])
            for _, _, viewed in [("", 0.0, self.model), *self._viewed()]
            for pooled in self.settings.pooled
        )
        return 2 * held + 8 * 8 * n_rows + 8 * 4 * self.settings.resamples
