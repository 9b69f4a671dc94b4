"""Workers make the bytes of one process, whatever dies; most tests have their workers as threads of this process."""

import gc
import itertools
import os
import pickle
import signal
import threading
import time
import weakref
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from distributed import Client, LocalCluster
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.datasets.reading.files import ChangedFileError
from pipeline.extraction import run
from pipeline.extraction.compute import Compute
from pipeline.extraction.extract import extract as extract_one
from pipeline.extraction.options import ExtractOptions
from pipeline.recipe import FeatureRecipe
from pipeline.schedule import clusters, in_worker
from pipeline.schedule.clusters import Cluster, check_scheduler, connect, local_workers, visible_devices
from pipeline.schedule.extraction import ScheduledSets, compute_of
from pipeline.schedule.handing_out import Watch, watching
from pipeline.schedule.share_sizes import ShareSizes
from pipeline.schedule.worker_calls import from_worker
from pipeline.views.blur import Blur
from pipeline.views.flip import Flip
from pipeline.views.size import InputSize
from stores import Store
from stores.errors import UserError
from stores.specs import ArraySpec
from stores.writing.dead_channels import DeadFeatures
from stores.writing.read_back import ReadBack
from tests.pipeline.tiny import recipe, write_camvid

CPU = Compute("cpu", batch_size=4, threads=1)


@pytest.fixture
def data(tmp_path):
    write_camvid(tmp_path / "data" / "camvid")
    return tmp_path / "data"


@contextmanager
def threads(n_workers=2):
    """Workers in this process, which start at once."""
    with (
        LocalCluster(
            n_workers=n_workers,
            processes=False,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            memory_limit=None,
        ) as local,
        Client(local, set_as_default=False) as client,
    ):
        yield Cluster(client, "threads", threads=1)


def place(tmp_path, data, name):
    return run.Workspace(Store(tmp_path / name), data, tmp_path)


def scheduled(cluster, wanted, where, told=None, deaths=None, **options):
    told = [] if told is None else told
    deaths = [] if deaths is None else deaths
    samples = run.read_samples(wanted, where)
    with watching(cluster, deaths.append) as watch:
        sets = ScheduledSets(cluster, watch, wanted, where, samples)
        options = ExtractOptions(on_progress=told.append, **options)
        try:
            return run.extract_recipe(wanted, where, CPU, options, samples=samples, make_sets=sets)
        finally:
            sets.close()


def facts(report):
    return [(one.title, one.set.digest, one.set.content, one.set.stored_digest()) for one in report.outcomes]


def test_workers_make_the_sets_of_one_process_with_views_and_labels(tmp_path, data):
    wanted = recipe(features=FeatureRecipe(norm="both", means=True, input_pixels=True), views=(Flip(name="flip"),))
    alone = run.extract_recipe(wanted, place(tmp_path, data, "alone"), CPU)
    told = []
    with threads() as cluster:
        report = scheduled(cluster, wanted, place(tmp_path, data, "shared"), told)
        again = scheduled(cluster, wanted, place(tmp_path, data, "shared"))
    assert facts(report) == facts(alone) == facts(again)
    assert report.labels.stored_digest() == alone.labels.stored_digest()
    assert report.label_rows_made == alone.label_rows_made
    assert [one.rows_made for one in report.outcomes] == [28, 28]
    assert [sum(one.made_by.values()) for one in report.outcomes] == [28, 28]
    assert [one.rows_made for one in again.outcomes] == [0, 0]
    assert max(one.rows_done for one in told) == told[-1].rows_total == 28


@pytest.fixture
def builds(monkeypatch):
    """Every model that is built, as (whether the first process built it, height of its inputs)."""
    listed, original = [], run.Workspace.model

    def counted(self, recipe, size):
        listed.append((threading.current_thread() is threading.main_thread(), size.height))
        return original(self, recipe, size)

    monkeypatch.setattr(run.Workspace, "model", counted)
    return listed


MANY_VIEWS = (Flip(name="flip"), InputSize(name="size", levels=(16,)), Blur(name="blur", levels=(10,)))


def test_a_worker_builds_a_model_once_for_all_views_of_one_input_size(tmp_path, data, builds):
    wanted = recipe(views=MANY_VIEWS)
    with threads(1) as cluster:
        report = scheduled(cluster, wanted, place(tmp_path, data, "shared"))
    assert sorted(builds) == [(False, 16), (False, 32), (True, 16), (True, 32)]
    assert facts(report) == facts(run.extract_recipe(wanted, place(tmp_path, data, "alone"), CPU))
    assert sorted(builds[4:]) == [(True, 16), (True, 32)]


