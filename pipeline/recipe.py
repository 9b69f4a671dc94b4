"""What an experiment asks the pipeline to make: the data, the frame, the views, the models and the arrays."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from pipeline.source_choice import ALL_SOURCES, SourceChoice
from pipeline.views import CLEAN, AnyView, View
from stores.canonical import digest
from stores.specs import FrameSpec, Record

Channel = Annotated[int, Field(ge=0, le=255)]


class ManifestClass(Record):
    """One class of a manifest; its place in the list is its id in stored labels."""

    name: str = Field(min_length=1)
    """Name in figures and tables, and in the column `class`."""
    ids: tuple[Annotated[int, Field(ge=0, le=255)], ...] | None = None
    """Ids in mask files that mean this class; its place in the list, from 0, by default."""
    supercategory: str | None = None
    """Name of a group of classes; the class's own name by default."""
    colour: tuple[Channel, Channel, Channel] | None = None
    """Red, green, blue, 0..255; spread around the colour circle by default."""


class FewShot(Record):
    """A choice of rows that looks at labels; `[selection]` chooses among what is left."""

    unit: Literal["tiles", "images"]
    """``tiles`` takes, for every class in the order of the class table, tiles that show enough of an object of it
    (paper A, FAIR1M); ``images`` takes, for every class from the rarest on, images that contain it (paper A,
    ADE20K). What is taken for one class is gone for the next. Difficult and ignored objects count too."""
    per_class: dict[str, Annotated[int, Field(ge=1)]] = Field(min_length=1)
    """How many for each class, by split, such as ``{ train = 4, val = 2 }``; other splits are left out. A class that
    has fewer gets all there are."""
    share: float = Field(default=1 / 3, gt=0, le=1)
    """Share of an object's area that a tile must show, for ``tiles``."""
    seed: int = Field(default=0, ge=0)
    """Decides which tiles or images come first."""


class DatasetRecipe(Record):
    """Which images, read by which reader."""

    name: str
    """Name of the layout; `patchbank datasets` lists them."""
    folder: str | None = None
    """Folder below the data root (``--data`` or ``PATCHBANK_DATA``); the official names that `patchbank datasets`
    lists by default, for a manifest the data root."""
    file: str | None = None
    """For ``manifest``: a CSV or Parquet file in the folder, with the column image (a path relative to the folder)
    and any of mask, class, group, split, video, frame."""
    classes: tuple[ManifestClass, ...] = ()
    """For ``manifest``: the classes, as `[[dataset.classes]]` tables; needed for masks. Without them the classes are
    the sorted names in the column class."""
    void_ids: tuple[Annotated[int, Field(ge=0, le=255)], ...] = (255,)
    """For ``manifest``: ids in mask files that mean unlabelled."""
    licence: str | None = None
    """Terms of use of the data, in one line, where they are not those of the official data set."""
    few_shot: FewShot | None = None
    """A `[dataset.few_shot]` table: a choice of rows that looks at labels; none takes all."""
    bad_samples: Literal["stop", "keep-invalid"] = "stop"
    """What becomes of an image that cannot be decoded or is smaller than its tile, or whose label is missing or
    broken: ``stop`` the run, or ``keep-invalid``, which keeps its rows, marked invalid with the reason; every analysis
    leaves them out and counts them. More than 1 % bad images, and more than one, stop the run all the same.
    ``keep-invalid`` decodes every image once before the model sees the first; `plan` does so too and remembers
    nothing. A choice by `few_shot`, which reads labels before there are rows, leaves images with a bad one
    out under ``keep-invalid``, at most as many, and says so."""

    @model_validator(mode="after")
    def _manifest_keys(self) -> "DatasetRecipe":
        if self.name == "manifest" and self.file is None:
            raise ValueError('name = "manifest" needs file = "photos.csv" or the like')
        if self.name != "manifest" and (self.file is not None or self.classes or self.void_ids != (255,)):
            raise ValueError('file, classes and void_ids belong to name = "manifest"')
        names = [one.name for one in self.classes]
        ids = [*self.void_ids, *(one for group in self.mask_ids for one in group)]
        for what, values in (("name", names), ("mask id", ids)):
            twice = next((value for index, value in enumerate(values) if value in values[:index]), None)
            if twice is not None:
                raise ValueError(f"the {what} {twice!r} is given twice in classes and void_ids")
        return self

    def canonical(self) -> dict[str, Any]:
        """Return what the rows depend on as plain JSON values; ``bad_samples = "stop"``, added late, stays out."""
        without = {"licence"} | ({"bad_samples"} if self.bad_samples == "stop" else set())
        return self.model_dump(mode="json", exclude=without)

    @property
    def mask_ids(self) -> tuple[tuple[int, ...], ...]:
        """The ids in mask files of every class, defaults resolved."""
        return tuple((place,) if one.ids is None else one.ids for place, one in enumerate(self.classes))


