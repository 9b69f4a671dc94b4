"""Extractions that are killed with SIGKILL, again and again, several at once: ``python -m tests.kills 300``.

A server imports torch once, runs nothing, and forks a process per extraction. Half of the children kill themselves
before a chosen system call below the store, half are killed by the parent after a chosen time; both are drawn from
the seed. With ``--commands N`` some of the kills hit the true command, which takes seconds to start. After every
kill the store is held to the bytes of an undisturbed run. Prints one JSON document.
"""

import argparse
import json
import mmap
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import numpy as np

from pipeline.extraction import run
from pipeline.extraction.compute import Compute
from pipeline.extraction.options import ExtractOptions
from stores import Store
from stores.format.creation import is_initialised
from stores.sets import KINDS, ZarrSet
from stores.storage.base import PARTIAL
from stores.storage.local import LocalObjects
from tests.pipeline.tiny import recipe, write_camvid
from tests.stores.system_calls import watched

STAGES = ("before the store", "records", "chunk", "publish", "commit", "seal", "forget", "notes")
SHARDS = 4
RANGES = 16
ARRAYS = 12
"""Six blocks, with and without the final norm."""
EXPERIMENT = """
[dataset]
name = "camvid"
[frame]
tile = 32
input = 32
edge = "shift-last"
[features]
norm = "both"
[storage]
range_megabytes = 0.002
[[models]]
name = "test_vit"
weights = "random"
"""


def stage_of(name, path):
    """Return which part of writing a system call belongs to."""
    parts, leaf = path.parts, path.name
    if "index" in parts or "sources" in parts or "logs" in parts:
        return "notes"
    if "commits" in parts:
        return "forget" if name == "unlink" and not leaf.endswith(".partial") else "commit"
    if "seals" in parts or (leaf.startswith("c.") and name == "read"):
        return "seal"
    if leaf.startswith("c."):
        return "publish" if name == "replace" else "chunk"
    if name == "fsync" and path.is_dir() and path.parent.name in ("tokens", "pixels", "patches"):
        return "publish"
    return "records"


