"""Evaluating on a device: equal neighbours under equal keys, probes under keys of their own, and what is refused."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from evaluate.analyses.image_classification import ImageClassification, ImageClassificationTask
from evaluate.inputs.model_sets import ViewSets
from evaluate.kernels.probing.attentive import fit_attentive
from evaluate.kernels.probing.cross_entropy import BLOCK_ROWS, CPU, Device, Objective, Rows, choose_device
from evaluate.kernels.probing.first_order import fit_adamw
from evaluate.kernels.probing.lbfgs import Head
from evaluate.kernels.probing.probes import fit_probes, predict
from evaluate.registry import EvaluationSettings
from evaluate.results.table import ResultStore
from evaluate.runner import evaluate
from evaluate.selection import SelectionRule
from evaluate.settings import Context, Selection
from stores.errors import UserError
from tests.evaluate.planted import planted

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
SELECTION = Selection(train=SelectionRule(split="train"), validation=SelectionRule(split="val"))
ANALYSES = (
    {"kind": "patch-classification", "remove": [0, 4], "k": [1, 3], "resamples": 50, "penalties": [1e-2, 1e-1]},
    {"kind": "robustness", "classifiers": ["knn"], "remove": [0, 4], "resamples": 50},
    {"kind": "feature-treatments", "classifiers": ["knn"], "treatments": ["l2"], "resamples": 50},
    {"kind": "label-maps", "images": 2},
)


def run(folder, results, device, analyses=ANALYSES):
    model = planted(folder / "s", planted=3)
    views = {("noise", 10.0): ViewSets("noise", 10.0, model.features, model.labels)}
    model = dataclasses.replace(model, views=views)
    settings = EvaluationSettings(selection=SELECTION, analyses=analyses)
    return evaluate("t", [model], settings, ResultStore(results), device=device)


@pytest.mark.parametrize("name", DEVICES)
def test_neighbours_have_the_same_key_and_rows_and_probes_a_key_of_their_own(tmp_path, name):
    plain = run(tmp_path / "one", tmp_path / "r", CPU)
    there = run(tmp_path / "two", tmp_path / "other", Device(name, "a kind of device"))
    tables = [one.table.drop(columns=["row"]) for one in (plain, there)]
    by_knn, by_probe = ([table[(table["classifier"] == name) | False] for table in tables] for name in ("knn", "probe"))
    assert len(by_knn[0])
    assert len(by_probe[0])
    pd.testing.assert_frame_equal(*by_knn, check_exact=True)
    assert set(by_probe[0]["result"]).isdisjoint(by_probe[1]["result"])
    assert all('"device":"a kind of device"' in text for text in by_probe[1]["params"])
    assert not any("device" in text for text in (*by_knn[1]["params"], *by_probe[0]["params"]))
    scores = [table[table["metric"] == "patch_miou"]["value"].to_numpy(dtype=float) for table in by_probe]
    np.testing.assert_allclose(*scores, atol=0.02)
    again = run(tmp_path / "three", tmp_path / "r", Device(name, "a kind of device"))
    assert again.n_computed == 1, "only the probe"


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("kept", [True, False])
def test_the_objective_on_a_device_is_that_of_numpy(name, kept, monkeypatch):
    if not kept:
        monkeypatch.setattr("evaluate.kernels.probing.cross_entropy.COPY_BYTES", 0)
    rng = np.random.default_rng(0)
    features = (rng.standard_normal((2 * BLOCK_ROWS + 300, 24)) * 2 + 1).astype(np.float16)
    targets = rng.integers(0, 5, len(features))
    centre = features.mean(axis=0, dtype=np.float32)
    weights, biases = rng.standard_normal((3, 5, 24)), rng.standard_normal((3, 5))
    with ThreadPoolExecutor(2) as pool:
        rows = Rows(features, np.arange(len(features)))
        one, other = (Objective(rows, targets, centre, pool, device) for device in (None, name))
        for _ in range(2):
            for here, there in zip(one(weights, biases), other(weights, biases), strict=True):
                assert there.dtype == np.float64
                np.testing.assert_allclose(here, there, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", DEVICES)
def test_probes_of_a_device_predict_the_same_classes(name):
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 4, 3000)
    means = rng.standard_normal((4, 16)) * 1.5
    features = (means[labels] + rng.standard_normal((3000, 16))).astype(np.float16)
    heads = [Head(1e-3), Head(1e-1, np.arange(16) > 3)]
    for here, there in zip(
        *(fit_probes(features, labels, 4, heads, standardise=True, device=device) for device in (None, name)),
        strict=True,
    ):
        assert there.converged
        assert here.objective == pytest.approx(there.objective, rel=1e-4)
        assert (predict(here, features) == predict(there, features)).mean() > 0.998


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("standardise", [True, False])
def test_fixed_epochs_on_a_device_are_those_of_the_processor(name, held, standardise, monkeypatch):
    if not held:
        monkeypatch.setattr("evaluate.kernels.probing.first_order.HELD_SHARE", 0)
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 4, 2500)
    features = (rng.standard_normal((4, 16))[labels] + rng.standard_normal((2500, 16))).astype(np.float16)
    labels[::9] = 255
    kept, options = [None, np.arange(16) > 3], {"standardise": standardise, "seed": 5, "epochs": 3}
    here, there, again = (fit_adamw(features, labels, 4, kept, **options, device=one) for one in (None, name, name))
    for one, other, repeated in zip(here, there, again, strict=True):
        np.testing.assert_allclose(other.weight, one.weight, atol=2e-5)
        np.testing.assert_allclose(other.centre, one.centre, atol=1e-5)
        assert other.objective == pytest.approx(one.objective, rel=1e-5)
        assert other.iterations == one.iterations
        assert (predict(one, features) == predict(other, features)).mean() > 0.998
        np.testing.assert_array_equal(other.weight, repeated.weight)


@pytest.mark.parametrize("name", DEVICES)
def test_attentive_probes_of_a_device_are_those_of_the_processor(name):
    rng = np.random.default_rng(3)
    tokens, classes = rng.standard_normal((150, 9, 64)).astype(np.float16), rng.integers(0, 3, 150)
    options = {"seed": 1, "epochs": 2, "learning_rate": 1e-3}
    here, there, again = (fit_attentive(tokens, classes, 3, **options, device=one) for one in (None, name, name))
    assert there.loss == pytest.approx(here.loss, rel=1e-4)
    np.testing.assert_allclose(there.scores(tokens), here.scores(tokens), atol=1e-3)
    np.testing.assert_array_equal(there.scores(tokens), again.scores(tokens))


@pytest.mark.parametrize("name", DEVICES)
def test_probes_of_fixed_epochs_are_trained_there_under_keys_of_their_own(tmp_path, name):
    fixed = {"classifiers": ["probe"], "probe": "adamw", "epochs": 2, "resamples": 0}
    analyses = ({"kind": "patch-classification", "remove": [0], **fixed},)
    tables = [run(tmp_path / one, tmp_path / one / "r", device, analyses).table
              for one, device in (("here", CPU), ("there", Device(name, "a kind of device")))]  # fmt: skip
    assert set(tables[0]["result"]).isdisjoint(tables[1]["result"])
    assert ['"device"' in table["params"].iloc[0] for table in tables] == [False, True]
    losses = [table[table["metric"] == "training_loss"]["value"].to_numpy(dtype=float) for table in tables]
    np.testing.assert_allclose(*losses, rtol=1e-4)


def test_attentive_probes_have_the_device_in_their_key(tmp_path):
    settings = ImageClassification(kind="image-classification", classifiers=("attentive-probe",))
    model, devices = planted(tmp_path / "s"), (CPU, Device("cpu", "a kind of device"))
    [[here], [there]] = (
        ImageClassificationTask.of_model(model, settings, Context(SELECTION, 0, device=device)) for device in devices
    )
    assert there.parameters() == {**here.parameters(), "device": "a kind of device"}


@pytest.mark.parametrize("name", ["mps", "xpu", "meta", "cuda:x", "auto", "CPU", ""])
def test_other_devices_are_refused_in_a_sentence(name):
    with pytest.raises(UserError, match=r"evaluate computes on cpu or cuda, and .* is neither: use --device cpu"):
        choose_device(name)


def test_a_device_that_is_not_there_is_refused():
    assert choose_device("cpu") is CPU
    with pytest.raises(UserError, match=r"device 'cuda:99' cannot be used .*: try --device cpu"):
        choose_device("cuda:99")
