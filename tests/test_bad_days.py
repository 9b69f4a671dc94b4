"""Ctrl-C, full and read-only disks, through the command a user types: one sentence, an exit code, and it goes on."""

import errno
import json
import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stores import Store
from stores.storage.local import LocalObjects
from tests.stores.system_calls import watched

EXTRACT = ("extract", "tiny.toml", "--batch-size", "4")


DIGESTS = {}


def partials(folder):
    return list(folder.rglob("*.partial"))


@pytest.fixture
def undisturbed(site, run):
    if not DIGESTS:
        assert run(*EXTRACT, "--store", "undisturbed")[0] == 0
        DIGESTS.update({one.digest: one.stored_digest() for one in Store(site / "undisturbed").sets()})
    return DIGESTS


def completes(site, run, undisturbed):
    assert run(*EXTRACT)[0] == 0
    assert {one.digest: one.stored_digest() for one in Store(site / "store").sets()} == undisturbed
    assert run("verify")[0] == 0
    return True


@pytest.mark.parametrize("at", [3, 20, 45, 80])
def test_ctrl_c_says_so_leaves_with_130_and_goes_on(site, run, undisturbed, monkeypatch, at):
    stage, count = LocalObjects.stage, iter(range(10_000))

    def interrupted(self, key, parts):
        if next(count) == at:
            os.kill(os.getpid(), signal.SIGINT)
        return stage(self, key, parts)

    monkeypatch.setattr(LocalObjects, "stage", interrupted)
    code, out, err = run(*EXTRACT)
    assert code == 130
    assert err.splitlines()[-1] == "stopped; committed data is kept, run the same command to continue"
    assert out == ""
    assert partials(site / "store") == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    monkeypatch.undo()
    monkeypatch.chdir(site)
    assert completes(site, run, undisturbed)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 138)])
def test_what_batch_systems_send_before_they_kill_ends_in_order_and_goes_on(
    site, run, undisturbed, monkeypatch, number, code
):
    stage, count = LocalObjects.stage, iter(range(10_000))

    def told(self, key, parts):
        if next(count) == 30:
            os.kill(os.getpid(), number)
        return stage(self, key, parts)

    before = signal.signal(number, signal.SIG_DFL)  # where processes of tests have a handler of their own
    monkeypatch.setattr(LocalObjects, "stage", told)
    try:
        found, out, err = run(*EXTRACT)
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert found == code
    assert err.splitlines()[-1] == "stopped; committed data is kept, run the same command to continue"
    assert out == ""
    assert partials(site / "store") == []
    monkeypatch.undo()
    monkeypatch.chdir(site)
    assert completes(site, run, undisturbed)


@pytest.mark.slow
def test_a_disk_that_hangs_does_not_outlast_the_grace(site):
    """The command leaves by itself before the batch system kills it."""
    code = (
        "import cli, sys, threading, time, stores.storage.local as local\n"
        "cli.GRACE = 1.0\n"
        "stage = local.LocalObjects.stage\n"
        "def hanging(self, key, parts):\n"
        "    if threading.current_thread() is threading.main_thread():\n"
        "        return stage(self, key, parts)\n"
        "    print('hangs', flush=True)\n"
        "    time.sleep(60)\n"
        "local.LocalObjects.stage = hanging\n"
        "sys.argv = ['patchbank', 'extract', 'tiny.toml', '--device', 'cpu']\n"
        "cli.main()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"hangs\n"
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert b"SIGTERM was received, 1 s are left" in err
    assert b"aborted; committed data is kept" in err


SERVER = """
import json, os, sys
import cli, pipeline.extraction.recomputing.repair, pipeline.extraction.run
for line in sys.stdin:
    folder, before, arguments = json.loads(line)
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
            os.dup2(os.open(os.devnull if number == 0 else name, os.O_RDWR | os.O_CREAT), number)
        exec(before)
        sys.argv = ["patchbank", *arguments]
        cli.main()
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Typed:
    """A command in a process of its own, whose standard output and errors are files in its folder."""

    def __init__(self, server, folder, before, arguments):
        self.server, self.folder = server, folder
        server.stdin.write(json.dumps([str(folder), before, arguments]).encode() + b"\n")
        self.pid = int(server.stdout.readline())

    def is_over(self, seconds):
        return bool(select.select([self.server.stdout], [], [], seconds)[0])

    def code(self):
        hangs = not self.is_over(200)
        if hangs:
            os.kill(self.pid, signal.SIGKILL)
        code = int(self.server.stdout.readline())
        assert not hangs, self.said("stderr")
        return code

    def said(self, name):
        return (self.folder / name).read_text() if (self.folder / name).exists() else ""


@pytest.fixture(scope="module")
def server():
    """A process that has imported everything, runs nothing and forks one process a command."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,  # so that what is not read yet is seen by `select`
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        start_new_session=True,
    )
    yield process
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


