"""Extraction settings of an experiment: data set, frame, views, models and arrays to keep."""

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from pipeline.dataset_recipe import DatasetRecipe
from pipeline.frame_recipe import Frame, Interpolation
from pipeline.source_choice import ALL_SOURCES, SourceChoice
from pipeline.views import CLEAN, AnyView, View
from stores.canonical import digest
from stores.errors import UserError
from stores.specs import Record

Layers = Literal["all"] | Annotated[tuple[int, ...], Field(min_length=1)]
Capture = Literal["attention", "class-attention", "frequency", "token-statistics", "covariances", "grams"]
"""Names of ``captures`` in [features]; pipeline/captures has one file for each."""
CapturePoint = Literal["embedding", "norm1", "attention", "ls1", "attention-residual", "norm2", "mlp", "ls2", "output"]
"""Names of ``capture_points`` in [features]; pipeline/captures/points.py explains them."""
Sublayer = Literal[
    "embedding", "norm1", "attention", "ls1", "attention-residual", "norm2", "mlp", "ls2",
    "query", "key", "value", "heads",
]  # fmt: skip
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]

_OWN_FEATURES = {"layers", "captures", "capture_points", "sublayers"}
"""Settings of a model that take the place of those of [features]."""
_BESIDE_THE_FEATURES = {"title", "licence", "probe_batchnorm", "role", "decoder"} | _OWN_FEATURES
"""Settings of a model on which no feature depends."""

SMALLEST_MEGABYTES = 0.001
"""Smallest size of ranges and chunks that can be asked for, in MiB: 1 KiB, less than a row of most arrays. A smaller
number is a mistake (bytes or GiB in place of MiB), and would make one object a row."""

OWN = "own"
"""Value of ``weights`` for a module that is passed in from Python."""


Role = Literal[
    "mae", "simmim", "dino", "dinov2", "ibot", "mocov3", "mae-finetuned", "supervised", "scale-mae", "random", "none"
]  # fmt: skip
"""Roles of models in the paper's claims; evaluate.claims.roles explains them, and a test compares both lists."""


class DecoderRecipe(Record):
    """Settings of MAE's decoder that no file tells, for ``reconstruction``. They change no feature."""

    target: Literal["pixels", "normalised"] = "pixels"
    """Prediction target: ``pixels`` (``mae_visualize_vit_*.pth``), or pixels ``normalised`` patch by patch
    (``mae_pretrain_vit_*_full.pth``)."""
    heads: int = Field(default=16, ge=1)
    """Attention heads; 16 in all official decoders."""
    width: int = Field(default=512, ge=4, le=8192)
    """Channels of a token, for random weights only."""
    depth: int = Field(default=8, ge=1, le=128)
    """Number of blocks, for random weights only."""


class ModelRecipe(Record):
    """One frozen model."""

    name: str
    """A known short name such as `mae-base`, or a timm name with or without a tag; `patchbank models` lists both."""
    weights: str = "pretrained"
    """``pretrained`` (timm's weights for the name), ``random`` (from ``seed``), ``shipped`` (demonstration models), a
    path of a safetensors or torch file, relative to the experiment file (official ones are read as published), or
    ``own`` for a module that is extracted from Python."""
    key_prefix: str | None = None
    """What the keys of the weights begin with in a file of several: the keys of the dictionaries above a tensor and its
    own, joined with dots, such as ``state_dict.model.``; by default the prefix that leaves the module's own keys."""
    use_ema: bool | None = None
    """Whether to read the moving average (ema) of the weights; a file that holds both asks for it."""
    seed: int = Field(default=0, ge=0)
    """Seed of random weights."""
    title: str | None = None
    """Name in figures and tables; by default the model's name."""
    layers: Layers | None = None
    """Layers to keep of this model's clean view, instead of those of [features]: for models of different depths."""
    captures: tuple[Capture, ...] | None = None
    """Captures of this model instead of those of [features]: backbones with stages have no ``attention``."""
    capture_points: Annotated[tuple[CapturePoint, ...], Field(min_length=1)] | None = None
    """Points of this model instead of those of [features]: backbones with stages have the ``output`` alone."""
    sublayers: tuple[Sublayer, ...] | None = None
    """Tensors inside this model's blocks instead of those of [features]; ``[]`` keeps none."""
    licence: str | None = None
    """Terms of use of the weights, in one line; by default those known of the official weights."""
    arguments: dict[str, str | int | float | bool] = Field(default_factory=dict)
    """Arguments of the architecture's class, for example ``class_token = false``; none may load a file."""
    position_embedding: Literal["timm", "hub"] | None = None
    """How position embeddings are resampled to another grid: ``timm`` (bicubic, antialiased) or ``hub`` (bicubic, not
    antialiased, offset 0.1, as DINO's, iBOT's and DINOv2's own codes do); by default hub for these families, DINOv2
    with registers excepted, else timm."""
    interpolation: Interpolation | None = None
    """Filter that resizes images for this model, instead of [frame]'s and the model's own."""
    mean: tuple[Finite, Finite, Finite] | None = None
    """Mean of red, green and blue in 0..1, instead of the model's own; for example the data set's."""
    std: tuple[Positive, Positive, Positive] | None = None
    """Standard deviation of red, green and blue in 0..1, instead of the model's own."""
    probe_batchnorm: bool | None = None
    """Whether probes of this model standardise features; by default only for MAE models (paper A, section 4)."""
    role: Role | None = None
    """Role of this model in the papers' claims; inferred from known names by default. Random weights have the role
    ``random`` (the control), other models ``none``."""
    decoder: DecoderRecipe | None = None
    """Settings of the model's decoder, for example ``{ target = "normalised" }``; used by ``reconstruction`` only."""

    @model_validator(mode="after")
    def _keys_of_files(self) -> "ModelRecipe":
        given = [key for key in ("key_prefix", "use_ema") if getattr(self, key) is not None]
        if given and self.weights in ("pretrained", "random", "shipped", OWN):
            raise ValueError(f"{given[0]} belongs to weights from a file")
        if not all(math.isfinite(value) for value in self.arguments.values() if isinstance(value, float)):
            raise ValueError("arguments must be finite numbers")
        return self

    @property
    def standardised_probe(self) -> bool:
        """Whether probes standardise features, with the default filled in."""
        is_mae = "mae" in self.name.partition(".")[2] or self.name.startswith("mae")
        return is_mae if self.probe_batchnorm is None else self.probe_batchnorm

    @property
    def effective_role(self) -> str | None:
        """The role that is set, or that of random weights; None means that the model's name decides."""
        return self.role or ("random" if self.weights == "random" else None)

    @property
    def display(self) -> str:
        """Name in figures and tables."""
        return self.title or self.name


