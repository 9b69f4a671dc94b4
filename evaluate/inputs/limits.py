"""Checks that the settings of an analysis fit the data: removed features and neighbours."""

from collections.abc import Iterator, Sequence
from typing import Any

from evaluate.inputs.model_sets import ModelSets
from stores.errors import UserError
from stores.format.paths import OF_LAYERS
from stores.specs import Record


def width(model: ModelSets) -> int:
    """Return the number of channels of a model's widest layer."""
    arrays = model.features.arrays.values()
    return max((array.row_shape[-1] for array in arrays if array.group in OF_LAYERS), default=0)


def fit_counts(counts: Sequence[int], n_features: int) -> list[int]:
    """Return the counts of features, each once and increasing, that leave at least one of ``n_features``."""
    return [m for m in sorted(set(counts)) if m < n_features]


def check_k(k: int, n_rows: int, unit: str = "patches") -> None:
    """Raise UserError when k is larger than the number of training patches (or other units)."""
    if k > n_rows:
        raise UserError(f"k = {k} neighbours are more than the {n_rows} training {unit}: lower k")


def fit_removals(analysis: Record, models: Sequence[ModelSets]) -> Iterator[tuple[Any, list[ModelSets], str | None]]:
    """Yield the analysis with the counts of ``remove`` that some models allow, these models, and a note.

    A sweep may be meant for wide and narrow models alike, so a count that is too large for one is left out there, with
    a note. Raises UserError when a count that the experiment names is too large for every model.
    """
    counts: tuple[int, ...] = getattr(analysis, "remove", ())
    kind = getattr(analysis, "kind", "")
    widest = max(models, key=width, default=None)
    for m in counts:
        if widest and m >= width(widest) and "remove" in analysis.model_fields_set:
            raise UserError(
                f"{kind} cannot remove {m} features: {widest.title} has {width(widest)}; choose less in remove"
            )
    groups: dict[tuple[int, ...], list[ModelSets]] = {}
    for model in models:
        groups.setdefault(tuple(m for m in counts if m < width(model)), []).append(model)
    for fitting, some in groups.items():
        if fitting == counts:
            yield analysis, some, None
        else:
            left_out = ", ".join(str(m) for m in counts if m not in fitting)
            titles = ", ".join(f"{model.title} with {width(model)} features" for model in some)
            note = f"{kind} leaves out m = {left_out} for {titles}"
            yield analysis.model_copy(update={"remove": fitting}), some, note
    if not models:
        yield analysis, [], None
