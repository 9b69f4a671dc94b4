"""Comparison of models across experiments: rows that were measured in the same way, side by side.

Two rows are comparable where everything but the model is equal: the analysis and its revision, the images and label
files that it reads, how images were cut, the patch grid, the training and validation images, every parameter, and every
column of the long table that says what was measured (m, k, class, ...). A row that no other model has is refused, and
the field in which it differs is named (`evaluate.report.differences`).

Without ``layers="all"`` the last layer of every model is compared, before and after the final norm as far as both were
measured; the column ``normed`` says which. Rows of other layers and points are counted.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from evaluate.claims.roles import PARTS_KNOWN, ModelInfo
from evaluate.report.differences import Alone, Refusal, differences
from evaluate.report.reading import StoredResults
from evaluate.results.files import without_formula
from evaluate.results.preferred import layer_numbers
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

_PARTS = ("train", "validation", "scored")
_IMAGES = (*_PARTS, "frames", "images", "samples", "reference_train", "others_train")
"""Parameters that list images."""

_DATA = ("image files", "label files", "label classes", "facts of images")


@dataclass(frozen=True)
class Comparison:
    """Models side by side."""

    models: tuple[str, ...]
    rows: pd.DataFrame
    """One row a measured quantity. Columns ``(field, "")`` are `MEASURED` and other fields that tell rows apart;
    ``(model, field)`` those that were allowed to differ, and ``value``, ``low`` and ``high``."""
    refused: tuple[Refusal, ...]
    alone: tuple[Alone, ...]
    """Rows of quantities that were measured for one model only."""
    n_inner: int
    """Rows of layers, and of points inside of blocks, that the last layers leave out."""
    allowed: tuple[str, ...]

    @property
    def n_alone(self) -> int:
        """Number of rows of quantities that were measured for one model only."""
        return sum(one.n_rows for one in self.alone)

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
    says_parts = all(PARTS_KNOWN in info.data for read in experiments for info in read.models_info)
    chosen = [
        (_of_model(read, info, layers), read, info, titles[number, info.title])
        for number, read in enumerate(experiments)
        for info in read.models_info
    ]
    tables = [_fields(some, read, info, title, layers, says_parts) for (some, _), read, info, title in chosen]
    n_inner = sum(n_left_out for (_, n_left_out), *_ in chosen)
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
    what = [key for key in keys if key in MEASURED and key != "n_train"] + ["place"]
    refused, alone_in = differences(alone, rows, what, [key for key in keys if key not in what])
    if shared.empty:
        if refused:
            raise UserError(
                f"no two models have a row in common: {refused[0]}; evaluate them in the same way, or accept this "
                f"with --allow {' --allow '.join(repr(field) for field, _, _ in refused[0].fields)}"
            )
        said = "; ".join(str(one) for one in alone_in)
        raise UserError(f"no two models have a row in common: {said}; evaluate the same analyses for both")
    models = tuple(dict.fromkeys(shared["model"]))
    side_by_side = _side_by_side(shared, models, keys, allow)
    return Comparison(models, side_by_side, refused, alone_in, n_inner, tuple(allow))


def protocol_of(info: ModelInfo, part: str | None = None) -> dict[str, str]:
    """Return what two models must share beside rows and parameters: the data, and how it was cut.

    Args:
        info: The model.
        part: ``train`` or ``validation`` for the files of these images alone, ``scored`` for those that validate, or
            train where none do; "" for the files of all images, with their number, and None without it, for notes of
            earlier versions do not have it.
    """
    frame = info.frame
    cut = {"resize": frame.resize, "tile": frame.tile, "edge": frame.edge}
    said = {name: "none" if value is None else str(value) for name, value in cut.items()}
    if missing := [name for name in _DATA if name not in info.data]:
        raise UserError(
            f"the results of {info.title} do not say which {missing[0]} they are about, for an earlier version made "
            "them: run `patchbank evaluate` on its experiment again, which reuses all results"
        )
    if part == "scored":
        part = "validation" if f"validation {PARTS_KNOWN}" in info.data else "train"
    before = f"{part} " if part and f"{part} {PARTS_KNOWN}" in info.data else ""
    data = {name: info.data.get(f"{before}{name}", info.data[name]) for name in _DATA}
    if part is not None:
        data["image files"] = f"{info.data[before + PARTS_KNOWN]} with digest {data['image files']}"
    return {**data, **said}


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


def _of_model(read: StoredResults, info: ModelInfo, layers: str) -> tuple[pd.DataFrame, int]:
    """Return the rows of one model that are compared, and how many of other layers there are."""
    rows = read.table[(read.table["model"] == info.title) & read.table["value"].notna()]
    if layers != "last":
        return rows, 0
    of_layer = rows["layer"].notna() | (rows["x_name"] == "layer").fillna(False)
    chosen = pd.concat([*_last_layers(rows[of_layer]), rows[~of_layer]]).sort_index()
    return chosen, len(rows) - len(chosen)


def _last_layers(rows: pd.DataFrame) -> list[pd.DataFrame]:
    """Return the rows of each analysis' last layer: before and after the final norm, one array of each."""
    found = []
    for _, part in rows.groupby("analysis", sort=False):
        numbers = layer_numbers(part).fillna(-1.0)
        last = part[numbers == numbers.max()]
        # Stages, and what is captured inside of blocks, are on neither side of the norm.
        side = last["normed"].astype(object).map(_text)
        of_side = last.groupby(side, sort=False)["array"].transform("last")
        found.append(last[(last["array"] == of_side).fillna(True)])
    return found


def _fields(
    rows: pd.DataFrame, read: StoredResults, info: ModelInfo, title: str, layers: str, says_parts: bool
) -> pd.DataFrame:
    """Return some rows of one model with every field that comparable rows must share, as text."""
    columns = list(MEASURED)
    if layers == "last":
        by_layer = rows["x_name"].isin(("layer", "depth"))
        rows = rows.assign(x_name=rows["x_name"].mask(by_layer), x_value=rows["x_value"].mask(by_layer))
    else:
        columns.append("layer")
    text = {column: rows[column].astype(object).map(_text) for column in (*columns, *_DRAWN)}
    fields = pd.DataFrame(text, index=rows.index)
    by_params = {params: json.loads(params) for params in rows["params"].unique()}
    protocols = {params: protocol_of(info, _part(one) if says_parts else None) for params, one in by_params.items()}
    for name in protocol_of(info):
        fields[name] = rows["params"].map({params: one[name] for params, one in protocols.items()})
    fields["revision"] = rows["result"].map({one: str(read.revisions.get(one)) for one in rows["result"].unique()})
    grids = {inputs: _grid(json.loads(inputs)) for inputs in rows["inputs"].unique()}
    fields["patch grid"] = rows["inputs"].map(grids)
    stated = {params: _parameters(one) for params, one in by_params.items()}
    for name in sorted({name for one in stated.values() for name in one}):
        if name not in fields:
            fields[name] = rows["params"].map({params: one.get(name, "") for params, one in stated.items()})
    values = rows[["value", "low", "high"]].astype(float)
    return pd.concat([pd.Series(title, index=rows.index, name="model"), fields, values], axis=1)


def _part(parameters: Mapping[str, Any]) -> str:
    """Return which images a result was computed from, "" for all of them, which is safe where it is not known."""
    listed = [name for name in _IMAGES if name in parameters]
    return listed[0] if len(listed) == 1 and listed[0] in _PARTS else ""


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
            size = f"{len(value)} with " if isinstance(value, list) else ""
            text = f"{size}digest {digest({'value': value})[:12]}"
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
