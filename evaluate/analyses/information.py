"""How information is spread over features: "Objectives Matter" (arXiv 2304.13089), distribution of information.

A linear probe of whole images reads ``n`` random features, or the ``n`` leading principal components of the training
vectors; where few are enough, information is concentrated. The participation ratio of the covariance's eigenvalues,
``(sum l)^2 / sum l^2``, says over how many directions the variance is spread: 1 for one direction, the number of
features for equal variances.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import numpy as np
from jaxtyping import Bool
from pydantic import Field

from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.rows import RowSplit
from evaluate.inputs.work import CALL, Work, reading
from evaluate.kernels.probing.penalties import PENALTIES
from evaluate.kernels.tokens.spectra import centred_gram, participation_ratio
from evaluate.results.metrics import IMAGE_ACCURACY, PARTICIPATION_RATIO
from evaluate.results.rows import score_row
from evaluate.results.table import Result
from evaluate.scoring.images.classifiers import ImageData, ImageProbe
from evaluate.scoring.images.pooled_task import PooledTask, kinds_of
from evaluate.scoring.images.vectors import Pooled, vector_addresses, vector_inputs, vectors_bytes
from evaluate.settings import BootstrapSettings, Context, LayerSettings
from stores.format.paths import OF_LAYERS

ALL, RANDOM, COMPONENTS = "all", "random", "pca"
"""Values of the column ``outcome``: every feature, random ones, principal components."""


class Information(LayerSettings, BootstrapSettings):
    """Accuracy of a linear probe of whole images on few features, and over how many directions variance is spread."""

    kind: Literal["information"]
    pooled: Annotated[tuple[Pooled, ...], Field(min_length=1)] = ("mean-patch",)
    """What stands for an image: the first prefix token, the mean of the patch tokens, or both one after the other."""
    features: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (1, 2, 5, 10, 20, 50, 100, 200)
    """Numbers of features or components that the probe reads; those the model has not are left out."""
    draws: Annotated[int, Field(ge=1)] = 5
    """Random choices of every number; their mean is reported."""
    penalties: tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...] | None = None
    """L2 penalties to choose from by accuracy on held-out training images; by default a grid."""


def _width(model: ModelSets, settings: Information) -> int:
    """Return the features of the longest vectors of a model's last analysed layer."""
    array = model.arrays(settings.layers, settings.norm, OF_LAYERS)[-1]
    return model.n_channels(array) * (2 if "class-and-mean" in kinds_of(model, settings.pooled) else 1)


