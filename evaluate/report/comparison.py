"""Comparison of models across experiments: rows that were measured in the same way, side by side.

Two rows are comparable where everything but the model is equal: the analysis and its revision, the images and label
files, how images were cut, the patch grid, the training and validation images, every parameter, and every column of the
long table that says what was measured (m, k, class, ...). A row that no other model has is refused, and the field in
which it differs is named.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from evaluate.claims.roles import ModelInfo
from evaluate.report.reading import StoredResults
from evaluate.results.files import without_formula
from evaluate.results.preferred import last_layer
from stores.canonical import canonical_json, digest
from stores.errors import UserError

MEASURED = (
    *("analysis", "metric", "data_set", "view", "level", "token", "normed", "classifier", "distance"),
    *("n_train", "m", "treatment", "k", "x_name", "x_value", "outcome", "class", "reference"),
)
"""Columns of the long table that say what was measured."""

_DRAWN = ("unit", "n_units", "seed")
"""Columns of the long table that say how intervals were drawn."""

_STATED_BY_ROWS = frozenset(
    ("remove", "treatment", "k", "m", "top", "features", "treatments", "draws", "gaps", "recall_at", "targets",
     "classes", "images", "pictures", "queries", "device", "metric")
)  # fmt: skip
"""Parameters that choose which rows a result has, each of which says its own in a column, and the kind of device."""

_DATA = ("image files", "label files", "label classes", "facts of images")


@dataclass(frozen=True)
class Refusal:
    """Rows of one model that were measured in another way than those of all other models."""

    model: str
    other: str
    """The model whose rows differ least."""
    analysis: str
    fields: tuple[tuple[str, str, str], ...]
    """Field, its value for this model, and its value for the other one."""
    n_rows: int

    def __str__(self) -> str:
        own = ", ".join(f"{field} {value}" for field, value, _ in self.fields)
        others = ", ".join(f"{field} {value}" for field, _, value in self.fields)
        counted = f"{self.n_rows:,} row{'' if self.n_rows == 1 else 's'} of {self.analysis}"
        return f"{counted} are not compared: {self.model} has {own}; {self.other} has {others}"


@dataclass(frozen=True)
class Comparison:
    """Models side by side."""

    models: tuple[str, ...]
    rows: pd.DataFrame
    """One row a measured quantity. Columns ``(field, "")`` are `MEASURED` and other fields that tell rows apart;
    ``(model, field)`` those that were allowed to differ, and ``value``, ``low`` and ``high``."""
    refused: tuple[Refusal, ...]
    n_alone: int
    """Rows of quantities that were measured for one model only."""
    allowed: tuple[str, ...]

    def csv(self) -> bytes:
        """Return the rows as a CSV file with columns such as ``ViT-B/16 value``; text is safe in spreadsheets."""
        flat = self.rows.copy()
        flat.columns = pd.Index([without_formula(" ".join(filter(None, names))) for names in flat.columns])
        text = flat.select_dtypes(exclude="number").columns
        flat[text] = flat[text].map(lambda cell: without_formula(cell) if isinstance(cell, str) else cell)
        return flat.to_csv(index=False, float_format="%.9g").encode()


def compare(experiments: Sequence[StoredResults], *, layers: str = "last", allow: Sequence[str] = ()) -> Comparison:
    """Return the comparable rows of all models of some experiments side by side.

    Args:
        experiments: Results of evaluated experiments.
        layers: ``last`` for the last layer of every model; ``all`` for all, of which equal numbers are compared.
        allow: Fields that may differ.

    Raises UserError where no two models have a comparable row, or ``allow`` names a field that no row has.
    """
    titles = _titles(experiments)
    tables = [
        _fields(read, info, titles[number, info.title], layers)
        for number, read in enumerate(experiments)
        for info in read.models_info
    ]
    rows = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["model"])
    if rows["model"].nunique() < 2:
        names = ", ".join(dict.fromkeys(read.experiment for read in experiments))
        raise UserError(f"{names} has one model: give the folders of two experiments, or one with two models")
    known = [column for column in rows.columns if column not in ("model", "value", "low", "high")]
    # A parameter that no analysis of an experiment has is a column that its table lacks.
    rows[known] = rows[known].astype(object).where(rows[known].notna(), "")
    if unknown := [name for name in allow if name not in known]:
        raise UserError(f"--allow {unknown[0]}: there is no such field; choose among {', '.join(sorted(known))}")
    keys = [column for column in known if column not in allow]
    rows = rows.drop_duplicates()  # some results repeat what belongs to all of them
    # Rows that differ in nothing else, such as those of single videos without a name, are told apart by their place.
    rows["place"] = rows.groupby([*keys, "model"], dropna=False, sort=False).cumcount()
    rows["code"] = rows.groupby([*keys, "place"], dropna=False, sort=False).ngroup()
    n_models = rows.groupby("code")["model"].transform("nunique")
    shared, alone = rows[n_models > 1], rows[n_models == 1]
    refused, n_alone = _refusals(alone, rows, keys)
    if shared.empty:
        if refused:
            raise UserError(
                f"no two models have a row in common: {refused[0]}; evaluate them in the same way, or accept this "
                f"with --allow {' --allow '.join(repr(field) for field, _, _ in refused[0].fields)}"
            )
        raise UserError("no two models have a row in common: evaluate the same analyses for both")
    models = tuple(dict.fromkeys(shared["model"]))
    return Comparison(models, _side_by_side(shared, models, keys, allow), refused, n_alone, tuple(allow))


def protocol_of(info: ModelInfo) -> dict[str, str]:
    """Return what two models must share beside rows and parameters: the data, and how it was cut."""
    frame = info.frame
    cut = {"resize": frame.resize, "tile": frame.tile, "edge": frame.edge}
    said = {name: "none" if value is None else str(value) for name, value in cut.items()}
    if missing := [name for name in _DATA if name not in info.data]:
        raise UserError(
            f"the results of {info.title} do not say which {missing[0]} they are about, for an earlier version made "
            "them: run `patchbank evaluate` on its experiment again, which reuses all results"
        )
    return {**{name: info.data[name] for name in _DATA}, **said}


def _titles(experiments: Sequence[StoredResults]) -> dict[tuple[int, str], str]:
    """Return a name for every model of every experiment; models of one title are told apart by the experiment."""
    counts = Counter(info.title for read in experiments for info in read.models_info)
    names = [read.experiment for read in experiments]
    return {
        (number, info.title): info.title
        if counts[info.title] == 1
        else f"{info.title} ({read.experiment}{f', {number + 1}' if names.count(read.experiment) > 1 else ''})"
        for number, read in enumerate(experiments)
        for info in read.models_info
    }


def _fields(read: StoredResults, info: ModelInfo, title: str, layers: str) -> pd.DataFrame:
    """Return the rows of one model with every field that comparable rows must share, as text."""
    rows = read.table[(read.table["model"] == info.title) & read.table["value"].notna()]
    columns = list(MEASURED)
    if layers == "last":
        of_layer = rows["layer"].notna() | (rows["x_name"] == "layer").fillna(False)
        rows = pd.concat([_last_layers(rows[of_layer]), rows[~of_layer]]).sort_index()
        by_layer = (rows["x_name"] == "layer").fillna(False)
        rows = rows.assign(x_name=rows["x_name"].mask(by_layer), x_value=rows["x_value"].mask(by_layer))
    else:
        columns.append("layer")
    text = {column: rows[column].astype(object).map(_text) for column in (*columns, *_DRAWN)}
    fields = pd.DataFrame({**text, **protocol_of(info)}, index=rows.index)
    fields["revision"] = rows["result"].map({one: str(read.revisions.get(one)) for one in rows["result"].unique()})
    grids = {inputs: _grid(json.loads(inputs)) for inputs in rows["inputs"].unique()}
    fields["patch grid"] = rows["inputs"].map(grids)
    by_params = {params: _parameters(json.loads(params)) for params in rows["params"].unique()}
    for name in sorted({name for one in by_params.values() for name in one}):
        if name not in fields:
            fields[name] = rows["params"].map({params: one.get(name, "") for params, one in by_params.items()})
    values = rows[["value", "low", "high"]].astype(float)
    return pd.concat([pd.Series(title, index=rows.index, name="model"), fields, values], axis=1)


def _last_layers(rows: pd.DataFrame) -> pd.DataFrame:
    if rows.empty:
        return rows
    return pd.concat([last_layer(part) for _, part in rows.groupby("analysis", sort=False)])


def _text(value: Any) -> str:
    if pd.isna(value):
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _grid(inputs: Mapping[str, str]) -> str:
    return next((name.partition("/")[2] for name in inputs if name.startswith("patches/")), "")


def _parameters(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Return the parameters that rows do not state themselves; lists of images by their number and digest."""
    said = {}
    for name, value in parameters.items():
        if name in _STATED_BY_ROWS:
            continue
        text = canonical_json(value).decode() if not isinstance(value, str) else value
        if len(text) > 60:
            size = f"{len(value)} of " if isinstance(value, list) else ""
            text = f"{size}{digest({'value': value})[:12]}"
        said[name] = text
    return said


