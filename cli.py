"""The ``patchbank`` command line: parses, calls, prints.

Nothing heavy is imported at the top, so that ``--help`` answers at once: every command imports what it needs.
"""

import json
import os
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stores.errors import DamageError, MissingError, PatchbankError, UserError

if TYPE_CHECKING:
    from evaluate.measured import Measured
    from evaluate.questions import Questions
    from pipeline.extract import Progress as ExtractProgress
    from pipeline.recipe import Recipe
    from stores import Store

app = typer.Typer(
    name="patchbank",
    help="A feature store for frozen vision transformers: models run once, analyses repeat cheaply.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Experiment = Annotated[Path, typer.Argument(help="An experiment file, for example experiments/demo.toml.")]
StoreOption = Annotated[
    str, typer.Option("--store", envvar="PATCHBANK_STORE", help="Where feature sets live: a folder or fsspec URL.")
]
DataOption = Annotated[Path, typer.Option("--data", envvar="PATCHBANK_DATA", help="Folder that holds the data sets.")]
ResultsOption = Annotated[
    Path, typer.Option("--results", envvar="PATCHBANK_RESULTS", help="Folder that results are written to.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...; auto takes a GPU where there is one.")]
BatchOption = Annotated[int | None, typer.Option(min=1, help="Images a forward pass; 16 on a CPU, 128 on a GPU.")]


# -- experiment files -------------------------------------------------------------------------------------------


def load_experiment(path: Path) -> tuple["Recipe", "Questions"]:
    """Return what an experiment file asks of the pipeline and of the analyses.

    Raises UserError with the file, the key and what is wrong with it.
    """
    from pydantic import ValidationError

    from evaluate.questions import Questions
    from pipeline.recipe import Recipe

    try:
        text = path.read_text(encoding="utf-8-sig")
        tables = tomllib.loads(text)
    except FileNotFoundError:
        raise MissingError(f"there is no experiment file {path}: experiments/ holds some") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path} is not readable as TOML: {error}") from error
    parts: dict[str, dict[str, Any]] = {"recipe": {}, "questions": {}}
    for key, value in tables.items():
        part = "questions" if key in Questions.model_fields else "recipe"
        parts[part][key] = value
    try:
        return Recipe.model_validate(parts["recipe"]), Questions.model_validate(parts["questions"])
    except ValidationError as error:
        raise UserError(f"{path}: {_first_problem(error)}") from error


def _first_problem(error: Any) -> str:
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"]) or "the file"
    more = len(error.errors()) - 1
    hint = f" (and {more} more)" if more else ""
    if problem["type"] == "extra_forbidden":
        return f"{where} is not a key that is known here: docs/experiment.md lists them all{hint}"
    return f"{where}: {problem['msg'][0].lower()}{problem['msg'][1:]}, not {problem['input']!r}{hint}"[:600]


def _pool(questions: "Questions") -> tuple[Callable[[Any], list[str]] | None, object]:
    """Return how to choose the sources that the questions can ask for, and the same as JSON values."""
    from evaluate.selections import select_sources

    rules = questions.rules()
    if not rules:
        return None, "all"

    def choose(table: Any) -> list[str]:
        return sorted({name for rule in rules for name in select_sources(table, rule)})

    return choose, sorted((rule.canonical() for rule in rules), key=str)


