"""Agreement of two models on the classes of whole images: "Objectives Matter" (arXiv 2304.13089), class predictions.

``agreement`` is the share of validation images of which both linear probes (or neighbours) predict the same class.
``error_consistency`` is Cohen's kappa of being right (Geirhos et al., NeurIPS 2020, "Beyond accuracy", equations 1 and
3): ``(o - e) / (1 - e)``, where ``o`` is the share of images on which both are right or both wrong and
``e = p1 p2 + (1 - p1)(1 - p2)`` what independent errors of the same accuracies give. 0 is chance, 1 the same errors.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float64, Int64
from pydantic import Field

from evaluate.inputs.limits import check_k
from evaluate.inputs.memory import neighbours_bytes, search_memory
from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.rows import RowSplit
from evaluate.inputs.work import CALL, Work, comparing, reading
from evaluate.kernels.probing.penalties import PENALTIES
from evaluate.results.metrics import AGREEMENT, ERROR_CONSISTENCY
from evaluate.results.table import Result
from evaluate.scoring.images.classifiers import ImageData, ImageProbe
from evaluate.scoring.images.vectors import Pooled, vector_addresses, vector_inputs, vectors_bytes
from evaluate.settings import BootstrapSettings, Context, SingleLayerSettings
from evaluate.task import ModelTask
from stores.errors import UserError
from stores.format.paths import OF_LAYERS


class Agreement(SingleLayerSettings, BootstrapSettings):
    """Share of images of which two models predict the same class, and how far their errors go together."""

    kind: Literal["agreement"]
    pooled: Pooled = "mean-patch"
    """What stands for an image: the first prefix token, the mean of the patch tokens, or both one after the other."""
    classifier: Literal["probe", "knn"] = "probe"
    """A linear probe, or nearest neighbours."""
    k: Annotated[int, Field(ge=1)] = 20
    """Neighbours that vote."""
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.07
    """Votes are exp(cosine similarity / temperature)."""
    penalties: tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...] | None = None
    """L2 penalties of the probe to choose from by accuracy on held-out training images; by default a grid."""


@dataclass(frozen=True, eq=False)
class PredictedModel:
    """One model with its predictions of the validation images, computed once in however many pairs it is."""

    split: RowSplit
    array: str
    settings: Agreement
    context: Context

    @property
    def model(self) -> ModelSets:
        """The model's sets."""
        return self.split.model

    @property
    def data(self) -> ImageData:
        """Vectors and classes of the images."""
        return ImageData(self.split, self.array, self.settings.pooled)

    @property
    def probe(self) -> ImageProbe:
        """How the probe is fitted."""
        return ImageProbe(self.context.seed, tuple(self.settings.penalties or PENALTIES), self.context.device.name)

    @cached_property
    def predicted(self) -> tuple[Int64[np.ndarray, " image"], Int64[np.ndarray, " image"]]:
        """Predicted and true class of every validation image."""
        data, settings = self.data, self.settings
        if settings.classifier == "probe":
            return data.by_probe(self.probe)[0], data.truth
        device, memory_bytes = self.context.device.name, search_memory(self.context.memory_bytes, self.peak_bytes())
        search = data.search(settings.k, memory_bytes, device)
        return data.votes(search, [settings.k], settings.temperature, None)[settings.k], data.truth

    def peak_bytes(self) -> int:
        """Estimate peak memory: one vector an image, and what a fit, a search or the draws of images need."""
        n_train, n_queries = len(self.split.train.sources), len(self.split.validation.sources)
        pooled, device = self.settings.pooled, self.context.device.name
        width = sum(self.model.n_channels(one) for one in vector_addresses(self.model, self.array, pooled))
        if self.settings.classifier == "probe":
            predicting = self.probe.peak_bytes(n_train, n_queries, len(self.model.classes), width)
        else:
            predicting = neighbours_bytes(n_queries, self.settings.k, 1, 1, (n_train, width), device)
        selections = (self.split.train, self.split.validation)
        draws = 8 * 2 * self.settings.resamples * n_queries
        return vectors_bytes(self.model, self.array, selections, [pooled], max(predicting, draws))

    def inputs(self) -> dict[str, str]:
        """Return the digests of what is read."""
        return vector_inputs(self.model, self.array, [self.settings.pooled])

    def parameters(self) -> dict[str, Any]:
        """Return what the predictions depend on beside what is read."""
        if self.settings.classifier == "knn":
            return {"k": self.settings.k, "temperature": self.settings.temperature}
        return {**self.probe.parameters(), "batchnorm": self.model.probe_batchnorm}


