"""``patchbank repair``: restore damaged records and chunks of sealed sets."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commands.experiment.address_space import check_address_space
from commands.terminal.options import DataOption, DeviceOption, JsonOption, StoreOption, ThreadsOption, WorkersOption
from commands.terminal.output import counted, echo, echo_json, say
from stores.errors import DamageError, UserError

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from pipeline.extraction.recomputing.repair import Repaired
    from stores import Store


def repair(
    target: Annotated[
        str | None,
        typer.Argument(
            help="An experiment file or the digest of a set. Default: all sets. Chunks are recomputed only with an "
            "experiment file."
        ),
    ] = None,
    store: StoreOption = "store",
    data: DataOption = Path("data"),
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    threads: ThreadsOption = None,
    remove_strays: Annotated[bool, typer.Option(help="Delete objects that no record refers to.")] = False,
    accept_new: Annotated[
        bool,
        typer.Option(help="If the original bytes cannot be reproduced, accept recomputed values under a new digest."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Repair what verify reports: restore records from their copies, recompute the rows of damaged chunks."""
    from concurrent.futures import ThreadPoolExecutor

    from stores import Store
    from stores.maintenance.repair import repair_index
    from stores.storage.cores import available_cores

    opened = Store(store)
    of_experiment = target is not None and (target.endswith(".toml") or Path(target).is_file())
    if accept_new and not of_experiment:
        raise UserError("--accept-new recomputes values and needs an experiment file: `patchbank repair EXP`")
    absent: list[str] = []
    with ThreadPoolExecutor(threads or available_cores()) as executor:
        if target is not None and of_experiment:
            notes = repair_index(opened, remove_strays=remove_strays)
            found, absent = _repair_experiment(
                Path(target), opened, data, device, workers, executor, remove_strays, accept_new
            )
        else:
            found = _repair_sets(target, opened, executor, remove_strays)
            notes = repair_index(opened, remove_strays=remove_strays)
    lines = [*_lines(opened, found), *(f"repaired {key}: {how}" for key, how in notes.repaired.items())]
    strays = [key for one in found for key in one.report.strays] + notes.strays
    unrepairable = {key: why for one in found for key, why in one.report.unrepairable.items()}
    n_repaired = sum(len(one.report.repaired) + sum(map(len, one.remade.values())) for one in found) + len(
        notes.repaired
    )
    n_accepted = sum(len(indexes) for one in found for indexes in one.accepted_new.values())
    n_lost = sum(len(indexes) for one in found for indexes in one.report.lost.values()) + len(unrepairable)
    if as_json:
        sets = [{**one.__dict__, "report": one.report.__dict__} for one in found]
        echo_json({"sets": sets, "notes": notes.__dict__})
    else:
        for line in lines:
            echo(line)
        for key in strays:
            echo(f"stray    {key}: no record refers to it; --remove-strays deletes it")
        counts = f"{n_accepted} accepted as new, {n_lost} lost, {len(strays)} stray"
        echo(f"repaired {counted(n_repaired, 'object')}, {counts}")
    unfinished = [one for one in found if one.unfinished]
    if unfinished:
        raise UserError(f"{unfinished[0].title} could not be repaired: {unfinished[0].unfinished}")
    if n_lost:
        raise DamageError(
            f"{counted(n_lost, 'object')} could not be repaired: the lines above say what is lost and why"
        )
    if strays:
        raise DamageError(
            f"{counted(len(strays), 'stray object')}: check that nobody needs them, then add --remove-strays"
        )
    if absent:
        raise UserError(
            f"{absent[0]} was not extracted to the end: run `patchbank extract {target}`, which makes what is missing"
        )


