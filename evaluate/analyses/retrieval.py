"""Retrieval of transformed patches: what is the nearest clean patch of a patch under a view?

Paper A, section 3.3 (experiments A-11 to A-15). The gallery is every labelled patch of the clean images, the queries
are the patches under a view that show an object (majority label not background, not void). A hit is the *same patch*
(the clean patch that holds the query's centre), else of the same *fine* category, else of the same *supercategory*,
else of *another* category, else *background*. Leaving out the query's own tile, or its whole source image, asks
whether the model finds the category elsewhere.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8
from pydantic import Field

from evaluate.analyses.retrieval_examples import NEAREST, Examples, pixels_of, strongest
from evaluate.asking import Context, Layers, Settings
from evaluate.cells import Cell, cell_of
from evaluate.intervals import ratio_interval
from evaluate.measured import Chosen, Measured, choose, patch_labels, token_variance, tokens
from evaluate.memory_bound import (
    PATCH_BYTES,
    n_patches,
    neighbours_bytes,
    reading_bytes,
    rows_bytes,
    search_memory,
)
from evaluate.moments import variance_ranking
from evaluate.neighbours import nearest_without_top
from evaluate.results import Answer, Asked
from evaluate.viewed import correspondence
from stores.errors import UserError
from stores.specs import VOID

REVISION = 1
"""Raised when the same inputs and parameters give other numbers."""

OUTCOMES = ("same-patch", "same-category", "same-supercategory", "other-category", "background")
BACKGROUND = "background"

LeftOut = Literal["nothing", "tile", "source"]


class Retrieval(Settings):
    """What the nearest clean patch of a transformed object patch is (paper A, Figs. 5 and 6)."""

    kind: Literal["retrieval"]
    views: tuple[str, ...] | None = None
    """Names of the views whose patches are queries; None takes all of the experiment on the clean grid."""
    left_out: tuple[LeftOut, ...] = ("nothing", "tile")
    """What of the gallery is left out for a query: nothing, its own tile, or its whole source image."""
    remove: tuple[Annotated[int, Field(ge=0)], ...] = (0,)
    """Numbers m of highest-variance features to leave out; the ranking is that of the gallery."""
    recall_at: tuple[Annotated[int, Field(ge=1)], ...] = (1, 5, 10)
    """Depths k at which recall (some hit of the same category) and mean average precision are reported."""
    metric: Literal["euclidean", "cosine"] = "euclidean"
    """Distance between the features as stored, or between their directions."""
    layers: Layers = (-1,)
    """Layers to ask about: ``all`` that are stored, or numbers from 0; negative ones count from the last stored."""
    norm: Literal["final", "none"] = "final"
    """Tokens through the model's final norm, or as the block left them."""
    resamples: int = Field(default=1000, ge=0)
    """Bootstrap resamples over source images; 0 prints no intervals."""
    pictures: int = Field(default=2, ge=0, le=16)
    """Queries to show of every view at its last level, with their nearest patches; they need ``input_pixels = true``
    in [features]."""


@dataclass(frozen=True)
class Gallery:
    """The clean patches that can be found."""

    chosen: Chosen
    features: np.ndarray
    """``(gallery, channel)``, as stored."""
    labels: Int64[np.ndarray, " gallery"]
    places: Int64[np.ndarray, " gallery"]
    """Row times patches plus patch, of each gallery entry, rows counted within the chosen ones."""
    n_patches: int
    sources: Int64[np.ndarray, " row"]
    """Number of each chosen row's source."""


def gallery(measured: Measured, array: str, context: Context) -> Gallery:
    """Read the labelled clean patches of the chosen rows: the training selection, or all rows without one."""
    chosen = choose(measured, context.selection.train if context.selection else None)
    labels = patch_labels(measured, array, chosen)
    labelled = labels != VOID
    known = np.flatnonzero(labelled)
    if not len(known):
        raise UserError(f"none of the {chosen.title} for retrieval has a labelled patch: choose other images")
    order = {name: number for number, name in enumerate(chosen.sources)}
    of_row = measured.samples["source"].to_numpy()[chosen.rows]
    return Gallery(
        chosen=chosen,
        features=tokens(measured, array, chosen, labelled),
        labels=labels[known].astype(np.int64),
        places=known.astype(np.int64),
        n_patches=len(labels) // len(chosen.rows),
        sources=np.array([order[name] for name in of_row], dtype=np.int64),
    )


