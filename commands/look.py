"""``patchbank look``: draw the patch tokens of stored sets as pictures."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer

from commands.terminal.options import JsonOption, StoreOption
from commands.terminal.output import counted, echo, echo_json, say
from stores.errors import MissingError, UserError

if TYPE_CHECKING:
    from evaluate.inputs.model_sets import ModelSets
    from stores import Store, ZarrSet

MOST_IMAGES = 64
_MOST_LISTED = 3


def look(
    digests: Annotated[list[str], typer.Argument(help="Feature sets: digests or their first characters.")],
    store: StoreOption = "store",
    image: Annotated[
        list[str] | None,
        typer.Option(
            show_default=False,
            help="An image: its row number, or part of its name; give it once for each. Default: three, spread evenly.",
        ),
    ] = None,
    layers: Annotated[
        str, typer.Option(help='Layers: "all", or numbers such as 3,7,-1; negative ones count from the last stored.')
    ] = "-1",
    unnormed: Annotated[
        bool, typer.Option("--unnormed", help="Tokens as the blocks left them, not after the model's final norm.")
    ] = False,
    query: Annotated[
        list[str] | None,
        typer.Option(
            show_default=False,
            help="A query patch, from the top and from the left as shares of the input, for example 0.5,0.25; give it "
            "once for each. Default: the centre.",
        ),
    ] = None,
    kinds: Annotated[
        str, typer.Option(help="Pictures: principal components as colours, norms, cosines with the query patches.")
    ] = "components,norm,cosine",
    shared_basis: Annotated[
        bool,
        typer.Option(
            "--shared-basis",
            help="Colour all layers of a model by the same components, each layer on its own scale.",
        ),
    ] = False,
    foreground: Annotated[
        bool,
        typer.Option(
            "--foreground",
            help="Colour the foreground only: the side of the first component with fewer tokens on borders.",
        ),
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("look"),
    as_json: JsonOption = False,
) -> None:
    """Draw the patch tokens of some images: principal components, norms, likeness to a patch. Runs no model."""
    from evaluate.analyses.token_pictures import Picture
    from evaluate.figures import token_pictures as figures
    from evaluate.figures.style import save
    from evaluate.results.files import write_file
    from evaluate.results.table import Result, long_table
    from evaluate.scoring.tokens.pictures import PictureOptions, token_pictures
    from stores import Store

    wanted = tuple(_parts(kinds))
    known = get_args(Picture)
    if not wanted or set(wanted) - set(known):
        raise UserError(f"--kinds {kinds} is no list of pictures: choose among {', '.join(known)}")
    options = PictureOptions(
        cast("Any", wanted),
        tuple(map(_query, query)) if query else PictureOptions.queries,
        "layers" if shared_basis else "layer",
        foreground,
    )
    opened = Store(store)
    models = [_model_sets(opened, digest) for digest in dict.fromkeys(digests)]
    notes: list[str] = []
    results: list[tuple[str, Result]] = []
    inputs: list[tuple[str, ...]] = []
    for number, (model, title) in enumerate(zip(models, _titles(models), strict=True), start=1):
        addresses = model.arrays(_layers(layers), "none" if unnormed else "final")
        rows = _rows(model, image or [], notes)
        inputs.append(_check_same_images(model, rows, inputs))
        what = f"{counted(len(addresses), 'layer')} of {counted(len(rows), 'image')}"
        say(f"{title}: {what} (set {number} of {len(models)})")
        arrays, _ = token_pictures(model, addresses, rows, options)
        results.append((title, Result([], arrays)))
    written = []
    draw = {"components": figures.components, "norm": figures.norm, "cosine": figures.cosine}
    for kind in wanted:
        figure = draw[kind](long_table([]), results)
        assert figure is not None
        for ending in ("png", "svg"):
            path = out / f"{kind}.{ending}"
            write_file(path, save(figure, ending))
            written.append(str(path))
    if any("picture_inputs" not in result.arrays for _, result in results):
        notes.append("no inputs are stored to show: set input_pixels = true in [features] and run `patchbank extract`")
    notes = list(dict.fromkeys(notes))
    if as_json:
        record: dict[str, Any] = {"pictures": written, "models": [title for title, _ in results]}
        echo_json(record | {"images": [str(name) for name in results[0][1].arrays["picture_samples"]], "notes": notes})
        return
    for note in notes:
        say(f"note: {note}")
    for name in written:
        echo(name)


def _parts(text: str) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _layers(text: str) -> Any:
    if text.strip() == "all":
        return "all"
    try:
        layers = tuple(int(part) for part in _parts(text))
    except ValueError:
        layers = ()
    if not layers:
        raise UserError(f'--layers {text} is no list of layers: write "all", or numbers such as 3,7,-1')
    return layers


def _query(text: str) -> tuple[float, float]:
    try:
        y, x = (float(part) for part in text.split(","))
    except ValueError:
        y = x = -1.0
    if not (0 <= y <= 1 and 0 <= x <= 1):
        raise UserError(f"--query {text} is no place: write two shares of the input from 0 to 1, such as 0.5,0.25")
    return y, x


def _model_sets(store: "Store", digest: str) -> "ModelSets":
    """Return a feature set with the label set of the same samples, which may hold the inputs' pixels."""
    from evaluate.inputs.model_sets import ModelSets
    from stores.maintenance.checked import checked
    from stores.specs import FeatureSpec

    features = store.open(digest, from_summary=True)
    if not isinstance(features.spec, FeatureSpec):
        raise UserError(f"{digest} is a label set: give the digest of a feature set, which `patchbank ls` lists")
    labels = _label_set(store, features) or features
    made_by = f"{features.provenance.get('experiment') or 'EXPERIMENT'}.toml"
    title = features.spec.model.name
    return ModelSets(title, checked(features), checked(labels), False, f"patchbank extract {made_by}")


