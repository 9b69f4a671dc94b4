"""Estimates of operations: in proportion to what is computed, and for every analysis that can tell."""

import time

import pytest

from evaluate.inputs.work import Speed, Work, measure_speed, total
from evaluate.registry import ANALYSES, EvaluationSettings
from evaluate.runner import collect_tasks
from evaluate.selection import SelectionRule
from evaluate.settings import Context, Selection
from evaluate.task import Task
from tests.evaluate.planted import planted

SELECTION = Selection(train=SelectionRule(split="train"), validation=SelectionRule(split="val"))


def work(folder, *, n_images=24, **asked):
    """Return the work of one analysis of a planted set."""
    found = EvaluationSettings.model_validate({"analyses": [asked]}, strict=False)
    tasks, _ = collect_tasks([planted(folder, n_images=n_images)], found, Context(SELECTION, 0))
    return sum((task.work() for task in tasks), Work())


def test_every_analysis_but_two_estimates_its_operations():
    """Decoders are of any size, and what tracks cost depends on how they meet."""
    unknown = {task.analysis for task in ANALYSES.values() if task.work is Task.work}
    assert unknown == {"reconstruction", "association"}


@pytest.mark.parametrize("classifier", ["knn", "probe"])
def test_work_grows_with_what_is_asked(tmp_path, classifier):
    patches = {"kind": "patch-classification", "classifiers": [classifier], "resamples": 0}
    one = work(tmp_path / "one", **patches)
    assert one.products > 0
    assert one.passes > 0
    twice = work(tmp_path / "twice", n_images=48, **patches)
    assert twice.products / one.products == pytest.approx(4 if classifier == "knn" else 2, rel=0.2)
    more = work(tmp_path / "more", remove=[0, 1, 2], **patches)
    grown = more.products / one.products
    assert grown > 2 if classifier == "probe" else grown > 1, "a search is shared by all numbers removed"


def test_speed_is_measured_in_a_moment():
    started = time.process_time()
    speed = measure_speed(0.01)
    assert time.process_time() - started < 2.0
    assert speed.products > 1e8
    assert speed.passes > 1e6
    assert total([Work(), Work()]).passes > 0, "a task takes a moment whatever it computes"
    assert Speed(2.0, 4.0).seconds(Work(4.0, 4.0) + Work() * 3.0) == 3.0
