"""Classes of whole images, predicted from one vector an image by nearest neighbours or a linear probe."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from evaluate.inputs.limits import check_k
from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.rows import RowSplit, image_numbers
from evaluate.kernels.probing import penalties as choice_of_penalty
from evaluate.kernels.probing.penalties import choose_penalty
from evaluate.kernels.probing.probes import predict_side_by_side
from evaluate.neighbours.knn import Neighbours, nearest
from evaluate.neighbours.query_sections import QueryPass
from evaluate.neighbours.voting import vote
from evaluate.results.metrics import CONVERGED, PENALTY, TRAINING_LOSS, TRIALS_CONVERGED
from evaluate.results.sections import SectionFiles
from evaluate.scoring.images.vectors import Pooled, image_classes, image_vectors
from stores.specs import VOID

_ATTENTIVE_ROWS = 64
"""Rows of a batch of the attentive probe (`evaluate.kernels.probing.attentive.BATCH_ROWS`, which loads torch)."""


@dataclass(frozen=True, eq=False)
class ImageData:
    """Vectors and classes of the training and validation images of one layer; read when they are first used."""

    split: RowSplit
    array: str
    """Address of any array of the layer."""
    pooled: Pooled

    @property
    def model(self) -> ModelSets:
        """The model's sets."""
        return self.split.model

    @cached_property
    def bank(self) -> Float32[np.ndarray, "image channel"]:
        """Vectors of the training images."""
        return image_vectors(self.model, self.array, self.split.train, self.pooled)

    @cached_property
    def queries(self) -> Float32[np.ndarray, "query channel"]:
        """Vectors of the validation images."""
        return image_vectors(self.model, self.array, self.split.validation, self.pooled)

    @cached_property
    def classes(self) -> Int64[np.ndarray, " image"]:
        """Class of every training image; raises UserError when one has none."""
        return image_classes(self.model, self.split.train, self.split.analysis)

    @cached_property
    def truth(self) -> Int64[np.ndarray, " query"]:
        """Class of every validation image; raises UserError when one has none."""
        return image_classes(self.model, self.split.validation, self.split.analysis)

    def search(
        self,
        k: int,
        memory_bytes: int,
        device: str | None,
        results: Mapping[int, str] = MappingProxyType({0: ""}),
        queries: Callable[[], Float32[np.ndarray, "query channel"]] | None = None,
        times: int = 1,
    ) -> QueryPass:
        """Return the search of images among the training images, by cosine.

        Args:
            k: Neighbours of each image.
            memory_bytes: Memory that the search may use beside its inputs.
            device: Where products are computed; None for numpy.
            results: Digests of the results that neighbours are for, where workers may share the search.
            queries: Reads the vectors of other images than the validation images.
            times: How many times as many these are.
        """
        others = None if queries is None else cache(queries)

        def search(removed: Sequence[int], start: int, stop: int) -> dict[int, Neighbours]:
            some = (self.queries if others is None else others())[start:stop]
            found = nearest(self.bank, some, k, metric="cosine", memory_bytes=memory_bytes, device=device)
            return dict.fromkeys(removed, found)

        n_bank, n_queries = len(self.split.train.sources), times * len(self.split.validation.sources)
        what = f"the {self.pooled} of {self.array}"
        return QueryPass(what, ("images",), results, k, "cosine", n_bank, n_queries, 1, search)

    def votes(
        self, search: QueryPass, k: Sequence[int], temperature: float, files: SectionFiles | None
    ) -> dict[int, Int64[np.ndarray, " query"]]:
        """Return for every k the classes that cosine neighbours vote for, weighted by exp(cosine / temperature).

        DINO's protocol (facebookresearch/dino, eval_knn.py). Raises UserError for more neighbours than images.

        Args:
            search: Neighbours for the largest k.
            k: Numbers of neighbours that vote.
            temperature: Temperature of the votes.
            files: Where workers keep sections of the search; None looks nowhere.
        """
        check_k(max(k), len(self.classes), "images")
        [found] = search.neighbours(search.n_units, files).values()
        n_classes = len(self.model.classes)
        return {one: vote(found, self.classes, n_classes, one, weights="softmax", temperature=temperature) for one in k}

    def by_attention(
        self, seed: int, epochs: int, learning_rate: float, device: str | None
    ) -> tuple[Int64[np.ndarray, " query"], dict[str, float]]:
        """Return the classes that an attentive probe of all patches predicts, and its loss; tiles' logits are averaged.

        Args:
            seed: Seed of its weights and of the order of rows.
            epochs: Passes over the training rows.
            learning_rate: Learning rate of AdamW.
            device: Where it is computed; None for the processor.
        """
        from evaluate.kernels.probing.attentive import fit_attentive

        train, validation = self.split.train, self.split.validation
        stored = self.model.features[self.array]
        classes = self.classes[image_numbers(self.model, train)]
        n_classes = len(self.model.classes)
        options = {"seed": seed, "epochs": epochs, "learning_rate": learning_rate, "device": device}
        probe = fit_attentive(stored[train.rows], classes, n_classes, **options)  # type: ignore[arg-type]
        scores = np.zeros((len(validation.sources), n_classes))
        np.add.at(scores, image_numbers(self.model, validation), probe.scores(stored[validation.rows]))
        return scores.argmax(axis=1), {TRAINING_LOSS: probe.loss}

    def by_probe(
        self, fit: "ImageProbe", queries: Float32[np.ndarray, "query channel"] | None = None
    ) -> tuple[Int64[np.ndarray, " query"], dict[str, float]]:
        """Return the classes that a linear probe predicts, and numbers about its fit by metric.

        Args:
            fit: How the probe is fitted.
            queries: Vectors instead of those of the validation images.
        """
        asked = self.queries if queries is None else queries
        return fit.predict(self.bank, self.classes, asked, len(self.model.classes), self.model.probe_batchnorm)


