"""``patchbank verify``: compare stored bytes with their recorded checksums."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commands.terminal.options import DataOption, JsonOption, StoreOption
from commands.terminal.output import counted, echo, echo_json
from stores.errors import DamageError, MissingError, UserError
from stores.units import format_bytes

if TYPE_CHECKING:
    from stores import Store


def verify(
    digest: Annotated[
        str | None, typer.Argument(help="Digest of a set, or its first characters. Default: all sets.")
    ] = None,
    store: StoreOption = "store",
    quick: Annotated[
        bool, typer.Option("--quick", help="Compare CRC32C instead of sha256: faster, notices accidents only.")
    ] = False,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Threads that read and hash files. Default: one a core.", show_default=False),
    ] = None,
    sources: Annotated[
        Path | None,
        typer.Option(
            help="An experiment file: also check that its source images and labels under --data are unchanged."
        ),
    ] = None,
    data: DataOption = Path("data"),
    as_json: JsonOption = False,
) -> None:
    """Compare every stored byte with its recorded checksum; print each object that differs and exit with code 3."""
    from concurrent.futures import ThreadPoolExecutor

    from stores import Store
    from stores.format.paths import INDEX
    from stores.maintenance.verify import verify as verdicts
    from stores.storage.cores import available_cores

    opened = Store(store)
    with ThreadPoolExecutor(threads or available_cores()) as executor:
        found = list(verdicts(opened, executor, digest, "quick" if quick else "full"))
    if digest is not None and not found:
        opened.open(digest)  # raises MissingError
    findings = [finding for verdict in found for finding in verdict.findings]
    unread = [verdict for verdict in found if verdict.unread]
    changed = [] if sources is None else _changed_sources(sources, opened, data)
    n_sets = sum(verdict.set != INDEX for verdict in found)
    if not n_sets and not findings:
        raise MissingError(f"{opened.objects.url} contains no sets, nothing was verified: check --store")
    if as_json:
        sets = [{**verdict.__dict__, "findings": [f.__dict__ for f in verdict.findings]} for verdict in found]
        echo_json(sets if sources is None else {"sets": sets, "sources": changed})
    else:
        for finding in findings:
            echo(f"damaged {finding.key} {finding.problem}")
        for verdict in unread:
            echo(f"unread  {verdict.set[:12]}: {verdict.unread}")
        for one in changed:
            echo(f"source {one['path']} {one['problem']}")
        objects, size = sum(v.n_objects for v in found), sum(v.n_bytes for v in found)
        checked = f"{counted(n_sets, 'set')}, {counted(objects, 'object')}, {format_bytes(size)}"
        echo(f"{checked}: {counted(len(findings), 'problem')}")
    if findings:
        raise DamageError(f"{counted(len(findings), 'object')} damaged, missing or stray: run `patchbank repair EXP`")
    if unread:
        raise UserError(f"{counted(len(unread), 'set')} could not be read, the first because {unread[0].unread}")
    if changed:
        raise DamageError(
            f"{counted(len(changed), 'source file')} changed or missing since extraction: restore them or extract again"
        )


def _changed_sources(experiment: Path, store: "Store", data: Path) -> list[dict[str, str]]:
    """Return the source files of an experiment that changed or went missing since its sets were extracted."""
    from commands.experiment.reading import load_experiment, recorded_sets
    from pipeline.datasets import open_dataset
    from pipeline.rows.sources import changed_files
    from pipeline.workspace import find_folder

    recipe, settings = load_experiment(experiment)
    root = find_folder(recipe.dataset, data)
    found: dict[str, str] = {}
    dataset = open_dataset(recipe.dataset.name, root, recipe.dataset)
    for digest in {one.labels for one in recorded_sets(experiment, recipe, settings, store)}:
        found |= changed_files(dataset, store.open(digest).samples)
    return [{"path": path, "problem": problem} for path, problem in found.items()]
