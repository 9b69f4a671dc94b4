"""Ranges as dask chunks and as torch batches: every row once, in the order that was promised."""

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import stores.arrays
from stores import HDF5Set
from stores.errors import MissingError, UserError
from stores.hdf5.exporting import export_set
from stores.specs import ArraySpec
from stores.torch_data import RangeDataset
from tests.stores.sealed_sets import rows_of, stored, tile_table, tokens
from tests.stores.specs_for_tests import FEATURES, LABELS

PATCHES = ArraySpec(name="patches/2x2", row_shape=(4,), dtype="uint8", dimension_names=("sample", "patch_2x2"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    made = stored(folder / "features", [tokens(0), tokens(1)], n_rows=18, unsealed=("tokens/block.1",))
    export_set(made, folder / "set.h5")
    return made, HDF5Set(folder / "set.h5"), stored(folder / "labels", [PATCHES], n_rows=18, spec=LABELS)


@pytest.mark.parametrize("container", [0, 1], ids=["zarr", "hdf5"])
def test_dask_chunks_are_the_ranges_and_the_values_numpy_s(whole, container):
    array, expected = whole[container]["block.0"], rows_of(tokens(0), 18)
    lazy = array.as_dask()
    assert lazy.chunks == ((4, 4, 4, 4, 2), (4,), (6,))
    assert lazy.dtype == np.float16
    np.testing.assert_array_equal(lazy.compute(scheduler="threads"), expected)
    wide = lazy.astype(np.float64)
    np.testing.assert_array_equal(wide.sum(axis=0).compute(scheduler="sync"), expected.astype(np.float64).sum(0))
    np.testing.assert_array_equal(lazy[5:9, 1].compute(scheduler="sync"), expected[5:9, 1])
    assert lazy.name == array.as_dask().name
    again = pickle.loads(pickle.dumps(array))  # what a cluster's workers get
    np.testing.assert_array_equal(again[:], expected)


def test_dask_reads_every_stored_chunk_once(whole, monkeypatch):
    read = []
    name_of = stores.arrays.chunk_name
    monkeypatch.setattr("stores.arrays.chunk_name", lambda index, spec: (read.append(index), name_of(index, spec))[1])
    whole[0]["block.0"].as_dask().compute(scheduler="sync")
    assert sorted(read) == [0, 1, 2, 3, 4]


def test_dask_shows_uncommitted_ranges_as_nan(whole):
    lazy = whole[0]["block.1"].as_dask()
    assert np.isnan(lazy[16:].compute(scheduler="sync")).all()
    np.testing.assert_array_equal(lazy[:16].compute(scheduler="sync"), rows_of(tokens(1), 18)[:16])


def batches(data, workers=0):
    return [tuple(part.numpy() for part in batch) for batch in DataLoader(data, batch_size=None, num_workers=workers)]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("shuffle", [None, 7])
@pytest.mark.parametrize("container", [0, 1], ids=["zarr", "hdf5"])
def test_every_row_comes_once_with_its_features_and_labels(whole, workers, shuffle, container):
    labels = whole[2]
    data = RangeDataset(whole[container], "block.0", (labels, "patches/2x2"), batch_rows=3, shuffle=shuffle)
    found = batches(data, workers)
    rows = np.concatenate([numbers for numbers, _, _ in found])
    assert sorted(rows) == list(range(18))
    assert shuffle is None or list(rows) != list(range(18))
    assert workers or shuffle or list(rows) == list(range(18))
    for numbers, features, classes in found:
        assert len(numbers) <= 3
        assert len(set(numbers // 4)) == 1, "a batch crosses a range"
        assert features.dtype == np.float16
        np.testing.assert_array_equal(features, rows_of(tokens(0), 18)[numbers])
        np.testing.assert_array_equal(classes, rows_of(PATCHES, 18)[numbers])


def test_the_order_depends_on_seed_and_epoch_and_not_on_the_workers(whole):
    def order(seed, epoch=0, workers=0):
        data = RangeDataset(whole[0], "block.0", shuffle=seed, batch_rows=4)
        data.set_epoch(epoch)
        return np.concatenate([numbers for numbers, _ in batches(data, workers)])

    assert list(order(1)) == list(order(1))
    assert list(order(1)) != list(order(2))
    assert list(order(1)) != list(order(1, epoch=1))
    alone, shared = order(1), order(1, workers=2)
    for number in range(5):  # the workers deal out ranges; the rows inside keep their order
        assert list(alone[alone // 4 == number]) == list(shared[shared // 4 == number])


def test_chosen_rows_and_shards(whole):
    chosen = np.array([17, 2, 3, 9])
    found = batches(RangeDataset(whole[0], "block.0", rows=chosen, batch_rows=3))
    assert np.concatenate([numbers for numbers, _ in found]).tolist() == [2, 3, 9, 17]
    parts = [batches(RangeDataset(whole[0], "block.0", shuffle=3, shard=(part, 3))) for part in range(3)]
    rows = [row for part in parts for numbers, _ in part for row in numbers]
    assert sorted(rows) == list(range(18))
    assert isinstance(next(iter(RangeDataset(whole[0], "block.0")))[1], torch.Tensor)


def test_invalid_rows_of_either_set_are_left_out(tmp_path):
    """Row 2 has no features, row 9 no labels that count, and neither is a sample to learn from."""
    table = tile_table(18).assign(valid=[row != 2 for row in range(18)])
    made = stored(tmp_path / "features", [tokens(0)], n_rows=18, tables={"samples": table})
    marked = {"samples": table.assign(valid=[row not in (2, 9) for row in range(18)])}
    labels = stored(tmp_path / "labels", [PATCHES], n_rows=18, spec=LABELS, tables=marked)
    alone = np.concatenate([rows for rows, _ in batches(RangeDataset(made, "block.0"))])
    assert list(alone) == [row for row in range(18) if row != 2]
    some = np.array([1, 2, 8, 9, 10])
    found = batches(RangeDataset(made, "block.0", (labels, "patches/2x2"), rows=some))
    assert [row for rows, *_ in found for row in rows] == [1, 8, 10]


def test_what_cannot_be_served_is_refused(whole, tmp_path):
    made, _, labels = whole
    with pytest.raises(UserError, match=r"tokens/block\.1 .* is not complete"):
        RangeDataset(made, "block.1")
    with pytest.raises(MissingError):
        RangeDataset(made, "block.5")
    with pytest.raises(UserError, match="rows 0 to 17"):
        RangeDataset(made, "block.0", rows=np.array([18]))
    with pytest.raises(UserError, match="at least 1"):
        RangeDataset(made, "block.0", batch_rows=0)
    other = stored(tmp_path, [tokens(0)], n_rows=18, spec=FEATURES.model_copy(update={"samples": "8" * 64}))
    with pytest.raises(UserError, match="other samples"):
        RangeDataset(other, "block.0", (labels, "patches/2x2"))
