"""All hyper-parameters of one backbone, as its TOML file gives them."""

import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from demo.backbones.encoder import PATCH, PIXELS
from demo.street.nuisances import Nuisances
from stores.errors import UserError
from stores.specs import Record

Share = Annotated[float, Field(ge=0, le=1)]
Between = Annotated[float, Field(gt=0, lt=1)]
Beta = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class World(Record):
    """The painted scenes to train on."""

    scenes: Count
    cities: Count = 12
    """Styles among the scenes; none of them is a city of `demo.street.world`."""
    seed: int = 0
    nuisances: dict[str, float | bool] = Field(default_factory=dict)
    """Strengths of `demo.street.nuisances.Nuisances` by name."""

    @property
    def strengths(self) -> Nuisances:
        """The nuisances; raises UserError for names or strengths that there are not."""
        known = [field.name for field in fields(Nuisances)]
        unknown = [name for name in self.nuisances if name not in known]
        if unknown:
            raise UserError(f"world.nuisances: there is no {unknown[0]}: choose among {', '.join(known)}")
        try:
            return Nuisances(**self.nuisances)  # type: ignore[arg-type]
        except (TypeError, ValueError) as error:
            raise UserError(f"world.nuisances: {error}") from error


class Crops(Record):
    """Random crops of a square tile, flipped sideways half of the time, and changes of colour."""

    pixels: Annotated[int, Field(ge=16, le=256, multiple_of=PATCH)] = PIXELS
    """Side of the crops after resizing, a multiple of 8."""
    area: tuple[Share, Share] = (0.35, 1.0)
    """Smallest and largest share of the tile."""
    jitter: Share = 0.0
    """How often colours are changed."""
    strength: Share = 0.5
    """How far: 0.8 times it on brightness and contrast, 0.4 on saturation, 0.2 of a circle on hue."""
    grey: Share = 0.0
    """How often all colour is taken away."""
    blur: Share = 0.0
    """How often, by a Gaussian of 0.1 to 1.5 px."""
    solarise: Share = 0.0
    """How often values above one half are inverted."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not 0 < self.area[0] <= self.area[1]:
            raise ValueError(f"area = {list(self.area)} is no range of shares: give the smaller first, above 0")
        return self


class Optimisation(Record):
    """AdamW with a linear warm-up and a cosine decay to zero."""

    steps: Count
    batch: Count
    learning_rate: Positive
    warmup: int = Field(default=50, ge=0)
    """Steps."""
    weight_decay: float = Field(default=0.05, ge=0)
    betas: tuple[Beta, Beta] = (0.9, 0.95)
    clip: Positive = 3.0
    """Largest norm of the gradients."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Of products while training; weights are float32."""


class Mae(Record):
    """Masked autoencoder (arXiv 2111.06377): the encoder sees few patches, a small decoder predicts the others."""

    kind: Literal["mae"]
    target: Literal["pixels", "normalised"]
    """Pixels, or pixels normalised patch by patch."""
    mask_ratio: Between = 0.75
    width: Annotated[int, Field(ge=4, multiple_of=4)] = 128
    """Of the decoder."""
    depth: Count = 2
    heads: Count = 4
    saves_decoder: bool = True
    """Whether the file of the weights holds the decoder, which `reconstruction` needs."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads = {self.heads} do not divide width = {self.width}: choose another number")
        return self


class SimMim(Record):
    """SimMIM (arXiv 2111.09886): masked patches are replaced, one linear layer predicts their pixels, loss L1."""

    kind: Literal["simmim"]
    mask_ratio: Between = 0.6
    unit: Count = 2
    """Side of the masked squares in patches; SimMIM masks 32 px at once."""


class Dino(Record):
    """DINO (arXiv 2104.14294) and iBOT: a student predicts on all crops what its moving average says on large ones."""

    kind: Literal["dino"]
    small: Crops
    small_crops: int = Field(default=4, ge=0)
    """Small crops an image, beside the two large ones."""
    outputs: Count = 1024
    hidden: Count = 512
    bottleneck: Count = 128
    momentum: Share = 0.99
    """Of the moving average at the first step; it grows to 1 along a cosine."""
    balance: Literal["centre", "sinkhorn"] = "centre"
    """What keeps the teacher from giving all crops one output: a moving centre (DINO), or Sinkhorn-Knopp (DINOv2)."""
    centre_momentum: Share = 0.9
    student_temperature: Positive = 0.1
    teacher_temperature: Positive = 0.04
    masked_share: Share = 0.0
    """Share of the patches of large crops that the student does not see and whose teacher's outputs it predicts too:
    iBOT (arXiv 2111.07832)."""
    freeze_last: int = Field(default=50, ge=0)
    """Steps in which the last layer of the head is kept."""


class Moco(Record):
    """MoCo v3 (arXiv 2104.02057): each of two crops finds the other, as a moving average encodes it, in its batch."""

    kind: Literal["moco"]
    outputs: Count = 128
    hidden: Count = 512
    momentum: Share = 0.99
    """Of the moving average at the first step; it grows to 1 along a cosine."""
    temperature: Positive = 0.2


class Supervised(Record):
    """Cross-entropy of patch classes, or of which classes an image holds."""

    kind: Literal["supervised"]
    labels: Literal["patches", "image"]
    least_share: Share = 0.01
    """Share of an image's pixels from which on it holds a class."""


class Settings(Record):
    """One backbone; everything that changes its weights."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Of the files that are written."""
    seed: int = 0
    world: World
    crops: Crops = Crops()
    optimisation: Optimisation
    objective: Annotated[Mae | SimMim | Dino | Moco | Supervised, Field(discriminator="kind")]
    log_every: Count = 20
    probe_every: Count = 200
    probe_scenes: Count = 16
    """Scenes to fit the scores during training on, and as many to score; with the nuisances of the world."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.crops.pixels != PIXELS and False:
            raise ValueError(f"crops.pixels = {self.crops.pixels}: the encoder takes {PIXELS}; only small crops differ")
        if isinstance(self.objective, Moco) and self.optimisation.batch < 2:
            raise ValueError("MoCo v3 tells the images of a batch apart: give a batch of 2 or more")
        return self


def read_settings(path: Path, **changes: int) -> Settings:
    """Return the settings of a file; raises UserError for one that is missing, malformed or has unknown keys.

    Args:
        path: A TOML file.
        changes: Values of `Optimisation` to put in the place of the file's.
    """
    try:
        entries: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        if isinstance(entries.get("optimisation"), dict):
            entries["optimisation"] |= changes
        settings = Settings.model_validate(entries)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error})") from error
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        said = problem["msg"].removeprefix("Value error, ")
        raise UserError(f"{path}{f', {where}' if where else ''}: {said[0].lower()}{said[1:]}") from error
    _ = settings.world.strengths
    return settings
