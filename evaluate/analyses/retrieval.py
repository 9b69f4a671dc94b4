"""Retrieval of transformed patches: what is the nearest clean patch of a patch under a view?

Paper A, section 3.3 (experiments A-11 to A-15). The gallery is every labelled patch of the clean images, the queries
are the patches under a view that show an object (majority label not background, not void). A hit is the *same patch*
(the clean patch that holds the query's centre), else of the same *fine* category, else of the same *supercategory*,
else of *another* category, else *background*. Leaving out the query's own tile, or its whole source image, asks
whether the model finds the category elsewhere.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from jaxtyping import Int64
from pydantic import Field

from evaluate.inputs.gallery import Gallery, LeftOut, Queries, background_of, gallery, queries, shows_object
from evaluate.inputs.memory import (
    PATCH_BYTES,
    n_patches,
    neighbours_bytes,
    reading_bytes,
    rows_bytes,
)
from evaluate.inputs.patches import patch_labels, token_variance
from evaluate.kernels.moments import variance_ranking
from evaluate.neighbours.knn import nearest_without_top
from evaluate.results.draws import result_of
from evaluate.results.table import Result
from evaluate.scoring.retrieval import OUTCOMES, QueryScores
from evaluate.scoring.retrieval_examples import NEAREST, Examples, pixels_of, strongest
from evaluate.settings import BootstrapSettings, LayerSettings, RemovalSettings
from evaluate.task import ModelTask
from stores.errors import UserError
from stores.specs import VOID


class Retrieval(LayerSettings, RemovalSettings, BootstrapSettings):
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


@dataclass(frozen=True, eq=False)
class RetrievalTask(ModelTask[Retrieval]):
    """Share of every outcome, recall, average precision and the upper bound, by view, level and m."""

    analysis: ClassVar[str] = "retrieval"
    revision: ClassVar[int] = 3
    labelled: ClassVar[bool] = True

    @property
    def description(self) -> str:
        """The array."""
        return f"retrieval by {self.array}"

    @cached_property
    def views(self) -> list[tuple[str, float]]:
        """The views whose patches are queries; raises UserError for names the experiment lacks."""
        names = self.settings.views
        known = {name for name, _ in self.model.views}
        for name in names or ():
            if name not in known:
                raise UserError(f"retrieval has the view {name}, which [[views]] does not list: add it there")
        grid = self.model.grid(self.array)
        return [
            (name, level)
            for (name, level), view in self.model.views.items()
            if (
                name in names
                if names is not None
                else self.array in view.features.arrays and self.model.for_view(name, level).grid(self.array) == grid
            )
        ]

    @cached_property
    def pixels(self) -> str | None:
        """Address of the clean tiles' input pixels, None where no pictures are shown."""
        return pixels_of(self.model) if self.settings.pictures else None

    def parameters(self) -> dict[str, Any]:
        """Return views, what is left out of the gallery, removed features, depths, distance and images."""
        parameters: dict[str, Any] = {
            "views": [[name, level] for name, level in self.views],
            "left_out": list(self.settings.left_out),
            "remove": sorted(set(self.settings.remove)),
            "recall_at": sorted(set(self.settings.recall_at)),
            "metric": self.settings.metric,
            "resamples": self.settings.resamples,
            "seed": self.context.seed,
            "images": list(self.train.sources),
        }
        if self.pixels is not None:
            parameters["pictures"] = self.settings.pictures
        return parameters

    def inputs(self) -> dict[str, str]:
        """Return the digests of tokens and labels under every view, and of the pixels that are shown."""
        inputs = super().inputs()
        for name, level in self.views:
            viewed = self.model.for_view(name, level)
            viewed.arrays((viewed.layer(self.array),), self.settings.norm)
            inputs[f"{name} {level:g} {self.array}"] = viewed.features.content[self.array]
            inputs[f"{name} {level:g} labels"] = viewed.labels.digest
        if self.pixels is not None:
            inputs[self.pixels] = self.model.labels.content[self.pixels]
        return inputs

    @property
    def columns(self) -> dict[str, Any]:
        """The shared columns."""
        shared = {"classifier": "retrieval", "distance": self.settings.metric}
        return {**super().columns, **self.train_columns, **shared}

    def compute(self) -> Result:
        """Return one row a view, gallery, m and metric, and tiles of some queries with their nearest patches."""
        bank = gallery(self.model, self.array, self.train)
        ranking = variance_ranking(token_variance(self.model, self.array, self.train))
        examples = Examples(0 if self.pixels is None else self.settings.pictures)
        pictured = strongest(self.views)
        shown_without = "nothing" if "nothing" in self.settings.left_out else self.settings.left_out[0]
        rows: list[dict[str, Any]] = []
        for view in [("clean", 0.0), *self.views]:
            asking = queries(self.model, self.array, view, bank)
            if not len(asking.labels):
                continue
            for left_out in self.settings.left_out:
                if view[0] == "clean" and left_out == "nothing":
                    continue  # every patch would find itself
                shown = examples if left_out == shown_without and view in pictured else None
                rows += self._search(bank, asking, ranking, left_out, view, shown)
        if not rows:
            raise UserError("no patch under any view shows an object: check the selection and the data set's labels")
        arrays: Mapping[str, np.ndarray] = {}
        if self.pixels is not None:
            arrays = examples.arrays(self.model, self.train, self.array, self.pixels)
        return result_of(rows, ("share", "upper_bound"), arrays)

    def _search(
        self,
        bank: Gallery,
        asking: Queries,
        ranking: Int64[np.ndarray, " channel"],
        left_out: LeftOut,
        view: tuple[str, float],
        examples: Examples | None,
    ) -> Iterator[dict[str, Any]]:
        """Yield the rows of the queries under one view; lines of ``examples`` are added where they are shown."""
        groups = bank.groups(left_out)
        depths = sorted(set(self.settings.recall_at))
        neighbours = nearest_without_top(
            bank.features,
            asking.features,
            ranking,
            self.removed,
            max(depths),
            metric=self.settings.metric,
            bank_groups=None if groups is None else groups[bank.places // bank.n_patches],
            query_groups=None if groups is None else groups[asking.rows],
            memory_bytes=self.search_bytes,
        )
        scores = QueryScores(bank, asking, self._supercategories(), left_out)
        bootstrap = self.bootstrap(bank.chosen.sources)
        images = bank.sources[asking.rows]
        n_images = len(bank.chosen.sources)
        denominator = np.bincount(images, minlength=n_images).astype(np.float64)
        columns = {
            "view": view[0],
            "level": None if view[0] == "clean" else view[1],
            "reference": f"{left_out} left out",
        }
        for m in self.removed:
            indices = neighbours[m].indices
            if examples is not None:
                scores.add_examples(examples, f"{view[0]} {view[1]:g}", m, indices)
            for metric, outcome, k, values in scores.by_metric(indices, depths):
                numerator = np.bincount(images, values, n_images)
                draws = bootstrap.ratio(numerator, denominator)
                yield bootstrap.row(metric, float(values.mean()), draws, m=m, k=k, outcome=outcome, **columns)

    def _supercategories(self) -> Int64[np.ndarray, " classes"]:
        names = self.model.classes["supercategory"]
        numbers = {name: number for number, name in enumerate(sorted(set(names)))}
        return np.array([numbers[name] for name in names], dtype=np.int64)

    def peak_bytes(self) -> int:
        """Estimate peak memory: the gallery, and the queries of one view after another.

        Patches are counted by their labels, a byte each: in most data few show an object.
        """
        model, array, settings = self.model, self.array, self.settings
        background = background_of(model)
        n_gallery = int(np.count_nonzero(patch_labels(model, array, self.train) != VOID))
        n_queries = max(
            int(np.count_nonzero(shows_object(patch_labels(viewed, array, self.train), background)))
            for viewed in (model, *(model.for_view(*view) for view in self.views))
        )
        n_m, n_depths = len(set(settings.remove)), len(set(settings.recall_at))
        n_tiles = 0 if self.pixels is None else settings.pictures * (1 + NEAREST) * len(self.views) * n_m
        tile_bytes = model.labels[self.pixels].spec.row_bytes if self.pixels else 0
        n_lines = (1 + len(self.views)) * len(settings.left_out) * n_m
        patch = rows_bytes(model, array, 1) // n_patches(model, array, 1)
        return (
            reading_bytes(model, array)
            + patch * (n_gallery + 2 * n_queries)  # of one view while the next is read
            + PATCH_BYTES * n_patches(model, array, len(self.train.rows))
            + neighbours_bytes(n_queries, max(settings.recall_at), n_m, 1)
            + 8 * settings.resamples * n_lines * 2 * (len(OUTCOMES) + 2 * n_depths + 1)
            + 3 * min(n_tiles, len(self.train.rows)) * tile_bytes
        )
