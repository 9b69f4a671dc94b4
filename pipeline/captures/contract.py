"""The contract of a capture: the arrays it stores, the points it reads, and how a batch becomes rows of the arrays."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch

from pipeline.captures.points import OUTPUT, Point, Take
from pipeline.models.contract import FrozenModel
from pipeline.recipe import FeatureRecipe
from stores.specs import ArraySpec


class Capture(ABC):
    """Reads points of a model while it runs on a batch and keeps rows of its arrays; one object serves one pass.

    A row must depend on its own input alone, or, where `rows_together` is larger than 1, on the rows of its group.
    """

    group: ClassVar[str]
    """First part of the addresses of its arrays."""

    def __init__(self, model: FrozenModel, arrays: Sequence[ArraySpec]) -> None:
        self.model = model
        self.arrays = tuple(arrays)
        self.values: dict[str, torch.Tensor] = {}
        """Rows of the batch by address, in the arrays' data types."""
        self.size = (0, 0)
        """Height and width of the batch's inputs, in pixels."""
        self.rows: Sequence[int] = ()
        """Numbers of the batch's rows; what follows them in a tensor only pads the batch."""

    @classmethod
    @abstractmethod
    def wanted(cls, model: FrozenModel, features: FeatureRecipe, layers: Sequence[int]) -> list[ArraySpec]:
        """Return the arrays that an experiment asks for, none where it does not; raises UserError.

        Args:
            model: The model.
            features: Arrays to keep.
            layers: Those of its layers that are kept, increasing.
        """

    @abstractmethod
    def takes(self) -> Mapping[Point, Take]:
        """Return what is called with the tensor of each point that is read."""

    def begin(self, rows: Sequence[int], size: tuple[int, int]) -> None:
        """Begin a batch: ``rows`` are its row numbers, ``size`` the height and width of its inputs in pixels."""
        self.rows, self.size = rows, size
        self.values = {}

    def keep(self, array: ArraySpec, values: torch.Tensor) -> None:
        """Keep the rows of one array in its data type."""
        self.values[array.name] = values.to(getattr(torch, array.dtype)).contiguous()


def rows_together(array: ArraySpec) -> int:
    """Return how many consecutive rows are computed together, counted from row 0; 1 for almost all arrays."""
    together = array.attributes.get("rows_together", 1)
    return int(together) if isinstance(together, int) else 1


def patch_tokens(model: FrozenModel, tokens: torch.Tensor) -> torch.Tensor:
    """Return tokens ``sample patch channel`` in float32, without the prefix tokens."""
    return tokens[:, model.n_prefix :].float()


def facts(point: Point) -> dict[str, str | int | float | bool | None]:
    """Return what the arrays of a point say of it."""
    return {"layer": point.layer, "norm": None, "point": point.part, "depth": point.depth}


def point_of(array: ArraySpec) -> Point:
    """Return the point that an array is read at."""
    return Point(array.layer or 0, str(array.attributes["point"]))


def array_name(model: FrozenModel, point: Point) -> str:
    """Return the second part of the address of an array of a point: ``block.3.mlp`` or ``stage.2``."""
    return model.layers[point.layer].name if point.part == OUTPUT else point.name
