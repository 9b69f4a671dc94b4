"""SIGKILL and SIGTERM of workers, of the scheduler and of the first process of `extract` and `evaluate --scheduler`."""

import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest

from stores import Store
from stores.sets import ZarrSet
from tests.kills import EXPERIMENT
from tests.pipeline.tiny import write_camvid
from tests.tiny_experiment import wrong

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
N_RANGES = 120


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """An experiment whose 120 ranges take seconds to write, and its digests when one process makes it."""
    folder = tmp_path_factory.mktemp("schedule")
    write_camvid(folder / "data" / "camvid", n_train=60, n_val=60)
    (folder / "tiny.toml").write_text(EXPERIMENT)
    alone = extract(folder, "alone")
    _, err = alone.communicate(timeout=300)
    assert alone.returncode == 0, err
    return folder


def extract(folder, store, *more, experiment="tiny.toml"):
    """Start the command; its standard error is a pipe."""
    command = [sys.executable, "-m", "cli", "extract", experiment, "--store", store, "--device", "cpu"]
    return subprocess.Popen(
        [*command, "--batch-size", "4", *more],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def digests(folder, store):
    return {one.prefix: one.stored_digest() for one in Store(folder / store).sets()}


def committed(folder, store):
    """Return the commit records of the feature set by name."""
    return {path.name: path.stat().st_mtime_ns for path in (folder / store).glob("features/*/commits/*.json")}


def wait_for_commits(folder, store, process, least=5):
    started = time.monotonic()
    while len(committed(folder, store)) < least:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() - started < 300
        time.sleep(0.02)


def workers_of(process):
    """Return the processes that compute, without the tracker of resources."""
    return [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if "spawn_main" in " ".join(child.cmdline())
    ]


def is_completed_by_the_same_command(folder, store, *more):
    before = committed(folder, store)
    again = extract(folder, store, *more)
    _, err = again.communicate(timeout=600)
    assert again.returncode == 0, err
    assert digests(folder, store) == digests(folder, "alone")
    reused = re.search(rb"test_vit: ([\d,]+)/([\d,]+) rows", err)
    rows = N_RANGES * 4 - 4 * len(before)
    assert reused is None or int(reused[2].replace(b",", b"")) <= rows, "what was committed was made again"
    return True


def test_a_killed_worker_is_named_and_the_command_goes_on(place):
    process = extract(place, "worker", "--scheduler", "local:2")
    wait_for_commits(place, "worker", process)
    killed = workers_of(process)[0]
    killed.kill()
    _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert err.count(b"died: the range that it was making is lost") == 1
    assert digests(place, "worker") == digests(place, "alone")


VIEWS = """
[[views]]
name = "flip"
[[views]]
name = "size"
levels = [64]
"""


MODELS = """
[[models]]
name = "test_vit"
weights = "random"
seed = 1
title = "next"
"""


@pytest.fixture(scope="module", params=["views", "models"])
def several(place, request):
    """The experiment under three views or with two models, in ranges that take a second, made by one process."""
    larger = wrong(EXPERIMENT, "range_megabytes = 0.002", "range_megabytes = 0.5")
    larger = wrong(larger, "input = 32", "input = 128")
    (place / f"{request.param}.toml").write_text(larger + {"views": VIEWS, "models": MODELS}[request.param])
    alone = extract(place, f"{request.param}-alone", experiment=f"{request.param}.toml")
    _, err = alone.communicate(timeout=600)
    assert alone.returncode == 0, err
    return place, request.param


@pytest.mark.parametrize("killed", ["a worker", "all, in order", "the first process"])
def test_kills_where_the_last_ranges_of_a_set_and_the_first_of_the_next_are_made(several, killed):
    views, what = several
    store, again = f"{what}-{killed.replace(', ', '-').replace(' ', '-')}", ("--scheduler", "local:2")
    process = extract(views, store, *again, experiment=f"{what}.toml")
    started = time.monotonic()
    # The second set is created while the last ranges of the first are made, and has commit records until it is sealed.
    while len(list((views / store).glob("features/*/layout.json"))) < 2 or not committed(views, store):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() - started < 300
        time.sleep(0.005)
    if killed == "a worker":
        workers_of(process)[0].kill()
    elif killed == "the first process":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=600)
    assert b"Traceback" not in err, err.decode()
    if killed == "a worker":
        assert process.returncode == 0, err
        assert err.count(b"died: the range that it was making is lost") == 1
    else:
        assert process.returncode == (-signal.SIGKILL if killed == "the first process" else 128 + signal.SIGTERM), err
        _, err = (process := extract(views, store, *again, experiment=f"{what}.toml")).communicate(timeout=600)
        assert process.returncode == 0, err
    assert digests(views, store) == digests(views, f"{what}-alone")


