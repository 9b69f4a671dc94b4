"""The table of captures, and the arrays that an experiment keeps of a model."""

from pipeline.captures import layer_tokens, masked
from pipeline.captures.attention import Attention
from pipeline.captures.contract import Capture
from pipeline.captures.covariances import Covariances
from pipeline.captures.frequency import Frequency
from pipeline.captures.grams import Grams
from pipeline.captures.sublayers import Sublayers
from pipeline.captures.token_statistics import TokenStatistics
from pipeline.models.contract import FrozenModel
from pipeline.recipe import FeatureRecipe, Layers
from stores.errors import UserError
from stores.specs import ArraySpec

REVISION = 1
"""Increased when the same model and pixels give other stored tokens; other captures have revisions of their own."""

CAPTURES: tuple[type[Capture], ...] = (Sublayers, Attention, Frequency, TokenStatistics, Covariances, Grams)
"""Captures that read points of a pass, beside the outputs of layers and masked inputs."""


def wanted_arrays(model: FrozenModel, features: FeatureRecipe) -> tuple[ArraySpec, ...]:
    """Return the arrays a recipe keeps of a model, inner layers first; raises UserError for layers it lacks."""
    layers = _numbers(model, features.layers, "layers")
    whole = [] if features.tokens == "none" else _numbers(model, features.tokens, "tokens")
    arrays = layer_tokens.wanted(model, features, layers, whole) + masked.wanted(model, features)
    for capture in CAPTURES:
        arrays += capture.wanted(model, features, layers)
    if not arrays:
        raise UserError(
            f"nothing is kept of {model.record.name}: `tokens` in [features] names none of the layers and the model "
            "has no prefix tokens to keep; change `tokens`, or set means = true"
        )
    return tuple(arrays)


def _numbers(model: FrozenModel, wanted: Layers, key: str) -> list[int]:
    """Return the layers that a key of [features] names, increasing; raises UserError for those the model lacks."""
    n_layers = len(model.layers)
    if wanted == "all":
        return list(range(n_layers))
    numbers = sorted({layer % n_layers if -n_layers <= layer < n_layers else layer for layer in wanted})
    if numbers and not 0 <= numbers[0] <= numbers[-1] < n_layers:
        wrong = next(number for number in numbers if not 0 <= number < n_layers)
        kind = model.layers[0].name.partition(".")[0]
        raise UserError(
            f"{model.record.name} has {n_layers} {kind}s, numbered 0 to {n_layers - 1}, and no {kind} {wrong}: "
            f"change `{key}` in [features]"
        )
    return numbers
