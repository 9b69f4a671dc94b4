"""Several models in workers: the next one is made beside the last ranges of the one before."""

import gc
import threading
import time
import weakref

import pytest
from distributed import get_worker

from pipeline.extraction import run
from pipeline.schedule import in_worker, open_sets
from pipeline.schedule.in_worker import Share
from pipeline.schedule.open_sets import Work, hand_out
from stores.errors import UserError
from tests.pipeline.test_schedule import CPU, data, facts, place, scheduled, threads  # noqa: F401
from tests.pipeline.tiny import TINY, recipe

OTHER, THIRD = (TINY.model_copy(update={"title": title, "seed": seed}) for title, seed in (("other", 4), ("third", 5)))


def test_two_models_and_one_that_is_complete_are_those_of_one_process(tmp_path, data):  # noqa: F811
    wanted, told = recipe(TINY, OTHER, THIRD), []
    where = place(tmp_path, data, "shared")
    run.extract_recipe(wanted, where, CPU, only="other")
    with threads() as cluster:
        report = scheduled(cluster, wanted, where, told)
    alone = run.extract_recipe(wanted, place(tmp_path, data, "alone"), CPU)
    assert facts(report) == facts(alone)
    assert [one.title for one in report.outcomes] == ["test_vit", "other", "third"]
    assert [sum(one.made_by.values()) for one in report.outcomes] == [28, 0, 28]
    assert {one.title for one in told} == {"test_vit", "third"}


@pytest.mark.slow
def test_a_worker_builds_every_model_once_and_one_is_there_at_a_time(tmp_path, data, monkeypatch):  # noqa: F811
    original, built, alive = run.Workspace.model, [], weakref.WeakSet()

    def counted(self, one, size):
        gc.collect()
        where = "here" if threading.current_thread() is threading.main_thread() else "worker"
        built.append((where, one.display, sum(weights_of(module) for module in alive if module.where == where)))
        made = original(self, one, size)
        made.module.where = where
        alive.add(made.module)
        return made

    monkeypatch.setattr(run.Workspace, "model", counted)
    with threads(1) as cluster:
        scheduled(cluster, recipe(TINY, OTHER), place(tmp_path, data, "shared"))
    assert sorted(built) == sorted((where, one, 0) for where in ("here", "worker") for one in ("test_vit", "other"))
    built.clear()
    run.extract_recipe(recipe(TINY, OTHER), place(tmp_path, data, "alone"), CPU)
    assert built == [("here", "test_vit", 0), ("here", "other", 0)]


def weights_of(module):
    """Return how many numbers a module holds in memory."""
    return sum(one.numel() for one in module.parameters() if one.device.type != "meta")


@pytest.mark.parametrize("fails", ["here", pytest.param("in a worker", marks=pytest.mark.slow)])
def test_the_model_before_one_that_fails_is_completed_and_noted(tmp_path, data, monkeypatch, fails):  # noqa: F811
    where, wanted, original = place(tmp_path, data, "store"), recipe(TINY, OTHER, THIRD), run.Workspace.model

    def failing(self, one, size):
        is_here = threading.current_thread() is threading.main_thread()
        if one.display == "other" and is_here == (fails == "here"):
            raise UserError("other has no weights: download them")
        return original(self, one, size)

    monkeypatch.setattr(run.Workspace, "model", failing)
    with threads() as cluster, pytest.raises(UserError, match="other has no weights"):
        scheduled(cluster, wanted, where)
    monkeypatch.setattr(run.Workspace, "model", None)
    report = run.extract_recipe(recipe(TINY), where, CPU)
    assert [one.rows_reused for one in report.outcomes] == [28]
    assert len(list(where.store.set_folders())) == 2, "one feature set and the labels"


GO = threading.Event()


def make_quickly(numbers):
    time.sleep(0.02)
    return Share(str(get_worker().name), "here", seconds=0.02)


def make_first(numbers):
    """Make ranges of the first set, the last one only when one of the second is made."""
    assert 7 not in numbers or GO.wait(20), "nothing is made beside it"
    return make_quickly(numbers)


def make_second(numbers):
    GO.set()
    return make_quickly(numbers)