_BESIDE_THE_FEATURES = {"title", "licence", "probe_batchnorm", "role", "decoder"}
"""What an experiment says of a model and no feature depends on."""

OWN = "own"
"""What stands for the weights of a module that a user brings along in Python."""


Role = Literal["mae", "simmim", "dino", "dinov2", "ibot", "supervised", "scale-mae", "random", "none"]
"""The roles that evaluate.claims.roles explains; a test holds the two together."""


class DecoderRecipe(Record):
    """MAE's decoder, which ``reconstruction`` asks for: what a model's file does not tell. It changes no feature."""

    target: Literal["pixels", "normalised"] = "pixels"
    """What it was trained to predict: ``pixels`` (``mae_visualize_vit_*.pth``), or pixels ``normalised`` patch by patch
    (``mae_pretrain_vit_*_full.pth``)."""
    heads: int = Field(default=16, ge=1)
    """Attention heads; 16 in all official decoders."""
    width: int = Field(default=512, ge=4, le=8192)
    """Channels of a token, for random weights; a file tells its own."""
    depth: int = Field(default=8, ge=1, le=128)
    """Number of blocks, for random weights; a file tells its own."""


class ModelRecipe(Record):
    """One frozen model."""

    name: str
    """A known short name such as `mae-base`, or a timm name with or without a tag; `patchbank models` lists both."""
    weights: str = "pretrained"
    """``pretrained`` (timm's weights for the name), ``random`` (drawn from ``seed``), a path to a safetensors or torch
    file, relative to the experiment file (official files are read as their authors saved them), or ``own`` for a module
    that is extracted from Python."""
    seed: int = Field(default=0, ge=0)
    """Seed of random weights; ignored otherwise."""
    title: str | None = None
    """Name in figures and tables; the model's name by default."""
    licence: str | None = None
    """Terms of use of the weights, in one line; by default what is known of the official ones."""
    arguments: dict[str, str | int | float | bool] = Field(default_factory=dict)
    """Passed to the architecture, for example ``class_token = false``."""
    position_embedding: Literal["timm", "hub"] | None = None
    """How position embeddings come to another grid: ``timm`` (bicubic, antialiased) or ``hub`` (bicubic, not
    antialiased, offset 0.1, as DINO and DINOv2 do); by default hub for `dinov2-small`, `-base`, `-large`, else timm."""
    mean: tuple[float, float, float] | None = None
    """Mean of red, green and blue in 0..1, instead of the model's own; for example the data set's."""
    std: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] | None = (
        None
    )
    """Standard deviation of red, green and blue in 0..1, instead of the model's own."""
    probe_batchnorm: bool | None = None
    """Whether probes of this model standardise features; by default only MAE models do (paper A, section 4)."""
    role: Role | None = None
    """Whose part the model plays where the papers' claims are put to the test; by default known names say so, drawn
    weights play ``random`` (the control), and other models play ``none``."""
    decoder: DecoderRecipe | None = None
    """What must be known of the model's decoder, for example ``{ target = "normalised" }``; asked for by
    ``reconstruction`` alone."""

    @property
    def standardised_probe(self) -> bool:
        """Whether probes standardise features, the default resolved."""
        is_mae = "mae" in self.name.partition(".")[2] or self.name.startswith("mae")
        return is_mae if self.probe_batchnorm is None else self.probe_batchnorm

    @property
    def effective_role(self) -> str | None:
        """The role that is said, or that random weights have; None leaves it to the model's name."""
        return self.role or ("random" if self.weights == "random" else None)

    @property
    def display(self) -> str:
        """Name in figures and tables."""
        return self.title or self.name