@pytest.mark.slow
def test_a_worker_prepares_a_view_once_and_holds_no_model_of_another_size(tmp_path, data, monkeypatch):
    sizes = InputSize(name="size", levels=(16, 48))
    wanted = recipe(views=(Flip(name="flip"), sizes, Blur(name="blur", levels=(10, 20))))
    prepared, alive, most = [], weakref.WeakSet(), []
    prepare, model = in_worker.prepare, run.Workspace.model

    def counted(*arguments):
        prepared.append(arguments[5].title)
        return prepare(*arguments)

    def building(self, recipe, size):
        built = threading.current_thread() is not threading.main_thread()
        gc.collect()
        most.append(len(alive) + 1 if built else 0)
        found = model(self, recipe, size)
        if built:
            alive.add(found.module)
        return found

    monkeypatch.setattr(in_worker, "prepare", counted)
    monkeypatch.setattr(run.Workspace, "model", building)
    with threads(1) as cluster:
        scheduled(cluster, wanted, place(tmp_path, data, "shared"))
    assert prepared == [view.title for view, _ in wanted.all_views()]
    assert most == [0, 0, 0, 1, 2, 2]


@pytest.mark.slow
def test_models_of_other_sizes_are_gone_before_the_next_is_built(tmp_path, data, monkeypatch):
    wanted, alive, most = recipe(views=(InputSize(name="size", levels=(16, 48, 64)),)), weakref.WeakSet(), []
    original = run.Workspace.model

    def counted(self, recipe, size):
        gc.collect()
        most.append(len(alive) + 1)
        built = original(self, recipe, size)
        alive.add(built.module)
        return built

    monkeypatch.setattr(run.Workspace, "model", counted)
    views = [view for view, _ in wanted.all_views()]
    models = run.ViewModels(wanted, wanted.models[0], place(tmp_path, data, "store"))
    for view in (*views, views[0]):
        models.keep_for(view)
        shown, clean = models.of(view)
        assert (shown is clean) == (view.input is None)
        del shown, clean
    assert most == [1, 2, 2, 2], "that for the clean view and one more"


def test_what_was_begun_goes_on_in_workers_and_the_other_way_round(tmp_path, data):
    whole = facts(run.extract_recipe(recipe(), place(tmp_path, data, "alone"), CPU))
    where = place(tmp_path, data, "shared")
    run.extract_recipe(recipe(), where, CPU, ExtractOptions(shard=(0, 3)))
    with threads() as cluster:
        part = scheduled(cluster, recipe(), where, shard=(1, 3)).outcomes[0]
        assert part.missing
        assert part.rows_made == 8
        rest = scheduled(cluster, recipe(), where)
    assert rest.outcomes[0].rows_made == 8
    assert facts(rest) == whole


def test_a_model_that_cannot_run_leaves_nothing_and_its_sentence_arrives(tmp_path, data, monkeypatch):
    where = place(tmp_path, data, "store")
    monkeypatch.setattr(in_worker, "start_extraction", failing)
    with threads() as cluster, pytest.raises(UserError, match=r"overflow in block 3 .* \(worker \d on .+\)$"):
        scheduled(cluster, recipe(), where)
    assert list(where.store.set_folders()) == []


def test_a_worker_without_a_name_of_its_own_is_named_once_and_tasks_are_no_ranges():
    lines = []
    watch = Watch(Cluster(None, "two", known={"tcp://h:1": "tcp://h:1"}), lines.append, "task that it was computing")
    watch.on_change((0.0, {"action": "remove-worker", "worker": "tcp://h:1", "expected": False}))
    watch.on_change((0.0, {"action": "remove-worker", "worker": "tcp://h:2", "expected": False}))
    assert lines == [
        "worker tcp://h:1 died: the task that it was computing is lost, and is made again",
        "worker tcp://h:2 died while it started",
    ]


def failing(*arguments):
    raise UserError("overflow in block 3 of some sample: store float32")


