"""Shares of the next set are handed out while the last ones of a set run; sets and errors come in their order."""

import threading
from collections import Counter
from contextlib import contextmanager

import pytest
from distributed import Client, LocalCluster

from pipeline.extraction import run
from pipeline.extraction.extract import start_extraction
from pipeline.recipe import FeatureRecipe
from pipeline.schedule import in_worker
from pipeline.schedule.clusters import Cluster
from pipeline.schedule.in_worker import Share
from pipeline.schedule.open_sets import Work, hand_out
from pipeline.views.blur import Blur
from pipeline.views.flip import Flip
from pipeline.views.size import InputSize
from stores.errors import UserError
from tests.pipeline.test_schedule import CPU, facts, place, scheduled
from tests.pipeline.tiny import TINY, recipe, write_camvid

SECONDS = 30.0
"""Longest that a share waits for another."""


@pytest.fixture(scope="module")
def cluster():
    """Two workers in this process."""
    with two_workers() as cluster:
        yield cluster


@contextmanager
def two_workers():
    with (
        LocalCluster(
            n_workers=2, processes=False, threads_per_worker=1, dashboard_address="127.0.0.1:0", memory_limit=None
        ) as local,
        Client(local, set_as_default=False) as client,
    ):
        yield Cluster(client, "threads", threads=1)


MAKES = {}
"""What workers do, by the name of a set: functions of a test are not sent."""


def call(name, numbers):
    return MAKES[name](numbers) or Share("0", "here")


def made_of(cluster, makes, n_ranges=(), first=None, begun=None):
    """Yield name and ranges of sets whose shares are calls of functions; ``first`` makes what comes before them."""
    MAKES.clear()
    MAKES.update(makes, first=first)
    begun = [] if begun is None else begun
    return hand_out(cluster, (steps(name, dict(n_ranges).get(name, 1), first, begun) for name in makes))


def steps(name, n_ranges, first, begun):
    begun.append(name)
    made = []
    if first is not None:
        yield Work(lambda numbers: (call, "first", numbers), [0], lambda share, numbers: None)
    make = (lambda numbers: (call, name, numbers), range(n_ranges), lambda share, numbers: made.extend(numbers))
    yield Work(*make, is_last=True)
    return name, sorted(made)


def test_a_set_begins_while_the_last_share_of_the_one_before_runs(cluster):
    is_made = threading.Event()

    def slow(numbers):
        assert is_made.wait(SECONDS), "the second set waits for the first"

    made = made_of(cluster, {"a": slow, "b": lambda numbers: is_made.set()})
    assert list(made) == [("a", [0]), ("b", [0])]


def test_a_set_begins_once_all_ranges_of_the_one_before_are_given(cluster):
    begun, seen = [], []

    def first(numbers):
        seen.append(tuple(begun))

    makes = dict.fromkeys("abc", lambda numbers: None)
    made = made_of(cluster, makes, dict.fromkeys("abc", 9), first, begun)
    assert list(made) == [(name, list(range(9))) for name in "abc"]
    assert seen == [("a",), ("a", "b"), ("a", "b", "c")]


@pytest.mark.parametrize("is_alike", [False, True])
def test_the_first_batch_of_the_next_set_is_tried_beside_the_last_range_of_each_worker(cluster, is_alike):
    """One of another model waits until all ranges are given, where each takes more than a minute."""
    given = []

    def steps(name):
        def submit(what):
            return lambda numbers: given.append(what) or (call, name, numbers)

        yield Work(submit(f"first {name}"), [0], lambda share, numbers: None)
        yield Work(submit(name), range(6), lambda share, numbers: None, is_last=True, is_alike=is_alike)

    MAKES.update(
        dict.fromkeys("ab", lambda numbers: Share("0", "here", seconds=1000.0))
    )  # four ranges are given before any is made
    list(hand_out(cluster, map(steps, "ab")))
    first = given.index("first b")
    assert (given[:first].count("a"), given[first:].count("a")) == ((4, 2) if is_alike else (6, 0))


