"""Stores of every format version that was ever released open, verify and read the same; newer ones are refused."""

import json
import shutil

import numpy as np
import pytest
import zarr

from stores import Store
from stores.canonical import checksummed
from stores.errors import UserError
from stores.maintenance.verify import verify
from stores.sets import ZarrSet
from stores.specs import FORMAT_VERSION
from tests.stores.frozen.make import HERE, PARTIAL, RANGE_ROWS, SEALED, array, values, write

CASES = [
    (path.parent, compression)
    for path in sorted(HERE.glob("format*/expected.json"))
    for compression in json.loads(path.read_text())
]


def test_the_present_format_is_among_the_frozen_ones():
    assert HERE / f"format{FORMAT_VERSION}" in {folder for folder, _ in CASES}
    size = sum(path.stat().st_size for path in HERE.rglob("*") if path.is_file())
    assert size < 200_000, "frozen stores stay small"


@pytest.mark.parametrize(("folder", "compression"), CASES, ids=lambda case: getattr(case, "name", case))
def test_a_frozen_store_reads_as_on_the_day_it_was_made(tmp_path, folder, compression):
    expected = json.loads((folder / "expected.json").read_text())[compression]
    store = Store(folder / compression)
    found = store.open(expected["set"])
    assert (found.content, found.stored) == (expected["content"], expected["stored"])
    assert found.stored_digest() == expected["stored of the set"]
    assert [finding for verdict in verify(store) for finding in verdict.findings] == []
    assert list(found.samples["sample"])[:2] == ["image0.png", "image1.png"]
    for name in SEALED:
        np.testing.assert_array_equal(found[name][:], values(array(name)))
        plain = zarr.open_group(folder / compression / found.prefix, mode="r")[name]
        np.testing.assert_array_equal(plain[:], values(array(name)))
    assert found.committed(PARTIAL) == {1}
    half = np.full_like(values(array(PARTIAL)), np.nan)
    half[RANGE_ROWS : 2 * RANGE_ROWS] = values(array(PARTIAL))[RANGE_ROWS : 2 * RANGE_ROWS]
    np.testing.assert_array_equal(found[PARTIAL][:], half)


@pytest.mark.parametrize(("folder", "compression"), CASES, ids=lambda case: getattr(case, "name", case))
def test_a_frozen_store_can_be_completed(tmp_path, folder, compression):
    from stores.writing.sealing import seal

    expected = json.loads((folder / "expected.json").read_text())[compression]
    shutil.copytree(folder / compression, tmp_path / "copy")
    found = Store(tmp_path / "copy").open(expected["set"])
    write(found, (PARTIAL,), (0, 2))
    assert seal(found, [PARTIAL]) == {}
    np.testing.assert_array_equal(found[PARTIAL][:], values(array(PARTIAL)))
    assert {name: found.stored[name] for name in SEALED} == expected["stored"]


def test_a_newer_format_is_refused_in_one_sentence(tmp_path):
    """Whatever else a newer version has changed: the version is looked at before anything is understood."""
    folder, compression = CASES[0]
    shutil.copytree(folder / compression, tmp_path / "copy")
    prefix = next(iter(Store(tmp_path / "copy").sets())).prefix
    spec = tmp_path / "copy" / prefix / "spec.json"
    record = json.loads(spec.read_text())
    spec.write_text(json.dumps({**record, "format": FORMAT_VERSION + 1, "something": "new"}))
    (tmp_path / "copy" / prefix / "layout.json").write_bytes(checksummed({"cut": "otherwise"}))
    store = Store(tmp_path / "copy")
    with pytest.raises(UserError, match=r"is of format 3 .* install a newer patchbank$"):
        ZarrSet(store.objects, prefix)
    (tmp_path / "copy" / prefix / "created.json").unlink()
    with pytest.raises(UserError, match="install a newer patchbank"):
        store.open(prefix.rpartition("/")[2])


def test_the_unreleased_format_is_refused_in_one_sentence(tmp_path):
    folder, compression = CASES[0]
    shutil.copytree(folder / compression, tmp_path / "copy")
    prefix = next(iter(Store(tmp_path / "copy").sets())).prefix
    spec = tmp_path / "copy" / prefix / "spec.json"
    spec.write_text(json.dumps({**json.loads(spec.read_text()), "format": 1}))
    with pytest.raises(UserError, match=r"is of format 1, which was never released, .* extract it again$"):
        Store(tmp_path / "copy").open(prefix.rpartition("/")[2])