def test_an_error_in_a_share_stops_all_and_what_is_committed_stays(tmp_path, data, monkeypatch):
    where, calls = place(tmp_path, data, "store"), []

    def extract(job, store, compute, options):
        calls.append(options.ranges)
        if len(calls) == 3:
            failing()
        return extract_one(job, store, compute, options)

    monkeypatch.setattr(in_worker, "extract", extract)
    with threads() as cluster, pytest.raises(UserError, match=r"overflow in block 3 .* \(worker \d on .+\)$"):
        scheduled(cluster, recipe(), where)
    monkeypatch.setattr(in_worker, "extract", extract_one)
    with threads() as cluster:
        report = scheduled(cluster, recipe(), where)
    assert report.outcomes[0].rows_reused >= 4
    assert facts(report) == facts(run.extract_recipe(recipe(), place(tmp_path, data, "alone"), CPU))


def test_changed_images_are_forgotten_by_the_process_that_hashed_them(tmp_path, data):
    where = place(tmp_path, data, "store")
    samples = run.read_samples(recipe(), where)
    image = sorted((data / "camvid" / "train").glob("*.png"))[0]
    other = sorted((data / "camvid" / "train").glob("*.png"))[1]
    image.write_bytes(other.read_bytes())
    with threads() as cluster, watching(cluster, print) as watch:
        sets = ScheduledSets(cluster, watch, recipe(), where, samples)
        with pytest.raises(ChangedFileError):
            run.extract_recipe(recipe(), where, CPU, samples=samples, make_sets=sets)
    assert not {image.name, f"train/{image.name}"} & set(samples.digests.notes.names.to_pylist()), (
        "as the store notes them now"
    )


def test_errors_come_through_a_pickle():
    error = pickle.loads(pickle.dumps(ChangedFileError(Path("a.png"))))
    assert (error.path, str(error)) == (Path("a.png"), str(ChangedFileError(Path("a.png"))))
    named = from_worker(error, "1", "node7")
    assert str(pickle.loads(pickle.dumps(named))) == f"{ChangedFileError(Path('a.png'))} (worker 1 on node7)"


def test_a_model_from_python_is_refused(tmp_path, data):
    where = run.Workspace(Store(tmp_path / "store"), data, tmp_path, own={"mine": None})
    with pytest.raises(UserError, match="leave out --scheduler"):
        ScheduledSets(None, None, recipe(), where, None)


def test_a_dead_worker_is_named_once_and_one_that_ends_is_not():
    lines = []
    watch = Watch(Cluster(None, "two", known={"tcp://h:1": "0"}), lines.append)
    watch.on_event((0.0, {"name": "0", "rows": 3, "seconds": 1.0, "stage": "model"}))
    watch.on_change((0.0, {"action": "remove-worker", "worker": "tcp://h:2", "expected": True}))
    assert not lines
    watch.on_change((0.0, {"action": "remove-worker", "worker": "tcp://h:1", "expected": False}))
    assert len(lines) == 1
    assert "worker 0 (tcp://h:1) died: the range that it was making is lost" in lines[0]
    assert not watch.running


def test_shares_take_half_a_minute_and_become_few_towards_the_end():
    sizes = ShareSizes(seconds=30.0)
    assert sizes.next("a", 1000, 4) == 1
    sizes.took("a", 1, 2.0)
    assert sizes.next("a", 1000, 4) == 15
    assert sizes.next("b", 1000, 4) == 15
    sizes.took("b", 1, 10.0)
    assert (sizes.next("a", 1000, 4), sizes.next("b", 1000, 4)) == (15, 3)
    assert sizes.next("a", 48, 4) == 3
    assert (sizes.next("a", 3, 4), sizes.next("a", 0, 4)) == (1, 0)


@pytest.mark.parametrize("text", ["local:2", "gpus", "tcp://host:8786", "tcp://[::1]:8786", "slurm:16"])
def test_schedulers_by_name(text):
    check_scheduler(text, "store")


def test_the_memory_of_one_process_is_no_store_for_several():
    with pytest.raises(UserError, match="memory://x is the memory of one process: leave --scheduler out"):
        check_scheduler("local:2", "memory://x")


@pytest.mark.parametrize("text", ["local", "local:0", "local:x", "gpu", "host:8786", "slurm", "tls://10.0.0.1:1", ""])
def test_other_names_are_refused_in_a_sentence(text):
    with pytest.raises(UserError, match="write local:N, gpus, tcp://HOST:PORT or slurm:N"), connect(text):
        pass


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setattr(clusters, "CONNECT_SECONDS", 0.5)
    with pytest.raises(UserError, match=":9 does not answer"), connect("tcp://127.0.0.1:9"):
        pass