def _demo_world(recipe: "Recipe", data: Path) -> None:
    """Paint the demo's street scenes where an experiment asks for them and they are not there yet."""
    if recipe.dataset.folder == "street-world" and not (data / "street-world").exists():
        from pipeline.street_world import write_street_world

        _say("painting the demo's street scenes")
        partial = data / "street-world.partial"
        if partial.exists():
            import shutil

            shutil.rmtree(partial)
        write_street_world(partial)
        partial.rename(data / "street-world")


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _provenance() -> dict[str, Any]:
    import datetime
    import importlib.metadata

    return {
        "command": " ".join(["patchbank", *sys.argv[1:]]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "patchbank": importlib.metadata.version("patchbank"),
        "python": sys.version.split()[0],
    }


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


# -- making features --------------------------------------------------------------------------------------------


@app.command()
def plan(
    experiment: Experiment,
    store: StoreOption = "store",
    data: DataOption = Path("data"),
    device: DeviceOption = "auto",
    batch_size: BatchOption = None,
    time: Annotated[bool, typer.Option(help="Run one batch of each model to estimate the time.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Say what extracting would make: rows, objects, bytes, memory, time, coverage. Downloads and writes nothing."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from pipeline.compute import choose_compute
    from pipeline.plan import labelled_coverage, plan_models, warnings
    from pipeline.run import Site, read_samples
    from stores import Store

    recipe, questions = load_experiment(experiment)
    choose, _ = _pool(questions)
    site = Site(Store(store), data, experiment.parent)
    samples = read_samples(recipe, site, choose, remember=False)
    labelled = labelled_coverage(samples)
    plans = list(plan_models(recipe, site, samples, choose_compute(device, batch_size), timed=time))
    notes = warnings(plans, samples, labelled, site.store.objects.free_bytes())
    if as_json:
        found = {
            "sources": len(samples.sources),
            "rows": len(samples.tiles),
            "coverage": samples.coverage,
            "labelled_coverage": labelled,
            "models": [one.canonical() for one in plans],
            "notes": notes,
        }
        typer.echo(json.dumps(found, indent=2))
        return
    covered = f"{samples.coverage:.1%} of the pixels"
    covered += "" if labelled is None else f", {labelled:.1%} of the labelled ones"
    typer.echo(f"{len(samples.sources)} images, {len(samples.tiles)} rows; tiles cover {covered}")
    lines = [["model", "state", "arrays", "rows to do", "objects", "to write", "memory", "write rate", "time"]]
    for one in plans:
        rate = one.bytes / one.rows / one.seconds_per_row if one.seconds_per_row else None
        lines.append(
            [
                one.title,
                one.state,
                str(one.arrays),
                f"{one.rows_missing:,}",
                f"{one.objects:,}",
                _gigabytes(one.bytes_missing),
                _gigabytes(one.memory_bytes),
                "-" if rate is None else f"{rate / 1e6:.0f} MB/s",
                "-" if one.seconds is None else f"about {_duration(one.seconds)}",
            ]
        )
    _print_table(lines)
    for note in notes:
        typer.echo(f"note: {note}")


@app.command()
def extract(
    experiment: Experiment,
    store: StoreOption = "store",
    data: DataOption = Path("data"),
    device: DeviceOption = "auto",
    batch_size: BatchOption = None,
    workers: Annotated[int, typer.Option(min=1, help="Threads that decode images.")] = 2,
    shard: Annotated[str, typer.Option(help="i/N: make every N-th range from the i-th on, counted from 0.")] = "0/1",
    model: Annotated[str | None, typer.Option(help="Only the model of this name or title.")] = None,
    allow_mixed: Annotated[bool, typer.Option(help="Complete a set on another kind of device.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make what is missing: one pass per model for all layers. Safe to repeat, to kill and to run side by side."""
    from pipeline.compute import choose_compute
    from pipeline.run import Site, extract_recipe
    from stores import Store

    recipe, questions = load_experiment(experiment)
    choose, pool = _pool(questions)
    _demo_world(recipe, data)
    site = Site(Store(store), data, experiment.parent)
    with _progress() as tell:
        report = extract_recipe(
            recipe,
            site,
            choose,
            pool,
            choose_compute(device, batch_size),
            only=model,
            workers=workers,
            shard=_shard(shard),
            allow_mixed=allow_mixed,
            provenance=_provenance(),
            tell=tell,
        )
    for outcome in report.outcomes:
        for note in outcome.notes:
            _say(f"{outcome.title}: {note}")
        if outcome.missing:
            ranges = sorted({number for numbers in outcome.missing.values() for number in numbers})
            _say(f"{outcome.title}: {len(ranges)} of {outcome.set.layout.n_ranges} ranges are still missing")
    made = sum(outcome.rows_made for outcome in report.outcomes)
    reused = sum(outcome.rows_reused for outcome in report.outcomes)
    if as_json:
        found = {
            "made": made,
            "reused": reused,
            "store": site.store.location,
            "labels": report.labels.digest if report.labels else None,
            "sets": {outcome.title: outcome.set.digest for outcome in report.outcomes},
            "seconds": {outcome.title: outcome.seconds.__dict__ for outcome in report.outcomes},
        }
        typer.echo(json.dumps(found, indent=2))
        return
    for outcome in report.outcomes:
        if outcome.rows_made:
            seconds = outcome.seconds
            _say(
                f"{outcome.title}: model {_duration(seconds.model)}, decode {_duration(seconds.decode)}, "
                f"write {_duration(seconds.write)}, seal {_duration(seconds.seal)}; bottleneck: {seconds.bottleneck}"
            )
    typer.echo(f"made    {made:,} rows of features, {report.label_rows_made:,} of labels")
    typer.echo(f"reused  {reused:,} rows of features")
    typer.echo(f"where   {site.store.location}")


def _shard(text: str) -> tuple[int, int]:
    index, slash, total = text.partition("/")
    if not slash or not index.isdigit() or not total.isdigit() or not int(index) < int(total):
        raise UserError(f"--shard {text!r} is not i/N with i from 0 to N-1: write for example --shard 0/4")
    return int(index), int(total)


@contextmanager
def _progress() -> Iterator[Callable[["ExtractProgress"], None]]:
    """Show rate, time left and the bottleneck's name: a bar on a terminal, a line every ten seconds elsewhere."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:.1f} rows/s, waits for: {task.fields[stage]}"),
            TimeRemainingColumn(),
        )
        with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
            tasks: dict[str, Any] = {}

            def tell(progress: "ExtractProgress") -> None:
                rate, stage = progress.rows_done / max(progress.seconds, 1e-9), progress.bottleneck
                if progress.title not in tasks:
                    tasks[progress.title] = bar.add_task(
                        progress.title, total=progress.rows_total, rate=rate, stage=stage
                    )
                bar.update(tasks[progress.title], completed=progress.rows_done, rate=rate, stage=stage)

            yield tell
        return
    last: dict[str, float] = {}

    def line(progress: "ExtractProgress") -> None:
        if progress.seconds - last.get(progress.title, 0.0) < 10 and progress.rows_done < progress.rows_total:
            return
        last[progress.title] = progress.seconds
        rate = progress.rows_done / max(progress.seconds, 1e-9)
        left = (progress.rows_total - progress.rows_done) / rate
        _say(
            f"{progress.title}: {progress.rows_done:,}/{progress.rows_total:,} rows, {rate:.1f} rows/s, "
            f"{_duration(left)} left, waits for: {progress.bottleneck}"
        )

    yield line


# -- measuring --------------------------------------------------------------------------------------------------


@app.command()
def evaluate(
    experiment: Experiment,
    store: StoreOption = "store",
    results: ResultsOption = Path("results"),
    memory: Annotated[float, typer.Option(min=0.1, help="Memory for a search, in GB above the process.")] = 2.0,
    as_json: JsonOption = False,
) -> None:
    """Run the analyses whose results are missing. Reads stored sets only: no images, no models."""
    from evaluate.report import write_report
    from evaluate.results import Results
    from evaluate.run import Cell
    from evaluate.run import evaluate as answer_all
    from stores import Store

    recipe, questions = load_experiment(experiment)
    if not questions.analyses:
        raise UserError(f"{experiment} asks nothing: add an [[analyses]] table")
    opened = Store(store)
    models = _measured(experiment, recipe, questions, opened)

    def tell(cell: Cell, reused: bool) -> None:
        if not reused:
            _say(f"{cell.measured.title}: {cell.what}")

    kept = Results(results)
    found = answer_all(experiment.stem, models, questions, kept, memory_bytes=int(memory * (1 << 30)), tell=tell)
    page = write_report(kept, experiment.stem, found, _about(models))
    if as_json:
        typer.echo(json.dumps({"made": found.n_computed, "reused": found.n_reused, "report": str(page)}, indent=2))
        return
    typer.echo(f"made    {found.n_computed} results")
    typer.echo(f"reused  {found.n_reused} results")
    typer.echo(f"where   {results / experiment.stem} (open {page})")


def _measured(experiment: Path, recipe: "Recipe", questions: "Questions", store: "Store") -> list["Measured"]:
    from evaluate.measured import Measured

    command = f"patchbank extract {experiment}"
    _, pool = _pool(questions)
    models = []
    for model in recipe.models:
        noted = store.recall(recipe.model_key(model, pool))
        if noted is None:
            raise MissingError(f"{model.display} was not extracted to {store.location} yet: run `{command}`")
        models.append(
            Measured(
                title=model.display,
                features=store.open(noted["features"]),
                labels=store.open(noted["labels"]),
                probe_batchnorm=model.standardised_probe,
                extract_command=command,
            )
        )
    return models


def _about(models: list["Measured"]) -> list[dict[str, str]]:
    """Return what the report says about each model's sets."""
    return [
        {
            "model": one.title,
            "architecture": one.spec.model.name,
            "data set": one.spec.dataset.name,
            "images": str(one.spec.dataset.n_sources),
            "features": one.features.digest,
            "labels": one.labels.digest,
            "weights": one.spec.model.weights,
            "licence of weights": str(one.features.provenance.get("licence_of_weights", "not stated")),
            "licence of data": str(one.features.provenance.get("licence_of_data", "not stated")),
            "computed with": ", ".join(
                f"{name} {one.features.compute.get(name)}" for name in ("torch", "timm", "device", "compute_dtype")
            ),
        }
        for one in models
    ]


@app.command()
def report(
    experiment: Annotated[str, typer.Argument(help="Name of the experiment: the file's name without .toml.")],
    results: ResultsOption = Path("results"),
) -> None:
    """Write the HTML page and the figures of an evaluated experiment again, from its results alone."""
    from evaluate.report import rewrite_report
    from evaluate.results import Results

    typer.echo(f"where   {rewrite_report(Results(results), Path(experiment).stem)}")


# -- looking after a store ------------------------------------------------------------------------------------


@app.command(name="ls")
def list_sets(store: StoreOption = "store", as_json: JsonOption = False) -> None:
    """List the sets of a store: what they are, how many arrays are sealed, how large they are."""
    from stores import Store
    from stores.card import summary

    found = [summary(one) for one in Store(store).sets()]
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    if not found:
        typer.echo(f"{Store(store).location} holds no sets: `patchbank extract` makes some")
        return
    lines = [["set", "kind", "data set", "model", "rows", "sealed", "size"]]
    lines += [
        [
            one["digest"][:12],
            one["kind"],
            one["data_set"],
            one["model"],
            f"{one['rows']:,}",
            f"{one['sealed']}/{one['arrays']}",
            _gigabytes(one["bytes"]),
        ]
        for one in found
    ]
    _print_table(lines)


@app.command()
def show(
    digest: Annotated[str, typer.Argument(help="Digest of a set, or its beginning.")],
    store: StoreOption = "store",
    as_json: JsonOption = False,
) -> None:
    """Show one set: its spec, arrays, digests and provenance."""
    from stores import Store
    from stores.card import card

    found = card(Store(store).open(digest))
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    for key, value in found.items():
        if key == "arrays":
            continue
        if isinstance(value, dict):
            typer.echo(key)
            for name, inner in value.items():
                typer.echo(f"  {name:<20} {json.dumps(inner) if isinstance(inner, dict | list) else inner}")
        else:
            typer.echo(f"{key:<22} {value}")
    lines = [["array", "shape", "dtype", "state", "size", "content"]]
    lines += [
        [name, "x".join(map(str, a["shape"])), a["dtype"], a["state"], _gigabytes(a["bytes"]), a["content"][:12]]
        for name, a in found["arrays"].items()
    ]
    _print_table(lines)


@app.command()
def verify(
    digest: Annotated[
        str | None, typer.Argument(help="Digest of a set, or its beginning; all sets without it.")
    ] = None,
    store: StoreOption = "store",
    threads: Annotated[int, typer.Option(min=1, help="Threads that read and hash.")] = 2,
    as_json: JsonOption = False,
) -> None:
    """Compare every stored byte with what was committed; exit code 3 names each object that differs."""
    from concurrent.futures import ThreadPoolExecutor

    from stores import Store
    from stores.verify import verify as verdicts

    with ThreadPoolExecutor(threads) as executor:
        found = list(verdicts(Store(store), executor, digest))
    if digest is not None and not found:
        Store(store).open(digest)  # says that there is none
    findings = [finding for verdict in found for finding in verdict.findings]
    if as_json:
        sets = [{**verdict.__dict__, "findings": [f.__dict__ for f in verdict.findings]} for verdict in found]
        typer.echo(json.dumps(sets, indent=2))
    else:
        for finding in findings:
            typer.echo(f"damaged {finding.key} {finding.problem}")
        objects, size = sum(v.n_objects for v in found), sum(v.n_bytes for v in found)
        typer.echo(f"{len(found)} sets, {objects:,} objects, {_gigabytes(size)}: {len(findings)} findings")
    if findings:
        raise DamageError(
            f"{len(findings)} objects are not what was committed: `patchbank extract` makes missing ranges again"
        )


@app.command()
def models(
    pattern: Annotated[str, typer.Argument(help="Part of a name.")] = "vit",
    as_json: JsonOption = False,
) -> None:
    """List timm models whose name holds a pattern, with their tags of pretrained weights."""
    import timm

    names = timm.list_models(f"*{pattern}*", pretrained=False)
    tags = timm.list_models(f"*{pattern}*", pretrained=True)
    found = {name: [tag.partition(".")[2] for tag in tags if tag.partition(".")[0] == name] for name in names}
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    for name, listed in found.items():
        typer.echo(f"{name:<44} {', '.join(listed) or '(no weights)'}")


@app.command()
def datasets(data: DataOption = Path("data"), as_json: JsonOption = False) -> None:
    """List the data set layouts that can be read, and what is found of each below the data root."""
    from pipeline.datasets import DATASETS, open_dataset

    found = []
    for name in DATASETS:
        root = data / name
        entry: dict[str, Any] = {"name": name, "folder": str(root), "images": None, "notes": []}
        if root.is_dir():
            try:
                dataset = open_dataset(name, root)
                entry["images"] = len(dataset.sources())
                entry["notes"] = list(dataset.notes())
            except UserError as error:
                entry["notes"] = [str(error)]
        found.append(entry)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    for entry in found:
        state = "not here" if entry["images"] is None else f"{entry['images']:,} images"
        typer.echo(f"{entry['name']:<16} {state:<14} {entry['folder']}")
        for note in entry["notes"]:
            typer.echo(f"  note: {note}")


@app.command()
def demo(
    store: StoreOption = "store",
    data: DataOption = Path("data"),
    results: ResultsOption = Path("results"),
) -> None:
    """Run the whole chain offline: paint street scenes, extract two small models, evaluate, report."""
    experiment = Path(__file__).parent / "experiments" / "demo.toml"
    extract(experiment, store=store, data=data, device="cpu")
    evaluate(experiment, store=store, results=results)
    page = (results / "demo" / "report.html").resolve()
    typer.echo(
        f"\nStreet scenes in the Cityscapes layout were painted to {data / 'street-world'}, two small vision\n"
        "transformers looked at every image once, and every number was then computed from the store.\n"
        "Their weights are random: this shows the machinery, not the finding that masked-image models have\n"
        f"high-variance features which ruin nearest neighbours. Open {page}"
    )


def _print_table(lines: list[list[str]]) -> None:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def main() -> None:
    """Run the command line; errors made for users become one sentence and their exit code."""
    try:
        app()
    except PatchbankError as error:
        _say(f"error: {error}")
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        _say("stopped: what is committed is kept, run the same command to go on")
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
