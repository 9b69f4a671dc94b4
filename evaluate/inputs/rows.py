"""The rows of a model's sets that an analysis reads: those of the images a selection takes, invalid ones left out."""

from dataclasses import dataclass

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
    rows: Int64[np.ndarray, " row"]

    @property
    def title(self) -> str:
        """For tables: how many images."""
        return f"{len(self.sources)} image{'' if len(self.sources) == 1 else 's'}"


def select_rows(model: ModelSets, rule: SelectionRule | None) -> RowSelection:
    """Return the rows a rule takes, or all rows without one; invalid rows are left out, and images that have no other.

    A rule chooses before rows are left out, so that no other image takes a bad one's place. Raises UserError when no
    row is left. What a model was asked once is remembered with it: every cell asks several times.
    """
    if rule not in model.choices:
        model.choices[rule] = _select_rows(model, rule)
    return model.choices[rule]


def _select_rows(model: ModelSets, rule: SelectionRule | None) -> RowSelection:
    samples = model.samples
    sources = tuple(sorted(samples["source"].unique())) if rule is None else select_sources(samples, rule)
    rows = rows_of(samples, sources)
    kept = rows[samples["valid"].to_numpy(dtype=bool)[rows]]
    if not len(kept):
        raise UserError(
            f"all {len(rows)} rows that [selection] chooses of {model.title} are invalid: choose others, or fix "
            f"the images that `patchbank show {model.labels.digest[:12]}` names"
        )
    if len(kept) < len(rows):
        left = set(samples["source"].to_numpy()[kept])
        sources = tuple(name for name in sources if name in left)
    return RowSelection(sources, kept)


def training_rows(model: ModelSets, selection: Selection | None) -> RowSelection:
    """Return the rows that train, or all without a selection: those whose patches rank the features."""
    return select_rows(model, selection.train if selection else None)


def scored_rows(model: ModelSets, selection: Selection | None) -> RowSelection:
    """Return the rows that validate; those that train where none do, and all without a selection."""
    return select_rows(model, (selection.validation or selection.train) if selection else None)


def train_and_validation_rows(
    model: ModelSets, selection: Selection | None, analysis: str
) -> tuple[RowSelection, RowSelection]:
    """Return training and validation rows; raises UserError when either is not asked for or they share images."""
    if selection is None or selection.validation is None:
        raise UserError(
            f"{analysis} needs [selection.train] and [selection.validation] in the experiment file: add the one missing"
        )
    train, validation = select_rows(model, selection.train), select_rows(model, selection.validation)
    disjoint(train.sources, validation.sources)
    return train, validation


def image_numbers(model: ModelSets, chosen: RowSelection, n_patches: int = 1) -> Int64[np.ndarray, " patch"]:
    """Return the number, 0..len(chosen.sources), of the source image of each patch; of each row where it is one."""
    order = {name: number for number, name in enumerate(chosen.sources)}
    of_row = model.samples["source"].to_numpy()[chosen.rows]
    return np.repeat(np.array([order[name] for name in of_row], dtype=np.int64), n_patches)
