"""The words every analysis is asked in: layers, row selections, seeds and bounds."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from evaluate.inputs.decoder import PatchDecoder
from evaluate.selection import SelectionRule
from stores.specs import Record

Layers = Literal["all"] | tuple[int, ...]
"""``all`` that are stored, or numbers from 0; negative ones count from the last stored."""


class Selection(Record):
    """Which images train and which validate; rows of the same sets, never another extraction."""

    train: SelectionRule
    """Images that classifiers are fitted on, and whose patches rank the features."""
    validation: SelectionRule | None = None
    """Images that are scored; never one that trains."""


class Settings(Record):
    """Base of the settings of every analysis: one ``[[analyses]]`` table."""

    def rules(self, selection: Selection) -> list[SelectionRule]:
        """Return the selection rules the analysis can ask for beside the selection's own two."""
        return []

    def other_experiments(self) -> tuple[str, ...]:
        """Return the other experiment files whose sets the analysis reads too, as they are named."""
        return ()


@dataclass(frozen=True)
class Context:
    """What all analyses of one experiment share."""

    selection: Selection | None
    seed: int
    """Seed of held-out images, random features and bootstraps."""
    memory_bytes: int = 2 << 30
    """Bound on what one analysis uses above the process, in bytes; it changes no number."""
    other_experiments: Mapping[str, Sequence[tuple[Any, Selection | None]]] = field(default_factory=dict)
    """The models (`measured.ModelSets`) of other experiments with their selections, by the file's name as asked for."""
    decoders: Mapping[str, Callable[[], PatchDecoder]] = field(default_factory=dict)
    """What makes a model's decoder, by the model's title; called only where an analysis asks for it."""


def train_rules(train: SelectionRule, per_group: Iterable[int] | None) -> list[SelectionRule]:
    """Return the training rules of an analysis: the selection's own, or one for each size."""
    if per_group is None:
        return [train]
    return [train.model_copy(update={"per_group": size}) for size in per_group]
