"""Features are ranked by the training patches alone, where validation patches would rank them otherwise."""

import numpy as np
import pytest

from evaluate.analyses.global_context import GlobalContext, central_tokens, class_shares
from evaluate.inputs.rows import image_numbers, select_rows
from evaluate.kernels.probing.ridge import r2, ridge
from evaluate.results.table import ResultStore
from evaluate.runner import evaluate
from evaluate.scoring.patch_classifiers import read_patches
from tests.evaluate.planted import planted
from tests.evaluate.test_patch_classification import SELECTION, settings_of

ARRAY = "tokens/block.0.norm"


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    return planted(tmp_path_factory.mktemp("store"), n_images=24)


def ranking(measured, chosen):
    variance = measured.features[ARRAY][chosen.rows].reshape(-1, 16).astype(np.float64).var(axis=0)
    return np.argsort(-variance)


def test_the_task_ranks_by_its_training_patches(measured):
    train, validation = select_rows(measured, SELECTION.train), select_rows(measured, SELECTION.validation)
    ranked = [ranking(measured, chosen).tolist() for chosen in (train, validation)]
    assert ranked[0] != ranked[1]
    assert read_patches(measured, ARRAY, train, validation).ranking.tolist() == ranked[0]


def test_global_context_leaves_out_what_varies_most_in_training(measured, tmp_path):
    asked = GlobalContext(kind="global-context", classes=("road",), m=5, draws=1, resamples=0)
    table = evaluate("t", [measured], settings_of(asked), ResultStore(tmp_path)).table
    found = table[(table["metric"] == "r2") & (table["outcome"] == "top-alone") & (table["class"] == "road")]
    expected = []
    train, validation = select_rows(measured, SELECTION.train), select_rows(measured, SELECTION.validation)
    for ranked_by in (train, validation):
        top = np.sort(ranking(measured, ranked_by)[:5])
        inputs, queries = (central_tokens(measured, ARRAY, chosen)[:, top] for chosen in (train, validation))
        targets, truth = (class_shares(measured, chosen, ("road",), "tile") for chosen in (train, validation))
        expected.append(r2(truth, ridge(inputs, targets, image_numbers(measured, train), queries))[0])
    assert expected[0] != pytest.approx(expected[1])
    assert found["value"].item() == pytest.approx(expected[0])