def test_the_first_process_is_killed_with_the_scheduler_in_it(place):
    process = extract(place, "parent", "--scheduler", "local:2")
    wait_for_commits(place, "parent", process)
    children = workers_of(process)
    assert len(children) >= 2
    process.kill()
    process.communicate(timeout=60)
    _, alive = psutil.wait_procs(children, timeout=60)
    assert alive == [], "workers outlive the command"
    assert is_completed_by_the_same_command(place, "parent", "--scheduler", "local:2")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_all_processes_are_told_to_end(place, number):
    store = f"all-{number.name}"
    process = extract(place, store, "--scheduler", "local:2")
    wait_for_commits(place, store, process)
    children = workers_of(process)
    started = time.monotonic()
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 128 + number, err.decode()
    assert time.monotonic() - started < 40
    assert b"Traceback" not in err, err.decode()
    assert b"resource_tracker" not in err, err.decode()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert alive == []
    assert list((place / store).rglob("*.partial")) == []
    assert is_completed_by_the_same_command(place, store, "--scheduler", "local:2")


def test_a_scheduler_of_its_own_is_killed(place, tmp_path):
    at = tmp_path / "scheduler.json"
    files = ["--scheduler-file", str(at)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": ENVIRONMENT, "cwd": tmp_path}
    running = [subprocess.Popen([*_dask("scheduler"), *files, "--port", "0", "--host", "127.0.0.1"], **quiet)]
    try:
        started = time.monotonic()
        while not at.exists():
            assert time.monotonic() - started < 120
            time.sleep(0.1)
        workers = [*_dask("worker"), *files, "--nthreads", "1", "--memory-limit", "0", "--death-timeout", "20"]
        running += [subprocess.Popen([*workers, "--name", str(number)], **quiet) for number in range(2)]
        address = re.search(r"tcp://[\d.]+:\d+", at.read_text())[0]
        process = extract(place, "scheduler", "--scheduler", address)
        wait_for_commits(place, "scheduler", process)
        running[0].kill()
        _, err = process.communicate(timeout=180)
        assert process.returncode == 2, err
        assert b"the scheduler is gone: what is committed is kept" in err
        assert b"Traceback" not in err
    finally:
        for one in running:
            one.terminate()
        for one in running:
            try:
                one.wait(60)
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()
    assert is_completed_by_the_same_command(place, "scheduler")


def _dask(what):
    return [sys.executable, "-m", f"distributed.cli.dask_{what}"]


def test_four_processes_make_the_digests_of_one(place):
    process = extract(place, "four", "--scheduler", "local:4")
    _, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    assert digests(place, "four") == digests(place, "alone")
    assert all(isinstance(one, ZarrSet) and not one.commits for one in Store(place / "four").sets())


SMALL_SECTIONS = """
import time
import evaluate.neighbours.found, evaluate.neighbours.query_sections, evaluate.scoring.tokens.geometry
import evaluate.results.sections as sections
evaluate.neighbours.found.SECTION_ROWS = 60
evaluate.neighbours.query_sections.SECTION_PAIRS = 60 * 60 * 4 * 4
evaluate.scoring.tokens.geometry.SECTION_TOKENS = 60
write = sections.SectionFiles.write
def slowly(*arguments):
    time.sleep(0.3)
    write(*arguments)
sections.SectionFiles.write = slowly
"""
"""Loaded by every Python process: sections are small, and each takes a while, so that one can be killed in it."""
QUESTIONS = """
[selection.train]
split = "train"
[selection.validation]
split = "val"
[[analyses]]
kind = "patch-classification"
classifiers = ["knn"]
remove = [0, 5]
k = [1, 3]
resamples = 20
layers = [-1]
[[analyses]]
kind = "feature-geometry"
layers = [-1]
norm = "final"
resamples = 20
[[analyses]]
kind = "robustness"
classifiers = ["knn"]
remove = [0, 5]
resamples = 20
[[analyses]]
kind = "retrieval"
remove = [0, 5]
left_out = ["tile"]
resamples = 20
[[analyses]]
kind = "in-context-segmentation"
k = 3
remove = [5]
resamples = 20
[[views]]
name = "blur"
levels = [2]
"""


@pytest.fixture(scope="module")
def asked(place):
    """The experiment with analyses, and what one process answers."""
    (place / "asked.toml").write_text(wrong(EXPERIMENT, "range_megabytes = 0.002", "range_megabytes = 0.5") + QUESTIONS)
    made = extract(place, "asked", experiment="asked.toml")
    _, err = made.communicate(timeout=300)
    assert made.returncode == 0, err
    (place / "python").mkdir()
    (place / "python" / "sitecustomize.py").write_text(SMALL_SECTIONS)
    alone = evaluate(place, "one")
    _, err = alone.communicate(timeout=300)
    assert alone.returncode == 0, err
    return place


def evaluate(folder, results, *more):
    """Start the command; its standard error is a pipe."""
    command = [sys.executable, "-m", "cli", "evaluate", "asked.toml", "--store", "asked", "--results", results]
    paths = os.pathsep.join([str(folder / "python"), ENVIRONMENT["PYTHONPATH"]])
    return subprocess.Popen(
        [*command, *more],
        cwd=folder,
        env={**ENVIRONMENT, "PYTHONPATH": paths},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def results_of(folder, results):
    """Return the bytes of all results, sections that were left among them."""
    paths = [*(folder / results).glob("answers/**/*.*"), *(folder / results).glob("asked/results.*")]
    return {path.relative_to(folder / results): path.read_bytes() for path in paths}


def wait_for_sections(folder, results, process, least):
    started = time.monotonic()
    while len(list((folder / results).glob("answers/sections/*/*.npz"))) < least:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() - started < 300
        time.sleep(0.02)


def sections_of(err):
    return int(re.search(rb"first (\d+) sections", err)[1])


def test_a_worker_is_killed_in_the_middle_of_a_section(asked):
    process = evaluate(asked, "worker", "--scheduler", "local:2")
    for least in (4, 70):  # of a bank or of geometry, and of queries
        wait_for_sections(asked, "worker", process, least)
        workers_of(process)[0].kill()
    _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err.decode()
    assert err.count(b"died: ") == 2, err.decode()
    assert results_of(asked, "worker") == results_of(asked, "one")


def test_the_first_process_is_killed_while_sections_are_computed(asked):
    process = evaluate(asked, "parent", "--scheduler", "local:2")
    wait_for_sections(asked, "parent", process, least=4)
    children = workers_of(process)
    process.kill()
    _, err = process.communicate(timeout=60)
    _, alive = psutil.wait_procs(children, timeout=60)
    assert alive == []
    n_sections = sections_of(err)
    again = evaluate(asked, "parent", "--scheduler", "local:2")
    _, err = again.communicate(timeout=600)
    assert again.returncode == 0, err.decode()
    assert sections_of(err) < n_sections, "sections that were kept are not computed again"
    assert results_of(asked, "parent") == results_of(asked, "one")
