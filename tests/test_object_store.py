"""The whole line on ``s3://``: a server with the API of S3 on the loopback, latency, kills, and what it refuses."""

import json
import os
import subprocess
import sys
import time

import pytest

from stores import Store
from tests.tiny_experiment import EXPERIMENT

SMALL = EXPERIMENT.replace('norm = "both"', 'layers = [4, 5]\nnorm = "final"')
SMALL = SMALL.partition('[[analyses]]\nkind = "patch')[0]
"""Two layers and one analysis: what is asked of the store is the same."""


def contents(store):
    """Return the content digests of all arrays, by kind of set and address."""
    return {(one.spec.kind, name): one.content[name] for one in Store(store).sets() for name in one.arrays}


@pytest.mark.usefixtures("svg_alone")
def test_the_whole_line_and_the_same_digests_as_on_a_disk(site, run, bucket, monkeypatch):
    (site / "tiny.toml").write_text(SMALL)
    assert run("extract", "tiny.toml", "--batch-size", 4)[0] == 0
    url = f"{bucket}/store"
    monkeypatch.setenv("PATCHBANK_STORE", url)
    code, out, err = run("extract", "tiny.toml", "--batch-size", 4)
    assert code == 0, err
    assert out.splitlines()[-3:] == [
        "made    24 rows of features, 24 of labels",
        "reused  0 rows of features",
        f"where   {url}",
    ]
    assert contents(url) == contents(site / "store")
    assert not [key for key in Store(url).objects.keys("") if key.endswith(".partial")]
    assert run("extract", "tiny.toml")[1].startswith("made    0 rows")
    code, out, err = run("evaluate", "tiny.toml")
    assert code == 0, err
    assert out.startswith("made    1 result\n")

    objects = Store(url).objects
    chunk = next(key for key in objects.keys("features") if key.endswith("block.5.norm/c.1.0.0"))
    before = objects.read(chunk)
    objects.put(chunk, [before[::-1]])
    code, out, err = run("verify")
    assert code == 3
    assert f"{chunk} holds other bytes than were committed" in out
    assert run("repair", "tiny.toml")[0] == 0
    assert objects.read(chunk) == before
    assert run("verify")[0] == 0

    objects.put(f"{chunk}.0123456789abcdef.partial", [b"of a killed writer"])
    code, out, err = run("gc", "--apply", "--older-than", "0")
    assert code == 0, err
    assert not [key for key in objects.keys("") if key.endswith(".partial")]
    line = next(one for one in json.loads(run("ls", "--json")[1]) if one["kind"] == "features")
    assert line["state"] == "sealed"
    code, out, err = run("export", line["digest"], "set.h5")
    assert code == 0, err


def test_what_the_store_refuses_is_one_sentence_and_exit_code_2(here, run, object_server, bucket):
    code, _, err = run("ls", "--store", "s3://no-such-bucket/store")
    assert (code, len(err.splitlines())) == (2, 1), err
    assert "there is no such bucket: create it, or choose another --store" in err
    for status, code_of_s3, says in (
        (400, "ExpiredToken", "the credentials have expired: get new ones"),
        (403, "AccessDenied", "permission is denied: ask for the right to read there"),
    ):
        refusal = {"method": "*", "match": "/bucket", "status": status, "code": code_of_s3, "times": -1}
        with object_server.failing(refusal):
            code, _, err = run("verify", "--store", bucket)
        assert (code, len(err.splitlines())) == (2, 1), err
        assert says in err


def is_killed_at(url, least, site):
    """Start the extraction and kill it when the bucket holds ``least`` objects; False where it ended before."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", "extract", "tiny.toml", "--store", url, "--batch-size", "4"],
        cwd=site,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    objects = Store(url).objects
    while process.poll() is None and len(objects.keys("")) < least:
        time.sleep(0.01)
    was_running = process.poll() is None
    process.kill()
    _, err = process.communicate(timeout=60)
    assert was_running or process.returncode == 0, err
    return was_running


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_extraction_that_is_killed_on_s3_is_finished_by_the_same_command(site, run, object_server, bucket):
    (site / "tiny.toml").write_text(SMALL)
    assert run("extract", "tiny.toml", "--batch-size", 4)[0] == 0
    url, kills = f"{bucket}/store", 0
    with object_server.slow(0.02):
        for least in (1, 3, 6, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 70, 80):
            kills += is_killed_at(url, least, site)
    assert kills >= 8, "the extraction ended before it could be killed"
    code, _, err = run("extract", "tiny.toml", "--store", url, "--batch-size", 4)
    assert code == 0, err
    assert contents(url) == contents(site / "store")
    code, out, err = run("verify", "--store", url)
    assert code == 0, out + err