DEAD_DISK = """
import time
from stores.storage.local import LocalObjects
stage = LocalObjects.stage
def dead(self, key, parts):
    if "/tokens/" in key and "/c." in key:
        print("waiting", flush=True)
        time.sleep(250)
    return stage(self, key, parts)
LocalObjects.stage = dead
"""


def test_a_second_ctrl_c_leaves_at_once_though_the_disk_hangs(site, server):
    process = Typed(server, site, DEAD_DISK, EXTRACT)
    while "waiting\n" not in process.said("stdout"):
        assert not process.is_over(0.02), process.said("stderr")
    os.kill(process.pid, signal.SIGINT)
    assert not process.is_over(0.5)
    os.kill(process.pid, signal.SIGINT)
    assert process.code() == 130  # the disk would hang for longer
    assert process.said("stderr").splitlines()[-2:] == [
        "finishing the current write; press Ctrl-C again to abort",
        "aborted; committed data is kept, run the same command to continue",
    ]


STOPPED_IN_THE_MODEL = """
import signal
from pipeline.extraction.model_pass.running import ModelPass
call, left = ModelPass.__call__, [{batch}]
def interrupted(self, *given):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGINT)
    return call(self, *given)
ModelPass.__call__ = interrupted
"""


@pytest.mark.parametrize("batch", [1, 3])
def test_ctrl_c_while_the_model_computes_ends_the_threads_that_decode(site, run, undisturbed, server, batch):
    """They wait for the next batch, for ever if nobody ends them; the first batch comes before any set is begun."""
    process = Typed(server, site, STOPPED_IN_THE_MODEL.format(batch=batch), EXTRACT)
    assert process.code() == 130, process.said("stderr")
    assert process.said("stderr").splitlines()[-1] == (
        "stopped; committed data is kept, run the same command to continue"
    )
    assert (list(Store(site / "store").sets()) == []) == (batch == 1)
    assert completes(site, run, undisturbed)


STOPPED_WHILE_MENDING = """
import signal
from stores.maintenance.rebuild import ChunkRebuilder
def interrupted(self, name, start, rows):
    os.kill(os.getpid(), signal.SIGINT)
ChunkRebuilder.take = interrupted
"""


def test_ctrl_c_while_repair_takes_what_was_computed_ends_the_threads_that_decode(site, run, undisturbed, server):
    assert run(*EXTRACT)[0] == 0
    features = next(one for one in Store(site / "store").sets() if one.spec.kind == "features")
    damaged = site / "store" / features.prefix / next(iter(features.seals)) / "c.0.0.0"
    damaged.write_bytes(damaged.read_bytes()[::-1])
    process = Typed(server, site, STOPPED_WHILE_MENDING, ["repair", "tiny.toml"])
    assert process.code() == 130, process.said("stderr")
    assert run("repair", "tiny.toml")[0] == 0
    assert completes(site, run, undisturbed)


@pytest.mark.parametrize(
    ("number", "after", "says"),
    [
        (errno.ENOSPC, 60, "the disk is full: free some space"),
        (errno.EDQUOT, 150, "your quota is used up"),
        (errno.EROFS, 0, "the file system is read-only: choose another --store"),
        (errno.EIO, 230, "input/output error"),
        (errno.ESTALE, 330, "the file system went away"),
    ],
)
def test_a_disk_that_refuses_gets_one_sentence_and_exit_code_2(site, run, undisturbed, number, after, says):
    seen = iter(range(100_000))

    def hook(_, name, path):
        if name in ("open", "write", "fsync", "link", "replace", "mkdir") and next(seen) >= after:
            raise OSError(number, "refused by the test", str(path))

    with watched(site / "store", hook):
        code, _, err = run(*EXTRACT)
    assert code == 2
    assert re.search(says, err)
    assert err.startswith("error: cannot write ")
    assert err.count("\n") == 1, err
    assert completes(site, run, undisturbed)


def test_a_store_that_is_a_file_or_may_not_be_written(site, run):
    (site / "file").write_text("mine")
    code, _, err = run(*EXTRACT, "--store", "file")
    assert code == 2
    assert "there is a file where a folder should be" in err
    assert (site / "file").read_text() == "mine"
    if os.geteuid() == 0:
        return  # nothing is forbidden to root; the refusals above stand for it
    (site / "locked").mkdir(mode=0o500)
    code, _, err = run(*EXTRACT, "--store", "locked")
    assert code == 2
    assert "permission is denied" in err