def background_of(measured: Measured) -> int | None:
    """Return the class that shows no object, None where there is none."""
    names = list(measured.classes["name"])
    return names.index(BACKGROUND) if BACKGROUND in names else None


def shows_object(labels: UInt8[np.ndarray, " patch"], background: int | None) -> Bool[np.ndarray, " patch"]:
    """Return which patches can be queries."""
    shown = labels != VOID
    return shown if background is None else shown & (labels != background)


def outcomes(
    query_labels: Int64[np.ndarray, " query"],
    own: Int64[np.ndarray, " query"],
    hit_labels: Int64[np.ndarray, " query"],
    hit_places: Int64[np.ndarray, " query"],
    supercategory: Int64[np.ndarray, " classes"],
    background: int | None,
) -> Int64[np.ndarray, " query"]:
    """Return the number in `OUTCOMES` of every hit; ``own`` is the place of the corresponding patch, -1 for none."""
    is_background = np.zeros(len(hit_labels), dtype=np.bool_) if background is None else hit_labels == background
    return np.select(
        [
            (own >= 0) & (hit_places == own),
            hit_labels == query_labels,
            ~is_background & (supercategory[hit_labels] == supercategory[query_labels]),
            ~is_background,
        ],
        [0, 1, 2, 3],
        default=4,
    ).astype(np.int64)


def average_precision(relevant: Bool[np.ndarray, "query k"], n_relevant: Int64[np.ndarray, " query"]) -> np.ndarray:
    """Return average precision at k, one a query: the mean of precision at each relevant hit over min(k, relevant)."""
    places = np.arange(1, relevant.shape[1] + 1)
    precision = np.cumsum(relevant, axis=1) / places
    best = np.minimum(relevant.shape[1], n_relevant)
    summed: np.ndarray = (precision * relevant).sum(axis=1)
    return np.divide(summed, best, out=np.zeros(len(relevant)), where=best > 0)


def wanted(measured: Measured, array: str, analysis: Retrieval) -> list[tuple[str, float]]:
    """Return the views whose patches are queries; raises UserError for names the experiment lacks."""
    known = {name for name, _ in measured.views}
    absent = [name for name in analysis.views or () if name not in known]
    if absent:
        raise UserError(f"retrieval asks for the view {absent[0]}, which [[views]] does not list: add it there")
    found = []
    for key, viewed in measured.views.items():
        on_grid = array in viewed.features.arrays and measured.under(*key).grid(array) == measured.grid(array)
        if key[0] in analysis.views if analysis.views is not None else on_grid:
            found.append(key)
    return found


def asked(measured: Measured, array: str, analysis: Retrieval, context: Context) -> Asked:
    """Return what the answer depends on."""
    measured.need_labels("retrieval")
    chosen = choose(measured, context.selection.train if context.selection else None)
    inputs = measured.inputs(array, labelled=True)
    for name, level in wanted(measured, array, analysis):
        under = measured.under(name, level)
        under.arrays((under.layer(array),), analysis.norm)
        inputs[f"{name} {level:g} {array}"] = under.features.content[array]
        inputs[f"{name} {level:g} labels"] = under.labels.digest
    parameters: dict[str, Any] = {
        "views": [[name, level] for name, level in wanted(measured, array, analysis)],
        "left_out": list(analysis.left_out),
        "remove": sorted(set(analysis.remove)),
        "recall_at": sorted(set(analysis.recall_at)),
        "metric": analysis.metric,
        "resamples": analysis.resamples,
        "seed": context.seed,
        "images": list(chosen.sources),
    }
    pixels = pixels_of(measured)
    if pixels is not None and analysis.pictures:  # where nothing can be shown, the question is what it always was
        parameters["pictures"] = analysis.pictures
        inputs[pixels] = measured.labels.content[pixels]
    return Asked("retrieval", REVISION, parameters, inputs)