@dataclass(frozen=True, eq=False)
class InformationTask(PooledTask[Information]):
    """Accuracy by the number of random features and of principal components, of one kind of token of one layer."""

    pooled: Pooled

    analysis = "information"
    groups = OF_LAYERS
    what = "information in the {task.pooled} of {task.array}"
    key_settings = ("draws", "resamples")
    key_counts = ("features",)

    @classmethod
    def notes(cls, models: Sequence[ModelSets], settings: Information) -> list[str]:
        """Return one note a model that has fewer features than the settings name, or no class token."""
        notes = super().notes(models, settings)
        for model in models if "features" in settings.model_fields_set else ():
            width = _width(model, settings)
            if more := [str(count) for count in sorted(set(settings.features)) if count > width]:
                notes.append(f"information leaves out features = {', '.join(more)} for {model.title} with {width}")
        return notes

    @classmethod
    def of_model(cls, model: ModelSets, settings: Information, context: Context) -> Iterator[Self]:
        """Yield one task a layer and kind of token."""
        split = RowSplit(model, context.selection, cls.analysis)
        for array in model.arrays(settings.layers, settings.norm, OF_LAYERS):
            for pooled in settings.pooled:
                yield cls(model, array, settings, context, split, pooled)

    @property
    def data(self) -> ImageData:
        """Vectors and classes of the images."""
        return ImageData(self.split, self.array, self.pooled)

    @property
    def probe(self) -> ImageProbe:
        """How the probe is fitted."""
        return ImageProbe(self.context.seed, tuple(self.settings.penalties or PENALTIES), self.context.device.name)

    @property
    def width(self) -> int:
        """Number of features of a vector."""
        return sum(self.model.n_channels(one) for one in vector_addresses(self.model, self.array, self.pooled))

    def check(self) -> None:
        """Raise UserError for images without a class, MissingError for tokens that are not stored."""
        vector_addresses(self.model, self.array, self.pooled)
        _ = self.data.classes, self.data.truth

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that the class lists and those of the probe."""
        probe = {**self.probe.parameters(), "batchnorm": self.model.probe_batchnorm}
        return {**super().parameters(), "pooled": self.pooled, **probe, **self.device_parameter(True)}

    def inputs(self) -> dict[str, str]:
        """Return the digests of what vectors are made of."""
        return vector_inputs(self.model, self.array, [self.pooled])

    @property
    def columns(self) -> dict[str, Any]:
        """The shared columns, the token, the probe, and the number of features as x."""
        return {**super().columns, "token": self.pooled, "classifier": "probe", "x_name": "features"}

    def compute(self) -> Result:
        """Return the participation ratio, and one row a number of features and way to choose them."""
        data, bootstrap = self.data, self.bootstrap(self.validation.sources)
        bank, queries, every = data.bank, data.queries, np.ones(len(data.truth))

        def right(bank: np.ndarray, queries: np.ndarray, kept: Bool[np.ndarray, " channel"] | None) -> np.ndarray:
            n_classes, standardise = len(self.model.classes), self.model.probe_batchnorm
            predicted, _ = self.probe.predict(bank, data.classes, queries, n_classes, standardise, kept)
            return (predicted == data.truth).astype(np.float64)

        def row(outcome: str, n_features: int, rights: list[np.ndarray]) -> dict[str, Any]:
            mean = np.mean(rights, axis=0)
            draws = bootstrap.ratio(mean, every)
            return bootstrap.row(IMAGE_ACCURACY, float(mean.mean()), draws, outcome=outcome, x_value=float(n_features))

        ratio = participation_ratio(centred_gram(bank))
        rows = [score_row(PARTICIPATION_RATIO, ratio, x_value=float(self.width))]
        rows.append(row(ALL, self.width, [right(bank, queries, None)]))
        centre = bank.mean(axis=0, dtype=np.float64)
        axes = np.linalg.svd(bank - centre, full_matrices=False)[2]
        components, query_components = ((vectors - centre) @ axes.T for vectors in (bank, queries))
        for n_features in self._counts:
            rng = np.random.default_rng([self.context.seed, n_features])
            kept = [
                np.isin(np.arange(self.width), rng.permutation(self.width)[:n_features])
                for _ in range(self._draws(n_features))
            ]
            rows.append(row(RANDOM, n_features, [right(bank, queries, mask) for mask in kept]))
            if n_features <= len(axes):
                some = (
                    components[:, :n_features].astype(np.float32),
                    query_components[:, :n_features].astype(np.float32),
                )
                rows.append(row(COMPONENTS, n_features, [right(*some, None)]))
        return Result(rows)

    @property
    def _counts(self) -> list[int]:
        return [count for count in sorted(set(self.settings.features)) if count <= self.width]

    def _draws(self, n_features: int) -> int:
        return 1 if n_features == self.width else self.settings.draws

    def work(self) -> Work:
        """Estimate the operations: vectors are read once, and a probe is fitted for every choice."""
        n_rows, n_train = len(self.train.rows) + len(self.validation.rows), len(self.train.sources)
        work = Work(passes=CALL)
        for address in vector_addresses(self.model, self.array, self.pooled):
            work += reading(self.model, address, n_rows)
        n_fits = 1 + sum(1 + self._draws(count) for count in self._counts)
        fit = Work(300 * 4.0 * n_train * self.width * len(self.model.classes), 200 * CALL)
        return work + fit * n_fits

    def peak_bytes(self) -> int:
        """Estimate peak memory: one vector an image, its principal components, and what a fit needs."""
        n_train, n_queries = len(self.train.sources), len(self.validation.sources)
        n_all, width = n_train + n_queries, self.width
        decomposed = 8 * width * (4 * n_train + 6 * width)  # centred, copied, both factors and what LAPACK works in
        components = 8 * width * (n_all + width) + 4 * width * n_all
        numbers = 8 * (6 + self.settings.draws) * (n_train + n_queries)
        draws = 8 * 2 * self.settings.resamples * n_queries
        fit = self.probe.peak_bytes(n_train, n_queries, len(self.model.classes), width)
        selections, after = (self.train, self.validation), max(decomposed, components + max(fit, draws))
        return numbers + vectors_bytes(self.model, self.array, selections, [self.pooled], after)