class MaskRecipe(Record):
    """MAE's masked input as a capture of its own: the last layer's normed tokens of the patches left visible."""

    ratio: float = Field(default=0.75, gt=0, lt=1)
    """Share of patches that are left out (0.75 is MAE's own)."""
    seed: int = Field(default=0, ge=0)
    """Which patches: drawn for every sample from this seed, its source's name and its tile box."""


class FeatureRecipe(Record):
    """Which arrays are kept and in which precision."""

    layers: Literal["all"] | Annotated[tuple[int, ...], Field(min_length=1)] = "all"
    """Blocks counted from 0; negative numbers count from the end."""
    norm: Literal["final", "none", "both"] = "final"
    """Keep each layer through the model's final norm, as it is, or both; stages have no such norm and are kept as
    they are."""
    prefix: bool = True
    """Keep prefix tokens (class token, registers) too."""
    input_pixels: bool = False
    """Also keep the clean inputs as 8-bit pixels beside the labels, for pictures and ``reconstruction``."""
    masked: MaskRecipe | None = None
    """Also keep what the encoder makes of a masked input, for example ``{ ratio = 0.75, seed = 0 }``."""
    compute_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision the model runs in."""
    store_dtype: Literal["float16", "float32"] = "float16"
    """Precision on disk; a value beyond float16 stops the run."""
    dead_features: Literal["stop", "count"] = "stop"
    """What becomes of a layer with dead features, channels that have one value in every patch of every valid sample:
    ``stop`` before it is sealed, or ``count`` them, which `patchbank show` prints. NaN and infinite values always stop
    the run."""
    clean: bool = True
    """Extract the images as they are; without them only [[views]] are made, which nothing can be compared with."""


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
    views: tuple[AnyView, ...] = ()
    storage: StorageRecipe = StorageRecipe()

    @field_validator("models")
    @classmethod
    def _titles_differ(cls, models: tuple[ModelRecipe, ...]) -> tuple[ModelRecipe, ...]:
        titles = [model.display for model in models]
        twice = sorted({title for title in titles if titles.count(title) > 1})
        if twice:
            raise ValueError(f"two models are called {twice[0]!r}: give one of them a title")
        return models

    @field_validator("views")
    @classmethod
    def _levels_differ(cls, views: tuple[AnyView, ...]) -> tuple[AnyView, ...]:
        named = [(view.name, level) for view in views for level in view.all_levels()]
        twice = sorted({one for one in named if named.count(one) > 1})
        if twice:
            raise ValueError(f"the view {twice[0][0]} is asked for twice at level {twice[0][1]:g}: remove one")
        return views

    def shown(self) -> Iterator[tuple[View, FeatureRecipe]]:
        """Yield every view at every level with the arrays that are kept of it, the clean one first.

        Raises UserError when the frame does not allow a view.
        """
        if self.features.clean:
            yield CLEAN, self.features
        for settings in self.views:
            changes: dict[str, Any] = {"layers": settings.layers, "norm": settings.norm or self.features.norm}
            changes |= {"masked": None, "input_pixels": False}
            for level in settings.all_levels():
                yield settings.at(level, self.frame), self.features.model_copy(update=changes)

    def model_key(self, model: ModelRecipe, choice: SourceChoice = ALL_SOURCES, view: View = CLEAN) -> str:
        """Return the digest that stands for one model and view under this recipe, whatever arrays it asks for.

        It is how `evaluate` finds sets without images or models: `extract` notes under this key which sets it made.
        """
        key = {
            "dataset": self.dataset.canonical(),
            "frame": self.frame.canonical(),
            "model": model.model_dump(mode="json", exclude=_BESIDE_THE_FEATURES, exclude_none=True),
            "compute_dtype": self.features.compute_dtype,
            "store_dtype": self.features.store_dtype,
            "pool": choice.key,
        }
        return digest(key if view is CLEAN else {**key, "view": view.spec.canonical()})
