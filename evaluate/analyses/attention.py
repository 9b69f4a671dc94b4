"""Attention of every head: how far it reaches, how spread it is and how much it depends on the query; maps of it.

Statistics of each block as they were captured while the model ran (``captures = ["attention"]``, pipeline/captures/
attention.py has the formulas), mean over images: distance in pixels of the input and on the unit square, entropy in
nats, normalised mutual information. Mean over heads with its interval, and each head. Park et al. (ICLR 2023) as their
code has it (naver-ai/cl-vs-mim, self_attention_analysis.ipynb); the unit square is that of Raghu et al. (NeurIPS 2021).
Prefix tokens are left out as queries and keys. Depth 1 is the first block. Uniform attention has the distance of the
mean pair of patches (116.5 px at 224 px with 14 x 14 patches) and the entropy ``log N``. Pixels are those the model
saw: models that saw other sizes compare on the unit square.

Maps are pictures of a few inputs: the class token's weights over the patches (``class-attention``; as DINO shows them,
Caron et al., ICCV 2021, figure 1), and those of chosen query patches, computed again from stored queries and keys
(``sublayers = ["query", "key"]``). What a model adds to the products, such as relative positions, is not stored: maps
whose distance differs from the captured one are left out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Int64
from pydantic import Field

from evaluate.inputs.captured import CapturedArray, captured_arrays, captured_rows, has_blocks
from evaluate.inputs.chunks import of_chunks
from evaluate.inputs.memory import reading_bytes
from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.rows import RowSplit, spread_evenly
from evaluate.inputs.work import Work
from evaluate.kernels.tokens.attention import patch_attention, patch_distances, uniform_distance
from evaluate.results import metrics
from evaluate.results.rows import score_row
from evaluate.results.table import Result
from evaluate.scoring.retrieval.examples import pixels_of
from evaluate.scoring.tokens.captured_task import CapturedTask, ScoredTask, reading_numbers
from evaluate.settings import BootstrapSettings, Context, Layers
from evaluate.task import ModelTask

Share = Annotated[float, Field(ge=0, lt=1)]


class Attention(BootstrapSettings):
    """Distance, entropy and mutual information of the attention of every head, and maps (arXiv 2305.00729)."""

    kind: Literal["attention"]
    layers: Layers = "all"
    """Captured layers: ``all``, or numbers from 0; negative ones count from the last captured."""
    pictures: int = Field(default=3, ge=0, le=16)
    """Inputs whose maps are shown, spread evenly over the selection."""
    map_layer: int = -1
    """Layer of the maps, counted from 0; negative numbers count from the last captured."""
    queries: tuple[tuple[Share, Share], ...] = ((0.5, 0.5), (0.25, 0.25))
    """Places of the query patches whose maps are shown: from the top and from the left, as shares of the input."""


STATISTICS = {
    "distance_px": metrics.ATTENTION_DISTANCE_PX,
    "distance_unit": metrics.ATTENTION_DISTANCE_UNIT,
    "entropy_nats": metrics.ATTENTION_ENTROPY,
    "nmi": metrics.ATTENTION_NMI,
}
"""Metric of each captured statistic."""
DIFFERENCE = 0.02
"""Largest difference between the distance of maps and the captured one, as a share of that of uniform attention: what
queries and keys in float16 lose."""


def patch_sides(model: ModelSets, grid: tuple[int, int]) -> tuple[float, float]:
    """Return height and width of a patch, in pixels of the input."""
    size = model.spec.frame.input
    return size.height / grid[0], size.width / grid[1]


def head_name(number: int) -> str:
    """Return what one head is called in the results, counted from 0."""
    return f"head {number}"


@dataclass(frozen=True, eq=False)
class AttentionTask(CapturedTask[Attention]):
    """Statistics of the attention of one block, mean over heads and by head."""

    analysis = "attention"
    what = "attention of {task.array}"

    @classmethod
    def tasks(
        cls, models: Sequence[ModelSets], settings: Attention, context: Context
    ) -> Iterator[ModelTask[Attention]]:
        """Yield one task a captured block, and one for the maps of a model that are stored."""
        having = [model for model in models if has_blocks(model)]
        for model in having or models:
            split = RowSplit(model, context.selection, cls.analysis)
            for one in captured_arrays(model, "attention", "attention", layers=settings.layers):
                yield cls(model, one.address, settings, context, split, one)
            [one] = captured_arrays(model, "attention", "attention", layers=(settings.map_layer,))
            maps = AttentionMapsTask(model, one.address, settings, context, split, one)
            if settings.pictures and (maps.class_array or maps.query_arrays):
                yield maps

    @classmethod
    def notes(cls, models: Sequence[ModelSets], settings: Attention) -> list[str]:
        """Return one note a model without transformer blocks, beside models that have them."""
        lacking = [model.title for model in models if not has_blocks(model)]
        some = lacking if len(lacking) < len(models) else []
        return [f"attention leaves out {title}, which has no transformer blocks" for title in some]

    @property
    def columns(self) -> dict[str, Any]:
        """The shared columns; the first block's attention is that of depth 1, as in the paper."""
        return {**super().columns, "x_value": float(self.captured.layer + 1)}

    def compute(self) -> Result:
        """Return the statistics with their intervals, then those of uniform attention."""
        values = captured_rows(self.model, self.array, self.scored.rows).astype(np.float64)
        rows = []
        for name, metric in STATISTICS.items():
            of_heads = values[:, self.captured.place(name)]
            rows.append(self.mean_row(metric, of_heads.mean(axis=1)))
            means = of_heads.mean(axis=0)
            rows += [score_row(metric, mean, outcome=head_name(head)) for head, mean in enumerate(means)]
        grid = self.model.grid(self.array)
        sides = tuple(1.0 / max(1, side - 1) for side in grid)
        uniform = {
            metrics.UNIFORM_DISTANCE_PX: uniform_distance(grid, patch_sides(self.model, grid)),
            metrics.UNIFORM_DISTANCE_UNIT: uniform_distance(grid, (sides[0], sides[1])),
            metrics.UNIFORM_ENTROPY: float(np.log(grid[0] * grid[1])),
        }
        rows += [score_row(metric, value, reference="uniform attention") for metric, value in uniform.items()]
        return Result(rows)