def _label_set(store: "Store", features: "ZarrSet") -> "ZarrSet | None":
    """Return the label set of the samples of a feature set, None where the store holds none."""
    spec = features.spec
    for kind, name in store.set_folders():
        if kind != "labels":
            continue
        found = store.open(f"{kind}/{name}", from_summary=True)
        if (found.spec.samples, found.spec.frame, found.spec.view) == (spec.samples, spec.frame, spec.view):
            return found
    return None


def _check_same_images(model: "ModelSets", rows: Any, shown: list[tuple[str, ...]]) -> tuple[str, ...]:
    """Return names and file digests of the rows; raises UserError where they differ from those that other sets show."""
    found = model.samples.iloc[rows]
    names = tuple(found["sample"] + " " + found["source_sha256"])
    if shown and names != shown[0]:
        raise UserError(
            f"{model.features.digest[:12]} has other images than the first set and pictures would stand beside the "
            "wrong input: give --image with names that both have, or look at each set alone"
        )
    return names


def _titles(models: list["ModelSets"]) -> list[str]:
    """Return the models' names; those of one name are told apart by the beginning of their digest."""
    names = [model.title for model in models]
    return [
        name if names.count(name) == 1 else f"{name} {model.features.digest[:8]}"
        for name, model in zip(names, models, strict=True)
    ]


def _rows(model: "ModelSets", images: list[str], notes: list[str]) -> Any:
    """Return the rows that are shown, one for each image that is named by its number or a part of its name.

    Of a part that fits several rows the first is shown, and a note lists others.
    """
    import numpy as np

    from evaluate.inputs.rows import spread_evenly

    samples = model.samples
    valid = np.flatnonzero(samples["valid"].to_numpy(dtype=bool))
    if not images:
        return valid[spread_evenly(len(valid), 3)]
    names = samples["sample"].to_numpy(dtype=str)
    rows = []
    for part in dict.fromkeys(images):
        if not part.strip():
            raise UserError("--image is empty: give a row number or a part of an image's name")
        if part.isdigit() and int(part) < len(names):
            rows.append(int(part))
            continue
        found = [row for row, name in enumerate(names) if part in name]
        if not found or part.isdigit():
            raise MissingError(
                f"--image {part}: the set has rows 0 to {len(names) - 1}, with names such as {names[0]}; choose one"
            )
        found = [row for row in found if names[row] == part] or found
        if len(found) > 1:
            others = ", ".join(f"{names[row]} (row {row})" for row in found[1 : 1 + _MOST_LISTED])
            more = f" and {len(found) - 1 - _MOST_LISTED:,} more" if len(found) > 1 + _MOST_LISTED else ""
            notes.append(
                f"--image {part} fits {len(found):,} rows and {names[found[0]]} (row {found[0]}) is shown; the others "
                f"are {others}{more}: give more of the name, or the row"
            )
        rows.append(found[0])
    bad = [row for row in rows if row not in set(valid.tolist())]
    if bad:
        raise UserError(
            f"--image: row {bad[0]} ({names[bad[0]]}) is invalid: its image could not be read; choose others"
        )
    if len(rows) > MOST_IMAGES:
        raise UserError(f"--image is given {len(rows)} times: give it {MOST_IMAGES} times at most")
    return np.array(rows, dtype=np.int64)
