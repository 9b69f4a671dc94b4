"""The card of an exported file: a Markdown file with its contents, origin, licences and citations."""

from pathlib import Path
from typing import Any

from stores.errors import printable
from stores.hdf5.records import Exported
from stores.sets import ZarrSet
from stores.specs import FeatureSpec

_MADE_BY = {"command", "date", "layers", "n_prefix", "grid", "licence_of_weights", "licence_of_data", "patchbank"}
_CITATIONS = {"citation_of_weights", "citation_of_data"}


def card_path(path: Path) -> Path:
    """Return the path of the card of an exported file: ``mae.README.md`` for ``mae.h5``."""
    return path.with_name(f"{path.stem}.README.md")


def card_text(stored_set: ZarrSet, exported: Exported) -> str:
    """Return the card as Markdown; it depends on the set and the file alone, so equal exports have equal cards.

    Control characters, which a set of somebody else may hold, are visible escapes: people read cards on a terminal.
    """
    spec, provenance = stored_set.spec, stored_set.provenance
    title = spec.model.name if isinstance(spec, FeatureSpec) else "labels"
    parts = [
        f"# {_plain(title)} on {_plain(spec.dataset.name)}\n",
        f"`{exported.path.name}` holds {'features' if isinstance(spec, FeatureSpec) else 'labels'} of "
        f"{spec.dataset.n_sources:,} images, cut into {stored_set.layout.n_rows:,} rows (tiles). Patchbank wrote it.\n",
        "## What it is\n",
        _table(["fact", "value"], _facts(stored_set)),
        "## Arrays\n",
        _table(["array", "axes", "shape", "dtype"], _shapes(stored_set, exported)),
        "`block.<l>` is the output of block `l`, counted from 0; `.norm` is the same through the model's final norm. "
        "Patches run row by row from the top left; prefix tokens keep the model's order. Label 255 is void.\n",
        "## Open it\n",
        _how_to_open(exported),
        "## How it was made\n",
        _table(["fact", "value"], _making(stored_set)),
        "## Cite\n",
        _citations(spec, provenance),
        "## Digests\n",
        _digests(stored_set, exported),
    ]
    return "\n".join(printable(line) for line in "\n".join(parts).split("\n"))


def _facts(stored_set: ZarrSet) -> list[list[str]]:
    spec, provenance = stored_set.spec, stored_set.provenance
    lines = []
    if isinstance(spec, FeatureSpec):
        arguments = "".join(f", {name} {value}" for name, value in sorted(spec.model.arguments.items()))
        lines += [
            ["model", f"{spec.model.name} ({spec.model.family}{arguments})"],
            ["weights, sha256", f"`{spec.model.weights}`"],
            ["licence of the weights", str(provenance.get("licence_of_weights") or "not stated")],
            ["position embedding", spec.model.position_embedding],
            ["normalisation", f"mean {spec.model.mean}, std {spec.model.std} of pixels in 0..1"],
            ["interpolation", spec.model.interpolation],
            ["compute dtype", spec.compute_dtype],
        ]
    frame = spec.frame
    lines += [
        ["data set", f"{spec.dataset.name}, {spec.dataset.n_sources:,} images"],
        ["images, sha256 of their digests", f"`{spec.dataset.sources}`"],
        ["licence of the data", str(provenance.get("licence_of_data") or "not stated")],
        [
            "frame",
            f"resize {frame.resize or 'none'}, tile {frame.tile or 'whole image'}, input {frame.input}, "
            f"edge {frame.edge} (width x height)",
        ],
        ["view", f"{spec.view.name} {spec.view.parameters or ''}".strip()],
    ]
    for name in ("n_prefix", "grid"):
        if name in provenance:
            lines.append(
                [{"n_prefix": "prefix tokens", "grid": "patches (rows, columns)"}[name], str(provenance[name])]
            )
    return lines


def _shapes(stored_set: ZarrSet, exported: Exported) -> list[list[str]]:
    return [
        [
            f"`{name}`",
            ", ".join(entry.spec.dimension_names),
            " x ".join(map(str, (stored_set.layout.n_rows, *entry.spec.row_shape))),
            entry.spec.dtype + (f" (stored as {entry.original.dtype})" if entry.original else ""),
        ]
        for name, entry in sorted(exported.arrays.items())
    ]


def _how_to_open(exported: Exported) -> str:
    lines = [f'file = h5py.File("{exported.path.name}")']
    if exported.arrays:
        name, entry = sorted(exported.arrays.items())[-1]
        lines.append(f'array = file["{name}"]  # ({", ".join(entry.spec.dimension_names)})')
    lines.append('table = file["patchbank/samples.parquet"][:].tobytes()  # one line a row of the arrays')
    lines.append("samples = pandas.read_parquet(io.BytesIO(table))")
    code = "\n".join(["import io, h5py, pandas", "", *lines])
    if exported.reading_only:
        after = (
            "The dtype differs from the one the set was stored with, so the file is for reading: Patchbank reads it "
        )
        after += "with `stores.HDF5Set` and does not import it.\n"
    else:
        after = (
            f"`patchbank import {exported.path.name}` makes it a set of a Patchbank store again, with equal digests.\n"
        )
    return f"```python\n{code}\n```\n\n{after}"


def _making(stored_set: ZarrSet) -> list[list[str]]:
    provenance, compute = stored_set.provenance, stored_set.compute
    lines = [[name, f"`{_plain(provenance[name])}`"] for name in ("command", "date", "patchbank") if name in provenance]
    lines += [[name, str(value)] for name, value in sorted(compute.items())]
    others = sorted(set(provenance) - _MADE_BY - _CITATIONS - set(compute))
    return lines + [[name, str(provenance[name])] for name in others]


def _citations(spec: Any, provenance: dict[str, Any]) -> str:
    fill_in = "(fill in: nothing is recorded)"
    lines = []
    if isinstance(spec, FeatureSpec):
        lines.append(f"* Model, {_plain(spec.model.name)}: {_plain(provenance.get('citation_of_weights') or fill_in)}")
    lines.append(f"* Data, {_plain(spec.dataset.name)}: {_plain(provenance.get('citation_of_data') or fill_in)}")
    return "\n".join(lines) + "\n"


def _digests(stored_set: ZarrSet, exported: Exported) -> str:
    lines = [["set", f"`{stored_set.digest}`", ""]]
    for name, entry in sorted(exported.arrays.items()):
        lines.append([name, f"`{entry.content}`", f"`{entry.original.content}`" if entry.original else "the same"])
    return (
        "The set's digest names every choice that changes a stored number. An array's digest is the sha256 of all its "
        "rows as little-endian C-order bytes.\n\n"
    ) + _table(["what", "sha256", "in the store it comes from"], lines)


def _plain(value: Any) -> str:
    """Return a value as one line of a table cell."""
    return " ".join(str(value).split()).replace("|", "\\|").replace("`", "'")


def _table(head: list[str], lines: list[list[str]]) -> str:
    cells = [
        head,
        ["---"] * len(head),
        *([" ".join(cell.split()).replace("|", "\\|") for cell in line] for line in lines),
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in cells) + "\n"
