"""Retrieval of transformed patches: which clean patch is nearest to a patch under a view.

Paper A, section 3.3 (experiments A-11 to A-15). The gallery is every labelled patch of the clean images, the queries
are the patches under a view that show an object (majority label not background, not void). A hit is the *same patch*
(the clean patch that holds the query's centre), else of the same *fine* category, else of the same *supercategory*,
else of *another* category, else *background*. Leaving out the query's own tile, or its whole source image, tests
whether the model finds the category elsewhere. Models of other patch sizes have other queries; they are compared image
by image, by the same resamples.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Int64
from pydantic import Field

from evaluate.inputs.gallery import (
    Gallery,
    LeftOut,
    Queries,
    background_of,
    read_gallery,
    read_queries,
    shows_object,
    treat_gallery,
)
from evaluate.inputs.memory import PATCH_BYTES, n_patches, neighbours_bytes, reading_bytes, rows_bytes
from evaluate.inputs.patches import patch_labels, token_variance
from evaluate.inputs.rows import RowSelection
from evaluate.inputs.views import selected_views, view_inputs
from evaluate.inputs.work import Work, comparing, ranking, reading, treating
from evaluate.kernels import treatments
from evaluate.kernels.moments import variance_ranking
from evaluate.neighbours.knn import Neighbours, nearest_without_top
from evaluate.neighbours.query_sections import Last, QueryPass, no_neighbours
from evaluate.results.metrics import SHARE, UPPER_BOUND
from evaluate.results.sections import LongPass
from evaluate.results.table import Result
from evaluate.scoring.retrieval.examples import NEAREST, Example, example_arrays, last_levels, pixels_of
from evaluate.scoring.retrieval.outcomes import OUTCOMES, QueryScores
from evaluate.settings import BootstrapSettings, LayerSettings, PatchRemovalSettings
from evaluate.task import ModelTask
from stores.errors import UserError
from stores.specs import VOID


class Retrieval(LayerSettings, PatchRemovalSettings, BootstrapSettings):
    """What the nearest clean patch of a transformed object patch is (paper A, Figs. 5 and 6)."""

    kind: Literal["retrieval"]
    views: tuple[str, ...] | None = None
    """Names of the views whose patches are queries; None takes all of the experiment on the clean grid."""
    left_out: tuple[LeftOut, ...] = ("nothing", "tile")
    """What of the gallery is left out for a query: nothing, its own tile, or its whole source image."""
    recall_at: tuple[Annotated[int, Field(ge=1)], ...] = (1, 5, 10)
    """Depths k at which recall (some hit of the same category) and mean average precision are reported."""
    metric: Literal["euclidean", "cosine"] = "euclidean"
    """Distance between the features as stored, or between their directions."""
    pictures: int = Field(default=2, ge=0, le=16)
    """Queries to show of every view at its last level, with their nearest patches; they need ``input_pixels = true``
    in [features]."""


View = tuple[str, float]
"""Name and level."""
CLEAN: View = ("clean", 0.0)


@dataclass(frozen=True, eq=False)
class RetrievalTask(ModelTask[Retrieval]):
    """Share of every outcome, recall, average precision and the upper bound, by view, level and m."""

    analysis = "retrieval"
    revision = 3
    by_removal = True
    compared = (SHARE, UPPER_BOUND)
    what = "retrieval by {task.array}"
    labelled = True
    key_settings = ("left_out", "metric", "resamples")
    key_counts = ("remove", "recall_at")
    key_rows = ("images",)

    @property
    def images(self) -> RowSelection:
        """Rows whose clean patches are the gallery, and whose patches under a view are the queries."""
        return self.train

    @cached_property
    def views(self) -> list[tuple[str, float]]:
        """Name and level of the views whose patches are queries; raises UserError for names the experiment lacks."""
        views, grid = selected_views(self.model, self.settings.views, self.analysis), self.model.grid(self.array)
        if self.settings.views is not None:
            return views
        viewed = {view: self.model.for_view(*view) for view in views}
        return [view for view, of in viewed.items() if self.array in of.features.arrays and of.grid(self.array) == grid]

    @cached_property
    def pixels(self) -> str | None:
        """Address of the clean tiles' input pixels, None where no pictures are shown: of treated features none are."""
        return pixels_of(self.model) if self.settings.pictures and self.treatment is None else None

    def parts(self) -> Sequence[ModelTask[Retrieval]]:
        """Return one part for every m; with pictures the whole task, whose figure shows every m of a query together."""
        return [self] if self.pixels is not None else super().parts()

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that the class lists, the views, and the number of pictures where there are some."""
        pictures = {} if self.pixels is None else {"pictures": self.settings.pictures}
        return {**super().parameters(), "views": [list(view) for view in self.views], **pictures}

    def inputs(self) -> dict[str, str]:
        """Return the digests of tokens and labels under every view, and of the pixels that are shown."""
        inputs = super().inputs() | view_inputs(self.model, self.array, self.views, self.settings.norm)
        for name, level in self.views:
            inputs[f"{name} {level:g} labels"] = self.model.views[name, level].labels.digest
        if self.pixels is not None:
            inputs[self.pixels] = self.model.labels.content[self.pixels]
        return inputs

    @property
    def columns(self) -> dict[str, Any]:
        """The shared columns and the distance."""
        return {**super().columns, "classifier": "retrieval", "distance": self.settings.metric}

    def compute(self) -> Result:
        """Return one row a view, gallery, m and metric, and tiles of some queries with their nearest patches."""
        supercategory = pd.factorize(self.model.classes["supercategory"], sort=True)[0].astype(np.int64)
        left_outs, read, results = self.settings.left_out, _Patches(self), self.searched()
        pictured = "nothing" if "nothing" in left_outs else left_outs[0]
        examples: list[Example] = []
        rows: list[dict[str, Any]] = []
        for view, left_out in self._compared():
            queries = read.queries(view)
            if not len(queries.labels):
                continue
            search = self._search(view, left_out, read, results)
            found = search.neighbours(len(queries.labels), self.kept_sections())
            scores = QueryScores(read.gallery, queries, supercategory, left_out)
            is_shown = self.pixels is not None and left_out == pictured and view in last_levels(self.views)
            rows += self._rows(scores, found, view, examples if is_shown else None)
        if not rows:
            raise UserError("no patch under any view shows an object: check the selection and the data set's labels")
        if self.pixels is None:
            return Result(rows)
        return Result(rows, example_arrays(examples, self.model, self.images, self.array, self.pixels))

    def _search(self, view: View, left_out: LeftOut, read: "_Patches", results: Mapping[int, str]) -> QueryPass:
        """Return the search of the queries under one view.

        Args:
            view: name and level.
            left_out: what of the gallery is left out for a query.
            read: gallery and queries.
            results: digests of the results that neighbours are for, by m.
        """
        viewed, metric = self.model if view == CLEAN else self.model.for_view(*view), self.settings.metric
        n_rows, k = len(self.images.rows), max(self.settings.recall_at)

        def search(removed: Sequence[int], start: int, stop: int) -> dict[int, Neighbours]:
            gallery, queries = read.gallery, read.queries(view)
            groups, (first, last) = gallery.groups(left_out), np.searchsorted(queries.rows, [start, stop])
            if first == last:
                return {m: no_neighbours(k, metric) for m in removed}
            return nearest_without_top(
                gallery.features,
                queries.features[first:last],
                read.ranking,
                removed,
                k,
                metric=metric,
                bank_groups=None if groups is None else groups[gallery.patches // gallery.n_patches],
                query_groups=None if groups is None else groups[queries.rows[first:last]],
                memory_bytes=self.search_bytes,
                device=self.context.device.name,
            )

        what, n_bank = f"{self.array} under {view[0]} {view[1]:g}", n_patches(self.model, self.array, n_rows)
        of_row = n_patches(viewed, self.array, 1)
        return QueryPass(what, (*view, left_out), results, k, metric, n_bank, n_rows, of_row, search)

    def passes(self) -> list[LongPass]:
        """Return the searches of every view and gallery, of features as they are."""
        if self.kept_sections() is None:
            return []
        read, results = _Patches(self), self.searched(is_missing_alone=True)
        searches = [self._search(*one, read, results) for one in self._compared()]
        return [one for search in searches for one in search.several]

    def _compared(self) -> list[tuple[View, LeftOut]]:
        """Return the views with what of the gallery is left out; clean patches would find themselves."""
        both = [(view, left_out) for view in (CLEAN, *self.views) for left_out in self.settings.left_out]
        return [one for one in both if one != (CLEAN, "nothing")]

    def _rows(
        self, scores: QueryScores, neighbours: Mapping[int, Neighbours], view: View, examples: list[Example] | None
    ) -> Iterator[dict[str, Any]]:
        """Yield the rows of the queries under one view, and add to ``examples`` where they are shown."""
        gallery, queries, depths = scores.gallery, scores.queries, sorted(set(self.settings.recall_at))
        bootstrap = self.bootstrap(gallery.selection.sources)
        images, n_images = gallery.sources[queries.rows], len(bootstrap.units)
        denominator = np.bincount(images, minlength=n_images).astype(np.float64)
        name, level = view
        columns = {
            "view": name,
            "level": None if name == "clean" else level,
            "reference": f"{scores.left_out} left out",
        }
        for m in self.removed:
            indices = neighbours[m].indices
            if examples is not None:
                examples += scores.examples(f"{name} {level:g}", m, indices, self.settings.pictures)
            for metric, outcome, k, values in scores.by_metric(indices, depths):
                draws = bootstrap.ratio(np.bincount(images, values, n_images), denominator)
                yield bootstrap.row(metric, float(values.mean()), draws, m=m, k=k, outcome=outcome, **columns)

    def work(self) -> Work:
        """Estimate the operations: a search of every view and gallery, among patches that have a label."""
        model, array, n_m = self.model, self.array, len(self.removed)
        background, n_rows = background_of(model), len(self.images.rows)
        n_gallery = float(np.count_nonzero(patch_labels(model, array, self.images) != VOID))
        works = [ranking(model, array, n_rows), reading(model, array, n_rows)]
        works.append(treating(self.treatment, n_gallery, n_gallery, self.n_channels))
        for viewed in (model, *(model.for_view(*view) for view in self.views)):
            n_queries = np.count_nonzero(shows_object(patch_labels(viewed, array, self.images), background))
            scores = n_gallery * n_queries * len(self.settings.left_out)
            works += [reading(model, array, n_rows), comparing(scores, self.n_channels, n_m)]
            works.append(treating(self.treatment, 0, float(n_queries), self.n_channels))
        return sum(works, Work())

    def peak_bytes(self) -> int:
        """Estimate peak memory: the gallery, and the queries of one view after another.

        Patches are counted by their labels, a byte each: in most data few show an object.
        """
        model, array, settings = self.model, self.array, self.settings
        background = background_of(model)
        n_gallery = int(np.count_nonzero(patch_labels(model, array, self.images) != VOID))
        n_queries = max(
            int(np.count_nonzero(shows_object(patch_labels(viewed, array, self.images), background)))
            for viewed in (model, *(model.for_view(*view) for view in self.views))
        )
        n_m, n_depths = len(set(settings.remove)), len(set(settings.recall_at))
        n_tiles = 0 if self.pixels is None else settings.pictures * (1 + NEAREST) * len(self.views) * n_m
        tile_bytes = model.labels[self.pixels].spec.row_bytes if self.pixels else 0
        n_lines = (1 + len(self.views)) * len(settings.left_out) * n_m
        patch = rows_bytes(model, array, 1) // n_patches(model, array, 1)
        treated = 0 if self.treatment is None else treatments.peak_bytes(n_gallery + n_queries, self.n_channels)
        return (
            treated
            + reading_bytes(model, array)
            + patch * (n_gallery + 2 * n_queries)  # of one view while the next is read
            + PATCH_BYTES * n_patches(model, array, len(self.images.rows))
            + neighbours_bytes(
                n_queries, max(settings.recall_at), n_m, 1, (n_gallery, self.n_channels), self.context.device.name
            )
            + 8 * settings.resamples * n_lines * 2 * (len(OUTCOMES) + 2 * n_depths + 1)
            + 3 * min(n_tiles, len(self.images.rows)) * tile_bytes
        )


class _Patches:
    """Gallery and queries of a task, read when they are first used; queries of one view are there at a time.

    Args:
        task: Its features are treated where it has a treatment.
    """

    def __init__(self, task: RetrievalTask) -> None:
        self.task = task
        self._queries = Last[Queries]()

    @cached_property
    def gallery(self) -> Gallery:
        """The clean patches that are retrieved."""
        task = self.task
        gallery = read_gallery(task.model, task.array, task.images)
        return gallery if task.treatment is None else treat_gallery(gallery, task.treatment, task.context.seed)

    @cached_property
    def ranking(self) -> Int64[np.ndarray, " feature"]:
        """Features by decreasing variance; of treated ones none is left out."""
        if self.task.treatment is not None:
            return np.arange(self.gallery.features.shape[1])
        return variance_ranking(token_variance(self.task.model, self.task.array, self.task.images))

    def queries(self, view: View) -> Queries:
        """Return the patches under a view that show an object."""
        return self._queries.of(view, lambda: read_queries(self.task.model, self.task.array, view, self.gallery))
