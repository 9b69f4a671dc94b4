"""Loads a TOML experiment and splits it into extraction and evaluation settings."""

import difflib
import tomllib
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stores.errors import MissingError, UserError

if TYPE_CHECKING:
    from evaluate.registry import EvaluationSettings
    from evaluate.selection import SelectionRule
    from pipeline.recipe import Recipe
    from pipeline.recorded import Recorded
    from pipeline.source_choice import SourceChoice
    from stores import Store


MOST_BYTES = 1 << 20
"""Size of the largest experiment file, in bytes."""


def load_experiment(path: Path) -> tuple["Recipe", "EvaluationSettings"]:
    """Return the extraction and the evaluation settings of an experiment file.

    Raises UserError naming the file, the key and the problem, MissingError when there is no such file.
    """
    from pydantic import ValidationError

    from evaluate.registry import EvaluationSettings
    from pipeline.recipe import Recipe

    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise UserError(f"{path} is not a file: give an experiment file, see experiments/ for examples")
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path} is larger than {MOST_BYTES >> 10} KiB, the limit for experiment files: shorten it")
        text = path.read_text(encoding="utf-8-sig")
        tables = tomllib.loads(text)
    except UserError:
        raise
    except FileNotFoundError:
        raise MissingError(f"there is no experiment file {path}: see experiments/ for examples") from None
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
        raise UserError(f"{path}: {_first_problem(error, tables)}") from error


def recorded_sets(
    experiment: Path, recipe: "Recipe", settings: "EvaluationSettings", store: "Store", *, clean: bool = False
) -> list["Recorded"]:
    """Return the sets that were extracted of each model under each view; needs neither images nor models.

    Raises MissingError, with the command that extracts them, when a model was not extracted under a view.

    Args:
        experiment: The experiment file, named in errors.
        recipe: Its extraction settings.
        settings: Its evaluation settings, which choose source images.
        store: The store to look in.
        clean: Include the clean view even if the experiment leaves it out.
    """
    from pipeline.views import CLEAN

    recorded = find_recorded(recipe, settings, store, clean=clean)
    for one in recorded:
        if not one.features:
            needs = "" if recipe.features.clean or one.view is not CLEAN else " with `clean = true` in [features]"
            command = f"`patchbank extract {experiment}`{needs}"
            raise MissingError(f"{one.title} was not extracted to {store.location} yet: run {command}")
    return recorded


def find_recorded(
    recipe: "Recipe", settings: "EvaluationSettings", store: "Store", *, clean: bool = False
) -> list["Recorded"]:
    """Return the sets of each model under each view, with empty digests where no extraction came to its end.

    Args:
        recipe: Extraction settings of the experiment.
        settings: Its evaluation settings, which choose source images.
        store: The store to look in.
        clean: Include the clean view even if the experiment leaves it out.
    """
    from pipeline.recorded import Recorded
    from pipeline.source_choice import ALL_SOURCES
    from pipeline.views import CLEAN

    choice = source_choice(settings)
    views = [view for view, _ in recipe.all_views()]
    if clean and CLEAN not in views:
        views.insert(0, CLEAN)
    recorded = []
    for model in recipe.models:
        for view in views:
            # Sets of all images, as extracted from Python, serve every choice of images.
            noted = store.recall(recipe.model_key(model, choice, view)) or store.recall(
                recipe.model_key(model, ALL_SOURCES, view)
            )
            noted = noted or {"features": "", "labels": ""}
            recorded.append(Recorded(model, view, noted["features"], noted["labels"]))
    return recorded


def _first_problem(error: Any, tables: dict[str, Any]) -> str:
    # Unknown keys first: a misspelt or misplaced key often causes the other problems.
    problem = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    where = _key(problem, tables)
    inside = [one for one in error.errors() if _key(one, tables).startswith(f"{where}.")]
    if inside:  # a list whose items are wrong is no problem of its own
        problem, where = inside[0], _key(inside[0], tables)
    others = [one for one in error.errors() if not f"{where}.".startswith(f"{_key(one, tables)}.")]
    hint = f" (and {len(others)} more)" if others else ""
    if problem["type"] == "extra_forbidden":
        near = _nearest_keys(problem["loc"])
        ask = f"did you mean {' or '.join(near)}? " if near else ""
        return f"{where} is not a known key: {ask}docs/experiment.md lists all keys{hint}"
    if problem["type"] == "union_tag_invalid":
        key, tag = str(problem["ctx"]["discriminator"]).strip("'"), str(problem["ctx"]["tag"])
        known = [name.strip(" '") for name in problem["ctx"]["expected_tags"].split(",")]
        near = difflib.get_close_matches(tag, known, n=2)
        ask = f"did you mean {' or '.join(near)}? " if near else ""
        return f"{where}: there is no {key} {tag!r}: {ask}there are {', '.join(known)}{hint}"
    if problem["type"] == "union_tag_not_found":
        key = str(problem["ctx"]["discriminator"]).strip("'")
        return f"{where}.{key} is required and missing: docs/experiment.md explains it{hint}"
    if problem["type"] == "missing":
        return f"{where} is required and missing: docs/experiment.md explains it{hint}"
    if problem["type"] == "value_error":  # the message of one of our own validators
        return f"{where}: {problem['ctx']['error']}{hint}"
    # A key that takes one of several types has a problem with each of them.
    here = [one for one in error.errors() if _key(one, tables) == where]
    value = list(problem["input"]) if isinstance(problem["input"], tuple) else problem["input"]
    is_size = where.rpartition(".")[2] in ("input", "tile", "resize") and not isinstance(value, int)
    expected = "write a size: `{ height = 448, width = 672 }` or one number" if is_size else _expected(here)
    return f"{where}: {expected}, not {value!r}{hint}"[:600]


