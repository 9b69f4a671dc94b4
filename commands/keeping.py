"""Commands that look after a store and change nothing: ls, show and verify."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.options import DataOption, JsonOption, StoreOption
from commands.printing import counted, print_table, say
from stores.errors import DamageError, MissingError, UserError
from stores.faults import gigabytes

if TYPE_CHECKING:
    from stores import Store


def list_sets(store: StoreOption = "store", as_json: JsonOption = False) -> None:
    """List the sets of a store: what they are, how much of them is there, how large they are."""
    from stores.listing import lines
    from stores.locations import open_objects

    if "://" not in store and Path(store).is_file():
        raise UserError(f"--store {store} is a file: give the folder that holds the sets")
    objects = open_objects(store)
    found = list(lines(objects))
    damaged = [one for one in found if one["state"] == "damaged"]
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    elif not found:
        typer.echo(f"{objects.url} holds no sets: `patchbank extract` makes some")
    else:
        head = ["set", "kind", "data set", "model", "view", "state", "rows", "arrays sealed", "size"]
        print_table([head, *(_line(one) for one in found)])
        for one in damaged:
            say(f"{one['digest'][:12]}: {one['problem']}")
    if damaged:
        raise DamageError(f"{counted(len(damaged), 'set')} cannot be read: `patchbank repair` mends what can be mended")


def _line(one: dict[str, Any]) -> list[str]:
    state, rows = one["state"], f"{one['rows']:,}"
    if state == "partial":
        rows = f"{one['rows_done']:,} of {rows}"
        state = f"{one['ranges_done']}/{one['ranges']} ranges"
    rows += f" ({one['invalid_rows']:,} invalid)" if one["invalid_rows"] else ""
    return [
        one["digest"][:12],
        one["kind"],
        one["data_set"],
        one["model"],
        one["view"] if one["level"] is None else f"{one['view']} {one['level']:g}",
        state,
        rows,
        f"{one['sealed']}/{one['arrays']}",
        gigabytes(one["bytes"]),
    ]


def show(
    digest: Annotated[str, typer.Argument(help="Digest of a set, or its beginning.")],
    store: StoreOption = "store",
    as_json: JsonOption = False,
) -> None:
    """Show one set: what it was made from and how, its arrays and digests."""
    from stores import Store
    from stores.card import card
    from stores.dead_features import in_words

    found = card(Store(store).open(digest))
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    typer.echo(f"{found['kind']} {found['digest']}")
    done = "" if found["state"] == "sealed" else f", {found['rows_done']:,} of them in every array"
    typer.echo(
        f"{found['state']}: {found['rows']:,} rows{done}, {found['sealed']} of {len(found['arrays'])} arrays sealed"
    )
    if found["invalid_because"]:
        typer.echo(f"{sum(found['invalid_because'].values()):,} rows are invalid; every analysis leaves them out")
        for reason, count in found["invalid_because"].items():
            typer.echo(f"  {count:,}: {reason}")
    for title in ("spec", "layout", "compute", "provenance"):
        typer.echo(f"\n{title}")
        for name, value in _flat(found[title]):
            typer.echo(f"  {name:<28} {value}")
    typer.echo("")
    lines = [["array", "shape", "axes", "dtype", "state", "size", "content"]]
    lines += [
        [
            name,
            "x".join(map(str, a["shape"])),
            ", ".join(a["axes"]),
            a["dtype"],
            a["state"],
            gigabytes(a["bytes"]),
            a["content"][:12],
        ]
        for name, a in found["arrays"].items()
    ]
    print_table(lines)
    for name, a in found["arrays"].items():
        if a["dead"]:
            typer.echo(f"{name}: {in_words(tuple(a['dead']), a['shape'][-1])}")
    typer.echo(f"\nstored digest {found['stored']}")


def _flat(record: dict[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Return a record as lines: keys joined with dots, lists joined with commas."""
    found: list[tuple[str, str]] = []
    for name, value in record.items():
        if isinstance(value, dict):
            found += _flat(value, f"{before}{name}.")
        elif value is not None:
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            found.append((f"{before}{name}", text))
    return found


def verify(
    digest: Annotated[
        str | None, typer.Argument(help="Digest of a set, or its beginning; all sets without it.")
    ] = None,
    store: StoreOption = "store",
    threads: Annotated[int, typer.Option(min=1, help="Threads that read and hash.")] = 2,
    sources: Annotated[
        Path | None, typer.Option(help="An experiment file: compare its source images and labels under --data too.")
    ] = None,
    data: DataOption = Path("data"),
    as_json: JsonOption = False,
) -> None:
    """Compare every stored byte with what was committed; exit code 3 names each object that differs."""
    from concurrent.futures import ThreadPoolExecutor

    from stores import Store
    from stores.filenames import INDEX
    from stores.verify import verify as verdicts

    opened = Store(store)
    with ThreadPoolExecutor(threads) as executor:
        found = list(verdicts(opened, executor, digest))
    if digest is not None and not found:
        opened.open(digest)  # says that there is none
    findings = [finding for verdict in found for finding in verdict.findings]
    changed = [] if sources is None else _changed_sources(sources, opened, data)
    n_sets = sum(verdict.set != INDEX for verdict in found)
    if not n_sets and not findings:
        raise MissingError(f"{opened.objects.url} holds no sets, so nothing was compared: name the store with --store")
    if as_json:
        sets = [{**verdict.__dict__, "findings": [f.__dict__ for f in verdict.findings]} for verdict in found]
        typer.echo(json.dumps(sets if sources is None else {"sets": sets, "sources": changed}, indent=2))
    else:
        for finding in findings:
            typer.echo(f"damaged {finding.key} {finding.problem}")
        for one in changed:
            typer.echo(f"source {one['path']} {one['problem']}")
        objects, size = sum(v.n_objects for v in found), sum(v.n_bytes for v in found)
        looked_at = f"{counted(n_sets, 'set')}, {counted(objects, 'object')}, {gigabytes(size)}"
        typer.echo(f"{looked_at}: {counted(len(findings), 'finding')}")
    if findings:
        raise DamageError(
            f"{counted(len(findings), 'object')} not as committed: `patchbank repair EXP` makes again what can be"
        )
    if changed:
        raise DamageError(
            f"{len(changed)} source files are not those the sets were made from: restore them, or extract anew"
        )


def _changed_sources(experiment: Path, store: "Store", data: Path) -> list[dict[str, str]]:
    """Return the source files of an experiment that changed since its sets were made, or are gone."""
    from commands.experiment import load_experiment, recorded_sets
    from pipeline.datasets import open_dataset
    from pipeline.run import find_folder
    from pipeline.sources import changed_files

    recipe, questions = load_experiment(experiment)
    root = find_folder(recipe.dataset, data)
    found: dict[str, str] = {}
    dataset = open_dataset(recipe.dataset.name, root, recipe.dataset)
    for digest in {one.labels for one in recorded_sets(experiment, recipe, questions, store)}:
        found |= changed_files(dataset, store.open(digest).samples)
    return [{"path": path, "problem": problem} for path, problem in found.items()]