@dataclass(frozen=True, eq=False)
class AttentionMapsTask(ScoredTask[Attention]):
    """Maps of a few inputs: of the class token, of query patches; and how much of the class token's is on patches."""

    captured: CapturedArray

    analysis = "attention"
    what = "attention maps of {task.array}"
    key_settings = ("pictures", "queries", "resamples")

    @property
    def columns(self) -> dict[str, Any]:
        """The shared columns, and the depth."""
        return {**super().columns, "x_value": float(self.captured.layer + 1)}

    @property
    def class_array(self) -> str | None:
        """Address of the class token's weights, None where they are not stored."""
        return self._stored(f"{self.array}.class")

    @property
    def query_arrays(self) -> tuple[str, str] | None:
        """Addresses of the queries and keys of every token, None where one of them is not stored."""
        block = self.array.partition("/")[2]
        query, key = (self._stored(f"sublayers/{block}.{name}") for name in ("query", "key"))
        return (query, key) if query and key and self.settings.queries else None

    def _stored(self, address: str) -> str | None:
        features = self.model.features
        return address if address in features.arrays and features.sealed(address) else None

    @property
    def shown(self) -> Int64[np.ndarray, " picture"]:
        """Rows of the inputs that are shown, spread evenly."""
        return self.scored.rows[spread_evenly(len(self.scored.rows), self.settings.pictures)]

    def inputs(self) -> dict[str, str]:
        """Return the digests of the statistics, of what the maps are made of, and of pixels where there are any."""
        content, pixels = self.model.features.content, pixels_of(self.model)
        used = [name for name in (self.class_array, *(self.query_arrays or ())) if name]
        inputs = super().inputs() | {name: content[name] for name in used}
        return inputs | ({pixels: self.model.labels.content[pixels]} if pixels else {})

    def compute(self) -> Result:
        """Return the share of the class token's attention that is on patches, and the maps."""
        rows, grid = [], self.model.grid(self.array)
        samples = self.model.samples["sample"].to_numpy()[self.shown]
        arrays = {"map_samples": np.array([str(name) for name in samples]), "map_layer": np.array(self.captured.layer)}
        if (pixels := pixels_of(self.model)) is not None:
            arrays["map_inputs"] = np.asarray(self.model.labels[pixels][self.shown])
        if self.class_array is not None:
            stored = self.model.features[self.class_array]
            parts = of_chunks(stored, self.scored.rows, lambda first, block: block.sum(axis=2, dtype=np.float64))
            on_patches = np.concatenate(list(parts))
            rows.append(self.mean_row(metrics.CLASS_ATTENTION_ON_PATCHES, on_patches.mean(axis=1)))
            for head, mean in enumerate(on_patches.mean(axis=0)):
                rows.append(score_row(metrics.CLASS_ATTENTION_ON_PATCHES, mean, outcome=head_name(head)))
            maps = captured_rows(self.model, self.class_array, self.shown)
            arrays["class_maps"] = maps.reshape(*maps.shape[:2], *grid)
        return Result(rows, arrays | self._query_maps(grid))

    def _query_maps(self, grid: tuple[int, int]) -> dict[str, np.ndarray]:
        """Return the maps of the query patches and their places on the grid; no maps where they would not be true."""
        if self.query_arrays is None:
            return {}
        places = np.array([(int(y * grid[0]), int(x * grid[1])) for y, x in self.settings.queries])
        numbers = places @ (grid[1], 1)
        n_prefix = int(self.model.features.arrays[self.query_arrays[0]].attributes["n_prefix"] or 0)
        distances = patch_distances(grid, patch_sides(self.model, grid))
        place = self.captured.place("distance_px")
        maps, furthest = [], 0.0
        for row in self.shown.tolist():
            query, key = (captured_rows(self.model, name, [row])[0] for name in self.query_arrays)
            captured = captured_rows(self.model, self.array, [row])[0, place]
            of_heads = []
            for head in range(len(query)):
                weights = patch_attention(query[head], key[head], n_prefix)
                of_heads.append(weights[numbers])
                found = float((weights * distances).sum() / len(weights))
                furthest = max(furthest, abs(found - float(captured[head])) / float(distances.mean()))
            maps.append(np.stack(of_heads, axis=1))
        shown = {"query_places": places, "query_difference": np.array(furthest)}
        if furthest > DIFFERENCE:
            return shown
        return shown | {"query_maps": np.stack(maps).reshape(len(maps), len(places), -1, *grid)}

    def work(self) -> Work:
        """Estimate the operations: the class token's weights are read, and all pairs of a few inputs computed."""
        n_pairs, n_heads = self._n_pairs, int(self.model.features.arrays[self.array].row_shape[1])
        maps = Work(2.0 * n_pairs * 64 * n_heads, 10.0 * n_pairs * n_heads) * len(self.shown)
        read = reading_numbers(self.model, self.class_array, len(self.scored.rows)) if self.class_array else Work()
        return (read + maps if self.query_arrays else read) + self.resampling_work(1)

    @property
    def _n_pairs(self) -> int:
        rows, columns = self.model.grid(self.array)
        return (rows * columns) ** 2

    def peak_bytes(self) -> int:
        """Estimate peak memory: the class token's weights stream, and one head's weights of one input are there."""
        used = [name for name in (self.class_array, *(self.query_arrays or ())) if name]
        reading = sum(reading_bytes(self.model, name) for name in used)
        n_heads = int(self.model.features.arrays[self.array].row_shape[1])
        maps = 4 * 3 * len(self.shown) * n_heads * int(self._n_pairs**0.5) * (1 + len(self.settings.queries))
        shown = 0
        if (name := pixels_of(self.model)) is not None:
            pixels = self.model.labels[name]
            shown = (2 * len(self.shown) + 2 * pixels.layout.chunk_rows(pixels.spec)) * pixels.spec.row_bytes
        rows = 8 * 4 * n_heads * len(self.scored.rows)
        pairs = (4 * 8 + 4 * 4) * self._n_pairs if self.query_arrays else 0
        return reading + maps + shown + rows + pairs + self.resampling_bytes
