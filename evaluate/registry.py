"""What an experiment asks of the stored sets: which rows, which analyses, which parameters."""

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

from pydantic import Field

from evaluate.analyses import (
    association,
    feature_treatments,
    global_context,
    image_knn,
    label_maps,
    patch_classification,
    ranking_overlap,
    reconstruction,
    retrieval,
    robustness,
    tracking,
    variance_spectrum,
)
from evaluate.analyses.association import Association
from evaluate.analyses.feature_treatments import FeatureTreatments
from evaluate.analyses.global_context import GlobalContext
from evaluate.analyses.image_knn import ImageKnn
from evaluate.analyses.label_maps import LabelMaps
from evaluate.analyses.patch_classification import PatchClassification
from evaluate.analyses.ranking_overlap import RankingOverlap
from evaluate.analyses.reconstruction import Reconstruction
from evaluate.analyses.retrieval import Retrieval
from evaluate.analyses.robustness import Robustness
from evaluate.analyses.tracking import Tracking
from evaluate.analyses.variance_spectrum import VarianceSpectrum
from evaluate.inputs.model_sets import ModelSets
from evaluate.selection import SelectionRule
from evaluate.settings import Context, Selection
from evaluate.task import Task
from stores.specs import Record

ANALYSES: dict[type[Record], Callable[[Sequence[ModelSets], Any, Context], Iterator[Task]]] = {
    VarianceSpectrum: variance_spectrum.cells,
    RankingOverlap: ranking_overlap.cells,
    PatchClassification: patch_classification.cells,
    FeatureTreatments: feature_treatments.cells,
    GlobalContext: global_context.cells,
    Reconstruction: reconstruction.cells,
    Robustness: robustness.cells,
    Retrieval: retrieval.cells,
    Tracking: tracking.cells,
    Association: association.cells,
    ImageKnn: image_knn.cells,
    LabelMaps: label_maps.cells,
}
"""Every analysis: its settings, and what yields the answers they ask of some models."""

Analysis = Annotated[
    VarianceSpectrum
    | RankingOverlap
    | PatchClassification
    | FeatureTreatments
    | Robustness
    | Retrieval
    | Tracking
    | Association
    | ImageKnn
    | GlobalContext
    | Reconstruction
    | LabelMaps,
    Field(discriminator="kind"),
]


class ClaimSettings(Record):
    """What is put to the papers' claims beside the experiment's own results."""

    beside: tuple[Annotated[str, Field(pattern=r"^[^/\\.][^/\\]*$")], ...] = ()
    """Names (files' names without .toml) of other experiments evaluated into the same results folder, for claims that
    compare two: tiles with whole images, in classification and in tracking."""


class EvaluationSettings(Record):
    """Everything `patchbank evaluate` needs to know beside the sets."""

    selection: Selection | None = None
    """None takes every row for training, which suits unlabelled data."""
    analyses: tuple[Analysis, ...] = ()
    seed: int = Field(default=0, ge=0)
    """Seed of held-out images and bootstraps."""
    claims: ClaimSettings = ClaimSettings()

    def rules(self) -> tuple[SelectionRule, ...]:
        """Return every selection rule the analyses can ask for; their union is what must be extracted."""
        if self.selection is None:
            return ()
        rules = [self.selection.train]
        if self.selection.validation is not None:
            rules.append(self.selection.validation)
        for analysis in self.analyses:
            rules += analysis.rules(self.selection)
        return tuple(dict.fromkeys(rules))

    def experiments(self) -> tuple[str, ...]:
        """Return the other experiment files whose sets the analyses read too, as they are named."""
        return tuple(dict.fromkeys(name for analysis in self.analyses for name in analysis.other_experiments()))