class MaskRecipe(Record):
    """A second capture with MAE's masked input: the last layer's normed tokens of the visible patches."""

    ratio: float = Field(default=0.75, gt=0, lt=1)
    """Share of patches that are masked (0.75 in MAE)."""
    seed: int = Field(default=0, ge=0)
    """Seed of the choice of patches, which also depends on the sample's source name and tile box."""


class FeatureRecipe(Record):
    """The arrays to keep and their precision."""

    layers: Layers = "all"
    """Blocks counted from 0; negative numbers count from the end."""
    norm: Literal["final", "none", "both"] = "final"
    """Keep each layer after the model's final norm, without it, or both; backbones with stages have no such norm."""
    tokens: Layers | Literal["none"] = "all"
    """Those of ``layers`` whose patch tokens are kept, or ``none`` of them, where means or prefix tokens are enough."""
    prefix: bool = True
    """Also keep prefix tokens (class token, registers)."""
    means: bool = False
    """Also keep the mean of each input's patch tokens, taken in float32 on the device; a masked input has none."""
    deviations: bool = False
    """Also keep the standard deviation of each input's patch tokens beside their mean, with which features are ranked
    by variance where patch tokens are not kept."""
    input_pixels: bool = False
    """Also keep the clean model inputs as 8-bit pixels in the label set, for figures and ``reconstruction``. Further
    models of the same filter are given these, and no image is decoded for them."""
    masked: MaskRecipe | None = None
    """Also keep the encoder's tokens of a masked input, for example ``{ ratio = 0.75, seed = 0 }``."""
    captures: tuple[Capture, ...] = ()
    """Also keep what is computed while the model runs, of every layer in ``layers``: ``attention`` (distance, entropy
    and mutual information of every head's weights), ``class-attention`` (the class token's weights over the patches),
    ``frequency`` (Fourier amplitudes of the tokens), ``token-statistics`` (cosines over heads, positions and depth),
    ``covariances`` (of each input's patch tokens) and ``grams`` (products of rows, with which models are compared).
    They can be added to a set that is complete."""
    capture_points: Annotated[tuple[CapturePoint, ...], Field(min_length=1)] = ("output",)
    """Where in a block ``frequency``, ``covariances`` and ``grams`` are taken: ``output``, ``attention-residual`` (the
    sum after the attention), outputs of ``norm1``, ``attention``, ``ls1``, ``norm2``, ``mlp`` and ``ls2``, and once the
    ``embedding`` that enters the first block."""
    gram_rows: int = Field(default=32, ge=4, le=1024)
    """Rows of a minibatch of ``grams``, a power of two; two models can be compared where theirs are equal."""
    sublayers: tuple[Sublayer, ...] = ()
    """Also keep these tensors of every layer in ``layers`` as they are, for few images: points as in
    ``capture_points``, and ``query``, ``key``, ``value`` and ``heads`` (their outputs) of the attention."""
    compute_dtype: Literal["float32", "bfloat16", "bfloat16-autocast", "float16"] = "float32"
    """Precision the model runs in. ``bfloat16`` and ``float16`` round all of the model; ``bfloat16-autocast`` keeps
    norms and the sums between blocks in float32, which takes a quarter off the error."""
    compile: bool = False
    """Compile the model with ``torch.compile`` before the first batch, which takes a minute. It changes the last bits:
    the compute record says so, and a set goes on as it was begun."""
    store_dtype: Literal["float16", "float32"] = "float16"
    """Precision on disk; a value that exceeds float16 stops the run."""
    dead_features: Literal["stop", "count"] | None = None
    """How to treat a layer with dead features (channels that are constant over all patches of all valid samples):
    ``stop`` before it is sealed, or ``count`` them for `patchbank show`. By default maps of convolutional stages are
    counted, because a rectifier often leaves some channels at zero, and all others stop. NaN and infinite values
    always stop the run."""
    clean: bool = True
    """Extract the clean view. Without it only [[views]] are extracted, and there is nothing to compare them with."""

    @model_validator(mode="after")
    def _something_is_kept(self) -> "FeatureRecipe":
        if self.tokens == "none" and not (self.prefix or self.means or self.captures or self.sublayers):
            raise ValueError('tokens = "none" keeps nothing of a layer without prefix = true or means = true')
        if self.gram_rows & (self.gram_rows - 1):
            raise ValueError(f"gram_rows = {self.gram_rows} is no power of two, as the rows of a range are")
        if isinstance(self.tokens, tuple) and isinstance(self.layers, tuple) and min(*self.tokens, *self.layers) >= 0:
            others = sorted(set(self.tokens) - set(self.layers))
            if others:  # negative layers are known once the model is
                raise ValueError(f"tokens names layer {others[0]}, which layers leaves out: name it in both")
        if self.deviations and not self.means:
            raise ValueError("deviations = true needs means = true: a variance over images is made of both")
        return self