def kappa(
    one: Float64[np.ndarray, "..."], other: Float64[np.ndarray, "..."], both: Float64[np.ndarray, "..."]
) -> Float64[np.ndarray, "..."]:
    """Return the error consistency, NaN where both are always right or always wrong.

    Args:
        one: Accuracy of the first model.
        other: Accuracy of the second.
        both: Share of images on which both are right or both are wrong.
    """
    expected = one * other + (1 - one) * (1 - other)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(expected < 1, (both - expected) / (1 - expected), np.nan)


@dataclass(frozen=True, eq=False)
class AgreementTask(ModelTask[Agreement]):
    """Agreement and error consistency of two models."""

    one: PredictedModel
    other: PredictedModel

    analysis = "agreement"
    groups = OF_LAYERS
    what = "agreement of {task.title} and {task.other.model.title}"
    key_settings = ("pooled", "classifier", "resamples")

    @classmethod
    def tasks(cls, models: Sequence[ModelSets], settings: Agreement, context: Context) -> Iterator["AgreementTask"]:
        """Yield one task a pair of models; raises UserError for a single one."""
        if len(models) < 2:
            raise UserError("agreement compares two models and the experiment has one: add another to [[models]]")
        predicted = []
        for model in models:
            [array] = model.arrays(settings.selected_layers, settings.norm, OF_LAYERS)
            split = RowSplit(model, context.selection, cls.analysis)
            predicted.append(PredictedModel(split, array, settings, context))
        for number, one in enumerate(predicted):
            for other in predicted[number + 1 :]:
                yield cls(one.model, one.array, settings, context, one.split, one, other)

    def check(self) -> None:
        """Raise UserError for images without a class or of other data, MissingError for tokens that are not stored."""
        for side in (self.one, self.other):
            vector_addresses(side.model, side.array, self.settings.pooled)
            n_train = len(side.data.classes)
            if len(side.data.truth) and self.settings.classifier == "knn":
                check_k(self.settings.k, n_train, "images")
        if self.one.split.validation.sources != self.other.split.validation.sources:
            raise UserError(
                f"agreement compares predictions of the same images, and {self.title} and {self.other.model.title} "
                "were extracted from different ones: extract both from one [dataset]"
            )

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that the class lists and those of both models."""
        sides = {"one": self.one.parameters(), "other": self.other.parameters()}
        return {**super().parameters(), **sides, **self.device_parameter(self.settings.classifier == "probe")}

    def inputs(self) -> dict[str, str]:
        """Return the digests of what is read of both models."""
        return self.one.inputs() | {f"reference {name}": value for name, value in self.other.inputs().items()}

    @property
    def columns(self) -> dict[str, Any]:
        """The shared columns, the token, the classifier and the other model."""
        classifier = {"classifier": self.settings.classifier}
        if self.settings.classifier == "knn":
            classifier |= {"k": self.settings.k, "distance": "cosine"}  # type: ignore[dict-item]
        reference = {"reference": self.other.model.title}
        return {**super().columns, **classifier, **reference, "token": self.settings.pooled}

    def compute(self) -> Result:
        """Return both numbers with intervals over images."""
        (one, truth), (other, _) = self.one.predicted, self.other.predicted
        bootstrap = self.bootstrap(self.validation.sources)
        every = np.ones(len(truth))
        same = (one == other).astype(np.float64)
        rights = [(predicted == truth).astype(np.float64) for predicted in (one, other)]
        both = (rights[0] == rights[1]).astype(np.float64)
        shares = [values.mean() for values in (*rights, both)]
        draws = [bootstrap.ratio(values, every) for values in (*rights, both)]
        drawn = None if any(one is None for one in draws) else kappa(*[one for one in draws if one is not None])
        return Result(
            [
                bootstrap.row(AGREEMENT, float(same.mean()), bootstrap.ratio(same, every)),
                bootstrap.row(ERROR_CONSISTENCY, float(kappa(*map(np.asarray, shares))), drawn),
            ]
        )

    def work(self) -> Work:
        """Estimate the operations: vectors of both models are read, and fitted or searched."""
        n_rows = len(self.train.rows) + len(self.validation.rows)
        n_train, n_queries = len(self.train.sources), len(self.validation.sources)
        work = Work(passes=10 * CALL)
        for side in (self.one, self.other):
            for address in vector_addresses(side.model, side.array, self.settings.pooled):
                width = side.model.n_channels(address)
                work += reading(side.model, address, n_rows)
                is_probe = self.settings.classifier == "probe"
                fit = Work(products=300 * 4.0 * n_train * width * len(side.model.classes))
                work += fit if is_probe else comparing(n_train * float(n_queries), width, 1)
        return work

    def peak_bytes(self) -> int:
        """Estimate peak memory: that of one model's predictions and then of the other's."""
        n_train, n_queries = len(self.train.sources), len(self.validation.sources)
        return 8 * 6 * (n_train + n_queries) + max(self.one.peak_bytes(), self.other.peak_bytes())
