"""The same models in other experiments, matched by title."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.patches import token_variance
from evaluate.inputs.rows import RowSelection, RowSplit
from evaluate.inputs.widths import width
from evaluate.kernels.moments import variance_ranking
from evaluate.settings import Context, LayerSettings, Settings
from stores.errors import UserError


@dataclass(frozen=True)
class Counterpart:
    """One array of a model at the place where another experiment has it."""

    experiment: str
    """The other experiment's file, as the analysis names it."""
    model: ModelSets
    array: str
    train: RowSelection
    """The other experiment's training rows."""

    def inputs(self) -> dict[str, str]:
        """Return the content digests of what is read of it, for the result's name."""
        return {f"{self.experiment} {name}": value for name, value in self.model.inputs(self.array).items()}

    def ranking(self) -> Int64[np.ndarray, " channel"]:
        """Return its features by decreasing variance over its training patches."""
        return variance_ranking(token_variance(self.model, self.array, self.train))


def counterparts(model: ModelSets, array: str, settings: LayerSettings, context: Context) -> list[Counterpart]:
    """Return the array's layer of the model of the same title in each experiment that the analysis names.

    Models that are not there or have another number of features there are left out; `unmatched_notes` tells of them.
    """
    channels = model.features.arrays[array].row_shape[-1]
    found = []
    for name in dict.fromkeys(settings.other_experiments()):
        for other, selection in context.other_experiments[name]:
            if other.title != model.title:
                continue
            [there] = other.arrays((model.layer(array),), settings.norm)
            if other.features.arrays[there].row_shape[-1] == channels:
                found.append(Counterpart(name, other, there, RowSplit(other, selection, "").train))
    return found


def unmatched_notes(models: Sequence[ModelSets], analysis: Settings, context: Context) -> list[str]:
    """Return what to tell of models that have no counterpart in an experiment that the analysis names.

    Raises UserError for an experiment with which no model can be compared.
    """
    kind = getattr(analysis, "kind", "")
    notes = []
    for name in dict.fromkeys(analysis.other_experiments()):
        there = {model.title: model for model, _ in context.other_experiments[name]}
        met = [one.title for one in models if one.title in there]
        if models and not met:
            raise UserError(
                f"{kind} finds no model of {name} with a title of this experiment: there are "
                f"{', '.join(there)}, here {', '.join(one.title for one in models)}; give the same model the same title"
            )
        notes += [
            f"{kind} compares {one.title} with nothing in {name}, which has no model of this title"
            for one in models
            if one.title not in there
        ]
        notes += [
            f"{kind} compares {one.title} with nothing in {name}: it has {width(one)} features here and "
            f"{width(there[one.title])} there"
            for one in models
            if one.title in there and width(one) != width(there[one.title])
        ]
    return notes
