"""A lock, a shortage or an error of the disk while an exported file is opened is not damage of the file."""

import errno
import os
import subprocess
import sys

import h5py
import pytest

from stores.errors import DamageError, UserError
from stores.hdf5.checks import explained
from stores.hdf5.exporting import export_set
from stores.hdf5.reader import HDF5Set
from tests.stores.sealed_sets import stored, tokens

HOLD = "import h5py, sys; file = h5py.File(sys.argv[1], 'r+'); print('open', flush=True); sys.stdin.read()"


@pytest.fixture
def file(tmp_path):
    return export_set(stored(tmp_path / "store", [tokens(0)]), tmp_path / "set.h5").path


def test_a_file_that_another_process_writes_is_locked_and_not_damaged(file, tmp_path, run):
    holding = {**os.environ, "HDF5_USE_FILE_LOCKING": "TRUE"}
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=holding
    ) as writer:
        assert writer.stdout.readline()
        code, out, err = run("import", file, "--store", tmp_path / "other")
        writer.stdin.close()
    assert (code, out) == (2, "")
    assert f"{file} is locked by a process that writes it: wait" in err
    assert err.count("\n") == 1
    assert "get the file again" not in err
    assert run("import", file, "--store", tmp_path / "other")[0] == 0


@pytest.mark.parametrize(
    ("raised", "kind", "sentence"),
    [
        (BlockingIOError(errno.EAGAIN, "unable to lock file"), UserError, "is locked by"),
        (OSError(errno.ENOLCK, "No locks available"), UserError, "HDF5_USE_FILE_LOCKING=FALSE"),
        (OSError(errno.EIO, "Input/output error"), UserError, "check the disk"),
        (OSError(errno.EMFILE, "Too many open files"), UserError, "ulimit -n"),
        (MemoryError(), UserError, "memory ran out"),
        (OSError("truncated file: eof = 5000"), DamageError, "get the file again"),
        (RuntimeError("bad object header"), DamageError, "get the file again"),
    ],
)
def test_what_says_nothing_of_the_file_is_not_called_damage(file, raised, kind, sentence):
    with pytest.raises(kind, match=sentence), explained(file, "its beginning"):
        raise raised


def test_a_file_that_may_not_be_read(file, monkeypatch):
    def refused(*arguments, **options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("stores.hdf5.checks.open_file", refused)
    with pytest.raises(UserError, match="permission is denied"):
        HDF5Set(file)


def test_export_needs_no_lock(tmp_path, monkeypatch):
    """A network disk without a lock daemon gives no locks; the file is new and nobody else knows its name."""
    opened = h5py.File

    def file(name, mode="r", locking=None, **options):
        if locking is not False and mode == "w":
            raise OSError(errno.ENOLCK, "No locks available")
        return opened(name, mode, locking=locking, **options)

    monkeypatch.setattr(h5py, "File", file)
    export_set(stored(tmp_path / "store", [tokens(0)]), tmp_path / "set.h5")
