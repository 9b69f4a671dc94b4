"""Retrieval of transformed patches: what is the nearest clean patch of a patch under a view?

Paper A, section 3.3 (experiments A-11 to A-15). The gallery is every labelled patch of the clean images, the queries
are the patches under a view that show an object (majority label not background, not void). A hit is the *same patch*
(the clean patch that holds the query's centre), else of the same *fine* category, else of the same *supercategory*,
else of *another* category, else *background*. Leaving out the query's own tile, or its whole source image, asks
whether the model finds the category elsewhere.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float64, Int64
from pydantic import Field

from evaluate.inputs.gallery import Gallery, LeftOut, Queries, background_of, gallery, queries, shows_object
from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.patches import patch_labels, token_variance
from evaluate.inputs.rows import training_rows
from evaluate.kernels.bootstrap import quantiles, resampled_ratio
from evaluate.kernels.memory import (
    PATCH_BYTES,
    n_patches,
    neighbours_bytes,
    reading_bytes,
    rows_bytes,
    search_memory,
)
from evaluate.kernels.moments import variance_ranking
from evaluate.neighbours.knn import nearest_without_top
from evaluate.results.draws import DRAWS, BootstrapDraws, result_of, units_of
from evaluate.results.table import Result, ResultKey
from evaluate.scoring.retrieval import OUTCOMES, n_relevant, outcomes, values_by_metric
from evaluate.scoring.retrieval_examples import NEAREST, Examples, pixels_of, strongest
from evaluate.settings import Context, Layers, Settings
from evaluate.task import Task, task_of
from stores.errors import UserError
from stores.specs import VOID

REVISION = 2
"""Raised when the same inputs and parameters give other numbers."""


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


def wanted(model: ModelSets, array: str, analysis: Retrieval) -> list[tuple[str, float]]:
    """Return the views whose patches are queries; raises UserError for names the experiment lacks."""
    known = {name for name, _ in model.views}
    absent = [name for name in analysis.views or () if name not in known]
    if absent:
        raise UserError(f"retrieval asks for the view {absent[0]}, which [[views]] does not list: add it there")
    found = []
    for key, viewed in model.views.items():
        on_grid = array in viewed.features.arrays and model.for_view(*key).grid(array) == model.grid(array)
        if key[0] in analysis.views if analysis.views is not None else on_grid:
            found.append(key)
    return found


def asked(model: ModelSets, array: str, analysis: Retrieval, context: Context) -> ResultKey:
    """Return what the answer depends on."""
    model.need_labels("retrieval")
    chosen = training_rows(model, context.selection)
    inputs = model.inputs(array, labelled=True)
    for name, level in wanted(model, array, analysis):
        for_view = model.for_view(name, level)
        for_view.arrays((for_view.layer(array),), analysis.norm)
        inputs[f"{name} {level:g} {array}"] = for_view.features.content[array]
        inputs[f"{name} {level:g} labels"] = for_view.labels.digest
    parameters: dict[str, Any] = {
        "views": [[name, level] for name, level in wanted(model, array, analysis)],
        "left_out": list(analysis.left_out),
        "remove": sorted(set(analysis.remove)),
        "recall_at": sorted(set(analysis.recall_at)),
        "metric": analysis.metric,
        "resamples": analysis.resamples,
        "seed": context.seed,
        "images": list(chosen.sources),
    }
    pixels = pixels_of(model)
    if pixels is not None and analysis.pictures:  # where nothing can be shown, the question is what it always was
        parameters["pictures"] = analysis.pictures
        inputs[pixels] = model.labels.content[pixels]
    return ResultKey("retrieval", REVISION, parameters, inputs)


def answer(model: ModelSets, array: str, analysis: Retrieval, context: Context) -> Result:
    """Return the share of every outcome, recall, average precision and the upper bound, by view, level and m."""
    found = gallery(model, array, context)
    ranking = variance_ranking(token_variance(model, array, found.chosen))
    supers = {name: number for number, name in enumerate(sorted(set(model.classes["supercategory"])))}
    supercategory = np.array([supers[name] for name in model.classes["supercategory"]], dtype=np.int64)
    search_bytes = search_memory(context.memory_bytes, peak_bytes(model, array, analysis, context))
    rows: list[dict[str, Any]] = []
    pixels = pixels_of(model)
    examples = Examples(analysis.pictures if pixels is not None else 0)
    pictured = strongest(wanted(model, array, analysis))
    shown_without = "nothing" if "nothing" in analysis.left_out else analysis.left_out[0]
    for view, level in [("clean", 0.0), *wanted(model, array, analysis)]:
        asking = queries(model, array, (view, level), found)
        if not len(asking.labels):
            continue
        for left_out in analysis.left_out:
            if view == "clean" and left_out == "nothing":
                continue  # every patch finds itself
            shows = left_out == shown_without and (view, level) in pictured
            rows += _searched(found, asking, ranking, left_out, analysis, context.seed, search_bytes, supercategory,
                              {"view": view, "level": None if view == "clean" else level},
                              examples if shows else Examples(0))  # fmt: skip
    if not rows:
        raise UserError("no patch under any view shows an object: check the selection and the data set's labels")
    arrays = {} if pixels is None else dict(examples.arrays(model, found.chosen, array, pixels))
    return result_of(rows, ("share", "upper_bound"), arrays)


def _searched(
    found: Gallery,
    asking: Queries,
    ranking: Int64[np.ndarray, " channel"],
    left_out: LeftOut,
    analysis: Retrieval,
    seed: int,
    memory_bytes: int,
    supercategory: Int64[np.ndarray, " classes"],
    view: dict[str, Any],
    examples: Examples,
) -> list[dict[str, Any]]:
    groups = found.groups(left_out)
    depths = sorted(set(analysis.recall_at))
    removed = [m for m in sorted(set(analysis.remove)) if m < len(ranking)]
    hits = nearest_without_top(
        found.features,
        asking.features,
        ranking,
        removed,
        max(depths),
        metric=analysis.metric,
        bank_groups=None if groups is None else groups[found.places // found.n_patches],
        query_groups=None if groups is None else groups[asking.rows],
        memory_bytes=memory_bytes,
    )
    images = found.sources[asking.rows]
    n_images = len(found.chosen.sources)
    units = units_of(found.chosen.sources, seed, analysis.resamples)
    could_find = n_relevant(found, asking, left_out, len(supercategory))

    def became_of(some: Int64[np.ndarray, " query"], hit: Int64[np.ndarray, " query"]) -> Int64[np.ndarray, " query"]:
        return outcomes(
            asking.labels[some], asking.own[some], found.labels[hit], found.places[hit], supercategory, found.background
        )

    rows: list[dict[str, Any]] = []
    for m in removed:
        indices = hits[m].indices
        for query in examples.shown(asking.own):
            hit = indices[query, :NEAREST]
            same = np.repeat(query, len(hit))
            asked_for = int(asking.own[query]), int(asking.labels[query])
            examples.add(f"{view['view']} {view['level']:g}", m, asked_for, found.places[hit], became_of(same, hit))
        became = became_of(np.arange(len(indices)), indices[:, 0])
        relevant = found.labels[indices] == asking.labels[:, None]
        values = values_by_metric(became, relevant, could_find, depths)
        if left_out == "nothing":
            values.append(("upper_bound", None, 1, np.isin(asking.own, found.places)))
        for metric, outcome, k, per_query in values:
            share, drawn = _share(per_query.astype(np.float64), images, n_images, analysis.resamples, seed)
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
                    **share,
                    "seed": seed,
                    DRAWS: None if drawn is None else BootstrapDraws(drawn, units),
                }
            )
    return rows


def _share(
    per_query: Float64[np.ndarray, " query"],
    images: Int64[np.ndarray, " query"],
    n_images: int,
    resamples: int,
    seed: int,
) -> tuple[dict[str, Any], Float64[np.ndarray, " resample"] | None]:
    numerator = np.bincount(images, per_query, n_images)
    denominator = np.bincount(images, minlength=n_images).astype(np.float64)
    drawn = resampled_ratio(numerator, denominator, seed=seed, resamples=resamples)
    low, high = quantiles(drawn)
    return {"value": float(per_query.mean()), "low": low, "high": high, "unit": "image", "n_units": n_images}, drawn


def peak_bytes(model: ModelSets, array: str, analysis: Retrieval, context: Context) -> int:
    """Return the bytes that answering holds: the gallery, and the queries of one view after another.

    Patches are counted by their labels, a byte each: of most data few show an object.
    """
    chosen = training_rows(model, context.selection)
    background = background_of(model)
    n_gallery = int(np.count_nonzero(patch_labels(model, array, chosen) != VOID))
    views = wanted(model, array, analysis)
    n_queries = max(
        int(np.count_nonzero(shows_object(patch_labels(for_view, array, chosen), background)))
        for for_view in (model, *(model.for_view(*key) for key in views))
    )
    pixels = pixels_of(model)
    n_tiles = 0 if pixels is None else analysis.pictures * (1 + NEAREST) * len(views) * len(set(analysis.remove))
    tiles = 3 * min(n_tiles, len(chosen.rows)) * (model.labels[pixels].spec.row_bytes if pixels else 0)
    n_lines = (1 + len(views)) * len(analysis.left_out) * len(set(analysis.remove))
    draws = 8 * analysis.resamples * n_lines * 2 * (len(OUTCOMES) + 2 * len(set(analysis.recall_at)) + 1)
    patch = rows_bytes(model, array, 1) // n_patches(model, array, 1)
    return (
        reading_bytes(model, array)
        + patch * (n_gallery + 2 * n_queries)  # of one view while the next is read
        + PATCH_BYTES * n_patches(model, array, len(chosen.rows))
        + neighbours_bytes(n_queries, max(analysis.recall_at), len(set(analysis.remove)), 1)
        + draws
        + tiles
    )


def cells(models: Sequence[ModelSets], analysis: Retrieval, context: Context) -> Iterator[Task]:
    """Yield one answer a model and layer."""
    for model in models:
        for array in model.arrays(analysis.layers, analysis.norm):
            yield task_of(
                model,
                array,
                asked(model, array, analysis, context),
                partial(answer, model, array, analysis, context),
                f"retrieval by {array}",
                partial(peak_bytes, model, array, analysis, context),
            )
