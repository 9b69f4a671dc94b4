"""Write docs/experiment.md from the records that read experiment files: ``python docs/generate.py``."""

import sys
import types
import typing
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from evaluate.registry import ANALYSES, ClaimSettings, EvaluationSettings  # noqa: E402
from evaluate.selection import SelectionRule  # noqa: E402
from evaluate.settings import Selection  # noqa: E402
from pipeline.dataset_recipe import DatasetRecipe, FewShot, ManifestClass  # noqa: E402
from pipeline.frame_recipe import FrameRecipe  # noqa: E402
from pipeline.recipe import DecoderRecipe, FeatureRecipe, MaskRecipe, ModelRecipe, Recipe, StorageRecipe  # noqa: E402
from pipeline.views import VIEWS, ViewRecipe  # noqa: E402
from stores.specs import ShorterSide, Size  # noqa: E402


def kind_of(settings: type[BaseModel]) -> str:
    """Return what an author writes as the analysis's kind."""
    return str(typing.get_args(settings.model_fields["kind"].annotation)[0])


TABLES: list[tuple[str, type[BaseModel]]] = [
    ("At the top", EvaluationSettings),
    ("[dataset]", DatasetRecipe),
    ("[[dataset.classes]]", ManifestClass),
    ("[dataset.few_shot]", FewShot),
    ("[frame]", FrameRecipe),
    ("A size: `{ height = 448, width = 672 }`, or one number for a square", Size),
    ("The shorter side: `{ shorter = 256 }`", ShorterSide),
    ("[[models]]", ModelRecipe),
    ('decoder in [[models]]: `decoder = { target = "normalised" }`', DecoderRecipe),
    ("[features]", FeatureRecipe),
    ("masked in [features]: `masked = { ratio = 0.75, seed = 0 }`", MaskRecipe),
    ("[[views]], whatever the view", ViewRecipe),
    *((f'[[views]] name = "{name}"', settings) for name, settings in VIEWS.items()),
    ("[storage]", StorageRecipe),
    ("[selection]", Selection),
    ("[selection.train] and [selection.validation]", SelectionRule),
    ("[claims]", ClaimSettings),
    *((f'[[analyses]] kind = "{kind_of(settings)}"', settings) for settings in ANALYSES),
]
OTHER_EXPERIMENTS = {"selection", "analyses", "claims", "kind", *Recipe.model_fields}
"""Keys that have a table of their own."""


def words(annotation: Any) -> str:
    """Return a type in the words of a TOML author."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return words(arguments[0])
    if origin is typing.Literal:
        return " or ".join(f'"{value}"' if isinstance(value, str) else str(value) for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(words(one) for one in arguments if one is not type(None))
    if origin is tuple:
        return f"list of {words(arguments[0])}"
    if origin is dict:
        return "table"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {Size: "size", ShorterSide: "shorter side"}.get(annotation, "table")
    return {str: "string", int: "integer", float: "number", bool: "true or false"}[annotation]


def default(field: Any) -> str:
    """Return a default in TOML's spelling."""
    if field.is_required():
        return "required"
    value = field.default if field.default is not PydanticUndefined else field.default_factory()
    if value is None:
        return "none"
    return toml(value)


def toml(value: Any) -> str:
    """Return a value in TOML's spelling."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    return "{}" if value == {} else str(value)


def page() -> str:
    """Return the page."""
    lines = [
        "# The experiment file",
        "",
        "An experiment is one TOML file: *what* is measured. How it runs (device, workers, places) are flags, and no",
        "flag changes a number. Unknown keys are refused. Its head comment says what it reproduces, how long it takes",
        "and what to expect. This page is made from the code by `python docs/generate.py`.",
    ]
    for title, record in TABLES:
        lines += ["", f"## {title}", ""]
        if record is not EvaluationSettings:
            lines += [" ".join((record.__doc__ or "").split()), ""]
        lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
        for key, field in record.model_fields.items():
            if (key in OTHER_EXPERIMENTS and record in (EvaluationSettings,)) or key == "kind":
                continue
            if record in VIEWS.values() and (key == "name" or key in ViewRecipe.model_fields):
                continue  # the title says the name, and what all views share stands once
            meaning = " ".join((field.description or "").split()).replace("|", "\\|")
            lines.append(f"| `{key}` | {words(field.annotation)} | {default(field)} | {meaning} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (ROOT / "docs" / "experiment.md").write_text(page())
