"""Settings that analyses share (layers, removed features, classifiers, bootstraps), and the context of a run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from evaluate.decoder import PatchDecoder
from evaluate.kernels.probing.cross_entropy import CPU, Device
from evaluate.kernels.probing.penalties import PenaltyScore
from evaluate.kernels.treatments import Name, Treatment
from evaluate.results.table import ResultStore
from evaluate.selection import SelectionRule
from stores.specs import Record

Layers = Literal["all"] | Annotated[tuple[int, ...], Field(min_length=1)]
"""``all`` stored layers, or numbers from 0; negative ones count from the last stored."""

Point = Literal["embedding", "norm1", "attention", "ls1", "attention-residual", "norm2", "mlp", "ls2", "output"]
"""Points inside of blocks at which tokens can be captured: ``capture_points`` of [features]."""

Classifier = Literal["knn", "probe"]

Pooling = Literal["roi-align", "centres"]


class Selection(Record):
    """Which images train and which validate; rows of the same sets, never another extraction."""

    train: SelectionRule
    """Images that classifiers are fitted on, and whose patches rank the features."""
    validation: SelectionRule | None = None
    """Images that are scored; never one that trains."""


class Settings(Record):
    """Base of the settings of every analysis: one ``[[analyses]]`` table."""

    def rules(self, selection: Selection) -> list[SelectionRule]:
        """Return the selection rules the analysis uses beside the selection's own two."""
        return []

    def alternatives(self, n_features: int) -> list[Treatment]:
        """Return the treatments of features that the analysis runs on beside the features as stored."""
        return []

    def other_experiments(self) -> tuple[str, ...]:
        """Return the other experiment files whose sets the analysis reads too, by file name."""
        return ()

    @property
    def selected_layers(self) -> Layers:
        """The layers whose tokens are analysed."""
        return (-1,)


class LayerSettings(Settings):
    """Settings of an analysis of several layers."""

    layers: Layers = (-1,)
    """Layers to analyse: ``all`` stored ones, or numbers from 0; negative ones count from the last stored."""
    norm: Literal["final", "none"] = "final"
    """Tokens after the model's final norm, or as the block left them."""

    @property
    def selected_layers(self) -> Layers:
        """The layers whose tokens are analysed."""
        return self.layers


class SingleLayerSettings(Settings):
    """Settings of an analysis of one layer."""

    layer: int = -1
    """Layer counted from 0; negative numbers count from the last stored."""
    norm: Literal["final", "none"] = "final"
    """Tokens after the model's final norm, or as the block left them."""

    @property
    def selected_layers(self) -> Layers:
        """The layer whose tokens are analysed."""
        return (self.layer,)


class ProjectionSettings(Settings):
    """Numbers of directions that treatments of features take out or keep (`evaluate.kernels.treatments`)."""

    position_ranks: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (18,)
    """Directions that ``remove-position`` takes out, fewer where the places' mean tokens span fewer; 18 are what RASA
    takes out, nine times two. INSID3 takes 500 of 1024 features, which leaves little of a small model."""
    first_components: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] | None = None
    """Principal directions that ``remove-first-components`` takes out; a hundredth of the features without, as the
    method's authors say."""
    kept_components: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (64,)
    """Principal directions that ``pca-k`` keeps: 64 are fewer than the features of any common ViT."""

    def ranks(self, name: Name, n_features: int) -> Sequence[int]:
        """Return the numbers of directions of a treatment, each once; none where it has no such number."""
        by_name: dict[str, Sequence[int]] = {
            "remove-position": self.position_ranks,
            "remove-first-components": self.first_components or (max(1, round(n_features / 100)),),
            "pca-k": self.kept_components,
        }
        return tuple(dict.fromkeys(by_name.get(name, ())))

    def numbered(self, name: Name, n_features: int) -> list[Treatment]:
        """Return a treatment with each of its numbers that leaves a feature; once where it has none."""
        if ranks := self.ranks(name, n_features):
            return [Treatment(name, rank=rank) for rank in ranks if rank < n_features]
        return [Treatment(name)]


