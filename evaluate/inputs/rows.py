"""Rows of a model's sets that an analysis reads: those of the selected images, invalid rows left out."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int64

from evaluate.inputs.model_sets import ModelSets
from evaluate.selection import SelectionRule, disjoint, rows_of, select_sources
from evaluate.settings import Selection
from stores.errors import UserError


@dataclass(frozen=True)
class RowSelection:
    """The rows one selection takes from a sample table."""

    sources: tuple[str, ...]
    """Names of the source images, sorted."""
    rows: Int64[np.ndarray, " row"]

    @property
    def title(self) -> str:
        """For tables: how many images."""
        return f"{len(self.sources)} image{'' if len(self.sources) == 1 else 's'}"


@dataclass(frozen=True, eq=False)
class RowSplit:
    """The training and validation rows of one model under one selection, read from the sample table on first use."""

    model: ModelSets
    selection: Selection | None
    analysis: str
    """Name of the analysis, for error messages."""

    @cached_property
    def train(self) -> RowSelection:
        """Training rows, all rows without a selection: classifiers are fitted and features ranked on them."""
        return select_rows(self.model, self.selection.train if self.selection else None)

    @cached_property
    def validation(self) -> RowSelection:
        """Validation rows; raises UserError when the experiment selects none, or an image that also trains."""
        if self.selection is None or self.selection.validation is None:
            raise UserError(
                f"{self.analysis} needs [selection.train] and [selection.validation] in the experiment file: add the "
                "one missing"
            )
        validation = select_rows(self.model, self.selection.validation)
        disjoint(self.train.sources, validation.sources)
        return validation

    @cached_property
    def scored(self) -> RowSelection:
        """Validation rows, or the training rows where the selection has no validation part."""
        selection = self.selection
        return select_rows(self.model, (selection.validation or selection.train) if selection else None)


def select_rows(model: ModelSets, rule: SelectionRule | None) -> RowSelection:
    """Return the rows a rule selects, or all rows without one; invalid rows are left out.

    Images are selected before invalid rows are left out, so that no other image takes the place of a bad one; an
    image without a valid row is left out. Raises UserError when no row is left.
    """
    samples = model.samples
    sources = tuple(sorted(samples["source"].unique())) if rule is None else select_sources(samples, rule)
    rows = rows_of(samples, sources)
    valid = rows[samples["valid"].to_numpy(dtype=bool)[rows]]
    if not len(valid):
        raise UserError(
            f"all {len(rows)} rows that [selection] chooses of {model.title} are invalid: choose others, or fix "
            f"the images that `patchbank show {model.labels.digest[:12]}` names"
        )
    if len(valid) < len(rows):
        remaining = set(samples["source"].to_numpy()[valid])
        sources = tuple(name for name in sources if name in remaining)
    return RowSelection(sources, valid)


def spread_evenly(n: int, n_shown: int) -> Int64[np.ndarray, " shown"]:
    """Return up to ``n_shown`` of the indices below ``n``, spread evenly, the first and the last among them."""
    return np.unique(np.linspace(0, n - 1, min(n_shown, n)).round().astype(np.int64))


def spread_selection(model: ModelSets, selection: RowSelection, n_shown: int) -> RowSelection:
    """Return up to ``n_shown`` of the images of a selection, spread evenly over it, with all of their rows."""
    shown = tuple(selection.sources[index] for index in spread_evenly(len(selection.sources), n_shown))
    of_row = model.samples["source"].to_numpy()[selection.rows]
    return RowSelection(shown, selection.rows[np.isin(of_row, shown)])


def image_numbers(model: ModelSets, selection: RowSelection, n_patches: int = 1) -> Int64[np.ndarray, " patch"]:
    """Return the index into ``selection.sources`` of each patch's source image; of each row's with one patch a row."""
    order = {name: number for number, name in enumerate(selection.sources)}
    of_row = model.samples["source"].to_numpy()[selection.rows]
    return np.repeat(np.array([order[name] for name in of_row], dtype=np.int64), n_patches)
