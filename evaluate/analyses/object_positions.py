"""Where objects are and how many, told from one vector an image: "Objectives Matter" (arXiv 2304.13089), spatial tasks.

The paper finds the order of objectives reversed on tasks that need spatial specificity. What the VTAB tasks count and
distance are for rendered scenes, three targets are for photographs with boxes, each predicted by ridge regression from
the class token or the mean of the patch tokens, its penalty chosen over folds of training images:

* ``count``: number of objects, as ``log(1 + n)``;
* ``distance``: distance from the centre of the image to the centre of the nearest box, over half the diagonal;
* ``position``: centre of the largest box, over width and height; R² is the mean of both coordinates.

R² is that of held-out images: 1 is perfect, 0 what the mean of the validation images reaches. Images without objects
have a count, and are left out of the other two.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Bool, Float64
from pydantic import Field

from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.rows import RowSelection
from evaluate.inputs.work import CALL, Work, reading
from evaluate.kernels.bootstrap import draw_units
from evaluate.kernels.probing.ridge import PENALTIES, r2, ridge
from evaluate.results.metrics import R2
from evaluate.results.table import Result
from evaluate.scoring.images.pooled_task import PooledTask
from evaluate.scoring.images.vectors import Pooled, image_vectors, vector_addresses, vector_inputs, vectors_bytes
from evaluate.settings import BootstrapSettings, Layers, LayerSettings
from stores.errors import UserError
from stores.format.paths import OF_LAYERS

Target = Literal["count", "distance", "position"]
_FEWEST = 10
"""Images below which a regression says nothing."""


class ObjectPositions(LayerSettings, BootstrapSettings):
    """R² of number and place of the objects of an image, predicted from one vector of it."""

    kind: Literal["object-positions"]
    layers: Layers = "all"
    """Layers to analyse: ``all`` stored ones, or numbers from 0; negative ones count from the last stored."""
    pooled: Annotated[tuple[Pooled, ...], Field(min_length=1)] = ("class-token", "mean-patch")
    """What stands for an image: the first prefix token, the mean of the patch tokens, or both one after the other."""
    targets: Annotated[tuple[Target, ...], Field(min_length=1)] = ("count", "distance", "position")
    """What is predicted: number of objects, distance of the nearest to the centre, place of the largest."""


def targets_of(
    model: ModelSets, selection: RowSelection, target: Target
) -> tuple[Float64[np.ndarray, "image value"], Bool[np.ndarray, " image"]]:
    """Return what is predicted for every selected image, and for which images it is defined.

    Args:
        model: The model's sets, with a table of objects.
        selection: Rows of the images.
        target: What is predicted.
    """
    table = model.samples.drop_duplicates("source").set_index("source")[["source_width", "source_height"]]
    sizes = table.loc[list(selection.sources)].to_numpy(dtype=np.float64)
    place = {name: number for number, name in enumerate(selection.sources)}
    objects = model.objects[model.objects["source"].isin(place)]
    images = objects["source"].map(place).to_numpy(dtype=np.int64)
    counts = np.bincount(images, minlength=len(place))
    if target == "count":
        return np.log1p(counts)[:, None], np.ones(len(place), dtype=bool)
    boxes = objects[["left", "top", "right", "bottom"]].to_numpy(dtype=np.float64)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 / sizes[images]
    if target == "distance":
        offsets = (centres - 0.5) * sizes[images]
        distances = np.hypot(*offsets.T) / (np.hypot(*sizes[images].T) / 2)
        nearest = np.full(len(place), np.inf)
        np.minimum.at(nearest, images, distances)
        return np.where(counts, nearest, 0.0)[:, None], counts > 0
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    values = np.zeros((len(place), 2))
    order = np.argsort(areas, kind="stable")  # of several the largest is written last
    values[images[order]] = centres[order]
    return values, counts > 0


@dataclass(frozen=True, eq=False)
class ObjectPositionsTask(PooledTask[ObjectPositions]):
    """R² of every target and kind of token of one layer."""

    analysis = "object-positions"
    groups = OF_LAYERS
    what = "objects from {task.array}"
    key_settings = ("pooled", "targets", "resamples")

    def check(self) -> None:
        """Raise UserError for data without objects and too few images with some, MissingError for missing tokens."""
        for pooled in self.settings.pooled:
            vector_addresses(self.model, self.array, pooled)
        for target in self.settings.targets:
            for rows in (self.train, self.validation):
                n_defined = int(targets_of(self.model, rows, target)[1].sum())
                if n_defined < _FEWEST:
                    raise UserError(
                        f"object-positions predicts {target} and {n_defined} of {rows.title} have an object: select "
                        f"more images, at least {_FEWEST} with objects for training and for validation"
                    )

    def inputs(self) -> dict[str, str]:
        """Return the digests of what vectors are made of."""
        return vector_inputs(self.model, self.array, self.settings.pooled)

    @property
    def columns(self) -> dict[str, Any]:
        """The shared columns, the regression, and the layer as x."""
        x = {"x_name": "layer", "x_value": float(self.model.layer(self.array))}
        return {**super().columns, **x, "classifier": "ridge"}

    def compute(self) -> Result:
        """Return one row a target and kind of token, with its interval over images."""
        rows = []
        for pooled in self.settings.pooled:
            bank, queries = (
                image_vectors(self.model, self.array, some, pooled).astype(np.float64)
                for some in (self.train, self.validation)
            )
            for target in self.settings.targets:
                (values, fitted), (truth, scored) = (
                    targets_of(self.model, some, target) for some in (self.train, self.validation)
                )
                images = np.flatnonzero(fitted)
                predicted = ridge(bank[fitted], values[fitted], images, queries[scored], self.analysis)
                sources = [name for name, is_scored in zip(self.validation.sources, scored, strict=True) if is_scored]
                bootstrap = self.bootstrap(sources)
                draws = None
                if bootstrap.enabled:
                    draws = _resampled(truth[scored], predicted, bootstrap.seed, bootstrap.resamples)
                score = float(r2(truth[scored], predicted).mean())
                rows.append(bootstrap.row(R2, score, draws, token=pooled, outcome=target))
        return Result(rows)

    def work(self) -> Work:
        """Estimate the operations: vectors are read, and a ridge is fitted for every target, fold and penalty."""
        n_rows, n_train = len(self.train.rows) + len(self.validation.rows), float(len(self.train.sources))
        work = Work(passes=CALL)
        for pooled in self.settings.pooled:
            for address in vector_addresses(self.model, self.array, pooled):
                width = float(self.model.n_channels(address))
                side = min(n_train, width)
                fit = Work(4.0 * n_train * width * side + side**3, 8.0 * n_train * width + 200 * CALL)
                work += reading(self.model, address, n_rows) + fit * (
                    len(self.settings.targets) * (1 + 5 * len(PENALTIES))
                )
        return work

    def peak_bytes(self) -> int:
        """Estimate peak memory: one vector an image, and copies for the regression."""
        n_train, n_queries = len(self.train.sources), len(self.validation.sources)
        width = max(
            sum(self.model.n_channels(one) for one in vector_addresses(self.model, self.array, pooled))
            for pooled in self.settings.pooled
        )
        held = max(
            vectors_bytes(self.model, self.array, [self.train, self.validation], [pooled])
            for pooled in self.settings.pooled
        )
        regression = 8 * width * (8 * n_train + 4 * n_queries) + 4 * 8 * width**2
        return held + regression + 8 * 8 * (n_queries + self.settings.resamples)


def _resampled(
    truth: Float64[np.ndarray, "image value"],
    predicted: Float64[np.ndarray, "image value"],
    seed: int,
    resamples: int,
) -> Float64[np.ndarray, " resample"]:
    """Return the mean R² over the values in every resample of images."""
    draws = np.empty(resamples)
    for number, units in enumerate(draw_units(len(truth), seed, resamples)):
        times = np.bincount(units, minlength=len(truth)).astype(np.float64)
        draws[number] = r2(truth, predicted, times).mean()
    return draws
