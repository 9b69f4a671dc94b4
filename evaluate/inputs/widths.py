"""How many features a model has to spare, where an analysis removes some."""

from collections.abc import Iterator, Sequence
from typing import Any

from evaluate.inputs.model_sets import ModelSets
from stores.errors import UserError
from stores.specs import Record


def width(model: ModelSets) -> int:
    """Return the number of channels of a model's widest token array."""
    arrays = model.features.arrays.values()
    return max((array.row_shape[-1] for array in arrays if array.group == "tokens"), default=0)


def fit_removals(analysis: Record, models: Sequence[ModelSets]) -> Iterator[tuple[Any, list[ModelSets], str | None]]:
    """Yield the analysis with those counts of ``remove`` that some models allow, these models, and what to tell.

    A sweep may be meant for wide and narrow models alike, so a count that is too large for one is left out there
    and said. Raises UserError when a count that the experiment names is too large for every model.
    """
    asked: tuple[int, ...] = getattr(analysis, "remove", ())
    widths = [width(model) for model in models]
    kind = getattr(analysis, "kind", "")
    for m in asked:
        if models and m >= max(widths) and "remove" in analysis.model_fields_set:
            raise UserError(
                f"{kind} cannot remove {m} features: {models[widths.index(max(widths))].title} has {max(widths)}; "
                "choose less in remove"
            )
    groups: dict[tuple[int, ...], list[ModelSets]] = {}
    for model, channels in zip(models, widths, strict=True):
        groups.setdefault(tuple(m for m in asked if m < channels), []).append(model)
    for counts, some in groups.items():
        if counts == asked:
            yield analysis, some, None
        else:
            left_out = ", ".join(str(m) for m in asked if m not in counts)
            titles = ", ".join(f"{model.title} with {width(model)} features" for model in some)
            yield analysis.model_copy(update={"remove": counts}), some, f"{kind} leaves out m = {left_out} for {titles}"
    if not models:
        yield analysis, [], None