def test_an_error_waits_until_the_sets_before_it_are_complete(cluster):
    begun, has_failed, made = [], threading.Event(), []

    def slow(numbers):
        assert has_failed.wait(SECONDS)

    def failing(numbers):
        has_failed.set()
        return Share("1", "here", error=UserError("overflow in block 3"))

    all_made = made_of(cluster, {"a": slow, "b": failing, "c": slow}, {"b": 9}, begun=begun)
    with pytest.raises(UserError, match="overflow in block 3"):
        made.extend(iter(lambda: next(all_made), None))
    cluster.is_ending.clear()
    assert begun == ["a", "b"], "nothing begins after an error"
    assert made == [("a", [0])]


def test_a_share_that_a_worker_gave_up_is_made_by_another_also_after_the_next_set_began(cluster):
    tries, next_is_made = Counter(), threading.Event()

    def given_up(numbers):
        tries[numbers] += 1
        if tries[numbers] == 1:
            assert next_is_made.wait(SECONDS)
            return Share("0", "here", stopped=True)
        return None

    made = made_of(cluster, {"a": given_up, "b": lambda numbers: next_is_made.set()})
    assert list(made) == [("a", [0]), ("b", [0])]
    assert tries == {(0,): 2}


MANY_VIEWS = (Flip(name="flip"), InputSize(name="size", levels=(16, 48)), Blur(name="blur", levels=(10,)))


@pytest.mark.slow
def test_views_that_are_made_side_by_side_have_the_bytes_and_the_order_of_one_process(tmp_path, cluster):
    write_camvid(tmp_path / "data" / "camvid")
    wanted = recipe(TINY, TINY.model_copy(update={"title": "second", "seed": 4}), views=MANY_VIEWS,
                    features=FeatureRecipe(norm="both", input_pixels=True))  # fmt: skip
    stores = {}
    for name in ("alone", "shared"):
        where = stores[name] = place(tmp_path, tmp_path / "data", name)
        alone = name == "alone"
        report = run.extract_recipe(wanted, where, CPU) if alone else scheduled(cluster, wanted, where)
        stores[name] = where.store, facts(report), report.label_rows_made, report.labels.stored_digest()
    assert stores["alone"][1:] == stores["shared"][1:]
    labels = [
        {one.digest: one.stored_digest() for one in store.sets() if one.prefix.startswith("labels")}
        for store, *_ in stores.values()
    ]
    assert labels[0] == labels[1]
    assert len(labels[0]) > 2


@pytest.mark.slow
def test_a_view_that_cannot_run_ends_the_command_after_those_before_it(tmp_path, cluster, monkeypatch):
    write_camvid(tmp_path / "data" / "camvid")
    wanted, where = recipe(views=MANY_VIEWS), place(tmp_path, tmp_path / "data", "store")

    def start(job, compute, options):
        if "size" in job.title:
            raise UserError(f"{job.title}: overflow")
        return start_extraction(job, compute, options)

    monkeypatch.setattr(in_worker, "start_extraction", start)
    with pytest.raises(UserError, match="size 16: overflow"):
        scheduled(cluster, wanted, where)
    monkeypatch.undo()
    cluster.is_ending.clear()
    in_worker._STOPPING.clear()
    sets = [one for one in where.store.sets() if one.prefix.startswith("features")]
    assert len(sets) == 2
    assert all(one.sealed(name) for one in sets for name in one.arrays)
    views = [view for view, _ in wanted.all_views()]
    noted = [where.store.recall(wanted.model_key(TINY, view=view)) for view in views]
    assert [one is not None for one in noted] == [True, True, False, False, False]
    alone = run.extract_recipe(wanted, place(tmp_path, tmp_path / "data", "alone"), CPU)
    assert facts(scheduled(cluster, wanted, where)) == facts(alone)
