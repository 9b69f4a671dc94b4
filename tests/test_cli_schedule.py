"""`extract` and `evaluate` with `--scheduler`; workers are threads of this process, which start at once."""

import json
import re
from contextlib import contextmanager

import pytest
from distributed import Client, LocalCluster

from commands.terminal.output import progress
from pipeline.extraction.progress import Progress
from pipeline.schedule.clusters import Cluster
from stores import Store
from stores.errors import UserError

EXTRACT = ("extract", "tiny.toml", "--device", "cpu", "--batch-size", "4")


@contextmanager
def threads(text, preload=""):
    with (
        LocalCluster(
            n_workers=int(text.rpartition(":")[2]),
            processes=False,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            memory_limit=None,
        ) as local,
        Client(local, set_as_default=False) as client,
    ):
        yield Cluster(client, "2 threads", threads=1, n_here=2)


@pytest.fixture
def workers(monkeypatch):
    monkeypatch.setattr("pipeline.schedule.clusters.connect", threads)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def bytes_of(folder):
    """Return the bytes of every file below a folder, without the log of runs."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "runs.jsonl"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_the_line_with_workers_is_that_of_one_process(site, run, workers):
    code, out, err = run(*EXTRACT, "--scheduler", "local:2")
    assert code == 0
    assert "extracting with 2 threads" in err
    assert list((site / "store" / "logs").glob("*.arrow")) == [], "rows for workers are removed at the end"
    assert re.search(r"test_vit: 24/24 rows, [\d.]+ rows/s", err)
    by = re.findall(r"worker +(\d) on \S+: (\d+) rows", out)
    assert sum(int(count) for _, count in by) == 24
    assert run(*EXTRACT, "--store", "alone")[0] == 0
    sets = [{one.digest: dict(one.content) for one in Store(site / name).sets()} for name in ("store", "alone")]
    assert sets[0] == sets[1]
    code, out, _ = run(*EXTRACT, "--scheduler", "local:2", "--json")
    assert json.loads(out)["reused"] == 24


ANALYSES = """
[[analyses]]
kind = "variance-spectrum"
top = [5]
[[analyses]]
kind = "patch-classification"
classifiers = ["knn"]
remove = [0, 5]
k = [1, 3]
[[analyses]]
kind = "patch-classification"
classifiers = ["knn"]
resamples = 20
[[analyses]]
kind = "feature-geometry"
layers = [-1]
norm = "final"
"""


def test_results_of_workers_are_those_of_one_process(site, run, workers, undrawn, svg_alone, monkeypatch):
    monkeypatch.setattr("evaluate.neighbours.found.SECTION_ROWS", 20)
    for module in ("tokens.geometry", "variance_bootstrap"):
        monkeypatch.setattr(f"evaluate.scoring.{module}.SECTION_TOKENS", 20)
    text = (site / "tiny.toml").read_text()
    (site / "tiny.toml").write_text(text[: text.index("[[analyses]]")] + ANALYSES)
    assert run(*EXTRACT)[0] == 0
    assert run("evaluate", "tiny.toml", "--results", "one")[0] == 0
    with monkeypatch.context() as patch:
        # No task searches by itself: the second, of smaller k, waits for the first, which merges.
        patch.setattr("evaluate.scoring.patch_classifiers.nearest_without_top", None)
        code, out, err = run("evaluate", "tiny.toml", "--results", "two", "--scheduler", "local:2")
    assert code == 0, err
    assert "evaluating with 2 threads" in err
    assert re.search(r"first \d+ sections of moments of [^,]+, neighbours of [^,]+, geometry of", err)
    assert "made    4 results" in out
    one, two = bytes_of(site / "one" / "answers"), bytes_of(site / "two" / "answers")
    assert one == two
    assert (site / "one" / "tiny" / "results.csv").read_bytes() == (site / "two" / "tiny" / "results.csv").read_bytes()
    code, out, _ = run("evaluate", "tiny.toml", "--results", "two", "--scheduler", "local:2")
    assert "made    0 results" in out


def test_too_little_memory_for_all_workers_is_refused_before_anything_runs(site, run, workers, monkeypatch):
    monkeypatch.setattr("commands.experiment.workers.free_memory", lambda: 300 << 20)
    code, _, err = run(*EXTRACT, "--scheduler", "local:2")
    assert code == 2
    assert "use fewer workers" in err.splitlines()[-1]
    assert list(Store(site / "store").set_folders()) == []
    assert run(*EXTRACT, "--scheduler", "local:2", "--store", "store")[0] == 2
    assert run("evaluate", "tiny.toml", "--scheduler", "many")[0] == 2


@pytest.mark.parametrize("text", ["", "many", "tls://127.0.0.1:9"])
def test_the_form_of_a_scheduler_is_checked_before_anything_else(site, run, text):
    (site / "tiny.toml").write_text("")  # refused as well, later
    for command in (EXTRACT, ("evaluate", "tiny.toml")):
        code, _, err = run(*command, "--scheduler", text)
        assert (code, len(err.splitlines())) == (2, 1)
        assert f"--scheduler {text!r} is not known: write local:N" in err
    assert not (site / "store").exists()


def test_a_share_by_hand_and_workers_together_are_refused(site, run):
    code, _, err = run(*EXTRACT, "--scheduler", "local:2", "--shard", "0/2")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "leave one of them out" in err
    assert not (site / "store").exists()


def test_dask_is_loaded_before_a_thread_starts_workers(site, run, workers, monkeypatch):
    """Two threads that load parts of Dask at once meet modules that are half loaded."""
    order = []
    monkeypatch.setattr("pipeline.schedule.clusters.load_dask", lambda text: order.append(("loaded", text)))

    @contextmanager
    def connect(text):
        order.append(("connected", text))
        raise UserError("stop")
        yield

    monkeypatch.setattr("pipeline.schedule.clusters.connect", connect)
    assert run(*EXTRACT, "--scheduler", "slurm:2")[0] == 2
    assert order == [("loaded", "slurm:2"), ("connected", "slurm:2")]


@pytest.mark.parametrize(
    ("count", "device", "local_index", "expected"),
    [
        (0, "auto", None, ("auto", None)),
        (1, "auto", None, ("auto", None)),
        (2, "auto", None, ("auto", "gpus")),
        (2, "cuda", None, ("cuda", "gpus")),
        (2, "cuda:0", None, ("cuda:0", None)),
        (2, "cpu", None, ("cpu", None)),
        (4, "auto", 5, ("cuda:1", None)),
    ],
)
def test_all_visible_gpus_are_the_default(monkeypatch, count, device, local_index, expected):
    from commands.experiment.workers import choose_workers

    monkeypatch.setattr("pipeline.schedule.clusters.visible_devices", lambda: tuple("01234567"[:count]))
    assert choose_workers(device, None, local_index) == expected
    assert choose_workers(device, "local:3", local_index) == (device, "local:3")


def test_the_display_shows_every_workers_rate(capsys):
    with progress() as on_progress:
        on_progress(Progress("mae", 20, 100, 12.0, "write", {"1": 0.5, "0": 1.25}))
    assert (
        "20/100 rows, 1.7 rows/s (worker 0: 1.2, worker 1: 0.5), 48 s left, bottleneck: write"
        in capsys.readouterr().err
    )
