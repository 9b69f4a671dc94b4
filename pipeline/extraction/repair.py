"""Repair with a model: the lost chunks of an experiment's sealed sets are computed again, exactly as at first."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

import numpy as np

from pipeline.extraction.compute import Compute, reconcile_with_recorded
from pipeline.extraction.extract import ExtractOptions, extract, recompute
from pipeline.extraction.job import feature_spec, prepare
from pipeline.extraction.loading import Batch
from pipeline.extraction.run import Recorded, Workspace, built_views, read_samples
from pipeline.labels.input_pixels import GROUP
from pipeline.labels.label_set import LABEL_COMPUTE, clean_grids, label_spec, label_values, make_labels
from pipeline.labels.tables import tables_of
from pipeline.recipe import Recipe
from pipeline.rows.samples import Samples
from pipeline.rows.under_view import for_view
from pipeline.source_choice import ALL_SOURCES, SourceChoice
from pipeline.views import CLEAN
from stores import Store
from stores.canonical import canonical_json, checksummed
from stores.errors import PatchbankError, UserError
from stores.format.layout import Layout, RowRange
from stores.format.paths import COMPUTE, SPEC
from stores.format.tables import table_bytes
from stores.maintenance.rebuild import ChunkRebuilder, unseal
from stores.maintenance.repair import RepairReport, repair_set

CHANGED = "the images, labels, weights or settings are no longer those it was made from"
DIFFERS = (
    "computed again it comes out otherwise than it was sealed, so nothing was replaced: `patchbank fidelity` measures "
    "by how much, `patchbank repair --accept-new` takes the new values under a new digest"
)


@dataclass
class Repaired:
    """What repairing one set came to; what is still in ``mending.lost`` could not be made again."""

    title: str
    report: RepairReport
    remade: dict[str, list[int]] = field(default_factory=dict)
    """Chunks that were computed again with the sealed bytes, by array."""
    accepted_new: dict[str, list[int]] = field(default_factory=dict)
    """Chunks that were computed again with other bytes and sealed again, by array."""
    reason: str = ""
    """Why the rest is lost."""
    unfinished: str = ""
    """Why nothing is known to be lost although it is not whole: memory, permission, a full disk."""
    notes: list[str] = field(default_factory=list)


def repair_recipe(
    recipe: Recipe,
    site: Workspace,
    recorded: Sequence[Recorded],
    compute: Callable[[], Compute],
    choice: SourceChoice = ALL_SOURCES,
    *,
    workers: int = 2,
    executor: Executor | None = None,
    remove_strays: bool = False,
    accept_new: bool = False,
) -> list[Repaired]:
    """Mend the sets that were ``recorded`` of each model and view; images and models are touched only if need be.

    With ``accept_new`` chunks that cannot be had as they were sealed are taken as they come out now, and their
    arrays get new digests. Never raises for what is missing: `Repaired.reason` says it.
    """
    found: dict[str, Repaired] = {}
    for noted in recorded:
        for prefix, title in ((f"labels/{noted.labels}", "labels"), (f"features/{noted.features}", noted.title)):
            if prefix not in found:
                found[prefix] = repair_stored(site.store, prefix, title, executor, remove_strays=remove_strays)
    broken = {prefix: one for prefix, one in found.items() if one.report.lost or one.report.unrepairable}
    if not broken:
        return list(found.values())
    try:
        samples = read_samples(recipe, site, choice, remember=False)
    except PatchbankError as error:
        for one in broken.values():
            _say_why(one, error)
        return list(found.values())
    for noted in recorded:
        seen = samples if noted.view is CLEAN else for_view(samples, noted.view)
        for prefix in (f"labels/{noted.labels}", f"features/{noted.features}"):
            if prefix not in broken:
                continue
            one = broken.pop(prefix)
            try:
                if prefix.startswith("labels/"):
                    _labels(one, seen, site, accept_new)
                else:
                    _features(one, noted, recipe, samples, site, compute, workers, accept_new)
            except PatchbankError as error:
                _say_why(one, error)
    return list(found.values())


def repair_stored(
    store: Store, prefix: str, title: str, executor: Executor | None = None, *, remove_strays: bool = False
) -> Repaired:
    """Repair one set from what the store itself holds; what keeps it from being finished is said, not raised.

    Args:
        store: The store.
        prefix: Folder of the set.
        title: Name of the set, for people.
        executor: Compares objects in parallel.
        remove_strays: Remove objects that no record refers to.
    """
    try:
        return Repaired(title, repair_set(store, prefix, executor, remove_strays=remove_strays))
    except UserError as error:
        why = str(error)
    except MemoryError:
        why = "there is not enough memory: free some, then run the same command again"
    return Repaired(title, RepairReport(prefix.rpartition("/")[2], prefix), unfinished=why)


def _say_why(one: Repaired, error: PatchbankError) -> None:
    """Keep why a set is not whole: what the system refuses now is not lost."""
    if isinstance(error.__cause__, OSError | MemoryError):
        one.unfinished = str(error)
    else:
        one.reason = str(error)


def _features(
    one: Repaired,
    noted: Recorded,
    recipe: Recipe,
    samples: Samples,
    site: Workspace,
    compute: Callable[[], Compute],
    workers: int,
    accept_new: bool,
) -> None:
    features, model, clean_model = next(
        (features, shown, clean)
        for view, features, shown, clean in built_views(recipe, noted.model, site)
        if view.spec == noted.view.spec
    )
    seen = samples if noted.view is CLEAN else for_view(samples, noted.view)
    spec = feature_spec(model, seen, features)
    if spec.digest != one.report.set:
        one.reason = CHANGED
        return
    records = {SPEC: canonical_json(spec.canonical()), "samples.parquet": table_bytes(seen.table)}
    _mend_again(one, site, records | {COMPUTE: checksummed(compute().record(spec.compute_dtype))})
    if not one.report.lost:
        return
    job = prepare(recipe, noted.model, model, samples, site.store, noted.view, features, clean_model)
    assert job.existing is not None
    settled, one.notes = reconcile_with_recorded(compute(), job.existing.compute, allow_mixed=False)
    mender = ChunkRebuilder(job.existing, one.report.lost)
    wanted = {
        span: tuple(job.existing.arrays[name] for name in sorted(names))
        for span, names in _merged(mender.rows(), job.layout, settled.batch_size)
    }

    def take(batch: Batch, values: dict[str, np.ndarray]) -> None:
        for name, rows in values.items():
            mender.take(name, batch.start, rows)

    recompute(job, wanted, settled, workers, take)
    _settle(one, mender)
    if one.report.lost and accept_new:
        accepted_new = dict(one.report.lost)
        unseal(job.existing, accepted_new)
        arrays = tuple(job.existing.arrays[name] for name in sorted(accepted_new))
        again = dataclasses.replace(job, arrays=arrays)
        extract(again, site.store, settled, ExtractOptions(workers=workers))
        one.report.lost, one.accepted_new, one.reason = {}, accepted_new, ""


def batch_span(layout: Layout, start: int, stop: int, batch_size: int) -> RowRange:
    """Return the batches of a range that hold rows ``start`` to ``stop``, as a span of rows."""
    whole = layout.range(start // layout.range_rows)
    first = whole.start + (start - whole.start) // batch_size * batch_size
    last = whole.start + -(-(stop - whole.start) // batch_size) * batch_size
    return RowRange(whole.number, first, min(last, whole.stop))


def _merged(
    rows: Mapping[tuple[int, int], Iterable[str]], layout: Layout, batch_size: int
) -> list[tuple[RowRange, set[str]]]:
    """Return the batches that hold some chunks; spans that share a batch are joined, so that none is computed twice."""
    joined: list[tuple[RowRange, set[str]]] = []
    for (start, stop), names in sorted(rows.items()):
        span, wanted = batch_span(layout, start, stop, batch_size), set(names)
        if joined and joined[-1][0].stop > span.start:
            before, others = joined.pop()
            span, wanted = before._replace(stop=max(before.stop, span.stop)), wanted | others
        joined.append((span, wanted))
    return joined


def _labels(one: Repaired, samples: Samples, site: Workspace, accept_new: bool) -> None:
    spec = label_spec(samples)
    if spec.digest != one.report.set:
        one.reason = CHANGED
        return
    made = {f"{name}.parquet": table_bytes(table) for name, table in tables_of(samples).items()}
    _mend_again(one, site, {SPEC: canonical_json(spec.canonical()), COMPUTE: checksummed(LABEL_COMPUTE), **made})
    if not one.report.lost:
        return
    target = site.store.open(spec)
    mender = ChunkRebuilder(target, one.report.lost)
    for (start, stop), names in mender.rows().items():
        span = RowRange(start // target.layout.range_rows, start, stop)
        for name in names:
            mender.take(name, start, label_values(target.arrays[name], samples, span))
    _settle(one, mender)
    if one.report.lost and accept_new:
        accepted_new = dict(one.report.lost)
        unseal(target, accepted_new)
        arrays = target.arrays.values()
        grids = [array.grid for array in arrays if array.grid is not None]
        inputs = [array for array in arrays if array.group == GROUP]
        make_labels(samples, site.store, grids, {}, clean_grids(arrays), inputs)
        one.report.lost, one.accepted_new, one.reason = {}, accepted_new, ""


def _mend_again(one: Repaired, site: Workspace, records: Mapping[str, bytes]) -> None:
    """Mend what the store alone could not, with records made from the recipe."""
    if one.report.unrepairable:
        again = repair_set(site.store, one.report.prefix, records=records)
        again.repaired = one.report.repaired | again.repaired
        again.strays = one.report.strays
        one.report = again


def _settle(one: Repaired, mender: ChunkRebuilder) -> None:
    """Note what came back, and what is still lost."""
    one.remade = {name: sorted(indexes) for name, indexes in mender.repaired.items()}
    left = {name: _without(indexes, one.remade.get(name, [])) for name, indexes in one.report.lost.items()}
    one.report.lost = {name: indexes for name, indexes in left.items() if indexes}
    if one.report.lost:
        one.reason = DIFFERS


def _without(indexes: Iterable[int], done: list[int]) -> list[int]:
    return sorted(set(indexes) - set(done))
