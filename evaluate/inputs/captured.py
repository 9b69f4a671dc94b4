"""Arrays that were captured inside a model while it ran: which a set has, at which point of which block."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, Shaped

from evaluate.inputs.model_sets import ModelSets
from evaluate.settings import Layers
from stores.errors import MissingError


@dataclass(frozen=True)
class CapturedArray:
    """One captured array of a model."""

    address: str
    layer: int
    """Block or stage, counted from 0."""
    point: str
    """Where in the block: ``output``, ``attention-residual``, ``embedding`` and so on."""
    depth: float
    """Blocks that were passed: 0 for the embedding, 0.5 after the first attention, 1 after the first block."""
    tokens: str
    """Which tokens a Gram matrix is of, ``patches`` or ``prefix``; empty for other arrays."""
    statistics: tuple[str, ...]
    """Names of what lies along the axis ``statistic``; empty for arrays without one."""

    def place(self, statistic: str) -> int:
        """Return the place of a statistic along its axis; raises ValueError where the array lacks it."""
        return self.statistics.index(statistic)


def has_blocks(model: ModelSets) -> bool:
    """Return whether the stored layers of a model are transformer blocks; backbones of stages have none."""
    return any(address.partition("/")[2].startswith("block.") for address in model.features.arrays)


def capturing(
    models: Sequence[ModelSets], group: str, points: Sequence[str] | None = None
) -> tuple[list[ModelSets], list[ModelSets]]:
    """Return the models that an analysis of a capture reads, and those that it leaves out beside them.

    Left out are backbones of stages of which there is none of the capture's arrays, or none at the points, since they
    have other captures than transformers; with nothing else to read none is, so that the reader says what is missing.

    Args:
        models: Stored sets of the models.
        group: First part of the arrays' addresses, such as ``frequency``.
        points: Points of the arrays that are read; None for every one.
    """

    def has_some(model: ModelSets) -> bool:
        arrays = [one for one in model.features.arrays.values() if one.group == group]
        return any(points is None or one.attributes.get("point") in points for one in arrays)

    left_out = [model for model in models if not has_blocks(model) and not has_some(model)]
    if len(left_out) == len(models):
        return list(models), []
    titles = {model.title for model in left_out}
    return [model for model in models if model.title not in titles], left_out


def captured_arrays(
    model: ModelSets,
    group: str,
    capture: str,
    *,
    layers: Layers = "all",
    points: Sequence[str] | None = None,
    suffix: str = "",
) -> list[CapturedArray]:
    """Return the sealed arrays of a capture, by depth; raises MissingError with what makes those that are not there.

    Args:
        model: The model's sets.
        group: First part of the arrays' addresses, such as ``attention``.
        capture: Its name in ``captures`` of [features], for the message.
        layers: ``all`` captured layers, or numbers; negative ones count from the last captured.
        points: Points to keep; None keeps every one.
        suffix: What the addresses end with, where a capture has several arrays a layer.
    """
    found: list[CapturedArray] = []
    for address, array in model.features.arrays.items():
        facts = array.attributes
        if array.group != group or not address.endswith(suffix) or (not suffix and address.endswith(".class")):
            continue
        depth = facts.get("depth")
        found.append(
            CapturedArray(
                address,
                array.layer or 0,
                str(facts.get("point") or "kernel"),
                float((array.layer or 0) + 0.5) if depth is None else float(depth),
                str(facts.get("tokens") or ""),
                tuple(str(facts.get("statistics") or "").split()),
            )
        )
    numbers = sorted({one.layer for one in found})
    if found and layers != "all":
        wanted = {numbers[layer] if -len(numbers) <= layer < 0 else layer for layer in layers}
        found = [one for one in found if one.layer in wanted]
        lacking_layers = sorted(wanted - {one.layer for one in found})
        if lacking_layers:
            raise MissingError(
                f'{model.title} has no captured arrays of layer {lacking_layers[0]} of "{capture}" that are complete, '
                f"only of {', '.join(map(str, numbers))}: add it to `captures`, and the layer to `layers`, in "
                f"[features] and run `{model.extract_command}`, or change `layers` of the analysis"
            )
    if points is not None:
        lacking = [point for point in points if point not in {one.point for one in found}]
        if lacking:
            raise MissingError(_missing(model, f'at "{lacking[0]}" ', capture, points))
        found = [one for one in found if one.point in points]
    if not found or not all(model.features.sealed(one.address) for one in found):
        raise MissingError(_missing(model, "", capture, points))
    return sorted(found, key=lambda one: (one.depth, one.address))


def _missing(model: ModelSets, what: str, capture: str, points: Sequence[str] | None) -> str:
    also = f", and the points {', '.join(points)} to `capture_points`," if points else ""
    return (
        f'{model.title} has no captured arrays {what}of "{capture}" that are complete: add it to `captures`{also} in '
        f"[features], or in its [[models]] table where that has the key, and run `{model.extract_command}`"
    )


def captured_rows(
    model: ModelSets, address: str, rows: Sequence[int] | Int64[np.ndarray, " row"]
) -> Shaped[np.ndarray, "row ..."]:
    """Return some rows of a captured array, read chunk by chunk and compared with their seals."""
    return np.asarray(model.features[address][np.asarray(rows)])
