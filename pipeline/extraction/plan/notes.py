"""What a user should know before extracting: how much the tiles cover, what is bad, what does not fit."""

from pipeline.extraction.plan.model_plan import ModelPlan
from pipeline.rows.frames import resized_size, tiles
from pipeline.rows.samples import Samples
from stores.specs import VOID
from stores.units import format_bytes

MANY_OBJECTS = 100_000
LITTLE_COVERAGE = 0.95
_LABEL_FILES = 50
"""Label files, evenly spread, that are read to estimate which share of labelled pixels the tiles show."""


def labelled_coverage(samples: Samples) -> float | None:
    """Return the share of labelled pixels that some tile shows, from at most 50 label files; None without labels."""
    labelled = [name for name in samples.label_digests if name not in samples.bad]
    if not labelled or "pixels" not in samples.dataset.labels:
        return None
    step = max(1, len(labelled) // _LABEL_FILES)
    shown = total = 0
    for name in labelled[::step][:_LABEL_FILES]:
        with samples.noticing_changes():
            known = samples.dataset.pixel_classes(samples.sources[name]) != VOID
        size, frame = samples.sizes[name], samples.frame
        plane = resized_size(frame, size)
        total += int(known.sum())
        for tile in tiles(frame, size):
            left, top, right, bottom = tile.owned
            rows = slice(top * size.height // plane.height, bottom * size.height // plane.height)
            columns = slice(left * size.width // plane.width, right * size.width // plane.width)
            shown += int(known[rows, columns].sum())
    return shown / total if total else None


def warnings(plans: list[ModelPlan], samples: Samples, labelled: float | None, free: int | None) -> list[str]:
    """Return one sentence for everything a user should know before extracting.

    Args:
        plans: Plans of all models and views.
        samples: The rows in the clean view.
        labelled: Share of labelled pixels that some tile shows, 0..1, or None.
        free: Free bytes of the store's disk, or None where that is not known.
    """
    lines = list(samples.dataset.notes())
    if samples.bad:
        reasons = "; ".join(list(samples.bad.values())[:3]) + ("; ..." if len(samples.bad) > 3 else "")
        lines.append(f"{len(samples.bad)} of {len(samples.sources)} images are bad and kept as invalid: {reasons}")
    if samples.left_out:
        first = next(iter(samples.left_out.values()))
        lines.append(f"{len(samples.left_out)} images are left out of the few-shot choice, the first: {first}")
    if min(samples.coverage, 1.0 if labelled is None else labelled) < LITTLE_COVERAGE:
        remedy = 'set edge = "shift-last" or "pad" in [frame], or another size'
        if samples.frame.edge == "centre":
            remedy = "a smaller resize or a larger tile in [frame] shows more"
        where = "outside the centre crops" if samples.frame.edge == "centre" else "in no tile"
        of_labelled = "" if labelled is None else f" and {1 - labelled:.1%} of the labelled ones"
        lines.append(
            f"no model sees {1 - samples.coverage:.1%} of all pixels{of_labelled}, which lie {where}: {remedy}"
        )
    lines += [
        f"{plan.title} makes {plan.objects:,} objects: raise chunk_megabytes (and range_megabytes) in [storage], or "
        "keep fewer arrays"
        for plan in plans
        if plan.objects > MANY_OBJECTS
    ]
    lines += list(dict.fromkeys(f"{plan.title}: {plan.problem}" for plan in plans if plan.problem))
    needed = sum(plan.bytes_missing for plan in plans)
    if free is not None and needed > free:
        lines.append(
            f"{format_bytes(needed)} must be written and {format_bytes(free)} are free: "
            "`patchbank extract` will not start"
        )
    return lines
