"""Classifiers trained on clean patches, tested on corrupted ones: paper A, section 3.2 (experiment A-10).

For every view of the experiment that leaves the labels where they are, the classifier fitted on the clean training
patches predicts the validation patches under the view. The entropy of the predicted classes shows a collapse: masked
models' nearest neighbours fall on one class under the slightest corruption.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.patches import tokens
from evaluate.kernels.bootstrap import FEWEST_UNITS, quantiles, resampled_statistic
from evaluate.kernels.confusion import (
    Statistic,
    largest_predicted_share,
    miou_present,
    pixel_accuracy,
    predicted_entropy,
)
from evaluate.kernels.memory import (
    n_patches,
    probed_bytes,
    rows_bytes,
    scoring_bytes,
    search_memory,
    searched_bytes,
)
from evaluate.kernels.penalties import PENALTIES
from evaluate.kernels.probes import predict_side_by_side
from evaluate.results.draws import DRAWS, BootstrapDraws, result_of, units_of
from evaluate.results.table import Result, ResultKey
from evaluate.scoring.patch_classifiers import Classifier, PatchData, fit_probe, predict_knn, read_patches, selected
from evaluate.scoring.patches import Truth
from evaluate.settings import Context, Layers, Settings
from evaluate.task import Task, task_of
from stores.errors import UserError

REVISION = 3
"""Raised when the same inputs and parameters give other numbers."""

View = tuple[str, float]
"""Name and level."""
CLEAN: View = ("clean", 0.0)


class Robustness(Settings):
    """mIoU of patches under corruptions, classifiers fitted on clean images (paper A, Fig. 4)."""

    kind: Literal["robustness"]
    classifiers: tuple[Literal["knn", "probe"], ...] = ("knn", "probe")
    """Nearest neighbours, a linear probe, or both."""
    views: tuple[str, ...] | None = None
    """Names of the views to test under; None takes all of the experiment that move no label."""
    remove: tuple[Annotated[int, Field(ge=0)], ...] = (0,)
    """Numbers m of highest-variance features to leave out; the ranking is that of the clean training patches."""
    layers: Layers = (-1,)
    """Layers to ask about, stored for every view: ``all``, or numbers from 0; negative ones count from the last."""
    norm: Literal["final", "none"] = "final"
    """Tokens through the model's final norm, or as the block left them."""
    penalties: tuple[Annotated[float, Field(gt=0)], ...] | None = None
    """L2 penalties to choose from on held-out training images; None takes the default grid."""
    resamples: int = Field(default=1000, ge=0)
    """Bootstrap resamples over images; 0 prints no intervals."""


def wanted(model: ModelSets, analysis: Robustness) -> list[tuple[str, float]]:
    """Return the views to test under, by name and level; raises UserError when there is none."""
    moved = sorted({name for (name, _), viewed in model.views.items() if viewed.moves_labels})
    names = analysis.views
    if names is not None:
        for name in names:
            if name in moved:
                raise UserError(f"robustness cannot score the view {name}, which moves the labels: ask `retrieval`")
            if name not in {known for known, _ in model.views}:
                raise UserError(f"robustness asks for the view {name}, which [[views]] does not list: add it there")
    found = [key for key in model.views if key[0] not in moved and (names is None or key[0] in names)]
    if not found:
        raise UserError("robustness needs [[views]] such as blur or noise in the experiment file: add one")
    return found


def asked(model: ModelSets, array: str, classifier: Classifier, analysis: Robustness, context: Context) -> ResultKey:
    """Return what the answer depends on."""
    model.need_labels("robustness")
    train, validation = selected(model, context, "robustness")
    inputs = model.inputs(array, labelled=True)
    for name, level in wanted(model, analysis):
        for_view = model.for_view(name, level)
        for_view.arrays((for_view.layer(array),), analysis.norm)  # says so where the view lacks the layer
        inputs[f"{name} {level:g} {array}"] = for_view.features.content[array]
    parameters: dict[str, Any] = {
        "classifier": classifier,
        "views": [[name, level] for name, level in wanted(model, analysis)],
        "remove": sorted(set(analysis.remove)),
        "resamples": analysis.resamples,
        "seed": context.seed,
        "train": list(train.sources),
        "validation": list(validation.sources),
        "batchnorm": model.probe_batchnorm,
        "penalties": list(analysis.penalties or PENALTIES),
    }
    return ResultKey("robustness", REVISION, parameters, inputs)


def answer(model: ModelSets, array: str, classifier: Classifier, analysis: Robustness, context: Context) -> Result:
    """Return scores under every view and level, clean ones among them, for every m."""
    train, validation = selected(model, context, "robustness")
    given = read_patches(model, array, train, validation)
    truth = Truth(model, array, validation)
    views = wanted(model, analysis)

    def for_view(view: View) -> np.ndarray:  # read when its turn comes, so that one view is held beside the clean one
        return given.queries if view == CLEAN else tokens(model.for_view(*view), array, validation)

    predicted = (_by_neighbours if classifier == "knn" else _by_probe)(
        given, (CLEAN, *views), for_view, analysis, context
    )
    rows: list[dict[str, Any]] = []
    for m in dict.fromkeys(m for m, _ in predicted):
        clean = truth.patch_confusion(predicted[m, CLEAN])
        for view, level in (CLEAN, *views):
            matrices = truth.patch_confusion(predicted[m, (view, level)])
            cell = {
                "view": view,
                "level": None if view == "clean" else level,
                "classifier": classifier,
                "train": train.title,
                "m": m,
                "k": 1 if classifier == "knn" else None,
                "seed": context.seed,
            }
            rows += _rows(matrices, clean, cell, analysis.resamples, context.seed, validation.sources)
    return result_of(rows, ("patch_miou",))


