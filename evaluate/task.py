"""The contract of an analysis: a task is one cached unit of work, with its key, its computation and its peak memory.

An analysis is a settings class (one ``[[analyses]]`` table) and a `Task` subclass; `evaluate.registry.ANALYSES` pairs
them. `evaluate.runner` collects the tasks of an experiment, reuses stored results by key and computes the others.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Generic, Self, TypeVar

from evaluate.inputs.memory import search_memory
from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.rows import RowSelection, RowSplit
from evaluate.results.rows import Bootstrap
from evaluate.results.table import Result, ResultKey, ResultStore
from evaluate.settings import Classifier, Context, Settings

S = TypeVar("S", bound=Settings)


class Task(ABC):
    """One unit of work whose result is stored under a key: equal keys are computed once."""

    analysis: ClassVar[str]
    """Name in result tables; the ``kind`` of its settings."""
    revision: ClassVar[int] = 1
    """Raised when the same inputs and parameters give other numbers or other rows."""

    @property
    @abstractmethod
    def title(self) -> str:
        """The model as figures and tables call it; not part of the key."""

    @property
    @abstractmethod
    def description(self) -> str:
        """What is computed, for progress lines and error messages."""

    @property
    def columns(self) -> dict[str, Any]:
        """Columns of the long table that all rows of the result share unless a row has its own."""
        return {}

    def check(self) -> None:  # noqa: B027  (most tasks have nothing to check)
        """Raise UserError or MissingError for what cannot be computed, before anything is."""

    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """Return everything but the inputs that changes the result, as plain JSON values."""

    @abstractmethod
    def inputs(self) -> dict[str, str]:
        """Return the content digests of everything that is read, by a name that says what it is."""

    @abstractmethod
    def compute(self) -> Result:
        """Compute the rows of the long table, and arrays for figures."""

    @abstractmethod
    def peak_bytes(self) -> int:
        """Estimate the peak memory of `compute` above the idle process, in bytes, rounded up."""

    @cached_property
    def key(self) -> ResultKey:
        """What names the result."""
        return ResultKey(self.analysis, self.revision, self.parameters(), self.inputs())

    def result(self) -> Result:
        """Compute the result with its shared columns filled in."""
        computed = self.compute()
        return Result([{"analysis": self.analysis, **self.columns, **row} for row in computed.rows], computed.arrays)

    def read_or_compute(self, results: ResultStore) -> Result:
        """Return the stored result, computed and stored first where it is missing."""
        if not results.has(self.key):
            results.write(self.key, self.result())
        return results.read(self.key)


@dataclass(frozen=True, eq=False)
class ModelTask(Task, Generic[S]):
    """A task about one token array of one model."""

    model: ModelSets
    array: str
    """Address of the token array, for example ``tokens/block.11.norm``."""
    settings: S
    context: Context
    split: RowSplit

    labelled: ClassVar[bool] = False
    """Whether the analysis reads patch and pixel labels."""

    @classmethod
    def tasks(cls, models: Sequence[ModelSets], settings: S, context: Context) -> Iterator["ModelTask[S]"]:
        """Yield the tasks of some models: by default one a model and layer."""
        for model in models:
            yield from cls.of_model(model, settings, context)

    @classmethod
    def of_model(cls, model: ModelSets, settings: S, context: Context) -> Iterator[Self]:
        """Yield one task a layer."""
        split = RowSplit(model, context.selection, cls.analysis)
        for array in model.arrays(settings.selected_layers, getattr(settings, "norm", "final")):
            yield cls(model, array, settings, context, split)

    @property
    def title(self) -> str:
        """The model's title."""
        return self.model.title

    @property
    def train(self) -> RowSelection:
        """Training rows."""
        return self.split.train

    @property
    def validation(self) -> RowSelection:
        """Validation rows."""
        return self.split.validation

    @property
    def n_channels(self) -> int:
        """Number of features of the array."""
        return self.model.n_channels(self.array)

    @property
    def removed(self) -> list[int]:
        """The counts of ``remove`` in the settings, increasing, that leave at least one feature."""
        return fit_counts(getattr(self.settings, "remove", ()), self.n_channels)

    @property
    def columns(self) -> dict[str, Any]:
        """Data set, model, view and array."""
        spec = self.model.spec
        return {
            "data_set": spec.dataset.name,
            "model": spec.model.name,
            "view": spec.view.name,
            "array": self.array.partition("/")[2],
            "token": "patch",
            "layer": self.model.layer(self.array),
            "normed": self.model.is_normed(self.array),
        }

    @property
    def train_columns(self) -> dict[str, Any]:
        """Columns that say how many images train."""
        return {"train": self.train.title, "n_train": len(self.train.sources)}

    def check(self) -> None:
        """Raise UserError when the analysis reads labels and the data has none."""
        if self.labelled:
            self.model.need_labels(self.analysis)

    def inputs(self) -> dict[str, str]:
        """Return the content digests of the array, and of the labels where they are read."""
        return self.model.inputs(self.array, labelled=self.labelled)

    def bootstrap(self, units: Sequence[str], unit: str = "image") -> Bootstrap:
        """Return how intervals are drawn over ``units`` (names of images or videos)."""
        return Bootstrap(tuple(units), unit, self.context.seed, getattr(self.settings, "resamples", 0))

    @property
    def search_bytes(self) -> int:
        """Memory that a neighbour search of this task may use beside its inputs, in bytes."""
        return search_memory(self.context.memory_bytes, self.peak_bytes())


@dataclass(frozen=True, eq=False)
class ClassifierTask(ModelTask[S]):
    """A task that classifies patches by one classifier."""

    classifier: Classifier

    labelled: ClassVar[bool] = True

    @classmethod
    def of_model(cls, model: ModelSets, settings: S, context: Context) -> Iterator[Self]:
        """Yield one task a layer and classifier."""
        split = RowSplit(model, context.selection, cls.analysis)
        for array in model.arrays(settings.selected_layers, getattr(settings, "norm", "final")):
            for classifier in getattr(settings, "classifiers", ()):
                yield cls(model, array, settings, context, split, classifier)

    @property
    def classifier_title(self) -> str:
        """The classifier in words."""
        return "k-NN" if self.classifier == "knn" else self.classifier

    @property
    def columns(self) -> dict[str, Any]:
        """Data set, model, view, array and classifier."""
        return {**super().columns, "classifier": self.classifier, **self.train_columns}


def fit_counts(counts: Sequence[int], n_features: int) -> list[int]:
    """Return the counts of features, each once and increasing, that leave at least one of ``n_features``."""
    return [m for m in sorted(set(counts)) if m < n_features]
