"""A worker with other code, or without Patchbank, makes nothing and is named."""

import os
import re
import subprocess
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from distributed import Client, LocalCluster
from distributed.protocol.pickle import dumps

from pipeline.schedule import handing_out
from pipeline.schedule.clusters import Cluster
from pipeline.schedule.handing_out import Watch, wait_for_workers
from pipeline.schedule.in_worker import SentSamples
from pipeline.schedule.same_code import check_code, explain
from pipeline.schedule.tasks import run_tasks
from pipeline.schedule.worker_calls import OtherCodeError, code_here, other_code, without_patchbank
from pipeline.schedule.written_rows import WrittenRows
from stores.errors import UserError

OURS = {"stores": "a", "pipeline": "b", "torch": "2.9.0", "numpy": "2.4.0"}


@contextmanager
def one_thread():
    with (
        LocalCluster(
            n_workers=1, processes=False, threads_per_worker=1, dashboard_address="127.0.0.1:0", memory_limit=None
        ) as local,
        Client(local, set_as_default=False) as client,
    ):
        yield Cluster(client, "a thread")


def cluster_of(answers, **workers):
    """Return a cluster whose workers answer so when they are asked for their code, by address."""
    client = SimpleNamespace(
        run=lambda function, on_error: answers, scheduler_info=lambda n_workers: {"workers": workers}, status="running"
    )
    return Cluster(client, "two", advice="start one with `dask worker`")


def test_what_differs_is_said_in_a_sentence():
    assert other_code("1", "node7", OURS, OURS) is None
    assert other_code("1", "node7", None, OURS) == (
        "worker 1 on node7 has another Patchbank, or none: start it in the environment of this command"
    )
    assert other_code("1", "node7", OURS | {"pipeline": "c", "torch": "2.8.0"}, OURS) == (
        "worker 1 on node7 has other source files of Patchbank (pipeline) and torch 2.8.0 instead of 2.9.0: start it "
        "in the environment of this command"
    )


def test_code_is_that_of_every_package():
    assert list(code_here()) == ["stores", "pipeline", "evaluate", "commands", "torch", "timm", "numpy"]
    assert all(len(code_here()[name]) == 64 for name in list(code_here())[:4])


def test_workers_are_asked_before_they_get_anything():
    there = {"a": {"name": "0", "host": "10.0.0.1"}, "b": {"name": "1", "host": "10.0.0.2"}}
    check_code(cluster_of({"a": ("node1", code_here()), "b": OSError("gone"), "c": ImportError("gone too")}, **there))
    with pytest.raises(OtherCodeError, match=r"worker 1 on 10\.0\.0\.2 has another Patchbank, or none"):
        check_code(cluster_of({"a": ("node1", code_here()), "b": ModuleNotFoundError("no pipeline")}, **there))
    with pytest.raises(OtherCodeError, match=r"worker 0 on node1 has timm 0\.9 instead of"):
        check_code(cluster_of({"a": ("node1", code_here() | {"timm": "0.9"})}, **there))
    with pytest.raises(OtherCodeError, match="the scheduler of two has another Patchbank or Dask"):
        explain(cluster_of({}), RuntimeError("Error during deserialization of the task graph."))
    explain(cluster_of({}), RuntimeError("something else"))


CALLS = []


def test_a_worker_that_comes_later_is_refused_by_its_first_task(monkeypatch):
    with one_thread() as cluster:
        assert run_tasks(cluster, divmod, [(7, 2)]) == [(3, 1)]
        monkeypatch.setattr(handing_out, "code_here", lambda: code_here() | {"pipeline": "another"})
        with pytest.raises(OtherCodeError, match=r"worker 0 on .* has other source files of Patchbank \(pipeline\)"):
            run_tasks(cluster, CALLS.append, [(1,)])
    assert CALLS == []


def refuse(what):
    raise UserError(f"{what} is gone: restore it")


def test_errors_of_tasks_name_the_worker():
    with one_thread() as cluster, pytest.raises(UserError, match=r"^a\.png is gone: restore it \(worker 0 on .+\)$"):
        run_tasks(cluster, refuse, [("a.png",)])


def test_no_worker_is_said_once_and_waited_for(monkeypatch):
    lines, looks = [], iter([{}, {}, {}, {"a": "0"}])
    monkeypatch.setattr(handing_out, "present_workers", lambda cluster: next(looks))
    monkeypatch.setattr(handing_out, "WAIT_SECONDS", 0.0)
    monkeypatch.setattr(handing_out, "LOOK_SECONDS", 0.0)
    wait_for_workers(cluster_of({}), lines.append)
    assert lines == ["waiting for two: start one with `dask worker`"]


def test_a_worker_that_tells_of_itself_ends_the_command():
    cluster = cluster_of({})
    Watch(cluster, print).on_refused((0.0, {"name": "1", "host": "node7"}))
    with pytest.raises(OtherCodeError, match="worker 1 on node7 has another Patchbank, or none"):
        handing_out.present_workers(cluster)


def bare_environment(folder):
    """Return the environment of a Python that finds empty packages in place of Patchbank's."""
    for name in ("stores", "pipeline"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("")
    return {**os.environ, "PYTHONPATH": str(folder)}


def test_a_plugin_can_be_loaded_without_patchbank(tmp_path):
    data = dumps(without_patchbank(SentSamples(WrittenRows({"logs/rows.arrow": "0"}, b""), "store")))
    (tmp_path / "plugin").write_bytes(data)
    code = "import pickle; print(pickle.load(open('plugin', 'rb')).name)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=bare_environment(tmp_path / "bare"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert re.fullmatch(r"patchbank-samples-[0-9a-f]{12}\n", done.stdout), done.stderr
