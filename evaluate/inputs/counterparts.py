"""The same models in other experiments, matched by title."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from evaluate.inputs.limits import width
from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.patches import token_variance
from evaluate.inputs.rows import RowSelection, RowSplit
from evaluate.kernels.moments import variance_ranking
from evaluate.settings import Context, LayerSettings, Settings
from stores.errors import UserError


@dataclass(frozen=True)
class Counterpart:
    """The same layer of the same model in another experiment."""

    experiment: str
    """The other experiment's file, as the analysis names it."""
    model: ModelSets
    array: str
    train: RowSelection
    """The other experiment's training rows."""

    def inputs(self) -> dict[str, str]:
        """Return the content digests of what is read of it, for the result key."""
        return {f"{self.experiment} {name}": value for name, value in self.model.inputs(self.array).items()}

    def ranking(self) -> Int64[np.ndarray, " channel"]:
        """Return its features by decreasing variance over its training patches."""
        return variance_ranking(token_variance(self.model, self.array, self.train))


def counterparts(model: ModelSets, array: str, settings: LayerSettings, context: Context) -> list[Counterpart]:
    """Return the array's layer of the model of the same title in each experiment that the analysis names.

    Models that are not there or have another number of features there are left out; `unmatched_notes` lists them.

    Args:
        model: stored sets of the model.
        array: address of the token array.
        settings: settings of the analysis.
        context: holds the models of the other experiments.
    """
    matched = []
    for name in dict.fromkeys(settings.other_experiments()):
        for other, selection in context.other_experiments[name]:
            if other.title != model.title:
                continue
            [other_array] = other.arrays((model.layer(array),), settings.norm)
            if other.n_channels(other_array) == model.n_channels(array):
                matched.append(Counterpart(name, other, other_array, RowSplit(other, selection, "").train))
    return matched


def unmatched_notes(models: Sequence[ModelSets], analysis: Settings, context: Context) -> list[str]:
    """Return one note a model that has no counterpart in an experiment that the analysis names.

    Raises UserError for an experiment with which no model can be compared.
    """
    kind = getattr(analysis, "kind", "")
    notes = []
    for name in dict.fromkeys(analysis.other_experiments()):
        others = {model.title: model for model, _ in context.other_experiments[name]}
        if models and not any(model.title in others for model in models):
            raise UserError(
                f"{kind} finds no model of {name} with a title of this experiment: there are {', '.join(others)}, here "
                f"{', '.join(model.title for model in models)}; give the same model the same title"
            )
        notes += [
            f"{kind} compares {model.title} with nothing in {name}, which has no model of this title"
            for model in models
            if model.title not in others
        ]
        notes += [
            f"{kind} compares {model.title} with nothing in {name}: it has {width(model)} features here and "
            f"{width(others[model.title])} there"
            for model in models
            if model.title in others and width(model) != width(others[model.title])
        ]
    return notes