class Writer:
    """One process that extracts a shard, over and over until it is not killed."""

    def __init__(self, shard):
        self.shard = shard
        self.memory = mmap.mmap(-1, 1 + RANGES)
        self.pid = 0
        self.deadline = None

    def start(self, store, data, rng, deadly, n_calls, seconds):
        self.memory[:] = bytes(1 + RANGES)
        at = int(rng.integers(0, n_calls // 3)) if deadly and rng.random() < 0.5 else None
        self.deadline = time.monotonic() + rng.uniform(0, seconds) if deadly and at is None else None
        self.before = committed(store)
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self._extract(store, data, at)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)

    def _extract(self, store, data, at):
        def before(number, name, path):
            self.memory[0] = STAGES.index(stage_of(name, path))
            # Sealing opens chunks too, to read them; what is written begins as a partial file.
            is_chunk = path.name.startswith("c.") and "features" in path.parts
            if name == "open" and is_chunk and path.name.endswith(PARTIAL):
                self.memory[1 + int(path.name.split(".")[1])] = 1
            if number == at:
                os.kill(os.getpid(), signal.SIGKILL)

        with watched(store, before):
            extract(store, data, shard=(self.shard, SHARDS))

    @property
    def stage(self):
        return STAGES[self.memory[0]]

    def started(self):
        return {number for number in range(RANGES) if self.memory[1 + number]}


def extract(store, data, **options):
    where = run.Workspace(Store(store), data, data)
    return run.extract_recipe(recipe(), where, Compute("cpu", 4, 1), ExtractOptions(**options))


def sets(store):
    objects = LocalObjects(store)
    for kind in KINDS:
        for name in objects.children(kind):
            if is_initialised(objects, f"{kind}/{name}"):
                yield ZarrSet(objects, f"{kind}/{name}")


def committed(store):
    """Return (set, array, range) of everything that counts."""
    return {(one.prefix, name, number) for one in sets(store) for name in one.arrays for number in one.committed(name)}


def n_files(store):
    return sum(1 for _ in Path(store).rglob("*"))


def chunk_bytes(store):
    """Return the bytes of every chunk of a sealed store by path."""
    return {str(path.relative_to(store)): path.read_bytes() for path in Path(store).rglob("c.*")}


def wrong_rows(store, truth):
    """Return how many rows that count are not those of the undisturbed run, and how many were looked at."""
    wrong = looked = 0
    for one in sets(store):
        for name, spec in one.arrays.items():
            rows = one.layout.chunk_rows(spec)
            for index in range(one.layout.n_objects(spec)):
                if index * rows // one.layout.range_rows not in one.committed(name):
                    continue
                path = f"{one.prefix}/{name}/c.{index}" + ".0" * len(spec.row_shape)
                file = Path(store, path)
                looked += rows
                wrong += rows if not file.exists() or file.read_bytes() != truth[path] else 0
    return wrong, looked


class Record:
    """What is counted."""

    def __init__(self):
        self.counts = Counter()
        self.stages = Counter()

    def look(self, store, truth, seen):
        wrong, looked = wrong_rows(store, truth)
        self.counts["rows looked at"] += looked
        self.counts["wrong rows"] += wrong
        now = committed(store)
        self.counts["missing ranges"] += len(seen - now)
        seen |= now
        return now

    def finish(self, store, digests):
        """Look at a set that nobody disturbs any more."""
        self.counts["lives"] += 1
        found = {one.prefix: one.stored_digest() for one in sets(store)}
        self.counts["lives with other digests"] += found != digests
        self.counts["commit records left"] += sum(len(one.commits) for one in sets(store))

    def on_progress(self):
        sys.stderr.write(json.dumps({**self.counts, "where": dict(self.stages)}) + "\n")
        sys.stderr.flush()


def one_life(store, data, truth, digests, rng, kills, n_calls, seconds, record):
    """Fill one store with at least four writers at once, killing ``kills`` of them on the way."""
    shards = [*range(SHARDS), *rng.integers(0, SHARDS, rng.integers(0, 3)).tolist()]  # some twice, by mistake
    writers, seen = [Writer(shard) for shard in shards], set()
    left = kills
    for writer in writers:
        writer.start(store, data, rng, left > 0, n_calls, seconds)
    running = {writer.pid: writer for writer in writers}
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            for writer in running.values():
                if writer.deadline and time.monotonic() > writer.deadline:
                    os.kill(writer.pid, signal.SIGKILL)
                    writer.deadline = None
            time.sleep(0.002)
            continue
        writer = running.pop(pid)
        layers = Counter(number for _, name, number in writer.before if name.startswith("tokens/"))
        complete = {number for number, count in layers.items() if count == ARRAYS}
        record.counts["ranges made again though committed"] += len(writer.started() & complete)
        if os.WIFSIGNALED(status):
            left -= 1
            record.counts["kills"] += 1
            record.stages[writer.stage] += 1
            now = record.look(store, truth, seen)
            done = {number for _, name, number in now if name.startswith("tokens/")}
            record.counts["ranges in flight when killed"] += len(writer.started() - done)
            writer.start(store, data, rng, left > 0, n_calls, seconds)
            running[writer.pid] = writer
        elif os.WEXITSTATUS(status):
            record.counts["errors"] += 1
    record.look(store, truth, seen)
    record.finish(store, digests)


def commands(folder, data, rng, kills, record):
    """Kill the true command, two shards side by side, at random moments after it began to write."""
    (folder / "tiny.toml").write_text(EXPERIMENT)

    def start(store, shard):
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "cli", "extract", str(folder / "tiny.toml")),
                *("--store", str(store), "--data", str(data), "--device", "cpu"),
                *("--batch-size", "4", "--shard", f"{shard}/2"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    sure = folder / "sure"
    assert [process.wait() for process in [start(sure, shard) for shard in (0, 1)]] == [0, 0]
    truth, digests = chunk_bytes(sure), {one.prefix: one.stored_digest() for one in sets(sure)}
    life = 0
    while kills > 0:
        store, seen = folder / f"command{life}", set()
        life += 1
        for _ in range(3):
            pair = [start(store, shard) for shard in (0, 1)]
            waited = time.monotonic()
            before = n_files(store)
            while n_files(store) == before and time.monotonic() - waited < 120:
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 1.0))
            for process in pair:
                process.kill()
                if process.wait() == -signal.SIGKILL:
                    kills -= 1
                    record.counts["kills"] += 1
                    record.counts["kills of the true command"] += 1
                    record.stages["the command"] += 1
            record.look(store, truth, seen)
        for process in [start(store, shard) for shard in (0, 1)]:
            record.counts["errors"] += process.wait() != 0
        record.look(store, truth, seen)
        record.finish(store, digests)
        record.on_progress()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kills", type=int)
    parser.add_argument("--commands", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    rng, record = np.random.default_rng(asked.seed), Record()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir=os.environ.get("PATCHBANK_BENCH_DIR")) as name:
        folder = Path(name)
        data, sure = folder / "data", folder / "sure-shard"
        write_camvid(data / "camvid", n_train=8, n_val=4)
        calls = mmap.mmap(-1, 8)
        first = time.monotonic()
        child = os.fork()
        if child == 0:
            with watched(sure, lambda number, name, path: None) as watch:
                extract(sure, data)
            calls[:] = watch.count.to_bytes(8, "little")
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        seconds, n_calls = time.monotonic() - first, int.from_bytes(calls[:], "little")
        truth, digests = chunk_bytes(sure), {one.prefix: one.stored_digest() for one in sets(sure)}
        life = 0
        while record.counts["kills"] < asked.kills - asked.commands:
            store = folder / f"life{life}"
            most = asked.kills - asked.commands - record.counts["kills"]
            one_life(store, data, truth, digests, rng, min(most, 10), n_calls, seconds, record)
            shutil.rmtree(store)
            life += 1
            if life % 10 == 0:
                record.on_progress()
        if asked.commands:
            commands(folder, data, rng, asked.commands, record)
    found = {"seed": asked.seed, "seconds": round(time.monotonic() - started, 1), "system calls": n_calls}
    sys.stdout.write(json.dumps({**found, **record.counts, "where": dict(record.stages)}, indent=2) + "\n")


if __name__ == "__main__":
    main()
