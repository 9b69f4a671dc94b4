"""Repairs an experiment's sealed sets: recomputes lost chunks with the recorded batch size and settings."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace

import numpy as np

from pipeline.captures.contract import rows_together
from pipeline.extraction.compute import Compute, reconcile_with_recorded
from pipeline.extraction.computing import recompute
from pipeline.extraction.extract import extract
from pipeline.extraction.job import feature_spec, prepare
from pipeline.extraction.loading import Batch, default_workers
from pipeline.extraction.model_pass.precision import precision_of
from pipeline.extraction.options import ExtractOptions
from pipeline.extraction.run import ViewModels
from pipeline.labels.input_pixels import GROUP
from pipeline.labels.label_set import LABEL_COMPUTE, clean_grids, label_spec, label_values
from pipeline.labels.making_labels import make_labels
from pipeline.labels.tables import tables_of
from pipeline.recipe import Recipe
from pipeline.recorded import Recorded
from pipeline.rows.samples import Samples
from pipeline.rows.under_view import for_view
from pipeline.source_choice import ALL_SOURCES, SourceChoice
from pipeline.views import CLEAN
from pipeline.workspace import Workspace, read_samples
from stores import Store, ZarrSet
from stores.canonical import canonical_json, checksummed
from stores.errors import PatchbankError, UserError
from stores.format.layout import Layout, RowRange
from stores.format.paths import COMPUTE, SPEC
from stores.format.tables import table_bytes
from stores.maintenance.rebuild import ChunkRebuilder, unseal
from stores.maintenance.repair import RepairReport, repair_set

CHANGED = "the images, labels, weights or settings differ from those it was made from"
DIFFERS = (
    "the recomputed bytes differ from the sealed ones, so nothing was replaced: `patchbank fidelity` measures by how "
    "much, `patchbank repair --accept-new` accepts the new values under a new digest"
)


@dataclass
class Repaired:
    """How one set was repaired; what is still in ``report.lost`` could not be recomputed."""

    title: str
    report: RepairReport
    remade: dict[str, list[int]] = field(default_factory=dict)
    """Chunks that were recomputed with the sealed bytes, by array."""
    accepted_new: dict[str, list[int]] = field(default_factory=dict)
    """Chunks that were recomputed with other bytes and sealed again, by array."""
    reason: str = ""
    """Why the rest is lost."""
    unfinished: str = ""
    """Why nothing is known to be lost although it is not whole: memory, permission, a full disk."""
    notes: list[str] = field(default_factory=list)
    unsealed: list[str] = field(default_factory=list)
    """Arrays without a seal, of which no record says that they were complete: `patchbank extract` completes them."""


@dataclass(frozen=True)
class _Means:
    """What recomputing lost chunks takes."""

    recipe: Recipe
    workspace: Workspace
    samples: Samples
    """The rows in the clean view."""
    compute: Callable[[], Compute]
    workers: int
    accept_new: bool


def repair_recipe(
    recipe: Recipe,
    workspace: Workspace,
    recorded: Sequence[Recorded],
    compute: Callable[[], Compute],
    choice: SourceChoice = ALL_SOURCES,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    remove_strays: bool = False,
    accept_new: bool = False,
) -> list[Repaired]:
    """Repair the sets of each model and view; images and models are read only if chunks are lost.

    Never raises for what is missing: `Repaired.reason` says it.

    Args:
        recipe: The experiment's extraction settings.
        workspace: Store, data and weights on this machine.
        recorded: The sets that were extracted of each model and view.
        compute: Returns device, batch size and threads; called only if features are recomputed.
        choice: Source images that the sets were extracted from.
        workers: Threads that decode images; None takes `default_workers`.
        executor: Threads that read and hash files; None reads in the calling thread.
        remove_strays: Delete objects that no record refers to.
        accept_new: Accept recomputed chunks that differ from the sealed ones; their arrays get new digests.
    """
    by_prefix: dict[str, Repaired] = {}
    for sets in recorded:
        for prefix, title in ((f"labels/{sets.labels}", "labels"), (f"features/{sets.features}", sets.title)):
            if prefix not in by_prefix:
                by_prefix[prefix] = repair_stored(workspace.store, prefix, title, executor, remove_strays=remove_strays)
    broken = {prefix: one for prefix, one in by_prefix.items() if one.report.lost or one.report.unrepairable}
    if not broken:
        return list(by_prefix.values())
    try:
        samples = read_samples(recipe, workspace, choice, remember=False)
    except PatchbankError as error:
        for one in broken.values():
            _note_failure(one, error)
        return list(by_prefix.values())
    means = _Means(
        recipe,
        workspace,
        samples,
        lambda: compute().for_features(recipe.features),
        workers or default_workers(),
        accept_new,
    )
    for sets in recorded:
        seen = samples if sets.view is CLEAN else for_view(samples, sets.view)
        for prefix in (f"labels/{sets.labels}", f"features/{sets.features}"):
            if prefix not in broken:
                continue
            one = broken.pop(prefix)
            try:
                if prefix.startswith("labels/"):
                    _repair_labels(one, seen, means)
                else:
                    _repair_features(one, sets, seen, means)
            except PatchbankError as error:
                _note_failure(one, error)
    return list(by_prefix.values())


def repair_stored(
    store: Store, prefix: str, title: str, executor: Executor | None = None, *, remove_strays: bool = False
) -> Repaired:
    """Repair one set from the copies in the store; `Repaired.unfinished` says what stopped it, never raised.

    Args:
        store: The store.
        prefix: Folder of the set.
        title: Name of the set in messages.
        executor: Compares objects in parallel; None compares in the calling thread.
        remove_strays: Delete objects that no record refers to.
    """
    try:
        report = repair_set(store, prefix, executor, remove_strays=remove_strays)
        return Repaired(title, report, unsealed=_unsealed(store, prefix))
    except UserError as error:
        why = str(error)
    except MemoryError:
        why = "there is not enough memory: free some, then run the same command again"
    return Repaired(title, RepairReport(prefix.rpartition("/")[2], prefix), unfinished=why)


def _unsealed(store: Store, prefix: str) -> list[str]:
    """Return the arrays of a set that are not sealed; none of a set whose records are damaged."""
    try:
        opened = ZarrSet(store.objects, prefix)
    except PatchbankError:
        return []
    return [name for name in opened.arrays if not opened.sealed(name)]


def _note_failure(one: Repaired, error: PatchbankError) -> None:
    """Record why a set is not whole; a shortage of memory, disk or permission loses nothing."""
    if isinstance(error.__cause__, OSError | MemoryError):
        one.unfinished = str(error)
    else:
        one.reason = str(error)


def _repair_features(one: Repaired, sets: Recorded, seen: Samples, means: _Means) -> None:
    """Recompute the lost chunks of a feature set; ``seen`` are the rows under its view."""
    recipe, store = means.recipe, means.workspace.store
    view, features = next(one for one in recipe.all_views(sets.model) if one[0].spec == sets.view.spec)
    model, clean_model = ViewModels(recipe, sets.model, means.workspace).of(view)
    spec = feature_spec(model, seen, features)
    if spec.digest != one.report.set:
        one.reason = CHANGED
        return
    records = {SPEC: canonical_json(spec.canonical()), "samples.parquet": table_bytes(seen.table)}
    _restore_records(one, store, records | {COMPUTE: checksummed(means.compute().record(precision_of(spec)))})
    if not one.report.lost:
        return
    job = prepare(recipe, sets.model, model, means.samples, store, sets.view, features, clean_model)
    assert job.existing is not None
    compute, one.notes = reconcile_with_recorded(means.compute(), job.existing.compute, allow_mixed=False)
    rebuilder, arrays = ChunkRebuilder(job.existing, one.report.lost), job.existing.arrays
    spans = _merged(rebuilder.rows(), job.layout, compute.batch_size, lambda name: rows_together(arrays[name]))
    wanted = {span: tuple(arrays[name] for name in sorted(names)) for span, names in spans}

    def take(batch: Batch, values: dict[str, np.ndarray]) -> None:
        for name, rows in values.items():
            rebuilder.take(name, batch.start, rows)

    recompute(job, wanted, compute, means.workers, take)
    _note_rebuilt(one, rebuilder)
    if one.report.lost and means.accept_new:
        accepted_new = dict(one.report.lost)
        unseal(job.existing, accepted_new)
        accepted = tuple(arrays[name] for name in sorted(accepted_new))
        extract(replace(job, arrays=accepted), store, compute, ExtractOptions(workers=means.workers))
        one.report.lost, one.accepted_new, one.reason = {}, accepted_new, ""


def batch_span(layout: Layout, start: int, stop: int, batch_size: int, together: int = 1) -> RowRange:
    """Return the span of whole batches of a range that contains some rows, and all rows they are computed with.

    Args:
        layout: Layout of the set.
        start: First row.
        stop: Row after the last, in the same range.
        batch_size: Rows of a batch; batches are counted from the start of the range.
        together: Rows that are computed together, counted from the start of the range.
    """
    whole = layout.range(start // layout.range_rows)
    first = (start - whole.start) // together * together
    first = whole.start + first // batch_size * batch_size
    last = whole.start + -(-(stop - whole.start) // batch_size) * batch_size
    return RowRange(whole.number, first, min(last, whole.stop))


def _merged(
    rows: Mapping[tuple[int, int], Iterable[str]], layout: Layout, batch_size: int, together: Callable[[str], int]
) -> list[tuple[RowRange, set[str]]]:
    """Return the spans of batches that contain some chunks; spans that share a batch are joined.

    Args:
        rows: Arrays by the first row of their chunks and the row after the last.
        layout: Layout of the set.
        batch_size: Rows of a batch.
        together: Returns how many rows of an array are computed together.
    """
    joined: list[tuple[RowRange, set[str]]] = []
    for (start, stop), names in sorted(rows.items()):
        span, wanted = batch_span(layout, start, stop, batch_size, max(map(together, names), default=1)), set(names)
        if joined and joined[-1][0].stop > span.start:
            before, others = joined.pop()
            span, wanted = before._replace(stop=max(before.stop, span.stop)), wanted | others
        joined.append((span, wanted))
    return joined


def _repair_labels(one: Repaired, samples: Samples, means: _Means) -> None:
    """Make the lost chunks of a label set again; ``samples`` are the rows under its view."""
    store = means.workspace.store
    spec = label_spec(samples)
    if spec.digest != one.report.set:
        one.reason = CHANGED
        return
    tables = {f"{name}.parquet": table_bytes(table) for name, table in tables_of(samples).items()}
    made = {SPEC: canonical_json(spec.canonical()), COMPUTE: checksummed(LABEL_COMPUTE)}
    _restore_records(one, store, made | tables)
    if not one.report.lost:
        return
    target = store.open(spec)
    rebuilder = ChunkRebuilder(target, one.report.lost)
    for (start, stop), names in rebuilder.rows().items():
        span = RowRange(start // target.layout.range_rows, start, stop)
        for name in names:
            rebuilder.take(name, start, label_values(target.arrays[name], samples, span))
    _note_rebuilt(one, rebuilder)
    if one.report.lost and means.accept_new:
        accepted_new = dict(one.report.lost)
        unseal(target, accepted_new)
        arrays = target.arrays.values()
        grids = [array.grid for array in arrays if array.grid is not None]
        inputs = [array for array in arrays if array.group == GROUP]
        make_labels(samples, store, grids, {}, clean_grids(arrays), inputs)
        one.report.lost, one.accepted_new, one.reason = {}, accepted_new, ""


def _restore_records(one: Repaired, store: Store, records: Mapping[str, bytes]) -> None:
    """Restore what the store's own copies could not, from records made with the recipe."""
    if one.report.unrepairable:
        again = repair_set(store, one.report.prefix, records=records)
        again.repaired = one.report.repaired | again.repaired
        again.strays = one.report.strays
        one.report = again


def _note_rebuilt(one: Repaired, rebuilder: ChunkRebuilder) -> None:
    """Record which chunks were rebuilt, and which are still lost."""
    one.remade = {name: sorted(indexes) for name, indexes in rebuilder.repaired.items()}
    left = {name: sorted({*indexes} - {*one.remade.get(name, [])}) for name, indexes in one.report.lost.items()}
    one.report.lost = {name: indexes for name, indexes in left.items() if indexes}
    if one.report.lost:
        one.reason = DIFFERS