def _by_neighbours(
    given: PatchData,
    views: Sequence[View],
    for_view: Callable[[View], np.ndarray],
    analysis: Robustness,
    context: Context,
) -> dict[tuple[int, View], np.ndarray]:
    found: dict[tuple[int, View], np.ndarray] = {}
    left = search_memory(context.memory_bytes, peak_bytes(given.model, given.array, "knn", analysis, context))
    for view in views:
        by_m = predict_knn(replace(given, queries=for_view(view)), analysis.remove, memory_bytes=left)
        found |= {(m, view): classes for (m, _), (classes, _) in by_m.items()}
    return dict(sorted(found.items(), key=lambda item: item[0][0]))


def _by_probe(
    given: PatchData,
    views: Sequence[View],
    for_view: Callable[[View], np.ndarray],
    analysis: Robustness,
    context: Context,
) -> dict[tuple[int, View], np.ndarray]:
    removed = [m for m in sorted(set(analysis.remove)) if m < given.bank.shape[1]]
    probes = fit_probe(given, removed, context.seed, analysis.penalties).probes
    found: dict[tuple[int, View], np.ndarray] = {}
    for view in views:
        by_m = predict_side_by_side(probes, for_view(view))
        found |= {(m, view): by_m[place] for place, m in enumerate(removed)}
    return dict(sorted(found.items(), key=lambda item: item[0][0]))


def _rows(
    matrices: np.ndarray, clean: np.ndarray, cell: dict[str, Any], resamples: int, seed: int, names: Sequence[str]
) -> list[dict[str, Any]]:
    unit = {"unit": "image", "n_units": len(names)}
    units = units_of(names, seed, resamples)

    def drawn(some: np.ndarray, statistic: Statistic) -> np.ndarray | None:
        if len(some) < FEWEST_UNITS or not resamples:
            return None
        return resampled_statistic(some, statistic, seed=seed, resamples=resamples)

    def bounds(values: np.ndarray | None) -> dict[str, Any]:
        low, high = quantiles(values)
        return {"low": low, "high": high, DRAWS: None if values is None else BootstrapDraws(values, units)}

    total = matrices.sum(axis=0)
    rows = []
    for name, statistic in (("patch_miou", miou_present), ("patch_accuracy", pixel_accuracy)):
        values = drawn(matrices, statistic)
        rows.append({**cell, **unit, "metric": name, "value": float(statistic(total)), **bounds(values)})
    if cell["view"] != "clean":
        sides = drawn(matrices, miou_present), drawn(clean, miou_present)
        paired = None if sides[0] is None or sides[1] is None else sides[0] - sides[1]
        base = float(miou_present(clean.sum(axis=0)))
        value = float(miou_present(total))
        difference = {"metric": "patch_miou_difference", "reference": "clean", "value": value - base}
        rows.append({**cell, **unit, **difference, **bounds(paired)})
        share = value / base if base > 0 else None
        rows.append({**cell, "metric": "patch_miou_ratio", "reference": "clean", "value": share})
    for name, statistic in (
        ("predicted_entropy", predicted_entropy),
        ("largest_predicted_share", largest_predicted_share),
    ):
        most = float(statistic(total))
        row = {**cell, **unit, "metric": name, "value": None if np.isnan(most) else most}
        rows.append({**row, **bounds(drawn(matrices, statistic))})
    return rows


def peak_bytes(model: ModelSets, array: str, classifier: Classifier, analysis: Robustness, context: Context) -> int:
    """Return the bytes that answering holds: patches of both selections, and those of one view after the other."""
    train, validation = selected(model, context, "robustness")
    n_m, n_views = len(set(analysis.remove)), 1 + len(wanted(model, analysis))
    predicted = 8 * n_m * n_views * n_patches(model, array, len(validation.rows))
    held = (
        scoring_bytes(model, array, validation, analysis.resamples, 2)
        + rows_bytes(model, array, len(validation.rows))
        + predicted
    )
    if classifier == "knn":
        return held + searched_bytes(model, array, train, validation, n_m, (1,), "exact")
    return held + probed_bytes(model, array, train, validation, n_m, len(analysis.penalties or PENALTIES))


def cells(models: Sequence[ModelSets], analysis: Robustness, context: Context) -> Iterator[Task]:
    """Yield one answer a model, layer and classifier."""
    for model in models:
        for array in model.arrays(analysis.layers, analysis.norm):
            for classifier in analysis.classifiers:
                yield task_of(
                    model,
                    array,
                    asked(model, array, classifier, analysis, context),
                    partial(answer, model, array, classifier, analysis, context),
                    f"robustness of {'k-NN' if classifier == 'knn' else classifier} on {array}",
                    partial(peak_bytes, model, array, classifier, analysis, context),
                )