class TreatmentSettings(ProjectionSettings):
    """Numbers of treatments of patch features (`evaluate.kernels.treatments`)."""

    outlier_deviations: Annotated[
        tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...], Field(min_length=1)
    ] = (5.0,)
    """Median absolute deviations above the median norm from which ``drop-outlier-tokens`` leaves a training token out:
    of Gaussian norms 4 in 10,000 lie beyond 5."""

    def numbered(self, name: Name, n_features: int) -> list[Treatment]:
        """Return a treatment with each of its numbers that leaves a feature; once where it has none."""
        if name == "drop-outlier-tokens":
            return [Treatment(name, deviations=one) for one in dict.fromkeys(self.outlier_deviations)]
        return super().numbered(name, n_features)

    def number_parameters(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the numbers of those treatments that are asked for, as a result's key has them."""
        used = {NUMBERS[name] for name in names if name in NUMBERS}
        return self.model_dump(mode="json", include=used)


NUMBERS = {
    "remove-position": "position_ranks",
    "remove-first-components": "first_components",
    "pca-k": "kept_components",
    "drop-outlier-tokens": "outlier_deviations",
}
"""Setting with the numbers of each treatment that has some."""

VectorTreatment = Literal["remove-position", "remove-first-components", "pca-k", "centre"]
PatchTreatment = Literal[VectorTreatment, "drop-outlier-tokens"]


class RemovalSettings(ProjectionSettings):
    """Settings of an analysis that leaves out the features of highest variance, or treats features instead."""

    remove: tuple[Annotated[int, Field(ge=0)], ...] = (0,)
    """Numbers m of highest-variance features to leave out; features are ranked on the training patches (tracking:
    all frames; retrieval: the gallery)."""
    treatments: tuple[PatchTreatment, ...] = ()
    """What is done to the features in place of removing the top m, each beside the rows of ``remove`` and with nothing
    removed: ``remove-position``, ``remove-first-components``, ``pca-k``, ``centre``, and for patches
    ``drop-outlier-tokens``. Statistics are of the patches that rank the features; where classes are predicted, of
    those among them that have one."""

    @model_validator(mode="after")
    def _computes_something(self) -> Self:
        if not self.remove and not self.treatments:
            raise ValueError("remove = [] leaves nothing to compute: write 0 for all features, or name treatments")
        return self

    def alternatives(self, n_features: int) -> list[Treatment]:
        """Return the treatments with each of their numbers that leaves a feature."""
        return [one for name in dict.fromkeys(self.treatments) for one in self.numbered(name, n_features)]

    def too_large(self, n_features: int) -> list[Treatment]:
        """Return the treatments whose number leaves no feature."""
        names = dict.fromkeys(self.treatments)
        ranked = [Treatment(name, rank=rank) for name in names for rank in self.ranks(name, n_features)]
        return [one for one in ranked if one.rank is not None and one.rank >= n_features]


class PatchRemovalSettings(RemovalSettings, TreatmentSettings):
    """Settings of an analysis that removes or treats the features of patches it holds."""


class VectorRemovalSettings(RemovalSettings):
    """Settings of an analysis that removes or treats the features of vectors, each a mean of patches."""

    treatments: tuple[VectorTreatment, ...] = ()
    """What is done to the features in place of removing the top m, each beside the rows of ``remove`` and with nothing
    removed: ``remove-position``, ``remove-first-components``, ``pca-k`` or ``centre``. Statistics are of the patches
    that rank the features. There is no ``drop-outlier-tokens``: no token is compared."""

    @field_validator("treatments", mode="before")
    @classmethod
    def _compares_no_token(cls, names: Any) -> Any:
        if isinstance(names, list | tuple) and "drop-outlier-tokens" in names:
            raise ValueError(
                "drop-outlier-tokens needs patches that are compared, and here whole vectors are: leave it out"
            )
        return names


class ClassifierSettings(Settings):
    """Settings of an analysis by nearest neighbours and linear probes."""

    classifiers: tuple[Classifier, ...] = ("knn", "probe")
    """Nearest neighbours, a linear probe, or both."""
    penalties: tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...] | None = None
    """L2 penalties to choose from on held-out training images, from the largest down until two in a row score less than
    the best; a default grid without. A single one is taken."""
    penalty_score: PenaltyScore = "patch_miou"
    """Score on held-out training images by which a penalty is chosen: the mIoU that is reported, or the accuracy."""
    probe: Literal["converged", "adamw"] = "converged"
    """A converged fit with an L2 penalty, or AdamW without one for fixed epochs: papers name no optimiser."""
    epochs: int = Field(default=10, ge=1)
    """Epochs of ``probe = "adamw"``."""
    learning_rate: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    """Learning rate of ``probe = "adamw"``."""


class BootstrapSettings(Settings):
    """Settings of an analysis whose scores have bootstrap intervals."""

    resamples: int = Field(default=1000, ge=0)
    """Bootstrap resamples over images (tracking and association: over videos; similarity: over minibatches); 0 prints
    no intervals."""


class ObjectSettings(LayerSettings, VectorRemovalSettings, BootstrapSettings):
    """Settings of an analysis of the annotated objects of video frames."""

    pooling: Pooling = "roi-align"
    """How a box's patches become one vector."""
    min_visibility: float = Field(default=0.0, ge=0, le=1)
    """Objects that are seen less than this are left out."""


@dataclass(frozen=True)
class Context:
    """What all tasks of one experiment share."""

    selection: Selection | None
    seed: int
    """Seed of held-out images, random features and bootstraps."""
    memory_bytes: int = 2 << 30
    """Memory limit of one task above the idle process, in bytes; it changes no number."""
    other_experiments: Mapping[str, Sequence[tuple[Any, Selection | None]]] = field(default_factory=dict)
    """Models (`ModelSets`) of other experiments with their selections, by the file's name in the settings."""
    decoders: Mapping[str, Callable[[], PatchDecoder]] = field(default_factory=dict)
    """Builds a model's decoder, by the model's title; called only by analyses that need it."""
    device: Device = CPU
    """Where neighbours are searched and probes are trained."""
    results: ResultStore | None = None
    """Where neighbours are stored, for other analyses to read; without it they are searched each time."""
