"""Opens the sets that were extracted of an experiment's models, and of the experiments that its analyses read too."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from commands.experiment.reading import load_experiment, recorded_sets
from stores.errors import MissingError

if TYPE_CHECKING:
    from evaluate.inputs.model_sets import ModelSets
    from evaluate.registry import EvaluationSettings
    from evaluate.settings import Selection
    from pipeline.recipe import Recipe
    from stores import Store
    from stores.sets import ZarrSet


def model_sets(experiment: Path, recipe: "Recipe", settings: "EvaluationSettings", store: "Store") -> list["ModelSets"]:
    """Return every model's clean sets with those of its views; raises MissingError for what was not extracted."""
    from evaluate.inputs.model_sets import ModelSets, ViewSets
    from evaluate.inputs.views import check_rows
    from pipeline.views import CLEAN

    command = f"patchbank extract {experiment}"
    recorded = recorded_sets(experiment, recipe, settings, store, clean=True)
    models = []
    for model in recipe.models:
        of_model = [sets for sets in recorded if sets.model is model]
        clean = next(sets for sets in of_model if sets.view is CLEAN)
        views = [
            ViewSets(
                sets.view.name,
                sets.view.level or 0.0,
                _opened(store, sets.features, "features", command),
                _opened(store, sets.labels, "labels", command),
            )
            for sets in of_model
            if sets is not clean
        ]
        one = ModelSets(
            title=model.display,
            features=_opened(store, clean.features, "features", command),
            labels=_opened(store, clean.labels, "labels", command),
            probe_batchnorm=model.standardised_probe,
            extract_command=command,
            views={(view.name, view.level): view for view in views},
            role=model.effective_role,
        )
        for viewed in one.views.values():
            check_rows(one, viewed)
        models.append(one)
    return models


def _opened(store: "Store", digest: str, kind: str, command: str) -> "ZarrSet":
    """Return a set whose chunks are compared with their seals; raises MissingError where the store lacks it."""
    from stores.maintenance.checked import checked

    if digest not in store.objects.children(kind):
        raise MissingError(
            f"{store.location} does not hold the {kind} {digest[:12]} of this experiment: import that set too, or run "
            f"`{command}`"
        )
    return checked(store.open(f"{kind}/{digest}", from_summary=True))


@contextmanager
def naming_lost_seals(models: Sequence["ModelSets"]) -> Iterator[None]:
    """Raise DamageError in place of the MissingError about an array that was complete and lost its seal.

    Extracting it again, which that error asks for, would run the model where `patchbank repair` reads the array.
    """
    from stores.maintenance.verify import refuse_lost_seals

    try:
        yield
    except MissingError:
        sets = [one for model in models for one in (model.features, model.labels)]
        sets += [one for model in models for view in model.views.values() for one in (view.features, view.labels)]
        for stored_set in {one.prefix: one for one in sets}.values():
            refuse_lost_seals(stored_set.objects, stored_set.prefix)
        raise


def other_experiment(experiment: Path, store: "Store") -> list[tuple["ModelSets", "Selection | None"]]:
    """Return the models of another experiment with its selection; raises MissingError for what was not extracted."""
    recipe, settings = load_experiment(experiment)
    return [(model, settings.selection) for model in model_sets(experiment, recipe, settings, store)]
