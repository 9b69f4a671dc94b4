"""What an experiment asks the pipeline to make: the data, the frame, the models and the arrays."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from stores.canonical import digest
from stores.specs import FrameSpec, Record


class DatasetRecipe(Record):
    """Which images, read by which reader."""

    name: str
    """Name of the layout; `patchbank datasets` lists them."""
    folder: str | None = None
    """Folder below the data root (``--data`` or ``PATCHBANK_DATA``); the layout's name by default."""


class ModelRecipe(Record):
    """One frozen model."""

    name: str
    """A timm name, with or without a tag; `patchbank models` lists some."""
    weights: str = "pretrained"
    """``pretrained`` (timm's weights for the name), ``random`` (drawn from ``seed``), or a path to a safetensors or
    torch file, relative to the experiment file."""
    seed: int = Field(default=0, ge=0)
    """Seed of random weights; ignored otherwise."""
    title: str | None = None
    """Name in figures and tables; the model's name by default."""
    arguments: dict[str, str | int | float | bool] = Field(default_factory=dict)
    """Passed to the architecture, for example ``class_token = false``."""
    probe_batchnorm: bool | None = None
    """Whether probes of this model standardise features; by default only MAE models do (paper A, section 4)."""

    @property
    def standardised_probe(self) -> bool:
        """Whether probes standardise features, the default resolved."""
        is_mae = "mae" in self.name.partition(".")[2] or self.name.startswith("mae")
        return is_mae if self.probe_batchnorm is None else self.probe_batchnorm

    @property
    def display(self) -> str:
        """Name in figures and tables."""
        return self.title or self.name


class FeatureRecipe(Record):
    """Which arrays are kept and in which precision."""

    layers: Literal["all"] | Annotated[tuple[int, ...], Field(min_length=1)] = "all"
    """Blocks counted from 0; negative numbers count from the end."""
    norm: Literal["final", "none", "both"] = "final"
    """Keep each layer through the model's final norm, as it is, or both."""
    prefix: bool = True
    """Keep prefix tokens (class token, registers) too."""
    compute_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision the model runs in."""
    store_dtype: Literal["float16", "float32"] = "float16"
    """Precision on disk; a value beyond float16 stops the run."""


class StorageRecipe(Record):
    """How sets are cut and compressed; changes bytes on disk, never a number."""

    range_megabytes: float = Field(default=64.0, gt=0, le=4096)
    """Largest size of one range of the largest array, in MiB: a kill costs at most the ranges in flight."""
    compression: Literal["none", "zstd"] = "none"
    """Codec of the chunks; float features hardly compress."""


class Recipe(Record):
    """Everything `patchbank extract` needs to know."""

    dataset: DatasetRecipe
    frame: FrameSpec
    models: Annotated[tuple[ModelRecipe, ...], Field(min_length=1)]
    features: FeatureRecipe = FeatureRecipe()
    storage: StorageRecipe = StorageRecipe()

    @field_validator("models")
    @classmethod
    def _titles_differ(cls, models: tuple[ModelRecipe, ...]) -> tuple[ModelRecipe, ...]:
        titles = [model.display for model in models]
        twice = sorted({title for title in titles if titles.count(title) > 1})
        if twice:
            raise ValueError(f"two models are called {twice[0]!r}: give one of them a title")
        return models

    def model_key(self, model: ModelRecipe, pool: object) -> str:
        """Return the digest that stands for one model under this recipe, whatever arrays it asks for.

        It is how `evaluate` finds sets without images or models: `extract` notes under this key which sets it made.
        ``pool`` says which images were chosen, in plain JSON values.
        """
        return digest(
            {
                "dataset": self.dataset.canonical(),
                "frame": self.frame.canonical(),
                "model": model.model_dump(mode="json", exclude={"title", "probe_batchnorm"}),
                "compute_dtype": self.features.compute_dtype,
                "store_dtype": self.features.store_dtype,
                "pool": pool,
            }
        )