def answer(measured: Measured, array: str, analysis: Retrieval, context: Context) -> Answer:
    """Return the share of every outcome, recall, average precision and the upper bound, by view, level and m."""
    found = gallery(measured, array, context)
    ranking = variance_ranking(token_variance(measured, array, found.chosen))
    supers = {name: number for number, name in enumerate(sorted(set(measured.classes["supercategory"])))}
    supercategory = np.array([supers[name] for name in measured.classes["supercategory"]], dtype=np.int64)
    background = background_of(measured)
    search_bytes = search_memory(context.memory_bytes, holds(measured, array, analysis, context))
    rows: list[dict[str, Any]] = []
    pixels = pixels_of(measured)
    examples = Examples(analysis.pictures if pixels is not None else 0)
    pictured = strongest(wanted(measured, array, analysis))
    shown_without = "nothing" if "nothing" in analysis.left_out else analysis.left_out[0]
    for view, level in [("clean", 0.0), *wanted(measured, array, analysis)]:
        queries = _queries(measured, array, (view, level), found, background)
        if not len(queries.labels):
            continue
        for left_out in analysis.left_out:
            if view == "clean" and left_out == "nothing":
                continue  # every patch finds itself
            shows = left_out == shown_without and (view, level) in pictured
            rows += _searched(found, queries, ranking, left_out, analysis, context.seed, search_bytes,
                              supercategory, background,
                              {"view": view, "level": None if view == "clean" else level},
                              examples if shows else Examples(0))  # fmt: skip
    if not rows:
        raise UserError("no patch under any view shows an object: check the selection and the data set's labels")
    arrays = {} if pixels is None else dict(examples.arrays(measured, found.chosen, array, pixels))
    return Answer(rows, arrays)


@dataclass(frozen=True)
class _Queries:
    features: np.ndarray
    labels: Int64[np.ndarray, " query"]
    rows: Int64[np.ndarray, " query"]
    own: Int64[np.ndarray, " query"]
    """Place in the gallery's numbering of the corresponding clean patch, -1 for none."""


def _queries(
    measured: Measured, array: str, key: tuple[str, float], found: Gallery, background: int | None
) -> _Queries:
    chosen = found.chosen
    if key[0] == "clean":
        under, same = measured, np.tile(np.arange(found.n_patches), (len(chosen.rows), 1))
    else:
        under = measured.under(*key)
        same = correspondence(measured, measured.views[key], array, chosen.rows)
    labels: UInt8[np.ndarray, " patch"] = patch_labels(under, array, chosen)
    shown = shows_object(labels, background)
    numbers = np.flatnonzero(shown)
    row = numbers // same.shape[1]
    patch = same.reshape(-1)[numbers].astype(np.int64)
    own = np.where(patch >= 0, row * found.n_patches + patch, -1)
    return _Queries(tokens(under, array, chosen, shown), labels[numbers].astype(np.int64), row, own)


