"""Workers of a scheduler of one's own that have other code, none, or that are not there yet, and of dask-jobqueue."""

import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from stores import Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
HERE = Path(__file__).resolve().parents[1]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
EXTRACT = [sys.executable, "-m", "cli", "extract", "tiny.toml", "--device", "cpu", "--batch-size", "4"]


@contextmanager
def dask(what, *more, environment=ENVIRONMENT, folder):
    """Run a scheduler or a worker for the time of the context."""
    command = [sys.executable, "-P", "-m", f"distributed.cli.dask_{what}", *more]
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture
def address(tmp_path):
    """Where a scheduler listens that was started in the environment of the command."""
    at = tmp_path / "scheduler.json"
    with dask("scheduler", "--scheduler-file", str(at), "--port", "0", "--host", "127.0.0.1", folder=tmp_path):
        started = time.monotonic()
        while not at.exists():
            assert time.monotonic() - started < 120
            time.sleep(0.1)
        yield re.search(r"tcp://[\d.]+:\d+", at.read_text())[0]


def worker(address, folder, environment=ENVIRONMENT, name="odd"):
    more = ["--nthreads", "1", "--memory-limit", "0", "--no-dashboard", "--name", name]
    return dask("worker", address, *more, environment=environment, folder=folder)


def extract(site, address):
    return subprocess.Popen(
        [*EXTRACT, "--scheduler", address], cwd=site, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
    )


def other_environment(folder, kind):
    """Return the environment of a worker with one changed line of Patchbank, or with empty packages in its place."""
    for name in ("stores", "pipeline", "evaluate", "commands"):
        if kind == "changed":
            shutil.copytree(HERE / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (folder / name).mkdir(parents=True)
            (folder / name / "__init__.py").write_text("")
    if kind == "changed":
        with (folder / "pipeline" / "models" / "contract.py").open("a") as file:
            file.write("\nCHANGED = True\n")
    return {**ENVIRONMENT, "PYTHONPATH": str(folder)}


SAID = {
    "changed": r"error: worker odd on \S+ has other source files of Patchbank \(pipeline\): start it in",
    "none": r"error: worker odd on \S+ has other source files of Patchbank \(stores, .*, commands\): start it in",
}


@pytest.mark.parametrize("kind", ["changed", "none"])
def test_a_worker_with_other_code_is_refused_at_once(site, tmp_path, address, kind):
    with worker(address, tmp_path, other_environment(tmp_path / "other", kind)):
        process = extract(site, address)
        _, err = process.communicate(timeout=300)
    assert process.returncode == 2, err
    assert re.search(SAID[kind], err.splitlines()[-1]), err
    assert "Traceback" not in err
    assert list(Store(site / "store").set_folders()) == []


@pytest.mark.parametrize("kind", ["changed", "none"])
def test_a_worker_with_other_code_that_comes_later_is_refused_too(site, tmp_path, address, kind):
    environment = other_environment(tmp_path / "other", kind)
    (site / "slow").mkdir()
    (site / "slow" / "sitecustomize.py").write_text(SLOW)
    slow = {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join([str(site / "slow"), ENVIRONMENT["PYTHONPATH"]])}
    with worker(address, tmp_path, slow, "good"):
        process = extract(site, address)
        started = time.monotonic()
        while not list((site / "store").glob("features/*/commits/*.json")):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() - started < 200
            time.sleep(0.05)
        with worker(address, tmp_path, environment):
            _, err = process.communicate(timeout=300)
    assert process.returncode == 2, err
    assert re.search(SAID[kind], err.splitlines()[-1]), err
    assert "Traceback" not in err


SLOW = """
import time
import stores.sets
import pipeline.schedule.in_worker as in_worker
make = in_worker.extract
def slowly(*arguments):
    time.sleep(3)
    return make(*arguments)
in_worker.extract = slowly
"""
"""Loaded by the good worker: a share takes seconds, so that another worker comes before the end."""


def test_a_scheduler_without_workers_is_waited_for(site, tmp_path, address):
    process = extract(site, address)
    for line in process.stderr:
        if line.startswith("waiting for"):
            break
    assert line == (f"waiting for the workers of {address}: start one with `dask worker {address} --nthreads 1`\n")
    with worker(address, tmp_path):
        _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err


SBATCH = """#!{python}
import os, pathlib, subprocess, sys
here = pathlib.Path(os.environ["FAKE_SLURM"])
(here / "worker.sh").write_text(pathlib.Path(sys.argv[-1]).read_text())
with (here / "worker.log").open("wb") as log:
    child = subprocess.Popen(["bash", str(here / "worker.sh")], stdout=log, stderr=log, start_new_session=True)
(here / "pid").write_text(str(child.pid))
print(f"Submitted batch job {{child.pid}}")
"""
SCANCEL = """#!{python}
import os, pathlib, signal
os.killpg(int((pathlib.Path(os.environ["FAKE_SLURM"]) / "pid").read_text()), signal.SIGTERM)
"""


def test_jobs_of_dask_jobqueue_extract(site, tmp_path):
    """The command starts jobs in a thread while it loads torch."""
    pytest.importorskip("dask_jobqueue")
    (site / "bin").mkdir()
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (site / "bin" / name).write_text(text.format(python=sys.executable))
        (site / "bin" / name).chmod(0o755)
    settings = {"CORES": "1", "MEMORY": "1GB", "INTERFACE": "lo", "LOCAL_DIRECTORY": str(site)}
    environment = {
        **ENVIRONMENT,
        **{f"DASK_JOBQUEUE__SLURM__{name}": value for name, value in settings.items()},
        "PATH": f"{site / 'bin'}:{os.environ['PATH']}",
        "FAKE_SLURM": str(site),
    }
    done = subprocess.run(
        [*EXTRACT, "--scheduler", "slurm:1"],
        cwd=site,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "made    24 rows of features" in done.stdout
    assert "Traceback" not in done.stderr
