"""Evidence: the rows of an evaluated experiment as estimates, one metric with its interval a lookup.

Claims are about Euclidean distances between tokens after the final norm: rows by cosine are left out (but for whole
images, whose protocol it is), and where a table holds arrays with and without the norm, those with it count. Where an
experiment has several sizes or layers, the training set with most layers and removals (`main_train_size`), the last
layer and the smallest k are taken, unless a rule names others. Numbers of different training sets are never compared.
"""

import copy
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from evaluate.claims.estimates import Estimate, difference
from evaluate.claims.roles import ROLES, ModelInfo
from evaluate.claims.verdicts import MissingEvidenceError, add_analysis
from evaluate.kernels.bootstrap import FEWEST_UNITS
from evaluate.results.draws import draws_of
from evaluate.results.metrics import PATCH_MIOU, PATCH_MIOU_DIFFERENCE, VARIANCE
from evaluate.results.preferred import main_train_size, preferred_rows
from evaluate.results.table import long_table

Row = Mapping[str, Any]
"""A row of the long table by column, None where it is empty."""

_BY_COSINE = ("image-knn", "image-classification", "agreement")
"""Analyses of whole images, whose protocol is the cosine."""
CLASSIFIERS = {"knn": "1-NN", "probe": "probe"}


class Evidence:
    """One experiment's long table, its models and, where they are stored, the arrays of its results."""

    def __init__(
        self,
        table: pd.DataFrame,
        models_info: Sequence[ModelInfo],
        arrays: Mapping[str, Mapping[str, np.ndarray]] | None = None,
        beside: "Sequence[Evidence]" = (),
    ) -> None:
        """Take a long table; ``arrays`` are those of results by digest, ``beside`` other evaluated experiments."""
        by_cosine = (table["distance"] == "cosine").fillna(False) & ~table["analysis"].isin(_BY_COSINE)
        plain = table[table["class"].isna() & (table["metric"] != VARIANCE) & ~by_cosine]
        # Plain values: rules look hundreds of rows up, for which typed columns are slow.
        filled = plain.astype(object).where(plain.notna(), None)
        self._rows: dict[tuple[str, str, str], list[Row]] = {}
        for row in filled.to_dict("records"):
            self._rows.setdefault((row["model"], row["analysis"], row["metric"]), []).append(row)  # type: ignore[arg-type]
        self._preferred_of: dict[tuple[int, ...], tuple[int, Sequence[Row]]] = {}
        self.n_train = main_train_size(table)
        """Number of training images that numbers are taken of, where several were evaluated."""
        self.models_info = tuple(models_info)
        self.every = self.models_info
        """All models of the experiment, whichever a claim is about."""
        self.experiment = str(table["experiment"].iloc[0]) if len(table) else ""
        """Its name; empty without rows."""
        self.arrays = arrays or {}
        self.beside = tuple(beside)

    @property
    def analyses(self) -> frozenset[str]:
        """Names of the analyses that there are rows of."""
        return frozenset(analysis for _, analysis, _ in self._rows)

    @cached_property
    def by_role(self) -> dict[str, ModelInfo]:
        """The first model of every role."""
        return {info.role: info for info in reversed(self.models_info) if info.role != "none"}

    def info(self, role: str) -> ModelInfo:
        """Return the model of a role; raises MissingEvidenceError when there is none."""
        if role not in self.by_role:
            raise MissingEvidenceError(
                f'no model plays {ROLES[role]}: add it, or set role = "{role}" in a [[models]] table'
            )
        return self.by_role[role]

    def among(self, models_info: Sequence[ModelInfo]) -> "Evidence":
        """Return the same evidence about some of the models alone."""
        fewer = copy.copy(self)
        fewer.__dict__.pop("by_role", None)  # it was made for all of them
        fewer.models_info = tuple(models_info)
        return fewer

    def with_beside(self, beside: "Sequence[Evidence]") -> "Evidence":
        """Return the same evidence beside other experiments."""
        other = copy.copy(self)
        other.beside = tuple(beside)
        return other

    def present(self, *roles: str) -> list[ModelInfo]:
        """Return the models of those roles that some model has, in this order."""
        return [self.by_role[role] for role in roles if role in self.by_role]

    def rows(self, info: ModelInfo, analysis: str, metric: str, **where: Any) -> list[Row]:
        """Return a model's rows of one metric whose columns are as given; None asks for an empty cell."""
        rows = self._rows.get((info.title, analysis, metric), [])
        rows = [row for row in rows if all(row[name] == value for name, value in where.items())]
        return [row for row in rows if row["normed"]] or rows

    def estimate(self, rows: Sequence[Row], name: str, add: str) -> Estimate:
        """Return the estimate of the preferred row: last layer, main training set, smallest k.

        Raises MissingEvidenceError, with the advice ``add``, where there is none.
        """
        rows = [row for row in rows if row["value"] is not None]
        if not rows:
            raise MissingEvidenceError(f"there is no {name}: {add}")
        row = rows[0] if len(rows) == 1 else rows[self._preferred(rows)]
        if row["low"] is None or row["high"] is None:
            raise MissingEvidenceError(
                f"{name} has no interval ({row['n_units'] or 'unknown'} {row['unit'] or 'image'}s): evaluate at least "
                f"{FEWEST_UNITS}, with resamples above 0"
            )
        drawn, units = self._draws(row)
        return Estimate(name, float(row["value"]), float(row["low"]), float(row["high"]), drawn, units, row["n_train"])

    def patches(self, info: ModelInfo, classifier: str, m: int = 0, **where: Any) -> Estimate:
        """Return the mIoU of patches of a classifier without the m features of highest variance."""
        rows = self.rows(info, "patch-classification", PATCH_MIOU, classifier=classifier, m=m, **where)
        lacks = f", {m} removed" if m else ""
        return self.estimate(
            rows,
            f"{CLASSIFIERS[classifier]} mIoU of {info.title}{lacks}",
            add_analysis("patch-classification", classifiers=[classifier], remove=[m]),
        )

    def removal_gain(self, info: ModelInfo, classifier: str, m: int) -> Estimate:
        """Return the gain in mIoU by removing m features: the paired row of feature-treatments, else two scores."""
        name = f"{CLASSIFIERS[classifier]} gain of {info.title}, {m} removed"
        where = {"classifier": classifier, "outcome": "remove-top", "m": m, "reference": "none"}
        rows = self.rows(info, "feature-treatments", PATCH_MIOU_DIFFERENCE, **where)
        if rows:
            return self.estimate(rows, name, "")
        return difference(name, self.patches(info, classifier, m), self.patches(info, classifier))

    def _preferred(self, rows: Sequence[Row]) -> int:
        """Return the position of the row that stands for all of them, by the choice that the report shows too."""
        # Claims ask for the same rows again and again, and choosing takes a table each time.
        asked = tuple(map(id, rows))
        if asked not in self._preferred_of:
            table = long_table([dict(row) for row in rows])
            # With the rows, so that no other row gets one of these numbers.
            self._preferred_of[asked] = int(preferred_rows(table, n_train=self.n_train).index[0]), rows
        return self._preferred_of[asked][0]

    def _draws(self, row: Row) -> tuple[np.ndarray | None, str]:
        """Return the bootstrap draws of a row that its result stores, and their units; None without."""
        arrays = self.arrays.get(str(row["result"]), {})
        draws = None if row["row"] is None else draws_of(arrays, int(row["row"]))
        return (None, "") if draws is None else (draws.values, draws.units)


def distinct(rows: Sequence[Row], column: str) -> list[Any]:
    """Return the values of a column that are there, increasing."""
    return sorted({row[column] for row in rows if row[column] is not None})


def n_train(row: Row) -> int:
    """Return the number of training images of a row, 0 where it has none."""
    return int(row["n_train"] or 0)
