"""Checks that the settings of an analysis fit the data: removed features and neighbours."""

from collections.abc import Iterator, Sequence
from typing import Any

from evaluate.inputs.model_sets import ModelSets
from evaluate.kernels.treatments import Treatment
from evaluate.settings import NUMBERS, RemovalSettings
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

    A sweep may be meant for wide and narrow models alike, so a count, or number of a treatment, that is too large for
    one is left out there, with a note. Raises UserError when one that the experiment names is too large for all.
    """
    counts: tuple[int, ...] = getattr(analysis, "remove", ())
    widest = max(models, key=width, default=None)
    if widest is not None:
        _check_widest(analysis, counts, widest)
    groups: dict[tuple[tuple[int, ...], tuple[str, ...]], list[ModelSets]] = {}
    for model in models:
        n_features = width(model)
        fitting = tuple(m for m in counts if m < n_features)
        left_out = [f"m = {', '.join(str(m) for m in counts if m not in fitting)}"] if fitting != counts else []
        left_out += [one.label for one in _too_large(analysis, n_features)]
        groups.setdefault((fitting, tuple(left_out)), []).append(model)
    for (fitting, names), some in groups.items():
        if not names:
            yield analysis, some, None
        else:
            titles = ", ".join(f"{model.title} with {width(model)} features" for model in some)
            note = f"{getattr(analysis, 'kind', '')} leaves out {' and '.join(names)} for {titles}"
            yield (analysis.model_copy(update={"remove": fitting}) if fitting != counts else analysis), some, note
    if not models:
        yield analysis, [], None


def _too_large(analysis: Record, n_features: int) -> list[Treatment]:
    return analysis.too_large(n_features) if isinstance(analysis, RemovalSettings) else []


def _check_widest(analysis: Record, counts: Sequence[int], widest: ModelSets) -> None:
    """Raise UserError for numbers that the experiment names and that leave no model a feature."""
    kind, has = getattr(analysis, "kind", ""), f"{widest.title} has {width(widest)}"
    for m in counts:
        if m >= width(widest) and "remove" in analysis.model_fields_set:
            raise UserError(f"{kind} cannot remove {m} features: {has}; choose less in remove")
    for one in _too_large(analysis, width(widest)):
        if NUMBERS[one.name] in analysis.model_fields_set:
            raise UserError(f"{kind} cannot have {one.label}: {has} features; choose less in {NUMBERS[one.name]}")
