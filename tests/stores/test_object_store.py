"""A real API of S3: what a conditional PUT promises, how few requests there are, races, kills and refusals."""

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from stores import Store
from stores.errors import MissingError, UserError
from stores.format.creation import is_initialised
from stores.maintenance.verify import verify
from stores.memory import MemorySet
from stores.sets import ZarrSet
from stores.storage.opening import open_objects
from stores.storage.remote import RemoteObjects
from stores.writing.sealing import seal
from stores.writing.writer import SetWriter
from tests.object_store.writing import ARRAYS, NAMES, create, write
from tests.stores.specs_for_tests import FEATURES, layout, samples, token_array, values

ROOT = Path(__file__).parents[2]
FEW_RACES, MANY_RACES = 4, 1000


def findings(url):
    return [finding for verdict in verify(Store(url)) for finding in verdict.findings]


# -- what the storage promises ---------------------------------------------------------------------------------------


def test_put_new_replaces_nothing_and_stage_writes_in_place(object_server, bucket):
    objects, other = open_objects(f"{bucket}/a"), open_objects(f"{bucket}/a")
    assert objects.put_new("one", [b"1", b"2"])
    assert not other.put_new("one", [b"34"])
    assert other.read("one") == b"12"
    with object_server.counting() as requests:
        assert objects.stage("c.0", [b"56"]) == "c.0"
        objects.publish("c.0", "c.0")
    assert len(requests) == 1
    assert other.stage("c.0", [b"56"]) == "c.0", "its own bytes, or those of a dead writer that are the same"
    ticket = other.stage("c.0", [b"78"])
    assert ticket.endswith(".partial")
    assert objects.read("c.0") == b"56"
    kept = other.keep("c.0")
    other.publish(ticket, "c.0")
    assert (objects.read("c.0"), objects.read(kept), objects.size(ticket)) == (b"78", b"56", None)
    other.publish(kept, "c.0")
    assert objects.keys("") == ["c.0", "one"]
    assert objects.keep("nothing") is None
    with pytest.raises(MissingError):
        objects.publish(ticket, "c.0")


def test_nothing_is_remembered_of_what_another_process_may_change(bucket):
    """s3fs keeps listings unless it is told not to: a record of another writer was then not seen, and replaced."""
    ours, theirs = open_objects(bucket), open_objects(bucket)
    ours.put("commits/0.json", [b"0"])
    assert ours.children("commits") == ["0.json"]
    assert theirs.put_new("commits/1.json", [b"1"])
    assert (ours.size("commits/1.json"), ours.children("commits")) == (1, ["0.json", "1.json"])
    assert not ours.put_new("commits/1.json", [b"2"])
    stamp = ours.stamp("commits/1.json")
    theirs.put("commits/1.json", [b"3"])
    assert ours.stamp("commits/1.json") != stamp
    theirs.delete("commits/1.json")
    assert ours.stamp("commits/1.json") is ours.size("commits/1.json") is None


def test_a_put_whose_answer_is_lost_meets_itself(object_server, bucket):
    objects = open_objects(bucket)
    objects.put_new("first", [b"tried"])
    lost = {"method": "PUT", "match": "/lost", "status": 500, "code": "InternalError", "lose": True}
    with object_server.failing(lost), object_server.counting() as requests:
        assert objects.put_new("lost", [b"1"]), "another writer was spoken of"
    assert [status for *_, status in requests.log] == ["500", "412", "200"]


@pytest.mark.parametrize(("status", "code"), [(412, "PreconditionFailed"), (409, "ConditionalRequestConflict")])
def test_a_refusal_in_other_words_is_looked_into_once(object_server, bucket, status, code):
    objects = open_objects(bucket)
    objects.put_new("a", [b"1"])
    refusal = {"method": "PUT", "match": "/", "status": status, "code": code}
    with object_server.failing({**refusal, "times": 1}):
        assert objects.put_new("b", [b"2"]), "nothing was there"
    with object_server.failing({**refusal, "times": 1}):
        assert not objects.put_new("a", [b"2"])
    with object_server.failing({**refusal, "times": -1}), pytest.raises(UserError, match=r"cannot write .*/c: the obj"):
        objects.put_new("c", [b"2"])


