"""The base of the tasks that classify patches by k-NN or by a linear probe."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

from evaluate.inputs.limits import check_k
from evaluate.inputs.memory import ClassifierMemory, n_patches
from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.rows import RowSplit
from evaluate.inputs.work import ClassifierWork, Work
from evaluate.kernels.probing.penalties import PENALTIES
from evaluate.neighbours.found import sections
from evaluate.results.sections import LongPass
from evaluate.scoring.patch_classifiers import PatchData, ProbeOptions, read_patches, treat_patches
from evaluate.scoring.stored_neighbours import SearchPass
from evaluate.settings import Classifier, ClassifierSettings, Context
from evaluate.task import ModelTask

C = TypeVar("C", bound=ClassifierSettings)


@dataclass(frozen=True, eq=False)
class ClassifierTask(ModelTask[C]):
    """A task that classifies patches by one classifier."""

    classifier: Classifier

    labelled: ClassVar[bool] = True

    @classmethod
    def of_model(cls, model: ModelSets, settings: C, context: Context) -> Iterator[Self]:
        """Yield one task a layer, split and classifier."""
        splits = cls.splits(model, settings, context)
        for array in model.arrays(settings.selected_layers, getattr(settings, "norm", "final")):
            for split in splits:
                for classifier in settings.classifiers:
                    yield cls(model, array, settings, context, split, classifier)

    @classmethod
    def splits(cls, model: ModelSets, settings: C, context: Context) -> list[RowSplit]:
        """Return the training and validation rows to classify: by default those of the experiment's selection."""
        return [RowSplit(model, context.selection, cls.analysis)]

    @property
    def classifier_title(self) -> str:
        """The classifier in words."""
        return "k-NN" if self.classifier == "knn" else self.classifier

    @property
    def k(self) -> tuple[int, ...]:
        """Numbers of neighbours that vote."""
        k: int | tuple[int, ...] = getattr(self.settings, "k", 1)
        return (k,) if isinstance(k, int) else k

    @property
    def penalties(self) -> list[float]:
        """L2 penalties of the probe to choose from."""
        return list(self.settings.penalties or PENALTIES)

    @property
    def probe_options(self) -> ProbeOptions:
        """How this task fits probes."""
        settings: ClassifierSettings = self.settings
        return ProbeOptions(
            self.context.seed,
            tuple(self.penalties),
            settings.penalty_score,
            settings.probe,
            settings.epochs,
            settings.learning_rate,
            self.context.device.name,
        )

    @property
    def probe_parameters(self) -> dict[str, Any]:
        """The parameters of probes."""
        settings: ClassifierSettings = self.settings
        if settings.probe == "adamw":
            fixed = {"probe": "adamw", "epochs": settings.epochs, "learning_rate": settings.learning_rate}
            return {"batchnorm": self.model.probe_batchnorm, **fixed}
        chosen = {"penalties": self.penalties, "penalty_score": settings.penalty_score}
        return {"batchnorm": self.model.probe_batchnorm, **chosen}

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that all classifiers have, and the device where last bits depend on it."""
        device = self.device_parameter(self.classifier == "probe")
        return {**super().parameters(), "classifier": self.classifier, **device}

    @property
    def columns(self) -> dict[str, Any]:
        """The shared columns and the classifier."""
        return {**super().columns, "classifier": self.classifier}

    def patches(self) -> PatchData:
        """Read training and validation patches, their features treated where the task has a treatment."""
        patches = read_patches(self.model, self.array, self.train, self.validation)
        return treat_patches(patches, self.treatment, self.context.seed)

    def check(self) -> None:
        """Raise UserError for data without labels, and for more neighbours than training patches."""
        super().check()
        if self.classifier == "knn":
            check_k(max(self.k), n_patches(self.model, self.array, len(self.train.rows)))

    def passes(self) -> list[LongPass]:
        """Return the exact search on a CPU of neighbours that are not stored, if its bank has several sections."""
        results, n_bank = self.context.results, n_patches(self.model, self.array, len(self.train.rows))
        is_exact = self.classifier == "knn" and getattr(self.settings, "search", "exact") == "exact"
        if not is_exact or results is None or self.treatment is not None or self.context.device.name is not None:
            return []
        if len(sections(n_bank)) < 2:  # before labels are read, which leave fewer
            return []
        patches, k = read_patches(self.model, self.array, self.train, self.validation), max(self.k)
        search = patches.search(self.validation, getattr(self.settings, "metric", "euclidean"))
        wanted = [m for part in self.parts() if not results.has(part.key) for m in part.removed]
        stored = search.stored(wanted, k, results)
        missing = tuple(m for m in wanted if m not in stored)
        searched = SearchPass(search, patches.labelled, missing, k, self.search_bytes)
        return [searched] if missing and searched.n_sections > 1 else []

    @property
    def memory(self) -> ClassifierMemory:
        """Estimates of memory for the patches of this task."""
        return ClassifierMemory(self.model, self.array, self.train, self.validation)

    @property
    def operations(self) -> ClassifierWork:
        """Estimates of work for the patches of this task."""
        return ClassifierWork(self.model, self.array, self.train, self.validation)

    def classifier_work(self, n_subsets: int, n_searches: int = 1) -> Work:
        """Return the work of reading patches and predicting for several sets of kept features.

        Neighbours of all sets come from one search, or from ``n_searches``; a probe is fitted for each set.
        """
        read = self.operations.reading() + self.operations.treating(self.treatment)
        if self.classifier == "knn":
            return read + self.operations.searching(-(-n_subsets // n_searches)) * n_searches
        if self.probe_options.fit == "adamw":
            return read + self.operations.probing(n_subsets, 1, self.probe_options.epochs)
        return read + self.operations.probing(n_subsets, len(self.penalties))

    def classifier_bytes(self, n_subsets: int, search: str = "exact") -> int:
        """Return the bytes that predicting holds for several sets of kept features, from one search or fit."""
        treating = 0 if self.treatment is None else self.memory.treating()
        if self.classifier == "knn":
            return treating + self.memory.searching(n_subsets, self.k, search)
        return treating + self.memory.probing(n_subsets, len(self.penalties))
