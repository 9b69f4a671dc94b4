"""Classifiers of whole clean images, tested on changed ones.

``image_accuracy_difference`` is the accuracy under a view less that on clean images, its interval paired: the same
images are resampled on both sides. Against the bands of the view ``frequency-noise`` it is the robustness in "What Do
Self-Supervised ViTs Learn?" (Park et al., ICLR 2023; noise by band after Park and Kim, "How Do Vision Transformers
Work?", ICLR 2022). They classify by the whole model, here classifiers read frozen features, and their window of 0.1 pi
is known to us from the second paper alone. The level of that view is the centre of the band as a fraction of pi
radians a pixel: 1 is 0.5 cycles a pixel.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from jaxtyping import Float32

from evaluate.inputs.limits import check_k
from evaluate.inputs.memory import neighbours_bytes
from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.rows import RowSplit
from evaluate.inputs.views import check_rows, selected_views
from evaluate.inputs.work import CALL, Work, comparing, reading
from evaluate.kernels.probing.penalties import PENALTIES
from evaluate.neighbours.query_sections import QueryPass
from evaluate.results import metrics
from evaluate.results.sections import LongPass
from evaluate.results.table import Result
from evaluate.scoring.images.classifiers import ImageData, ImageProbe
from evaluate.scoring.images.vectors import NAME_BYTES, Pooled, image_vectors, vector_addresses, vectors_bytes
from evaluate.settings import Classifier, Context
from evaluate.task import ModelTask
from stores.errors import UserError
from stores.format.paths import OF_LAYERS

View = tuple[str, float]
"""Name and level."""
CLEAN: View = ("clean", 0.0)
TEMPERATURE = 0.07
"""Votes about an image are exp(cosine similarity / temperature), as DINO's."""
NO_VIEWS = "robustness needs [[views]] such as blur or noise in the experiment file: add one"


