"""Opens the sets that were extracted of an experiment's models, and of the experiments that its analyses read too."""

from pathlib import Path
from typing import TYPE_CHECKING

from commands.experiment.reading import load_experiment, recorded_sets

if TYPE_CHECKING:
    from evaluate.inputs.model_sets import ModelSets
    from evaluate.registry import EvaluationSettings
    from evaluate.settings import Selection
    from pipeline.recipe import Recipe
    from stores import Store


def model_sets(experiment: Path, recipe: "Recipe", settings: "EvaluationSettings", store: "Store") -> list["ModelSets"]:
    """Return every model's clean sets with those of its views; raises MissingError for what was not extracted."""
    from evaluate.inputs.model_sets import ModelSets, ViewSets
    from evaluate.inputs.views import check_rows
    from pipeline.views import CLEAN
    from stores.maintenance.checked import checked

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
                checked(store.open(sets.features, from_summary=True)),
                checked(store.open(sets.labels, from_summary=True)),
            )
            for sets in of_model
            if sets is not clean
        ]
        one = ModelSets(
            title=model.display,
            features=checked(store.open(clean.features, from_summary=True)),
            labels=checked(store.open(clean.labels, from_summary=True)),
            probe_batchnorm=model.standardised_probe,
            extract_command=command,
            views={(view.name, view.level): view for view in views},
            role=model.effective_role,
        )
        for viewed in one.views.values():
            check_rows(one, viewed)
        models.append(one)
    return models


def other_experiment(experiment: Path, store: "Store") -> list[tuple["ModelSets", "Selection | None"]]:
    """Return the models of another experiment with its selection; raises MissingError for what was not extracted."""
    recipe, settings = load_experiment(experiment)
    return [(model, settings.selection) for model in model_sets(experiment, recipe, settings, store)]
