"""The contract of an analysis: a task is one cached unit of work, with its key, its computation, peak memory and work.

An analysis is a settings class (one ``[[analyses]]`` table) and a `Task` subclass; `evaluate.registry.ANALYSES` pairs
them. `evaluate.runner` collects the tasks of an experiment, reuses stored results by key and computes the others.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np

from evaluate.inputs.limits import fit_counts
from evaluate.inputs.memory import search_memory
from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.rows import RowSelection, RowSplit
from evaluate.inputs.work import Work
from evaluate.kernels.treatments import Treatment
from evaluate.results.draws import with_draws
from evaluate.results.rows import Bootstrap
from evaluate.results.sections import LongPass, SectionFiles
from evaluate.results.table import Result, ResultKey, ResultStore
from evaluate.settings import Context, RemovalSettings, Settings

S = TypeVar("S", bound=Settings)


class Task(ABC):
    """One unit of work whose result is stored under a key: equal keys are computed once."""

    analysis: ClassVar[str]
    """Name in result tables; the ``kind`` of its settings."""
    revision: ClassVar[int] = 1
    """Raised when the same inputs and parameters give other numbers or other rows."""
    compared: ClassVar[tuple[str, ...]] = ()
    """Metrics whose bootstrap draws are stored, for claims that compare two results draw by draw."""

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

    def work(self) -> Work | None:
        """Estimate the operations of `compute`; None where they are not known before it runs."""
        return None

    @cached_property
    def key(self) -> ResultKey:
        """What names the result."""
        return ResultKey(self.analysis, self.revision, self.parameters(), self.inputs())

    def result(self) -> Result:
        """Compute the result with its shared columns filled in, and the draws of `compared` among its arrays."""
        rows, arrays = self._computed()
        return with_draws(rows, self.compared, arrays)

    def _computed(self) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
        computed = self.compute()
        return [{"analysis": self.analysis, **self.columns, **row} for row in computed.rows], computed.arrays

    def passes(self) -> Sequence[LongPass]:
        """Return the long passes of `compute` that workers can share, section by section; by default none."""
        return ()

    def parts(self) -> Sequence["Task"]:
        """Return the parts whose results are stored one by one: by default the whole task."""
        return (self,)

    def part_results(self, parts: Sequence["Task"]) -> list[Result]:
        """Compute the results of some of the task's parts together, each as if it were computed alone."""
        return [part.result() for part in parts]

    def is_stored(self, results: ResultStore) -> bool:
        """Return whether the results of all parts are stored."""
        return all(results.has(part.key) for part in self.parts())

    def read_or_compute(self, results: ResultStore) -> list[tuple[ResultKey, Result]]:
        """Return the stored results of all parts; those that are missing are computed and stored first."""
        parts = self.parts()
        missing = [part for part in parts if not results.has(part.key)]
        for part, result in zip(missing, self.part_results(missing) if missing else (), strict=True):
            results.write(part.key, result)
        return [(part.key, results.read(part.key)) for part in parts]