def _repair_experiment(
    experiment: Path,
    store: "Store",
    data: Path,
    device: str,
    workers: int | None,
    executor: "Executor",
    remove_strays: bool,
    accept_new: bool,
) -> tuple[list["Repaired"], list[str]]:
    """Repair the sets of an experiment; return them with the titles of what was not extracted to the end.

    A killed extraction leaves sets that nothing names yet: they are repaired from copies, whichever experiment began
    them. Raises MissingError where the experiment was not extracted and there are none.
    """
    check_address_space()
    from commands.experiment.reading import find_recorded, load_experiment, recorded_sets, source_choice
    from pipeline.extraction.compute import choose_compute
    from pipeline.extraction.recomputing.repair import repair_recipe, repair_stored
    from pipeline.workspace import Workspace

    recipe, settings = load_experiment(experiment)
    recorded = find_recorded(recipe, settings, store)
    absent = [one.title for one in recorded if not one.features]
    unnamed = _unnamed_sets(store) if absent else []
    if absent and not unnamed:
        recorded_sets(experiment, recipe, settings, store)  # raises MissingError
    found = repair_recipe(
        recipe,
        Workspace(store, data, experiment.parent),
        [one for one in recorded if one.features],
        lambda: choose_compute(device, None),
        source_choice(settings),
        workers=workers,
        executor=executor,
        remove_strays=remove_strays,
        accept_new=accept_new,
    )
    for one in found:
        for note in one.notes:
            say(f"{one.title}: {note}")
    known = {one.report.prefix for one in found}
    found += [
        repair_stored(store, prefix, prefix, executor, remove_strays=remove_strays)
        for prefix in unnamed
        if prefix not in known
    ]
    return found, absent


def _unnamed_sets(store: "Store") -> list[str]:
    """Return the folders of the sets that no note names: their extraction is not at its end."""
    from stores.format.paths import INDEX

    notes = (store.recall(name.removesuffix(".json")) for name in store.objects.children(INDEX))
    named = {digest for note in notes if note is not None for digest in note.values()}
    return [f"{kind}/{name}" for kind, name in store.set_folders() if name not in named]


def _repair_sets(digest: str | None, store: "Store", executor: "Executor", remove_strays: bool) -> list["Repaired"]:
    """Repair sets from the copies that the store itself contains."""
    from pipeline.extraction.recomputing.repair import repair_stored

    folders = [f"{kind}/{name}" for kind, name in store.set_folders() if digest is None or name.startswith(digest)]
    if digest is not None and len(folders) != 1:
        store.open(digest)  # raises MissingError or UserError
    found = []
    for prefix in folders:
        one = repair_stored(store, prefix, prefix, executor, remove_strays=remove_strays)
        if one.report.lost:
            one.reason = "its rows must be recomputed: run `patchbank repair EXP` with the experiment that made the set"
        found.append(one)
    return found


def _lines(store: "Store", found: list["Repaired"]) -> list[str]:
    from stores import ZarrSet
    from stores.maintenance.rebuild import describe_chunks

    lines: list[str] = []
    for one in found:
        lines += [f"repaired {key}: {how}" for key, how in one.report.repaired.items()]
        lines += [f"lost     {key}: {why}" for key, why in one.report.unrepairable.items()]
        lines += [f"unread   {one.title}: {one.unfinished}"] if one.unfinished else []
        if one.unsealed and not one.report.unrepairable:
            more = f" and {len(one.unsealed) - 1} more are" if len(one.unsealed) > 1 else " is"
            lines.append(
                f"partial  {one.report.prefix}: {one.unsealed[0]}{more} not sealed: `patchbank extract EXP` "
                "completes the set"
            )
        parts: list[tuple[str, dict[str, list[int]], str]] = [
            ("repaired", one.remade, "recomputed, equal to the sealed bytes"),
            ("accepted", one.accepted_new, "recomputed, sealed under a new digest"),
            ("lost    ", one.report.lost, one.reason),
        ]
        for word, chunks, how in parts:
            if chunks:
                opened = ZarrSet(store.objects, one.report.prefix)
                lines += [f"{word} {one.title}, {line}: {how}" for line in describe_chunks(opened, chunks)]
    return lines