def _side_by_side(
    shared: pd.DataFrame, models: Sequence[str], keys: Sequence[str], allow: Sequence[str]
) -> pd.DataFrame:
    first = shared.drop_duplicates("code").set_index("code")
    shown = [key for key in keys if key in MEASURED]
    # Of the other fields those that tell rows of the same analysis and metric apart.
    by_metric = first.groupby(["analysis", "metric"])
    shown += [key for key in keys if key not in MEASURED and (by_metric[key].nunique() > 1).any()]
    named: dict[tuple[str, str], Any] = {(column, ""): first[column] for column in shown}
    by_model = {model: shared[shared["model"] == model].set_index("code") for model in models}
    for model, rows in by_model.items():
        named |= {(model, column): rows[column] for column in allow}
        named |= {(model, column): rows[column] for column in ("value", "low", "high")}
    table = pd.DataFrame(named)
    return table.reindex(first.index).reset_index(drop=True)


def _refusals(alone: pd.DataFrame, rows: pd.DataFrame, keys: Sequence[str]) -> tuple[tuple[Refusal, ...], int]:
    """Return which rows differ in how they were measured, and how many have no counterpart that measured the same."""
    what = [key for key in keys if key in MEASURED and key != "n_train"] + ["place"]
    how = [key for key in keys if key not in what]
    n_what = len(what)
    counterparts: dict[tuple[str, ...], dict[str, tuple[str, ...]]] = {}
    named = rows[["model", *what, *how]].astype(str)
    for model, *values in named.itertuples(index=False, name=None):
        counterparts.setdefault(tuple(values[:n_what]), {}).setdefault(model, tuple(values[n_what:]))
    counts: Counter[tuple[str, str, str, tuple[tuple[str, str, str], ...]]] = Counter()
    n_alone = 0
    for model, *values in named.loc[alone.index].itertuples(index=False, name=None):
        differing = [
            (other, _differing(how, values[n_what:], of_other))
            for other, of_other in counterparts[tuple(values[:n_what])].items()
            if other != model
        ]
        if differing:
            other, fields = min(differing, key=lambda one: len(one[1]))
            counts[model, other, values[what.index("analysis")], fields] += 1
        else:
            n_alone += 1
    refused: dict[tuple[str, str, str, tuple[tuple[str, str, str], ...]], Refusal] = {}
    for (model, other, analysis, fields), n_rows in counts.items():
        mirrored = other, model, analysis, tuple((field, theirs, own) for field, own, theirs in fields)
        if mirrored not in refused:
            refused[model, other, analysis, fields] = Refusal(model, other, analysis, fields, n_rows)
    return tuple(refused.values()), n_alone


def _differing(fields: Sequence[str], own: Sequence[str], others: Sequence[str]) -> tuple[tuple[str, str, str], ...]:
    pairs = zip(fields, own, others, strict=True)
    return tuple((field, _short(a), _short(b)) for field, a, b in pairs if a != b)


def _short(value: str) -> str:
    return value[:12] if len(value) == 64 and set(value) <= set("0123456789abcdef") else value or "none"