@dataclass(frozen=True)
class ImageProbe:
    """How linear probes of whole images are fitted: multinomial logistic regression, its penalty by accuracy."""

    seed: int
    """Seed of the held-out images."""
    penalties: tuple[float, ...] = choice_of_penalty.PENALTIES
    device: str | None = None
    """Where fits are computed; None for numpy."""

    def predict(
        self,
        bank: Float[np.ndarray, "image channel"],
        classes: Int64[np.ndarray, " image"],
        queries: Float[np.ndarray, "query channel"],
        n_classes: int,
        standardise: bool,
        kept: Bool[np.ndarray, " channel"] | None = None,
    ) -> tuple[Int64[np.ndarray, " query"], dict[str, float]]:
        """Return the predicted class of every query, and numbers about the fit by metric.

        Args:
            bank: Vectors of training images.
            classes: Their classes.
            queries: Vectors to predict.
            n_classes: Classes of the class table.
            standardise: Whether the probe acts on standardised features.
            kept: Mask of kept features, None for all.
        """
        # 255 means "no label" to the probes of patches; ids from there on move up by one.
        choice = choose_penalty(
            bank, classes + (classes >= VOID), np.arange(len(classes)), n_classes + (n_classes > VOID),
            standardise=standardise, seed=self.seed, kept=kept, penalties=self.penalties, score="patch_accuracy",
            device=self.device,
        )  # fmt: skip
        details: dict[str, float] = {PENALTY: choice.probe.head.penalty, CONVERGED: float(choice.probe.converged)}
        if choice.trials:
            details[TRIALS_CONVERGED] = float(np.mean([trial.converged for trial in choice.trials]))
        [predicted] = predict_side_by_side([choice.probe], queries)
        return predicted - (predicted > VOID), details

    def parameters(self) -> dict[str, Any]:
        """Return what enters a result key."""
        return {"penalties": sorted(set(self.penalties))}

    def peak_bytes(self, n_train: int, n_queries: int, n_classes: int, n_channels: int) -> int:
        """Return what fitting and predicting hold beside the vectors, in bytes.

        Args:
            n_train: Training images.
            n_queries: Validation images.
            n_classes: Classes of the class table.
            n_channels: Features of a vector.
        """
        return choice_of_penalty.peak_bytes(n_train, n_queries, n_train, n_classes, n_channels, 1, len(self.penalties))


def attentive_bytes(n_patches: int, n_channels: int, n_classes: int) -> int:
    """Return what training an attentive probe holds beside the tokens: weights, their state, activations of a batch.

    Args:
        n_patches: Patches of a row.
        n_channels: Channels of a token.
        n_classes: Classes of the class table.
    """
    weights = 4 * 4 * (4 * n_channels**2 + n_classes * n_channels)
    return weights + 4 * 12 * _ATTENTIVE_ROWS * n_patches * n_channels