@dataclass(frozen=True, eq=False)
class ModelTask(Task, Generic[S]):
    """A task about one token array of one model."""

    model: ModelSets
    array: str
    """Address of the token array, for example ``tokens/block.11.norm``."""
    settings: S
    context: Context
    split: RowSplit
    treatment: Treatment | None = field(default=None, kw_only=True)
    """What is done to the features before anything else; None leaves them as stored."""

    what: ClassVar[str]
    """What is computed, as a format string with the fields of ``task``."""
    groups: ClassVar[tuple[str, ...]] = ("tokens",)
    """Groups of arrays that serve, the preferred one first: patch tokens, unless less is enough."""
    labelled: ClassVar[bool] = False
    """Whether the analysis reads patch and pixel labels."""
    key_settings: ClassVar[tuple[str, ...]] = ()
    """Settings that enter the result key as they are."""
    key_counts: ClassVar[tuple[str, ...]] = ()
    """Settings that enter it increasing and each value once, for their order changes no result."""
    key_rows: ClassVar[tuple[str, ...]] = ("train", "validation")
    """Attributes that select rows whose images enter it."""
    trains: ClassVar[bool] = True
    """Whether the rows of the long table say how many images train."""
    fixed_columns: ClassVar[Mapping[str, Any]] = {}
    """Columns with the same value in all results of the analysis."""
    by_removal: ClassVar[bool] = False
    """Whether every number m of removed features has a result of its own, so that a longer ``remove`` in the settings
    computes only what is new. Rows say their m; those that do not are rows of every result."""

    @classmethod
    def tasks(cls, models: Sequence[ModelSets], settings: S, context: Context) -> Iterator["ModelTask[S]"]:
        """Yield the tasks of some models: by default one a model and layer."""
        for model in models:
            yield from cls.of_model(model, settings, context)

    @classmethod
    def notes(cls, models: Sequence[ModelSets], settings: S) -> list[str]:
        """Return sentences on what the settings ask for and some models lack, for people."""
        return []

    @classmethod
    def of_model(cls, model: ModelSets, settings: S, context: Context) -> Iterator[Self]:
        """Yield one task a layer."""
        split = RowSplit(model, context.selection, cls.analysis)
        for array in model.arrays(settings.selected_layers, getattr(settings, "norm", "final"), cls.groups):
            yield cls(model, array, settings, context, split)

    @property
    def title(self) -> str:
        """The model's title."""
        return self.model.title

    @property
    def description(self) -> str:
        """What is computed, for progress lines and error messages."""
        treated = "" if self.treatment is None else f", {self.treatment.label}"
        return self.what.format(task=self) + treated

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
        """Data set, model, view, array, and how many images train."""
        spec = self.model.spec
        train = {"train": self.train.title, "n_train": len(self.train.sources)} if self.trains else {}
        return {
            "data_set": spec.dataset.name,
            "model": spec.model.name,
            "view": spec.view.name,
            "array": self.array.partition("/")[2],
            "token": "patch",
            "layer": self.model.layer(self.array),
            "normed": self.model.is_normed(self.array),
            **train,
            **self.fixed_columns,
        }

    def check(self) -> None:
        """Raise UserError when the analysis reads labels and the data has none."""
        if self.labelled:
            self.model.need_labels(self.analysis)

    def parameters(self) -> dict[str, Any]:
        """Return the seed, the settings and images that the class lists, and the treatment where there is one."""
        return {
            **self.settings.model_dump(mode="json", include=set(self.key_settings)),
            **{name: sorted(set(getattr(self.settings, name))) for name in self.key_counts},
            **{name: list(getattr(self, name).sources) for name in self.key_rows},
            "seed": self.context.seed,
            **({} if self.treatment is None else self.treatment.parameters),
        }

    def inputs(self) -> dict[str, str]:
        """Return the content digests of the array, and of the labels where they are read."""
        return self.model.inputs(self.array, labelled=self.labelled)

    def variants(self) -> list[Self]:
        """Return this task, and with nothing removed the same on treated features for every treatment of the settings.

        Where ``remove`` is offered and has no number that fits, the task itself has nothing to compute.
        """
        own = [self] if self.removed or not isinstance(self.settings, RemovalSettings) else []
        settings = self.settings.model_copy(update={"remove": (0,), "treatments": ()})
        alternatives = self.settings.alternatives(self.n_channels)
        return own + [dataclasses.replace(self, settings=settings, treatment=one) for one in alternatives]

    def _computed(self) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
        rows, arrays = super()._computed()
        if self.treatment is not None:
            rows = [{**row, "m": None, "treatment": self.treatment.label} for row in rows]
        return rows, arrays

    def parts(self) -> Sequence["ModelTask[S]"]:
        """Return one part for every m where the analysis is `by_removal`, else the whole task."""
        return [self._removing((m,)) for m in self.removed] if self.by_removal else [self]

    def part_results(self, parts: Sequence[Task]) -> list[Result]:
        """Compute some parts in one pass over the data: one neighbour search serves every m."""
        if len(parts) == 1 or not self.by_removal:
            return super().part_results(parts)
        counts = [m for part in parts if isinstance(part, ModelTask) for m in part.removed]
        rows, arrays = self._removing(tuple(counts))._computed()
        own = [[row for row in rows if row.get("m") in (None, m)] for m in counts]
        return [with_draws(some, self.compared, arrays) for some in own]

    def _removing(self, counts: tuple[int, ...]) -> Self:
        return dataclasses.replace(self, settings=self.settings.model_copy(update={"remove": counts}))

    def searched(self, is_missing_alone: bool = False) -> dict[int, str]:
        """Return the digests of the results that neighbours are for, by m; by 0 where features are not removed.

        Args:
            is_missing_alone: whether those that are stored are left out.
        """
        results = self.context.results if is_missing_alone else None
        parts = [part for part in self.parts() if results is None or not results.has(part.key)]
        return {m: part.key.digest for part in parts if isinstance(part, ModelTask) for m in part.removed or [0]}

    def kept_sections(self) -> SectionFiles | None:
        """Return where workers keep sections of searches; None for searches on a device, and of treated features."""
        if self.context.results is None or self.context.device.name is not None or self.treatment is not None:
            return None
        return SectionFiles(self.context.results.root)

    def bootstrap(self, units: Sequence[str], unit: str = "image") -> Bootstrap:
        """Return how intervals are drawn over ``units`` (names of images or videos)."""
        return Bootstrap(tuple(units), unit, self.context.seed, getattr(self.settings, "resamples", 0))

    def device_parameter(self, is_used: bool) -> dict[str, str]:
        """Return the parameter that names the kind of device, empty where none is used whose last bits are its own."""
        return {"device": self.context.device.kind} if is_used and self.context.device.kind else {}

    @property
    def search_bytes(self) -> int:
        """Memory that a neighbour search of this task may use beside its inputs, in bytes."""
        return search_memory(self.context.memory_bytes, self.peak_bytes())
