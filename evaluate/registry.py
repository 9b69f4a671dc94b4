"""The table of analyses, and the settings of an experiment's evaluation: selection, analyses, seed."""

from typing import Annotated, Any

from pydantic import Field

from evaluate.analyses.agreement import Agreement, AgreementTask
from evaluate.analyses.association import Association, AssociationTask
from evaluate.analyses.attention import Attention, AttentionTask
from evaluate.analyses.feature_geometry import FeatureGeometry, FeatureGeometryTask
from evaluate.analyses.feature_treatments import FeatureTreatments, FeatureTreatmentsTask
from evaluate.analyses.frequency import Frequency, FrequencyTask
from evaluate.analyses.global_context import GlobalContext, GlobalContextTask
from evaluate.analyses.gram_drift import GramDrift, GramDriftTask
from evaluate.analyses.image_classification import ImageClassification, ImageClassificationTask
from evaluate.analyses.image_knn import ImageKnn, ImageKnnTask
from evaluate.analyses.in_context_segmentation import InContextSegmentation, InContextSegmentationTask
from evaluate.analyses.information import Information, InformationTask
from evaluate.analyses.intrinsic_dimension import IntrinsicDimension, IntrinsicDimensionTask
from evaluate.analyses.invariance import Invariance, InvarianceTask
from evaluate.analyses.label_maps import LabelMaps, LabelMapsTask
from evaluate.analyses.lidar import Lidar, LidarTask
from evaluate.analyses.object_positions import ObjectPositions, ObjectPositionsTask
from evaluate.analyses.overclustering import Overclustering, OverclusteringTask
from evaluate.analyses.patch_classification import PatchClassification, PatchClassificationTask
from evaluate.analyses.ranking_overlap import RankingOverlap, RankingOverlapTask
from evaluate.analyses.reconstruction import Reconstruction, ReconstructionTask
from evaluate.analyses.retrieval import Retrieval, RetrievalTask
from evaluate.analyses.robustness import Robustness, RobustnessTask
from evaluate.analyses.similarity import Similarity, SimilarityTask
from evaluate.analyses.token_geometry import TokenGeometry, TokenGeometryTask
from evaluate.analyses.token_pictures import TokenPictures, TokenPicturesTask
from evaluate.analyses.tracking import Tracking, TrackingTask
from evaluate.analyses.variance_spectrum import VarianceSpectrum, VarianceSpectrumTask
from evaluate.selection import SelectionRule
from evaluate.settings import Selection
from evaluate.task import ModelTask
from stores.specs import Record

ANALYSES: dict[type[Record], type[ModelTask[Any]]] = {
    VarianceSpectrum: VarianceSpectrumTask,
    RankingOverlap: RankingOverlapTask,
    PatchClassification: PatchClassificationTask,
    FeatureTreatments: FeatureTreatmentsTask,
    InContextSegmentation: InContextSegmentationTask,
    Overclustering: OverclusteringTask,
    GlobalContext: GlobalContextTask,
    Reconstruction: ReconstructionTask,
    Robustness: RobustnessTask,
    Retrieval: RetrievalTask,
    Tracking: TrackingTask,
    Association: AssociationTask,
    ImageKnn: ImageKnnTask,
    ImageClassification: ImageClassificationTask,
    Agreement: AgreementTask,
    Information: InformationTask,
    Invariance: InvarianceTask,
    ObjectPositions: ObjectPositionsTask,
    LabelMaps: LabelMapsTask,
    Attention: AttentionTask,
    Frequency: FrequencyTask,
    TokenGeometry: TokenGeometryTask,
    TokenPictures: TokenPicturesTask,
    Similarity: SimilarityTask,
    GramDrift: GramDriftTask,
    FeatureGeometry: FeatureGeometryTask,
    IntrinsicDimension: IntrinsicDimensionTask,
    Lidar: LidarTask,
}
"""Every analysis: its settings and its tasks."""

Analysis = Annotated[
    VarianceSpectrum | RankingOverlap | PatchClassification | FeatureTreatments | InContextSegmentation
    | Overclustering | Robustness | Retrieval | Tracking | Association | ImageKnn | ImageClassification | Agreement
    | Information | Invariance | ObjectPositions | GlobalContext | Reconstruction | LabelMaps | Attention | Frequency
    | TokenGeometry | TokenPictures | Similarity | GramDrift | FeatureGeometry | IntrinsicDimension | Lidar,
    Field(discriminator="kind"),
]  # fmt: skip


class ClaimSettings(Record):
    """What the papers' claims are tested on beside the experiment's own results."""

    beside: tuple[Annotated[str, Field(pattern=r"^[^/\\.][^/\\]*$")], ...] = ()
    """Names (files' names without .toml) of other experiments evaluated into the same results folder, for claims that
    compare two (tiles with whole images, in classification and in tracking), and for those on videos, whole images and
    boxes where this experiment has none."""


class EvaluationSettings(Record):
    """The tables of an experiment file that concern `patchbank evaluate`."""

    selection: Selection | None = None
    """None takes every row for training, which suits unlabelled data."""
    analyses: tuple[Analysis, ...] = ()
    seed: int = Field(default=0, ge=0)
    """Seed of held-out images and bootstraps."""
    claims: ClaimSettings = ClaimSettings()

    def rules(self) -> tuple[SelectionRule, ...]:
        """Return every selection rule the analyses use; their union is what must be extracted."""
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