def steps(name, make, n_ranges, made):
    yield Work(lambda numbers: (make_quickly, numbers), [0], lambda share, numbers: None, built=name)
    yield Work(
        lambda numbers: (make, numbers), range(n_ranges), lambda share, numbers: made.extend(numbers),
        built=name, is_last=True,
    )  # fmt: skip
    return name, sorted(made)


def test_ranges_of_the_next_model_are_handed_out_while_the_last_of_the_one_before_are_made():
    GO.clear()
    with threads() as cluster:
        found = list(hand_out(cluster, iter([steps("a", make_first, 8, []), steps("b", make_second, 4, [])])))
    assert found == [("a", list(range(8))), ("b", list(range(4)))]


def opened(built, left, *, is_last=True, error=None):
    one = open_sets._OpenSet(iter(()))
    one.work = Work(lambda numbers: (), range(left), lambda share, numbers: None, built=built, is_last=is_last)
    one.built, one.error = built, error
    one.left.extend(range(left))
    return one


def test_a_worker_that_has_built_the_next_model_makes_no_more_of_the_one_before():
    first, second = opened("a", 5), opened("b", 5)
    who, both = open_sets._who_makes_what, [first, second]
    assert who("xy", both, {"x": 0, "y": 0}, {"x": first, "y": first}) == (first, "x")
    assert who("xy", both, {"x": 0, "y": 1}, {"x": second, "y": first}) == (first, "y")
    assert who("xy", both, {"x": 0, "y": 2}, {"x": second, "y": first}) == (second, "x")
    assert who("xy", both, {"x": 2, "y": 2}, {"x": second, "y": first}) is None
    assert who("x", both, {"x": 0}, {"x": second}) == (first, "x"), "there is no other"
    assert who("xy", [opened("b", 5), second], {"x": 0, "y": 0}, {"x": second})[1] == "x", "it is the same model"
    trial = opened("b", 1, is_last=False)
    assert who("xy", [first, trial], {"x": 1, "y": 0}, {"x": first, "y": first}) == (trial, "y")
    labels = opened(None, 1, is_last=False)
    assert who("xy", [labels, second], {"x": 0, "y": 1}, {"x": second}) == (labels, "x")


def test_it_does_where_nothing_else_is_left_for_it():
    first, second = opened("a", 5), opened("b", 0)
    held, latest = {"x": 0, "y": 2}, {"x": second, "y": first}
    assert open_sets._who_makes_what("xy", [first, second], held, latest) == (first, "x")
    assert open_sets._who_makes_what("xy", [first, second], {"x": 1, "y": 2}, latest) is None, "it has something"
    trial = opened("b", 0, is_last=False)
    assert open_sets._who_makes_what("xy", [first, trial], held, {**latest, "x": trial}) is None, "ranges follow"
    failed = opened("b", 0, error=UserError("no"))
    assert open_sets._who_makes_what("xy", [first, failed], held, {**latest, "x": failed}) == (first, "x")


def test_the_next_model_begins_a_minute_before_the_last_range_is_handed_out():
    one = opened("a", 100)
    assert not one.lets_next_begin(2)
    one.work.sizes.took("x", 1, 2.0)
    assert (one.lets_next_begin(2), one.lets_next_begin(4)) == (False, True)
    assert not one.lets_next_begin(1), "a worker alone would build both models again"
    one.left.clear()
    assert one.lets_next_begin(1)


@pytest.mark.slow
def test_no_worker_is_given_up_for_a_model_of_its_own(tmp_path, data, monkeypatch):  # noqa: F811
    """With one worker models follow each other: it is tried after the last range of the one before."""
    made = []

    def noting(what, function):
        return lambda job, *others: made.append((what, job.title)) or function(job, *others)

    monkeypatch.setattr(in_worker, "extract", noting("made", in_worker.extract))
    monkeypatch.setattr(in_worker, "start_extraction", noting("tried", in_worker.start_extraction))
    with threads(1) as cluster:
        scheduled(cluster, recipe(TINY, OTHER), place(tmp_path, data, "store"))
    assert list(dict.fromkeys(made)) == [(what, one) for one in ("test_vit", "other") for what in ("tried", "made")]