def test_visible_devices_are_those_of_the_environment(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_devices() == ("0", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5")
    assert visible_devices() == ("3", "GPU-5")


TWO_GPUS = [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}]


def test_two_gpus_imitated_are_two_processes_that_see_one_each():
    with local_workers(TWO_GPUS, preload="pipeline.schedule.share_sizes") as cluster:
        devices = cluster.client.run(os.getenv, "CUDA_VISIBLE_DEVICES").values()
        processes = cluster.client.run(os.getpid).values()
    assert sorted(devices) == ["0", "1"]
    assert len({*processes, os.getpid()}) == 3
    assert (cluster.what, cluster.n_here) == ("2 processes, one a GPU", 2)


@pytest.mark.slow
def test_a_worker_that_takes_long_to_come_back_is_not_given_up(tmp_path, monkeypatch):
    """Dask closes one for good that is away for 15 seconds, less than torch takes from a cold disk."""
    (tmp_path / "slow_start.py").write_text("import time\ntime.sleep(20)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with local_workers([{}], preload="slow_start") as cluster:
        [first] = cluster.client.run(os.getpid).values()
        os.kill(first, signal.SIGKILL)
        give_up, found = time.monotonic() + 90, {first}
        while (not found or found == {first}) and time.monotonic() < give_up:
            time.sleep(1)
            found = {pid for pid in cluster.client.run(os.getpid, on_error="ignore").values() if pid is not None}
        assert found
        assert found != {first}
        time.sleep(3)
        assert set(cluster.client.run(os.getpid).values()) == found, "it was closed once it had come back"


@pytest.mark.slow
def test_two_gpus_imitated_make_the_bytes_of_one_process(tmp_path, data):
    """The stand-in: workers are pinned as to two GPUs, and compute on the CPU."""
    with local_workers(TWO_GPUS) as cluster:
        compute = compute_of(cluster, "cpu", 4)
        assert (compute.device, compute.batch_size) == ("cpu", 4)
        report = scheduled(cluster, recipe(), place(tmp_path, data, "shared"))
    alone = run.extract_recipe(recipe(), place(tmp_path, data, "alone"), CPU)
    assert facts(report) == facts(alone)
    assert len(report.outcomes[0].made_by) == 2


def test_sealing_reads_no_chunk_again_that_a_worker_has_read_back(tmp_path, data, monkeypatch):
    read = Counter()
    with threads() as cluster:
        # Workers are threads of this process: what they read is told from what sealing reads by the thread's name.
        original = ReadBack._checked_rows

        def counted(self, array, number, key, size):
            read["sealing" if "patchbank-read" in threading.current_thread().name else "workers"] += 1
            return original(self, array, number, key, size)

        monkeypatch.setattr(ReadBack, "_checked_rows", counted)
        report = scheduled(cluster, recipe(), place(tmp_path, data, "shared"))
    n_chunks = sum(len(one.set.seals[name].table) for one in report.outcomes for name in one.set.arrays)
    assert read["workers"] >= n_chunks
    assert read["sealing"] == 0


@given(st.integers(2, 40), st.integers(1, 6), st.data())
@settings(max_examples=50)
def test_dead_features_of_parts_are_those_of_all_rows(n_rows, n_channels, draw):
    rows = np.array(
        draw.draw(st.lists(st.lists(st.sampled_from([0.0, 1.0]), min_size=n_channels, max_size=n_channels),
                           min_size=n_rows, max_size=n_rows)), dtype=np.float32
    )[:, None]  # fmt: skip
    valid = np.array(draw.draw(st.lists(st.booleans(), min_size=n_rows, max_size=n_rows)))
    borders = sorted({0, n_rows, *draw.draw(st.lists(st.integers(0, n_rows), max_size=3))})
    spec = ArraySpec(
        name="tokens/block.0",
        row_shape=(1, n_channels),
        dtype="float32",
        dimension_names=("sample", "patch", "channel"),
    )
    whole, joined = DeadFeatures(spec, valid), DeadFeatures(spec, valid)
    whole.take(0, rows)
    for start, stop in itertools.pairwise(borders):
        part = DeadFeatures(spec, valid)
        part.take(start, rows[start:stop])
        joined.merge(part.summary)
    assert joined.channels == whole.channels
