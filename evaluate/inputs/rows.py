"""The rows of a model's sets that an analysis reads: those of the images a selection takes, invalid ones left out."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from evaluate.inputs.model_sets import Measured
from evaluate.selection import SelectionRule, disjoint, rows_of, select_sources
from evaluate.settings import Selection
from stores.errors import UserError


@dataclass(frozen=True)
class Chosen:
    """The rows one selection takes from a sample table."""

    sources: tuple[str, ...]
    rows: Int64[np.ndarray, " row"]

    @property
    def title(self) -> str:
        """For tables: how many images."""
        return f"{len(self.sources)} image{'' if len(self.sources) == 1 else 's'}"


def choose(measured: Measured, rule: SelectionRule | None) -> Chosen:
    """Return the rows a rule takes, or all rows without one; invalid rows are left out, and images that have no other.

    A rule chooses before rows are left out, so that no other image takes a bad one's place. Raises UserError when no
    row is left. What a model was asked once is remembered with it: every cell asks several times.
    """
    if rule not in measured.choices:
        measured.choices[rule] = _choose(measured, rule)
    return measured.choices[rule]


def _choose(measured: Measured, rule: SelectionRule | None) -> Chosen:
    samples = measured.samples
    sources = tuple(sorted(samples["source"].unique())) if rule is None else select_sources(samples, rule)
    rows = rows_of(samples, sources)
    kept = rows[samples["valid"].to_numpy(dtype=bool)[rows]]
    if not len(kept):
        raise UserError(
            f"all {len(rows)} rows that [selection] chooses of {measured.title} are invalid: choose others, or mend "
            f"the images that `patchbank show {measured.labels.digest[:12]}` names"
        )
    if len(kept) < len(rows):
        left = set(samples["source"].to_numpy()[kept])
        sources = tuple(name for name in sources if name in left)
    return Chosen(sources, kept)


def choose_training(measured: Measured, selection: Selection | None) -> Chosen:
    """Return the rows that train, or all without a selection: those whose patches rank the features."""
    return choose(measured, selection.train if selection else None)


def choose_scored(measured: Measured, selection: Selection | None) -> Chosen:
    """Return the rows that validate; those that train where none do, and all without a selection."""
    return choose(measured, (selection.validation or selection.train) if selection else None)


def choose_both(measured: Measured, selection: Selection | None, analysis: str) -> tuple[Chosen, Chosen]:
    """Return training and validation rows; raises UserError when either is not asked for or they share images."""
    if selection is None or selection.validation is None:
        raise UserError(
            f"{analysis} needs [selection.train] and [selection.validation] in the experiment file: add the one missing"
        )
    train, validation = choose(measured, selection.train), choose(measured, selection.validation)
    disjoint(train.sources, validation.sources)
    return train, validation


def image_numbers(measured: Measured, chosen: Chosen, n_patches: int = 1) -> Int64[np.ndarray, " patch"]:
    """Return the number, 0..len(chosen.sources), of the source image of each patch; of each row where it is one."""
    order = {name: number for number, name in enumerate(chosen.sources)}
    of_row = measured.samples["source"].to_numpy()[chosen.rows]
    return np.repeat(np.array([order[name] for name in of_row], dtype=np.int64), n_patches)
