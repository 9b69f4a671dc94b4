"""Classes of whole images from every layer and kind of token, by nearest neighbours and by linear probes.

"Objectives Matter" (Shekhar et al., arXiv 2304.13089) probes class token and patches of every layer; figure 10 of "What
Do Self-Supervised ViTs Learn?" (Park et al., ICLR 2023) the accuracy of linear probes against depth, which for masked
models is best before the last layer. Neighbours vote as in DINO (facebookresearch/dino, eval_knn.py): cosine, weights
exp(similarity / 0.07). A linear probe is a converged multinomial logistic regression whose L2 penalty is chosen by
accuracy on held-out training images; the papers train by stochastic gradients for fixed epochs. An attentive probe
(evaluate/kernels/probing/attentive.py) reads all patch tokens and is trained for fixed epochs.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field

from evaluate.inputs.limits import check_k
from evaluate.inputs.memory import neighbours_bytes, reducing_bytes, rows_bytes
from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.rows import RowSplit
from evaluate.inputs.work import CALL, Work, comparing, reading
from evaluate.kernels.probing.penalties import PENALTIES
from evaluate.neighbours.query_sections import QueryPass
from evaluate.results.metrics import IMAGE_ACCURACY, MAJORITY_ACCURACY
from evaluate.results.rows import score_row
from evaluate.results.sections import LongPass
from evaluate.results.table import Result
from evaluate.scoring.images.classifiers import ImageData, ImageProbe, attentive_bytes
from evaluate.scoring.images.pooled_task import PooledTask
from evaluate.scoring.images.vectors import Pooled, vector_addresses, vectors_bytes
from evaluate.settings import BootstrapSettings, Context, Layers, LayerSettings
from stores.format.paths import OF_LAYERS

ImageClassifier = Literal["knn", "probe", "attentive-probe"]


class ImageClassification(LayerSettings, BootstrapSettings):
    """Accuracy of classes of whole images from every layer, kind of token and classifier."""

    kind: Literal["image-classification"]
    layers: Layers = "all"
    """Layers to analyse: ``all`` stored ones, or numbers from 0; negative ones count from the last stored."""
    pooled: Annotated[tuple[Pooled, ...], Field(min_length=1)] = ("class-token", "mean-patch")
    """What stands for an image: the first prefix token, the mean of the patch tokens, or both one after the other."""
    classifiers: Annotated[tuple[ImageClassifier, ...], Field(min_length=1)] = ("knn", "probe")
    """Nearest neighbours, a linear probe, or an attentive probe, which reads stored patch tokens."""
    k: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (20,)
    """Neighbours that vote; DINO's are 10, 20, 100 and 200."""
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.07
    """Votes are exp(cosine similarity / temperature)."""
    penalties: tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...] | None = None
    """L2 penalties of the linear probe to choose from by accuracy on held-out training images; by default a grid."""
    epochs: int = Field(default=10, ge=1)
    """Epochs of the attentive probe."""
    learning_rate: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    """Learning rate of the attentive probe."""