@dataclass(frozen=True, eq=False)
class ImageRobustnessTask(ModelTask[Any]):
    """Accuracy of one classifier of whole images under every view and level, the clean one among them."""

    classifier: Classifier
    pooled: Pooled

    analysis = "robustness"
    groups = OF_LAYERS
    compared = (metrics.IMAGE_ACCURACY,)
    what = "robustness of {task.classifier} on the {task.pooled} of {task.array}"
    key_settings = ("resamples",)

    @classmethod
    def of_model(cls, model: ModelSets, settings: Any, context: Context) -> Iterator[Self]:
        """Yield one task a layer, classifier and kind of token."""
        split = RowSplit(model, context.selection, cls.analysis)
        for array in model.arrays(settings.layers, settings.norm, OF_LAYERS):
            for classifier in settings.classifiers:
                for pooled in settings.pooled:
                    yield cls(model, array, settings, context, split, classifier, pooled)

    @property
    def data(self) -> ImageData:
        """Vectors and classes of the images."""
        return ImageData(self.split, self.array, self.pooled)

    @property
    def image_probe(self) -> ImageProbe:
        """How the linear probe is fitted."""
        return ImageProbe(self.context.seed, tuple(self.settings.penalties or PENALTIES), self.context.device.name)

    @cached_property
    def views(self) -> list[View]:
        """The views to test under, by name and level; raises UserError when there is none."""
        views = selected_views(self.model, self.settings.views, self.analysis)
        if not views:
            raise UserError(NO_VIEWS)
        return views

    def _viewed(self) -> list[tuple[View, ModelSets]]:
        return [(CLEAN, self.model), *((view, self.model.for_view(*view)) for view in self.views)]

    def check(self) -> None:
        """Raise UserError for images without a class and for other rows, MissingError for what is not stored."""
        data = self.data
        if len(data.classes) and len(data.truth) and self.classifier == "knn":
            check_k(self.settings.image_k, len(data.classes), "images")
        for view, viewed in self._viewed():
            if view != CLEAN:
                check_rows(self.model, self.model.views[view])
            vector_addresses(viewed, self.array, self.pooled)

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that the class lists, the views, and those of the classifier."""
        shared = {**super().parameters(), "classes": "images", "classifier": self.classifier, "pooled": self.pooled}
        shared["views"] = [list(view) for view in self.views]
        if self.classifier == "knn":
            return {**shared, "k": self.settings.image_k}
        probe = {**self.image_probe.parameters(), "batchnorm": self.model.probe_batchnorm}
        return {**shared, **probe, **self.device_parameter(True)}

    def inputs(self) -> dict[str, str]:
        """Return the digests of what vectors are made of, clean and under every view."""
        inputs = {"features": self.model.features.digest, "labels": self.model.labels.digest}
        for (name, level), viewed in self._viewed():
            for address in vector_addresses(viewed, self.array, self.pooled):
                inputs[f"{name} {level:g} {address}"] = viewed.features.content[address]
        return inputs

    @property
    def columns(self) -> dict[str, Any]:
        """The shared columns, the token, the classifier, and the level as x."""
        neighbours = {"k": self.settings.image_k, "distance": "cosine"} if self.classifier == "knn" else {}
        own = {"token": self.pooled, "classifier": self.classifier, "x_name": "level", "seed": self.context.seed}
        return {**super().columns, **neighbours, **own}

    def compute(self) -> Result:
        """Return the accuracy under every view, and its difference to the clean one."""
        data, bootstrap, viewed = self.data, self.bootstrap(self.validation.sources), self._viewed()
        if self.classifier == "knn":
            k, search = self.settings.image_k, self._search(data, self.searched())
            predicted = data.votes(search, (k,), TEMPERATURE, self.kept_sections())[k]
        else:
            predicted, _ = data.by_probe(self.image_probe, self._stacked())
        right = (predicted.reshape(len(viewed), -1) == data.truth).astype(np.float64)
        ones, rows = np.ones(right.shape[1]), []
        for ((name, level), _), of_view in zip(viewed, right, strict=True):
            columns: dict[str, Any] = {"view": name}
            if name != CLEAN[0]:
                columns |= {"level": level, "x_value": level}
            draws = bootstrap.ratio(of_view, ones)
            rows.append(bootstrap.row(metrics.IMAGE_ACCURACY, float(of_view.mean()), draws, **columns))
            if name != CLEAN[0]:
                less = of_view - right[0]
                draws, columns = bootstrap.ratio(less, ones), columns | {"reference": "clean"}
                rows.append(bootstrap.row(metrics.IMAGE_ACCURACY_DIFFERENCE, float(less.mean()), draws, **columns))
        return Result(rows)

    def _stacked(self) -> Float32[np.ndarray, "query channel"]:
        """Return the vectors of the validation images under one view after another."""
        return np.concatenate(
            [image_vectors(one, self.array, self.validation, self.pooled) for _, one in self._viewed()]
        )

    def _search(self, data: ImageData, results: Mapping[int, str]) -> QueryPass:
        """Return the search of the validation images under all views together."""
        k, device, n_views = self.settings.image_k, self.context.device.name, 1 + len(self.views)
        return data.search(k, self.search_bytes, device, results, self._stacked, n_views)

    def passes(self) -> list[LongPass]:
        """Return the search of neighbours."""
        if self.classifier != "knn" or self.kept_sections() is None:
            return []
        return self._search(self.data, self.searched(is_missing_alone=True)).several

    def work(self) -> Work:
        """Estimate the operations: tokens are read under every view, then compared, or a probe is fitted."""
        n_images, n_queries = len(self.train.sources), len(self.validation.sources) * (1 + len(self.views))
        work = Work(passes=10 * CALL)
        for view, viewed in self._viewed():
            n_rows = len(self.validation.rows) + (len(self.train.rows) if view == CLEAN else 0)
            for address in vector_addresses(viewed, self.array, self.pooled):
                work += reading(viewed, address, n_rows)
        if self.classifier == "knn":
            return work + comparing(n_images * float(n_queries), self._width, 1)
        return work + Work(products=300 * 4.0 * n_images * self._width * len(self.model.classes))

    @property
    def _width(self) -> int:
        return sum(self.model.n_channels(one) for one in vector_addresses(self.model, self.array, self.pooled))

    def peak_bytes(self) -> int:
        """Estimate peak memory: one vector an image, of all views together."""
        n_views, width = 1 + len(self.views), self._width
        n_train, n_queries = len(self.train.sources), len(self.validation.sources) * n_views
        if self.classifier == "knn":
            bank, device = (n_train, width), self.context.device.name
            classifying = neighbours_bytes(n_queries, self.settings.image_k, 1, 1, bank, device)
        else:
            classifying = self.image_probe.peak_bytes(n_train, n_queries, len(self.model.classes), width)
        draws = 8 * 2 * self.settings.resamples * len(self.validation.sources)
        joining = 4 * width * n_queries  # vectors of all views are copied into one array
        after = max(classifying, draws, joining)
        selections = [*[self.validation] * n_views, self.train]
        held = max(vectors_bytes(viewed, self.array, selections, [self.pooled], after) for _, viewed in self._viewed())
        tables = NAME_BYTES // 2 * len(self.views) * (len(self.train.rows) + len(self.validation.rows))
        return held + tables + 8 * 4 * (n_train + n_queries)
