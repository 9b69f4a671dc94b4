"""A checked set believes no chunk and no table that its seals and records do not list."""

import os
import pickle
import shutil

import numpy as np
import pandas as pd
import pytest

import stores
from stores.canonical import checksummed
from stores.errors import DamageError
from stores.format.chunks import crc32c
from stores.hdf5.clam import export_tile_files
from stores.maintenance.checked import checked
from stores.storage.remote import RemoteObjects
from tests.stores.sealed_sets import rows_of, stored, tile_table, tokens
from tests.stores.specs_for_tests import FEATURES

FIRST, SECOND = tokens(0), tokens(1)


@pytest.fixture(params=["none", "zstd"])
def made(request, tmp_path):
    return stored(tmp_path / "store", [FIRST, SECOND], compression=request.param)


def folder_of(made, array):
    return made.objects.root / made.prefix / array.name


def swap(one, other):
    """Two files change places, as two moves do it."""
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def test_a_checked_set_reads_what_was_stored(made):
    found = checked(made)
    for array in (FIRST, SECOND):
        for index in (slice(None), 3, [9, 0, 0], (slice(None), 1), slice(None, None, -2)):
            np.testing.assert_array_equal(found[array.name][index], rows_of(array)[index])
    pd.testing.assert_frame_equal(found.samples, tile_table(10))
    again = pickle.loads(pickle.dumps(found["block.0"]))
    np.testing.assert_array_equal(again[:], rows_of(FIRST))
    np.testing.assert_array_equal(found["block.0"].as_dask().compute(scheduler="synchronous"), rows_of(FIRST))


@pytest.mark.parametrize("index", [slice(None), 5, (slice(None), 0), [5, 4]])
def test_chunks_of_another_array_or_position_are_damage(made, index):
    plain, found = made["block.0"], checked(made)["block.0"]
    swap(folder_of(made, FIRST) / "c.1.0.0", folder_of(made, SECOND) / "c.1.0.0")
    wrong = plain[index]
    assert not np.array_equal(wrong, rows_of(FIRST)[index]), "its checksum is right, so plain reading believes it"
    with pytest.raises(DamageError, match=r"block\.0/c\.1\.0\.0 is not what was committed.*patchbank repair"):
        found[index]
    swap(folder_of(made, FIRST) / "c.1.0.0", folder_of(made, SECOND) / "c.1.0.0")
    np.testing.assert_array_equal(found[index], rows_of(FIRST)[index])
    swap(folder_of(made, FIRST) / "c.1.0.0", folder_of(made, FIRST) / "c.0.0.0")
    with pytest.raises(DamageError, match=r"block\.0/c\.[01]"):
        found[index]


def test_a_chunk_replaced_after_its_first_read_is_compared_again(made):
    found = checked(made)["block.0"]
    found[:]
    path = folder_of(made, FIRST) / "c.0.0.0"
    status = path.stat()
    shutil.copyfile(folder_of(made, SECOND) / "c.0.0.0", path.with_name("new"))
    os.utime(path.with_name("new"), ns=(status.st_atime_ns, status.st_mtime_ns))
    path.with_name("new").rename(path)
    with pytest.raises(DamageError, match=r"c\.0\.0\.0"):
        found[0]


def test_a_chunk_edited_together_with_its_checksum_is_damage(tmp_path):
    made = stored(tmp_path, [FIRST])
    path = folder_of(made, FIRST) / "c.2.0.0"
    rows = bytearray(path.read_bytes()[:-4])
    rows[0] ^= 1
    path.write_bytes(bytes(rows) + crc32c(bytes(rows)).to_bytes(4, "little"))
    assert made["block.0"][8, 0, 0] != rows_of(FIRST)[8, 0, 0]
    with pytest.raises(DamageError):
        checked(made)["block.0"][8]
    with pytest.raises(DamageError):
        export_tile_files(made, tmp_path / "tiles", FIRST.name)
    assert not (tmp_path / "tiles").exists()


def test_every_chunk_is_hashed_once_a_process(made, monkeypatch):
    found = checked(made)
    hashed = []
    from stores.format.seal_checks import ChunkCheck

    before = ChunkCheck.finish
    monkeypatch.setattr(ChunkCheck, "finish", lambda self, size: hashed.append(self.name) or before(self, size))
    for _ in range(2):
        found["block.0"][:]
        checked(made)["block.0"][4:]
    assert len(hashed) == len(set(hashed)) == 3


def test_tables_and_layout_are_those_the_set_was_created_with(made, tmp_path):
    table = made.objects.root / made.prefix / "samples.parquet"
    other = stored(tmp_path / "other", [FIRST], tables={"samples": tile_table(10).assign(split="val")}, range_rows=2)
    kept = table.read_bytes()
    shutil.copyfile(other.objects.root / other.prefix / "samples.parquet", table)
    assert set(made.samples["split"]) == {"val"}
    with pytest.raises(DamageError, match=r"samples\.parquet is not the file.*patchbank repair"):
        _ = checked(made).samples
    table.write_bytes(kept)
    created = table.with_name("created.json")
    records = created.read_bytes()
    created.write_bytes(checksummed({"set": "0" * 64, "files": {}, "facts": {}}))
    with pytest.raises(DamageError):
        checked(made)
    created.unlink()
    with pytest.raises(DamageError, match=r"created\.json is gone"):
        checked(made)
    created.write_bytes(records)
    shutil.copyfile(other.objects.root / other.prefix / "layout.json", table.with_name("layout.json"))
    with pytest.raises(DamageError, match=r"layout\.json"):
        stores.open(f"{made.objects.root}/{made.prefix}", checked=True)


def test_a_checked_set_on_an_object_store(made):
    remote = RemoteObjects("memory://checked")
    for key in made.objects.keys(""):
        remote.put(key, [made.objects.read(key)])
    found = stores.open(FEATURES.digest, "memory://checked", checked=True)
    np.testing.assert_array_equal(found["block.1"][:], rows_of(SECOND))
    first, second = (f"{made.prefix}/{array.name}/c.0.0.0" for array in (FIRST, SECOND))
    remote.put(second, [remote.read(first)])
    with pytest.raises(DamageError):
        found["block.1"][0]


def test_nothing_is_evaluated_from_swapped_layers_and_the_same_after_repair(site, run, undrawn):
    """Once `evaluate` gave other numbers for a layer whose chunks were another's, and kept them under its digest."""
    assert run("extract", "tiny.toml")[0] == 0
    assert run("evaluate", "tiny.toml", "--results", "right")[0] == 0
    arrays = sorted(path.parent for path in (site / "store" / "features").glob("*/tokens/block.5*/zarr.json"))
    assert len(arrays) == 2, "with and without norm: equal shapes"
    for chunk in sorted(path.name for path in arrays[0].glob("c.*")):
        swap(arrays[0] / chunk, arrays[1] / chunk)
    code, out, err = run("evaluate", "tiny.toml", "--results", "later")
    assert (code, out) == (3, "")
    assert "c.0.0.0 is not what was committed" in err
    assert "patchbank repair" in err
    assert not list((site / "later").rglob("results.parquet"))
    assert run("repair", "tiny.toml")[0] == 0
    assert run("evaluate", "tiny.toml", "--results", "later")[0] == 0
    tables = [pd.read_parquet(site / results / "tiny" / "results.parquet") for results in ("right", "later")]
    pd.testing.assert_frame_equal(*tables)