def _searched(
    found: Gallery,
    queries: _Queries,
    ranking: Int64[np.ndarray, " channel"],
    left_out: LeftOut,
    analysis: Retrieval,
    seed: int,
    memory_bytes: int,
    supercategory: Int64[np.ndarray, " classes"],
    background: int | None,
    view: dict[str, Any],
    examples: Examples,
) -> list[dict[str, Any]]:
    group_of_row = {"nothing": None, "tile": np.arange(len(found.sources)), "source": found.sources}[left_out]
    bank_groups = None if group_of_row is None else group_of_row[found.places // found.n_patches]
    query_groups = None if group_of_row is None else group_of_row[queries.rows]
    depth = max(analysis.recall_at)
    removed = [m for m in sorted(set(analysis.remove)) if m < len(ranking)]
    hits = nearest_without_top(
        found.features,
        queries.features,
        ranking,
        removed,
        depth,
        metric=analysis.metric,
        bank_groups=bank_groups,
        query_groups=query_groups,
        memory_bytes=memory_bytes,
    )
    images = found.sources[queries.rows]
    n_images = len(found.chosen.sources)
    n_relevant = np.bincount(found.labels, minlength=len(supercategory))[queries.labels]
    if bank_groups is not None and query_groups is not None:  # what is left out cannot be found
        here = np.zeros((int(max(bank_groups.max(), query_groups.max())) + 1, len(supercategory)), dtype=np.int64)
        np.add.at(here, (bank_groups, found.labels), 1)
        n_relevant = n_relevant - here[query_groups, queries.labels]

    def became_of(some: Int64[np.ndarray, " query"], hit: Int64[np.ndarray, " query"]) -> Int64[np.ndarray, " query"]:
        return outcomes(
            queries.labels[some], queries.own[some], found.labels[hit], found.places[hit], supercategory, background
        )

    rows: list[dict[str, Any]] = []
    for m in removed:
        indices = hits[m].indices
        became = became_of(np.arange(len(indices)), indices[:, 0])
        for query in examples.shown(queries.own):
            hit = indices[query, :NEAREST]
            same = np.repeat(query, len(hit))
            asked_for = int(queries.own[query]), int(queries.labels[query])
            examples.add(f"{view['view']} {view['level']:g}", m, asked_for, found.places[hit], became_of(same, hit))
        relevant = found.labels[indices] == queries.labels[:, None]
        values: list[tuple[str, str | None, int, np.ndarray]] = [
            ("share", name, 1, became == number) for number, name in enumerate(OUTCOMES)
        ]
        values += [("recall", None, k, relevant[:, :k].any(axis=1)) for k in sorted(set(analysis.recall_at))]
        values += [
            ("average_precision", None, k, average_precision(relevant[:, :k], n_relevant))
            for k in sorted(set(analysis.recall_at))
        ]
        if left_out == "nothing":
            values.append(("upper_bound", None, 1, np.isin(queries.own, found.places)))
        for metric, outcome, k, per_query in values:
            rows.append(
                {
                    **view,
                    "classifier": "retrieval",
                    "train": found.chosen.title,
                    "m": m,
                    "k": k,
                    "outcome": outcome,
                    "metric": metric,
                    "reference": f"{left_out} left out",
                    **_share(per_query.astype(np.float64), images, n_images, analysis.resamples, seed),
                    "seed": seed,
                }
            )
    return rows


def _share(
    per_query: Float64[np.ndarray, " query"],
    images: Int64[np.ndarray, " query"],
    n_images: int,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    numerator = np.bincount(images, per_query, n_images)
    denominator = np.bincount(images, minlength=n_images).astype(np.float64)
    low, high = ratio_interval(numerator, denominator, seed=seed, resamples=resamples)
    value = float(per_query.mean())
    return {"value": value, "low": low, "high": high, "unit": "image", "n_units": n_images}


def holds(measured: Measured, array: str, analysis: Retrieval, context: Context) -> int:
    """Return the bytes that answering holds: the gallery, and the queries of one view after another.

    Patches are counted by their labels, a byte each: of most data few show an object.
    """
    chosen = choose(measured, context.selection.train if context.selection else None)
    background = background_of(measured)
    n_gallery = int(np.count_nonzero(patch_labels(measured, array, chosen) != VOID))
    views = wanted(measured, array, analysis)
    n_queries = max(
        int(np.count_nonzero(shows_object(patch_labels(under, array, chosen), background)))
        for under in (measured, *(measured.under(*key) for key in views))
    )
    pixels = pixels_of(measured)
    n_tiles = 0 if pixels is None else analysis.pictures * (1 + NEAREST) * len(views) * len(set(analysis.remove))
    tiles = 3 * min(n_tiles, len(chosen.rows)) * (measured.labels[pixels].spec.row_bytes if pixels else 0)
    patch = rows_bytes(measured, array, 1) // n_patches(measured, array, 1)
    return (
        reading_bytes(measured, array)
        + patch * (n_gallery + 2 * n_queries)  # of one view while the next is read
        + PATCH_BYTES * n_patches(measured, array, len(chosen.rows))
        + neighbours_bytes(n_queries, max(analysis.recall_at), len(set(analysis.remove)), 1)
        + tiles
    )


def cells(models: Sequence[Measured], analysis: Retrieval, context: Context) -> Iterator[Cell]:
    """Yield one answer a model and layer."""
    for measured in models:
        for array in measured.arrays(analysis.layers, analysis.norm):
            yield cell_of(
                measured,
                array,
                asked(measured, array, analysis, context),
                partial(answer, measured, array, analysis, context),
                f"retrieval by {array}",
                partial(holds, measured, array, analysis, context),
            )
