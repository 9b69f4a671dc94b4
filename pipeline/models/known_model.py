"""The record of a known model: architecture, training data, licence and official file."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Three = tuple[float, float, float]

IMAGENET_MEAN: Three = (0.485, 0.456, 0.406)
IMAGENET_STD: Three = (0.229, 0.224, 0.225)
HALF: Three = (0.5, 0.5, 0.5)


@dataclass(frozen=True, kw_only=True)
class KnownModel:
    """One model of the table of known models."""

    name: str
    family: str
    """The file in pipeline/models that reads its official weights."""
    architecture: str
    """timm's name of the architecture."""
    patch: int = 16
    """Side of a patch in pixels."""
    width: int
    depth: int = 12
    heads: int
    n_prefix: int = 1
    """Class token and registers."""
    trained_on: str = "ImageNet-1k"
    augmentations: str
    licence: str
    """Licence of the weights."""
    file: str
    """Name of the official file, as a pattern."""
    source: str
    """Repository or page that offers it."""
    tag: str | None = None
    """timm name under which ``weights = "pretrained"`` loads the same weights; None if timm does not have them."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Passed to the architecture."""
    mean: Three = IMAGENET_MEAN
    std: Three = IMAGENET_STD
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    shipped: bool = False
    """Whether ``weights = "shipped"`` loads a file that comes with the project."""
    position_embedding: Literal["timm", "hub"] = "timm"
    """Default way of resampling position embeddings to other grids."""

    def canonical(self) -> dict[str, Any]:
        """Return the row as plain JSON values."""
        return asdict(self)