class StorageRecipe(Record):
    """Size of ranges and compression of chunks; they do not change any value."""

    range_megabytes: float = Field(default=64.0, ge=SMALLEST_MEGABYTES, le=4096)
    """Maximum size of a range of the largest array, in MiB (0.001 to 4096). A killed run loses at most the ranges being
    written."""
    chunk_megabytes: float = Field(default=8.0, ge=SMALLEST_MEGABYTES, le=1024)
    """Maximum size of a chunk, one stored object, in MiB (0.001 to 1024); larger chunks make fewer objects and coarser
    reads."""
    compression: Literal["none", "zstd"] = "none"
    """Codec of the chunks; float features compress little."""


class Recipe(Record):
    """The extraction settings of one experiment."""

    dataset: DatasetRecipe
    frame: Frame
    models: Annotated[tuple[ModelRecipe, ...], Field(min_length=1)]
    features: FeatureRecipe = FeatureRecipe()
    views: tuple[AnyView, ...] = ()
    storage: StorageRecipe = StorageRecipe()

    @model_validator(mode="after")
    def _one_interpolation(self) -> "Recipe":
        """Hand the frame's interpolation to the models that have none of their own."""
        if self.frame.interpolation is not None:
            changes = {"interpolation": self.frame.interpolation}
            models = tuple(one if one.interpolation else one.model_copy(update=changes) for one in self.models)
            object.__setattr__(self, "models", models)  # the record is frozen for everybody else
        return self

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
        twice = sorted({pair for pair in named if named.count(pair) > 1})
        if twice:
            raise ValueError(f"the view {twice[0][0]} is listed twice at level {twice[0][1]:g}: remove one")
        return views

    def all_views(self, model: ModelRecipe | None = None) -> Iterator[tuple[View, FeatureRecipe]]:
        """Yield every view at every level with the arrays that are kept of it (of ``model``), the clean one first.

        Raises UserError when the frame does not allow a view.
        """
        own = {} if model is None else model.model_dump(include=_OWN_FEATURES, exclude_none=True)
        if self.features.clean:
            yield CLEAN, self.features.model_copy(update=own)
        for settings in self.views:
            captures = tuple(one for one in settings.captures if one in own.get("captures", settings.captures))
            changes: dict[str, Any] = {"layers": settings.layers, "norm": settings.norm or self.features.norm}
            changes |= {"masked": None, "input_pixels": False, "captures": captures, "sublayers": ()}
            changes |= {"capture_points": own.get("capture_points", self.features.capture_points)}
            for level in settings.all_levels():
                yield settings.at(level, self.frame), self.features.model_copy(update=changes)

    def chosen_models(self, only: str | None) -> list[ModelRecipe]:
        """Return the models called ``only`` by name or title, all for None; raises UserError when there is none."""
        models = [model for model in self.models if only is None or only in (model.name, model.title)]
        if not models:
            known = ", ".join(model.display for model in self.models)
            raise UserError(f"this experiment has no model {only!r}: pass one of {known} to --model")
        return models

    def model_key(self, model: ModelRecipe, choice: SourceChoice = ALL_SOURCES, view: View = CLEAN) -> str:
        """Return the key of one model and view in the store's index; the arrays to keep are not part of it.

        `extract` writes the digests of its sets under this key, so that `evaluate` finds them without images or models.
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