def _expected(problems: list[Any]) -> str:
    """Return what to write in place of a value that none of the types of its key takes."""
    if problems[0]["type"] == "too_long":
        return f"write {problems[0]['ctx']['max_length']} entries or fewer"
    if len(problems) == 1 or any(one["type"] not in (*_EXPECTED, "literal_error") for one in problems):
        return " or ".join(dict.fromkeys(_EXPECTED.get(one["type"]) or _lower(one["msg"]) for one in problems))
    # One verb for all: "write 'all', 'none' or a list in [ ]".
    words = [str(one["ctx"]["expected"]) for one in problems if one["type"] == "literal_error"]
    others = [_EXPECTED[one["type"]] for one in problems if one["type"] in _EXPECTED]
    words = list(dict.fromkeys([*words, *(other.removeprefix("write ") for other in others)]))
    return "write " + " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _lower(sentence: str) -> str:
    return f"{sentence[0].lower()}{sentence[1:]}"


def _key(problem: Any, tables: dict[str, Any]) -> str:
    """Return the key that a problem is about, as the file has it: without the names of types that pydantic adds."""
    is_key = problem["type"] in ("extra_forbidden", "missing")
    return ".".join(_keys(problem["loc"], tables, is_key) or ()) or "the file"


def _keys(location: tuple[str | int, ...], here: Any, is_key: bool) -> list[str] | None:
    """Return the parts of ``location`` that are keys of ``here`` and below; None if the last has to be one and is not.

    A type can be called like a key beside it (``shorter``), so both readings are tried.
    """
    if not location:
        return []
    part, rest = location[0], location[1:]
    is_item = isinstance(here, list) and isinstance(part, int) and part < len(here)
    if is_item or (isinstance(here, dict) and part in here):
        below = _keys(rest, here[part], is_key)
        if below is not None:
            return [str(part), *below]
    if not rest and (isinstance(here, dict) or (isinstance(here, list) and isinstance(part, int))):
        return [str(part)]
    return None if is_key and not rest else _keys(rest, here, is_key)


_EXPECTED = {
    "model_type": "write a table",
    "model_attributes_type": "write a table",
    "dict_type": "write a table",
    "tuple_type": "write a list in [ ]",
    "too_short": "write at least one entry",
    "int_type": "write an integer without quotes",
    "int_from_float": "write an integer",
    "float_type": "write a number without quotes",
    "string_type": 'write a string in "quotes"',
    "bool_type": "write true or false",
}
"""What to write in TOML, by pydantic's name of the error."""


def _nearest_keys(path: tuple[str | int, ...]) -> list[str]:
    """Return the keys most like the last one of ``path``, among those that its table has."""
    from evaluate.registry import EvaluationSettings
    from pipeline.recipe import Recipe

    records: list[Any] = [Recipe, EvaluationSettings]
    for part in path[:-1]:
        below = [record.model_fields[part].annotation for record in records if part in record.model_fields]
        if below:
            records = [record for annotation in below for record in _records(annotation)]
        elif isinstance(part, str):  # one of several records: pydantic gives the value of `kind` or `name`
            tagged = [record for record in records if part in _tags(record)]
            records = tagged or records
    keys = {key for record in records for key in record.model_fields}
    return difflib.get_close_matches(str(path[-1]), sorted(keys), n=2)


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

    # A rule whose sources another takes too leaves no trace in the key: asking for them is no reason to extract again.
    kept: list[SelectionRule] = []
    for rule in sorted(rules, key=lambda rule: str(rule.canonical())):
        if not any(other.contains(rule) for other in kept):
            kept = [*(other for other in kept if not rule.contains(other)), rule]
    return SourceChoice(choose, [rule.canonical() for rule in kept])
