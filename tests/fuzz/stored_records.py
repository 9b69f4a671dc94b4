"""Records and tables of a store that somebody else made: each is read by everything that reads it.

A record's checksum is made to fit what the fuzzer wrote, or nothing behind the checksum would ever be tried.
"""

import contextlib
import functools
import io
import json
import shutil

import h5py
import numpy as np

from stores import HDF5Set, Store
from stores.canonical import checksummed, read_checksummed
from stores.hdf5.exporting import export_set
from stores.maintenance.describe import card
from stores.maintenance.listing import lines
from stores.maintenance.verify import verify, verify_set
from stores.sets import ZarrSet
from stores.specs import FeatureSpec
from tests.fuzz.targets import Target, one_sentence, scratch
from tests.stores.sealed_sets import stored, tokens

ARRAY = "tokens/block.0"


@functools.cache
def _whole():
    """Return a set with one sealed and one partial array, and its files by name inside the set."""
    made = stored(scratch() / "store", [tokens(0), tokens(1)], unsealed=("tokens/block.1",))
    Store(scratch() / "store").remember("0" * 64, {"features": made.digest})
    return made, {name: made.objects.read(name) for name in made.objects.keys()}  # noqa: SIM118 - keys is a method


def _files(part):
    made, files = _whole()
    return sorted(name for name in files if name.startswith(f"{made.prefix}/") and part in name)


def _signed(data):
    """Return JSON bytes with a checksum that fits; other bytes as they are."""
    try:
        record = json.loads(data)
        return checksummed({key: value for key, value in record.items() if key != "checksum"})
    except (ValueError, AttributeError, RecursionError):
        return data


def _read_all(root, prefix):
    """Let everything that reads a foreign store read this one, each on its own."""
    store = Store(root)
    with one_sentence():
        list(lines(store.objects))
    with one_sentence():
        verify_set(store.objects, prefix)
    with one_sentence():
        list(verify(store))
    with one_sentence():
        opened = ZarrSet(store.objects, prefix)
        with one_sentence():
            json.dumps(card(opened))
        with one_sentence():
            opened.table("samples")
        for name in opened.arrays:
            with one_sentence():
                opened[name][0]


def _replaced(name, data):
    """Run all readers with one file replaced, and put it back."""
    made, files = _whole()
    path = scratch() / "store" / name
    path.write_bytes(data)
    try:
        _read_all(scratch() / "store", made.prefix)
    finally:
        path.write_bytes(files[name])


def record(part):
    """Return a target for the first file whose name holds ``part``."""

    def run(data):
        _replaced(_files(part)[0], _signed(data))

    return run


def raw(part):
    """Return a target for bytes that carry no checksum."""

    def run(data):
        _replaced(_files(part)[0], data)

    return run


def spec(data):
    """A spec names its folder, so the folder follows it."""
    made, _ = _whole()
    name = made.digest
    with contextlib.suppress(ValueError, RecursionError):
        name = FeatureSpec.model_validate(json.loads(data), strict=False).digest
    root = scratch() / "specs"
    shutil.rmtree(root, ignore_errors=True)
    folder = root / "features" / name
    shutil.copytree(scratch() / "store" / made.prefix, folder)
    (folder / "spec.json").write_bytes(data)
    _read_all(root, f"features/{name}")


@functools.cache
def _exported():
    made = stored(scratch() / "sealed", [tokens(0)])
    return export_set(made, scratch() / "set.h5").path.read_bytes()


def hdf5_manifest(data):
    path = scratch() / "fuzzed.h5"
    path.write_bytes(_exported())
    with h5py.File(path, "r+") as plain:
        del plain["patchbank/manifest.json"]
        plain.create_dataset("patchbank/manifest.json", data=np.frombuffer(_signed(data) or b"\0", np.uint8))
    with one_sentence():
        HDF5Set(path)


def _seed(part):
    """Return the JSON of a record without its checksum."""
    _, files = _whole()
    found = read_checksummed(files[_files(part)[0]])
    return json.dumps(found).encode()


def _hdf5_seed():
    with h5py.File(io.BytesIO(_exported())) as plain:
        return json.dumps(read_checksummed(plain["patchbank/manifest.json"][:].tobytes())).encode()


def targets():
    """Return the targets by the name that the runner prints; the seeds are made of a set written for them."""
    _, files = _whole()
    return {
        "spec": Target(spec, (files[_files("/spec.json")[0]],)),
        "layout": Target(record("/layout.json"), (_seed("/layout.json"),)),
        "created": Target(record("/created.json"), (_seed("/created.json"),), (b'{"set": "0"}',)),
        "commit": Target(record("/commits/"), (_seed("/commits/"),)),
        "seal": Target(record("/seals/"), (_seed("/seals/"),)),
        "summary": Target(record("/summary.json"), (_seed("/summary.json"),)),
        "array-spec": Target(record("tokens/block.1/spec.json"), (_seed("tokens/block.1/spec.json"),)),
        "samples": Target(raw("/samples.parquet"), (files[_files("/samples.parquet")[0]],)),
        "hdf5-manifest": Target(hdf5_manifest, (_hdf5_seed(),)),
    }