@dataclass(frozen=True, eq=False)
class ImageClassificationTask(PooledTask[ImageClassification]):
    """Accuracy of one classifier on one kind of token of one layer, and of the most common class."""

    classifier: ImageClassifier
    pooled: Pooled | None
    """None for the attentive probe, which reads every patch."""

    analysis = "image-classification"
    groups = OF_LAYERS
    compared = (IMAGE_ACCURACY,)
    what = "{task.classifier} on the {task.token} of {task.array}"
    key_settings = ("resamples",)

    @classmethod
    def of_model(cls, model: ModelSets, settings: ImageClassification, context: Context) -> Iterator[Self]:
        """Yield one task a layer, classifier and kind of token; layers without patch tokens have no attentive probe."""
        split = RowSplit(model, context.selection, cls.analysis)
        for classifier in settings.classifiers:
            is_attentive = classifier == "attentive-probe"
            groups = ("tokens",) if is_attentive else OF_LAYERS
            for array in model.arrays(settings.layers, settings.norm, groups):
                for pooled in (None,) if is_attentive else settings.pooled:
                    yield cls(model, array, settings, context, split, classifier, pooled)

    @property
    def token(self) -> str:
        """The kind of token, as the long table calls it."""
        return self.pooled or "patch"

    @property
    def data(self) -> ImageData:
        """Vectors and classes of the images."""
        return ImageData(self.split, self.array, self.pooled or "mean-patch")

    @property
    def probe(self) -> ImageProbe:
        """How the linear probe is fitted."""
        penalties = self.settings.penalties or PENALTIES
        return ImageProbe(self.context.seed, tuple(penalties), self.context.device.name)

    def check(self) -> None:
        """Raise UserError for images without a class and too few of them, MissingError for tokens not stored."""
        data = self.data
        if len(data.classes) and len(data.truth) and self.classifier == "knn":
            check_k(max(self.settings.k), len(data.classes), "images")
        if self.pooled is not None:
            vector_addresses(self.model, self.array, self.pooled)

    def parameters(self) -> dict[str, Any]:
        """Return what the classifier depends on."""
        shared = {**super().parameters(), "classifier": self.classifier, "pooled": self.pooled}
        if self.classifier == "knn":
            return {**shared, "k": sorted(set(self.settings.k)), "temperature": self.settings.temperature}
        if self.classifier == "attentive-probe":
            fixed = {"epochs": self.settings.epochs, "learning_rate": self.settings.learning_rate}
            return {**shared, **fixed, **self.device_parameter(True)}
        return {
            **shared,
            **self.probe.parameters(),
            "batchnorm": self.model.probe_batchnorm,
            **self.device_parameter(True),
        }

    def inputs(self) -> dict[str, str]:
        """Return the digests of what vectors are made of."""
        content = self.model.features.content
        used = [self.array] if self.pooled is None else vector_addresses(self.model, self.array, self.pooled)
        sets = {"features": self.model.features.digest, "labels": self.model.labels.digest}
        return {**sets, **{address: content[address] for address in used}}

    @property
    def columns(self) -> dict[str, Any]:
        """The shared columns, the token, the classifier, and the layer as x."""
        x = {"x_name": "layer", "x_value": float(self.model.layer(self.array))}
        distance = "cosine" if self.classifier == "knn" else None
        return {**super().columns, **x, "token": self.token, "classifier": self.classifier, "distance": distance}

    def compute(self) -> Result:
        """Return the accuracy, by every k for neighbours, and numbers about a fit; the predictions are arrays."""
        data, settings = self.data, self.settings
        bootstrap = self.bootstrap(self.validation.sources)
        majority = data.truth == np.bincount(data.classes).argmax()
        rows = [score_row(MAJORITY_ACCURACY, float(majority.mean()), reference="majority")]
        predictions: dict[int | None, np.ndarray] = {}
        details: dict[str, float] = {}
        if self.classifier == "knn":
            counts, search = sorted(set(settings.k)), self._search(data, self.searched())
            found = data.votes(search, counts, settings.temperature, self.kept_sections())
            predictions = {k: found[k] for k in counts}
        elif self.classifier == "probe":
            predictions[None], details = data.by_probe(self.probe)
        else:
            fixed = settings.epochs, settings.learning_rate
            predictions[None], details = data.by_attention(self.context.seed, *fixed, self.context.device.name)
        for k, predicted in predictions.items():
            right = (predicted == data.truth).astype(np.float64)
            draws = bootstrap.ratio(right, np.ones(len(right)))
            rows.append(bootstrap.row(IMAGE_ACCURACY, float(right.mean()), draws, k=k))
        rows += [score_row(metric, value) for metric, value in details.items()]
        return Result(rows)

    def _search(self, data: ImageData, results: Mapping[int, str]) -> QueryPass:
        """Return the search of the validation images."""
        return data.search(max(self.settings.k), self.search_bytes, self.context.device.name, results)

    def passes(self) -> list[LongPass]:
        """Return the search of neighbours."""
        if self.classifier != "knn" or self.kept_sections() is None:
            return []
        return self._search(self.data, self.searched(is_missing_alone=True)).several

    def work(self) -> Work:
        """Estimate the operations: tokens are read and averaged, then compared, or fitted some hundred times."""
        n_train, n_rows = len(self.train.rows), len(self.train.rows) + len(self.validation.rows)
        n_images, n_queries = len(self.train.sources), len(self.validation.sources)
        used = [self.array] if self.pooled is None else vector_addresses(self.model, self.array, self.pooled)
        work = Work(passes=10 * CALL)
        for address in used:
            work += reading(self.model, address, n_rows)
        if self.classifier == "knn":
            return work + comparing(n_images * float(n_queries), self._width, 1)
        if self.classifier == "attentive-probe":
            tokens = n_train * float(self.model.features.arrays[self.array].row_shape[0])
            return work + Work(products=self.settings.epochs * 3 * 8.0 * tokens * self.n_channels**2)
        return work + Work(products=300 * 4.0 * n_images * self._width * len(self.model.classes))

    @property
    def _width(self) -> int:
        if self.pooled is None:
            return self.n_channels
        return sum(self.model.n_channels(one) for one in vector_addresses(self.model, self.array, self.pooled))

    def peak_bytes(self) -> int:
        """Estimate peak memory: one vector an image, or all patch tokens for an attentive probe."""
        n_train, n_queries = len(self.train.sources), len(self.validation.sources)
        numbers, draws = 8 * 4 * (n_train + n_queries), 8 * 2 * self.settings.resamples * n_queries
        if self.pooled is None:
            selections = (self.train, self.validation)  # one after the other
            tokens = rows_bytes(self.model, self.array, max(len(some.rows) for some in selections))
            reading = max(reducing_bytes(self.model, self.array, some.rows) for some in selections)
            n_patches, n_channels = self.model.features.arrays[self.array].row_shape
            fitting = tokens + attentive_bytes(n_patches, n_channels, len(self.model.classes))
            return numbers + reading + max(fitting, draws)
        if self.classifier == "knn":
            votes, bank, device = len(set(self.settings.k)), (n_train, self._width), self.context.device.name
            classifying = neighbours_bytes(n_queries, max(self.settings.k), 1, votes, bank, device)
        else:
            classifying = self.probe.peak_bytes(n_train, n_queries, len(self.model.classes), self._width)
        selections = (self.train, self.validation)
        after = max(classifying, draws)
        return numbers + vectors_bytes(self.model, self.array, selections, [self.pooled], after)