def test_a_server_that_ignores_the_condition_is_found_out_and_treated_as_before(bucket, monkeypatch):
    objects = open_objects(bucket)
    put = objects.filesystem.pipe_file
    monkeypatch.setattr(objects.filesystem, "pipe_file", lambda path, data, mode="": put(path, data))
    objects.put("there", [b"1"])
    assert not objects.put_new("there", [b"2"]), "the very first one"
    assert objects.read("there") == b"1"
    assert objects.put_new("new", [b"3"])
    assert not objects.put_new("new", [b"4"])
    ticket = objects.stage("c.0", [b"5"])
    assert ticket.endswith(".partial")
    assert objects.keep("new") is None
    objects.publish(ticket, "c.0")
    assert (objects.read("c.0"), objects.read("new")) == (b"5", b"3")


def test_file_systems_without_a_conditional_put_are_looked_at_first(tmp_path):
    objects = RemoteObjects(f"local://{tmp_path}")
    (tmp_path / "a").write_bytes(b"1")
    assert not objects.put_new("a", [b"2"])
    assert objects.put_new("b", [b"2"])
    assert objects.stage("c", [b"3"]).endswith(".partial")


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    def opened(*arguments, **options):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", opened)
    with pytest.raises(UserError, match=r"cannot open the store s3://a/b: .*: install the extra s3"):
        open_objects("s3://a/b")


# -- how few requests ------------------------------------------------------------------------------------------------


def test_what_does_not_depend_on_each_other_is_asked_at_the_same_time(object_server, bucket):
    """Longest chains, with a wait that is long beside what the machine itself takes."""
    arrays = [token_array(f"tokens/block.{number}") for number in range(12)]
    names = [array.name for array in arrays]
    made = ZarrSet.create(open_objects(bucket), FEATURES, layout(4, 2), {"samples": samples(4)}, {}, {})

    def write_range(number):
        rows = made.layout.range(number)
        with SetWriter(made, names) as writer:
            one = writer.range(rows)
            for array in arrays:
                one.write(array.name, values(array, 4)[rows.start : rows.stop])
            one.commit()
        writer.raise_failures()

    def chain(step):
        with object_server.slow(0.1), object_server.counting() as requests:
            step()
        return requests.in_sequence

    def opened(most, name, **how):
        """A thread that starts late makes a chain look longer, never shorter: the shortest of three is nearest."""
        return any(chain(lambda: Store(bucket).open(name, **how)) <= most for _ in range(3))

    made.add_arrays(arrays)
    assert chain(lambda: write_range(0)) <= 12
    write_range(1)
    seal(made, names)
    assert opened(3, FEATURES)
    assert opened(1, FEATURES, from_summary=True)
    assert opened(3, FEATURES.digest[:9], from_summary=True)


def test_calls_are_made_side_by_side_in_order_and_the_first_error_is_raised(bucket):
    objects = open_objects(bucket)
    running, most = [], [0]

    def call(number):
        running.append(number)
        most[0] = max(most[0], len(running))
        time.sleep(0.01)
        running.remove(number)
        if number == 70:
            raise UserError("of 70")
        return number, list(objects.together([lambda: number]))

    found = objects.together((lambda number=number: call(number)) for number in range(80))
    assert [next(found) for _ in range(70)] == [(number, [number]) for number in range(70)]
    with pytest.raises(UserError, match="of 70"):
        next(found)
    assert 1 < most[0] <= objects.at_once()
    assert list(objects.together([])) == []


# -- several writers -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def writers(url, seeds):
    """Yield processes that write ranges with their own values when they are told to."""
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.object_store.writing", url, str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for seed in seeds
    ]
    try:
        for one in started:
            assert one.stdout.readline() == "ready\n"
        yield started
    finally:
        for one in started:
            one.kill()
            one.stdin.close()
            one.stdout.close()
            one.wait()


def tell(writer, number):
    writer.stdin.write(f"{number}\n")
    writer.stdin.flush()


def race(made, racers, numbers):
    """Two processes write the same ranges with unequal bytes at the same moment: the first commit stands, whole."""
    for number in numbers:
        for one in racers:
            tell(one, number)
        said = [one.stdout.readline().strip() for one in racers]
        assert sorted(said) == ["False", "True"], f"race {number}: {said}"
        rows, winner = made.layout.range(number), 1 + said.index("True")
        for array in ARRAYS:
            chunk = made.objects.read(f"{made.prefix}/{array.name}/c.{number}.0.0")
            expected = values(array, made.layout.n_rows, winner)[rows.start : rows.stop]
            assert chunk[:-4] == expected.tobytes(), f"race {number}: {array.name} is not the winner's"


