"""Storage that refuses: each system call in turn fails; one sentence, nothing corrupt, and it goes on."""

import errno
import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest

from stores.errors import MissingError, UserError
from stores.format.creation import is_initialised
from stores.memory import MemorySet
from stores.sets import ZarrSet
from stores.storage.local import LocalObjects
from stores.storage.os_errors import ADVICE
from stores.storage.remote import RemoteObjects
from stores.writing.writer import SetWriter
from tests.stores.specs_for_tests import FEATURES, layout, samples, values
from tests.stores.system_calls import watched
from tests.stores.test_power_cut import FIRST, LATER, N_ROWS, PREFIX, RANGE_ROWS, nothing_waits_for_the_disk, run

__all__ = ["nothing_waits_for_the_disk"]
COUNTER = itertools.count()


def reference():
    held = MemorySet(FEATURES, layout(N_ROWS, RANGE_ROWS), {"samples": samples(N_ROWS)})
    held.add_arrays([*FIRST, *LATER])
    for number in range(held.layout.n_ranges):
        rows = held.layout.range(number)
        held.write_range(rows, {a.name: values(a, N_ROWS)[rows.start : rows.stop] for a in (*FIRST, *LATER)})
    held.seal([array.name for array in (*FIRST, *LATER)])
    return held


def committed_rows_are_right(objects):
    if not is_initialised(objects, PREFIX):
        return
    found, held = ZarrSet(objects, PREFIX), reference()
    for name in found.arrays:
        for number in found.committed(name):
            rows = found.layout.range(number)
            np.testing.assert_array_equal(found[name][rows.start : rows.stop], held[name][rows.start : rows.stop])


def one_sentence(error):
    text = str(error)
    assert "\n" not in text
    assert "run" in text or "restore" in text or "make" in text, text


def n_calls(tmp_path, kinds):
    count = 0

    def look(number, name, path):
        nonlocal count
        count += name in kinds

    with watched(tmp_path / "counted" / "store", look):
        run(LocalObjects(tmp_path / "counted" / "store"))
    return count


def refuse_one(which, kinds, number, for_good=False):
    """Return a hook that fails the ``which``-th call of some kinds, or all calls from then on."""
    seen = itertools.count()

    def hook(_, name, path):
        if name in kinds:
            at = next(seen)
            if at == which or (for_good and at > which):
                raise OSError(number, "refused by the test", str(path))

    return hook


WRITES = ("open", "write", "fsync", "link", "replace", "unlink", "mkdir")
READS = ("stat", "scandir", "read")


