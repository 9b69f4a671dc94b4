"""What an experiment asks of the stored sets: which rows, which analyses, which parameters."""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field

from evaluate.selections import SelectionRule
from stores.specs import Record

Layers = Literal["all"] | tuple[int, ...]


class VarianceSpectrum(Record):
    """The variance of every feature over the patch tokens of the training rows (paper A, Fig. 1a)."""

    kind: Literal["variance-spectrum"]
    layers: Layers = (-1,)
    """Layers to ask about: ``all`` that are stored, or numbers from 0; negative ones count from the last stored."""
    norm: Literal["final", "none"] = "final"
    """Tokens through the model's final norm, or as the block left them."""
    top: tuple[Annotated[int, Field(ge=1)], ...] = (10, 200)
    """Numbers of leading features whose share of the variance is reported."""


class PatchClassification(Record):
    """Classes of patches by nearest neighbours and by a linear probe (paper A, sections 3.1 and 4).

    Every combination of layer, classifier, training size and number of removed features is one line of results.
    """

    kind: Literal["patch-classification"]
    classifiers: tuple[Literal["knn", "probe"], ...] = ("knn", "probe")
    """Nearest neighbours, a linear probe, or both."""
    layers: Layers = (-1,)
    """Layers to ask about: ``all`` that are stored, or numbers from 0; negative ones count from the last stored."""
    norm: Literal["final", "none"] = "final"
    """Tokens through the model's final norm, or as the block left them."""
    k: tuple[Annotated[int, Field(ge=1)], ...] = (1,)
    """Neighbours that vote."""
    metric: Literal["euclidean", "cosine"] = "euclidean"
    """Distance between the features as stored, or between their directions."""
    search: Literal["exact", "faiss"] = "exact"
    """``exact`` orders by the float64 distance of the stored values; ``faiss`` is FAISS's flat index as it is."""
    weights: Literal["uniform", "softmax"] = "uniform"
    """How neighbours vote: equally, or by exp(similarity / 0.07)."""
    remove: tuple[Annotated[int, Field(ge=0)], ...] = (0,)
    """Numbers m of highest-variance features to leave out; the ranking is that of the training patches."""
    train_per_group: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    """Training images a group, instead of the selection's; several make a sweep of nested sets."""
    penalties: tuple[Annotated[float, Field(ge=0)], ...] | None = None
    """L2 penalties to choose from on held-out training images; None takes the default grid."""
    resamples: int = Field(default=1000, ge=0)
    """Bootstrap resamples over images; 0 prints no intervals."""


class LabelMaps(Record):
    """Predicted patch classes of some validation images, beside the truth (paper A, appendix)."""

    kind: Literal["label-maps"]
    classifier: Literal["knn", "probe"] = "knn"
    """What predicts the classes."""
    images: int = Field(default=4, ge=1, le=64)
    """Validation images, spread evenly over the selection."""
    layer: int = -1
    """Layer counted from 0; negative numbers count from the last stored."""
    norm: Literal["final", "none"] = "final"
    """Tokens through the model's final norm, or as the block left them."""
    remove: tuple[Annotated[int, Field(ge=0)], ...] = (0,)
    """Numbers m of highest-variance features to leave out; one map for each."""


Analysis = Annotated[VarianceSpectrum | PatchClassification | LabelMaps, Field(discriminator="kind")]


class Selection(Record):
    """Which images train and which validate; rows of the same sets, never another extraction."""

    train: SelectionRule
    """Images that classifiers are fitted on, and whose patches rank the features."""
    validation: SelectionRule | None = None
    """Images that are scored; never one that trains."""


class Questions(Record):
    """Everything `patchbank evaluate` needs to know beside the sets."""

    selection: Selection | None = None
    """None takes every row for training, which suits unlabelled data."""
    analyses: tuple[Analysis, ...] = ()
    seed: int = Field(default=0, ge=0)
    """Seed of held-out images and bootstraps."""

    def rules(self) -> tuple[SelectionRule, ...]:
        """Return every selection rule the analyses can ask for; their union is what must be extracted."""
        if self.selection is None:
            return ()
        rules = [self.selection.train]
        if self.selection.validation is not None:
            rules.append(self.selection.validation)
        for analysis in self.analyses:
            if isinstance(analysis, PatchClassification):
                rules += train_rules(self.selection.train, analysis.train_per_group)
        return tuple(dict.fromkeys(rules))


def train_rules(train: SelectionRule, per_group: Iterable[int] | None) -> list[SelectionRule]:
    """Return the training rules of an analysis: the selection's own, or one for each size."""
    if per_group is None:
        return [train]
    return [train.model_copy(update={"per_group": size}) for size in per_group]