def is_complete(made, url):
    """Seal a set all of whose ranges are committed; nothing is damaged and nothing is left over."""
    assert seal(made, NAMES) == {}
    assert findings(url) == []
    assert not [key for key in made.objects.keys(made.prefix) if key.endswith(".partial")]


def test_two_processes_race_one_is_killed_and_another_goes_on(object_server, bucket):
    """SIGKILL between chunks: what is left is replaced where no commit stands, and nothing committed is lost."""
    made = create(bucket, FEW_RACES + 2)
    killed, n_rows = FEW_RACES, made.layout.n_rows
    with writers(bucket, (1, 2)) as racers:
        race(made, racers, range(FEW_RACES))
        with object_server.slow(0.1):
            tell(racers[0], killed)
            while made.objects.size(f"{made.prefix}/{NAMES[0]}/c.{killed}.0.0") is None:
                time.sleep(0.01)
            racers[0].send_signal(signal.SIGKILL)
            racers[0].wait()
    made.refresh()
    assert made.committed(NAMES[0]) == frozenset(range(FEW_RACES))
    stamps = [made.objects.stamp(f"{made.prefix}/{NAMES[0]}/c.{number}.0.0") for number in range(FEW_RACES)]
    assert [write(made, number, 3) for number in range(FEW_RACES + 2)] == [False] * FEW_RACES + [True] * 2
    is_complete(made, bucket)
    for number, stamp in enumerate(stamps):
        assert made.objects.stamp(f"{made.prefix}/{NAMES[0]}/c.{number}.0.0") == stamp, "a committed chunk was replaced"
    for array in ARRAYS:
        first = made.layout.range(killed).start
        np.testing.assert_array_equal(made[array.name][first:], values(array, n_rows, 3)[first:])


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_thousand_races_of_two_processes(bucket):
    made = create(bucket, MANY_RACES)
    with writers(bucket, (1, 2)) as racers:
        race(made, racers, range(MANY_RACES))
    made.refresh()
    assert [made.committed(name) for name in NAMES] == [frozenset(range(MANY_RACES))] * len(NAMES)
    is_complete(made, bucket)


def test_digests_are_those_of_the_set_in_memory(bucket):
    made = create(bucket, 3)
    held = MemorySet(FEATURES, made.layout, {"samples": samples(6)})
    held.add_arrays(ARRAYS)
    for number in range(3):
        write(made, number, 5)
        rows = made.layout.range(number)
        held.write_range(rows, {a.name: values(a, 6, 5)[rows.start : rows.stop] for a in ARRAYS})
    seal(made, NAMES)
    held.seal(NAMES)
    assert ZarrSet(made.objects, made.prefix).content == held.content


# -- refusals --------------------------------------------------------------------------------------------------------


REFUSALS = [
    (400, "ExpiredToken", "the credentials have expired: get new ones"),
    (403, "InvalidAccessKeyId", "the credentials are not known there: check AWS_ACCESS_KEY_ID"),
    (403, "AccessDenied", "permission is denied: ask for the right to"),
]


def test_what_it_refuses_is_one_sentence_and_what_is_committed_stays(object_server, bucket):
    made = create(bucket, 1 + len(REFUSALS))
    write(made, 0, 0)
    for number, (status, code, says) in enumerate(REFUSALS, 1):
        refusal = {"method": "*", "match": "/bucket", "status": status, "code": code, "times": -1}
        reading = pytest.raises(UserError, match=f"cannot read s3://.*{code}: {says}")
        with object_server.failing(refusal), reading as caught:
            Store(bucket).open(FEATURES)
        assert "\n" not in str(caught.value)
        writing = pytest.raises(
            UserError, match=f"cannot write s3://.*{code}: {says}.* then run the same command again"
        )
        with object_server.failing({**refusal, "method": "PUT"}), writing:
            write(made, number, 0)
        assert write(ZarrSet(made.objects, made.prefix), number, 0)
    assert seal(made, NAMES) == {}


def test_a_bucket_that_is_not_there_is_not_an_empty_store(object_server):
    objects = open_objects("s3://no-such-bucket/store")
    for call in (lambda: objects.read("a"), lambda: objects.children(""), lambda: objects.keys("")):
        with pytest.raises(UserError, match=r"cannot read .*NoSuchBucket: there is no such bucket: create it"):
            call()
    for call in (lambda: objects.put("a", [b"1"]), lambda: objects.put_new("a", [b"1"])):
        with pytest.raises(UserError, match="there is no such bucket"):
            call()
    with pytest.raises(UserError, match="there is no such bucket"):
        is_initialised(objects, "features/x")