@pytest.mark.parametrize(
    ("number", "kinds", "for_good"),
    [
        (errno.ENOSPC, ("open", "write", "fsync", "link", "mkdir"), True),
        (errno.EDQUOT, ("write", "fsync"), False),
        (errno.EROFS, WRITES, True),
        (errno.EIO, (*WRITES, *READS), False),
        (errno.ESTALE, (*WRITES, *READS), True),
        (errno.EACCES, ("open", "mkdir", "link"), False),
    ],
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) and value > 1 else None,
)
def test_every_call_may_fail(tmp_path, number, kinds, for_good):
    """At each call in turn (thinned where there are hundreds): a sentence or success, right rows, then a resume."""
    total = n_calls(tmp_path, kinds)
    told = []
    for which in range(0, total, max(1, total // 7)):
        root = tmp_path / f"disk{which}" / "store"
        with watched(root, refuse_one(which, kinds, number, for_good)):
            try:
                run(LocalObjects(root))
            except UserError as error:
                told.append(error)
        objects = LocalObjects(root)
        committed_rows_are_right(objects)
        assert run(objects).content == reference().content
        shutil.rmtree(root.parent)
    assert told
    for error in told:
        one_sentence(error)
    assert all(ADVICE[number] in str(error) for error in told if not isinstance(error, MissingError))


def test_a_network_disk_without_hard_links_and_folder_fsync_serves(tmp_path):
    def hook(_, name, path):
        if name == "link":
            raise OSError(errno.ENOTSUP, "no hard links")
        if name == "fsync" and path.is_dir():
            raise OSError(errno.EINVAL, "no fsync of folders")

    with watched(tmp_path / "store", hook):
        assert run(LocalObjects(tmp_path / "store")).content == reference().content


def writer_of(objects):
    made = ZarrSet.create(objects, FEATURES, layout(N_ROWS, RANGE_ROWS), {"samples": samples(N_ROWS)}, {"batch": 4}, {})
    made.add_arrays(FIRST)
    return made


def write_range(made, number=0, between=lambda: None):
    rows = made.layout.range(number)
    with SetWriter(made, [array.name for array in FIRST], threads=1) as writer:
        one = writer.range(rows)
        for array in FIRST:
            one.write(array.name, values(array, N_ROWS)[rows.start : rows.stop])
            between()
        return one.commit().result()


@pytest.mark.parametrize("gone", ["the store", "its parent", "the set", "an array"])
def test_a_store_that_vanishes_is_not_begun_again_in_its_place(tmp_path, gone):
    root = tmp_path / "mounted" / "store"
    made = writer_of(LocalObjects(root))
    write_range(made, 0)
    tokens = root / PREFIX / "tokens"
    which = {"the store": root, "its parent": root.parent, "the set": root / PREFIX, "an array": tokens}
    which[gone].rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"vanished|is gone"):
        write_range(made, 1)
    assert not which[gone].exists(), "something was written where the store had been"
    (tmp_path / "elsewhere").rename(which[gone])
    assert write_range(made, 1)
    assert run(LocalObjects(root)).content == reference().content


def test_an_unmounted_store_leaves_an_empty_folder_and_nothing_is_committed_there(tmp_path):
    root = tmp_path / "store"
    made = writer_of(LocalObjects(root))
    root.rename(tmp_path / "elsewhere")
    root.mkdir()
    fresh = ZarrSet(LocalObjects(tmp_path / "elsewhere"), PREFIX)
    fresh.objects = LocalObjects(root)  # a process that has written nothing yet and sees the empty folder
    for one in (made, fresh):
        with pytest.raises(UserError, match="vanished"):
            write_range(one)
    assert not [key for key in LocalObjects(root).keys("") if not key.endswith(".partial")]


def test_a_folder_that_another_thread_makes_meanwhile_has_not_vanished(tmp_path, monkeypatch):
    objects = LocalObjects(tmp_path)
    look = Path.exists
    meanwhile = [True]

    def slow_look(path):
        found = look(path)
        if path.name == "seals" and meanwhile:
            meanwhile.clear()
            objects.put("seals/other", [b"other"])  # after our look and before our answer
        return found

    monkeypatch.setattr(Path, "exists", slow_look)
    objects.put("seals/mine", [b"mine"])
    assert objects.keys() == ["seals/mine", "seals/other"]


@pytest.mark.parametrize("where", ["store", "store/features"])
def test_a_file_where_a_folder_should_be(tmp_path, where):
    path = tmp_path / where
    path.parent.mkdir(exist_ok=True)
    path.write_text("I was here first")
    with pytest.raises(UserError, match="there is a file where a folder should be"):
        writer_of(LocalObjects(tmp_path / "store"))
    assert path.read_text() == "I was here first"


def test_a_failed_range_leaves_no_partial_bytes_on_the_full_disk(tmp_path):
    made = writer_of(LocalObjects(tmp_path / "store"))

    def hook(_, name, path):
        if name == "write" and "block.0" in str(path) and "tokens" in str(path):
            raise OSError(errno.ENOSPC, "no space")

    with watched(tmp_path / "store", hook), pytest.raises(UserError, match="the disk is full"):
        write_range(made)
    assert not [key for key in made.objects.keys("") if key.endswith(".partial")]


def test_a_cancelled_range_leaves_no_partial_bytes(tmp_path):
    made = writer_of(LocalObjects(tmp_path / "store"))

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_range(made, between=interrupt)
    assert not [key for key in made.objects.keys("") if key.endswith(".partial")]


def test_a_torn_commit_record_does_not_stand_in_the_way(tmp_path):
    """It reads as absent, so its range is made again; before, its name kept the new record out for ever."""
    made = writer_of(LocalObjects(tmp_path / "store"))
    write_range(made)
    record = next((tmp_path / "store" / PREFIX / "commits").iterdir())
    record.write_bytes(record.read_bytes()[:-9])
    assert write_range(made)
    made.refresh()
    assert made.committed(FIRST[0].name) == {0}


class Refusing:
    """A file system whose ``which``-th changing call fails, as an object store's client does."""

    def __init__(self, filesystem, which, error):
        self.filesystem, self.which, self.error, self.count = filesystem, which, error, 0

    def __getattr__(self, name):
        function = getattr(self.filesystem, name)
        if name not in ("pipe_file", "cp_file", "rm_file", "cat_file", "ls"):
            return function

        def call(*arguments, **options):
            self.count += 1
            if self.count == self.which:
                raise self.error
            return function(*arguments, **options)

        return call


class ClientError(Exception):
    """Stands for botocore's, which is no OSError."""


@pytest.mark.parametrize(
    "error",
    [
        ClientError("SlowDown: reduce your request rate\nrequest id 17"),
        OSError(errno.EIO, "short"),
        PermissionError(13, "no"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_object_store_that_refuses_a_request(error):
    counting = RemoteObjects(f"memory://refusing{next(COUNTER)}")
    counting.filesystem = Refusing(counting.filesystem, -1, error)
    run(counting)
    for which in range(1, counting.filesystem.count, 23):
        objects = RemoteObjects(f"memory://refusing{next(COUNTER)}")
        plain = objects.filesystem
        objects.filesystem = Refusing(plain, which, error)
        with pytest.raises(UserError, match=r"cannot (read|write) memory://.*the object store says") as caught:
            run(objects)
        one_sentence(caught.value)
        objects.filesystem = plain
        committed_rows_are_right(objects)
        assert run(objects).content == reference().content
