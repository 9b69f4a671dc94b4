"""Reading an experiment file: what it asks of the pipeline, what of the analyses."""

import difflib
import tomllib
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stores.errors import MissingError, UserError

if TYPE_CHECKING:
    from evaluate.registry import EvaluationSettings
    from pipeline.extraction.run import Recorded
    from pipeline.recipe import Recipe
    from pipeline.source_choice import SourceChoice
    from stores import Store


MOST_BYTES = 1 << 20
"""Size of the largest experiment file, in bytes."""


def load_experiment(path: Path) -> tuple["Recipe", "EvaluationSettings"]:
    """Return what an experiment file asks of the pipeline and of the analyses.

    Raises UserError with the file, the key and what is wrong with it.
    """
    from pydantic import ValidationError

    from evaluate.registry import EvaluationSettings
    from pipeline.recipe import Recipe

    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise UserError(f"{path} is not a file: give an experiment file, experiments/ holds some")
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path} has more than {MOST_BYTES >> 10} KiB, which no experiment needs: shorten it")
        text = path.read_text(encoding="utf-8-sig")
        tables = tomllib.loads(text)
    except UserError:
        raise
    except FileNotFoundError:
        raise MissingError(f"there is no experiment file {path}: experiments/ holds some") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder: give an experiment file, such as experiments/demo.toml") from None
    except (ValueError, OSError, RecursionError) as error:  # ValueError: also a number of 5,000 digits
        raise UserError(f"{path} is not readable as TOML: {error}") from error
    parts: dict[str, dict[str, Any]] = {"recipe": {}, "questions": {}}
    for key, value in tables.items():
        part = "questions" if key in EvaluationSettings.model_fields else "recipe"
        parts[part][key] = value
    try:
        return Recipe.model_validate(parts["recipe"]), EvaluationSettings.model_validate(parts["questions"])
    except ValidationError as error:
        raise UserError(f"{path}: {_first_problem(error)}") from error


def recorded_sets(
    experiment: Path, recipe: "Recipe", settings: "EvaluationSettings", store: "Store", *, clean: bool = False
) -> list["Recorded"]:
    """Return the sets that were made of each model under each view; needs neither images nor models.

    With ``clean`` the clean view is asked for even where the experiment leaves it out. Raises MissingError, with the
    command that makes them, when a model was not extracted under a view.
    """
    from pipeline.extraction.run import Recorded
    from pipeline.source_choice import ALL_SOURCES
    from pipeline.views import CLEAN

    choice = source_choice(settings)
    views = [view for view, _ in recipe.shown()]
    if clean and CLEAN not in views:
        views.insert(0, CLEAN)
    found = []
    for model in recipe.models:
        for view in views:
            one = Recorded(model, view, "", "")
            # Sets of all images, which Python makes, answer every choice of images too.
            noted = store.recall(recipe.model_key(model, choice, view)) or store.recall(
                recipe.model_key(model, ALL_SOURCES, view)
            )
            if noted is None:
                needs = "" if recipe.features.clean or view is not CLEAN else " with `clean = true` in [features]"
                command = f"`patchbank extract {experiment}`{needs}"
                raise MissingError(f"{one.title} was not extracted to {store.location} yet: run {command}")
            found.append(Recorded(model, view, noted["features"], noted["labels"]))
    return found


def _first_problem(error: Any) -> str:
    # A key that is not known comes first: what is missing, or stands elsewhere by mistake, often follows from it.
    problem = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    where = ".".join(str(part) for part in problem["loc"]) or "the file"
    more = len(error.errors()) - 1
    hint = f" (and {more} more)" if more else ""
    if problem["type"] == "extra_forbidden":
        near = _nearest_keys(problem["loc"])
        ask = f"did you mean {' or '.join(near)}? " if near else ""
        return f"{where} is not a key that is known here: {ask}docs/experiment.md lists them all{hint}"
    if problem["type"] == "union_tag_invalid":
        key, tag = str(problem["ctx"]["discriminator"]).strip("'"), str(problem["ctx"]["tag"])
        known = [name.strip(" '") for name in problem["ctx"]["expected_tags"].split(",")]
        near = difflib.get_close_matches(tag, known, n=2)
        ask = f"did you mean {' or '.join(near)}? " if near else ""
        return f"{where}: there is no {key} {tag!r}: {ask}there are {', '.join(known)}{hint}"
    if problem["type"] == "missing":
        return f"{where} is required and not there: docs/experiment.md says what it means{hint}"
    if problem["type"] == "value_error":  # our own sentence, which names what is wrong
        return f"{where}: {problem['ctx']['error']}{hint}"
    expected = _EXPECTED.get(problem["type"]) or f"{problem['msg'][0].lower()}{problem['msg'][1:]}"
    return f"{where}: {expected}, not {problem['input']!r}{hint}"[:600]


_EXPECTED = {
    "model_type": "write a table, or for a size `{ height = 448, width = 672 }` or one number",
    "dict_type": "write a table",
    "tuple_type": "write a list in [ ]",
    "int_type": "write an integer without quotes",
    "int_from_float": "write an integer",
    "float_type": "write a number without quotes",
    "string_type": 'write a string in "quotes"',
    "bool_type": "write true or false",
}
"""What to write, in the words of TOML, by pydantic's name of the mistake."""


def _nearest_keys(place: tuple[str | int, ...]) -> list[str]:
    """Return the keys most like the last one of ``place``, among those that its table takes."""
    from evaluate.registry import EvaluationSettings
    from pipeline.recipe import Recipe

    records: list[Any] = [Recipe, EvaluationSettings]
    for part in place[:-1]:
        below = [record.model_fields[part].annotation for record in records if part in record.model_fields]
        if below:
            records = [record for annotation in below for record in _records(annotation)]
        elif isinstance(part, str):  # which of several records: pydantic names the value of `kind` or `name`
            tagged = [record for record in records if part in _tags(record)]
            records = tagged or records
    keys = {key for record in records for key in record.model_fields}
    return difflib.get_close_matches(str(place[-1]), sorted(keys), n=2)


def _records(annotation: Any) -> list[Any]:
    """Return the records inside an annotation such as ``tuple[A | B, ...] | None``."""
    from pydantic import BaseModel

    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [record for part in typing.get_args(annotation) for record in _records(part)]


def _tags(record: Any) -> set[str]:
    tagging = [record.model_fields[key].annotation for key in ("kind", "name") if key in record.model_fields]
    return {str(value) for annotation in tagging for value in typing.get_args(annotation)} | {record.__name__}


def source_choice(settings: "EvaluationSettings") -> "SourceChoice":
    """Return the sources that some analysis of the settings may read; all where no rule chooses among them."""
    from evaluate.selection import select_sources
    from pipeline.source_choice import ALL_SOURCES, SourceChoice

    rules = settings.rules()
    if not rules:
        return ALL_SOURCES

    def choose(table: Any) -> list[str]:
        return sorted({name for rule in rules for name in select_sources(table, rule.with_skipped())})

    return SourceChoice(choose, sorted((rule.canonical() for rule in rules), key=str))
