"""Indices of arrays in every container select what numpy selects, each axis on its own."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stores.errors import UserError
from stores.hdf5.exporting import export_set
from stores.hdf5.reader import HDF5Set
from stores.memory import MemorySet
from tests.stores.sealed_sets import rows_of, stored, tokens
from tests.stores.specs_for_tests import FEATURES, samples

SHAPE = (10, 4, 6)
ARRAY = tokens(0)
EXPECTED = rows_of(ARRAY)


@pytest.fixture(scope="module")
def containers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("indexing")
    made = stored(folder / "store", [ARRAY])
    packed = stored(folder / "packed", [ARRAY], compression="zstd")
    file = export_set(made, folder / "set.h5").path
    memory = MemorySet(FEATURES, made.layout, {"samples": samples(10)})
    memory.add_arrays([ARRAY])
    for row_range in made.layout.ranges():
        memory.write_range(row_range, {ARRAY.name: EXPECTED[row_range.start : row_range.stop]})
    with HDF5Set(file) as opened:
        yield {"zarr": made, "zstd": packed, "hdf5": opened, "memory": memory}


def axis_index(extent):
    numbers = st.integers(-extent, extent - 1)
    return st.one_of(
        numbers,
        numbers.map(np.int64),
        st.slices(extent),
        st.lists(numbers, max_size=2 * extent),
        st.lists(numbers, max_size=extent).map(lambda chosen: np.array(chosen, dtype=np.int32)),
        st.lists(st.booleans(), min_size=extent, max_size=extent),
        st.lists(st.booleans(), min_size=extent, max_size=extent).map(np.array),
    )


@st.composite
def indices(draw):
    """Return an index over some axes, with an ellipsis in any place or none."""
    n_axes = draw(st.integers(0, 3))
    before = draw(st.integers(0, n_axes))
    if draw(st.booleans()):
        axes = [*range(before), *range(3 - n_axes + before, 3)]
        chosen = [draw(axis_index(SHAPE[axis])) for axis in axes]
        return (*chosen[:before], ..., *chosen[before:])
    chosen = tuple(draw(axis_index(SHAPE[axis])) for axis in range(n_axes))
    return chosen[0] if n_axes == 1 and draw(st.booleans()) else chosen


def orthogonal(array, index):
    """What numpy gives for the open mesh of the selected entries, without the axes of integers."""
    given = list(index) if isinstance(index, tuple) else [index]
    gap = next((at for at, one in enumerate(given) if one is ...), None)
    if gap is not None:
        given[gap : gap + 1] = [slice(None)] * (array.ndim - len(given) + 1)
    given += [slice(None)] * (array.ndim - len(given))
    entries, removed = [], []
    for axis, one in enumerate(given):
        if isinstance(one, list) and not one:
            one = np.zeros(0, np.int64)
        entries.append(np.atleast_1d(np.arange(array.shape[axis])[one]))
        if np.ndim(one) == 0 and not isinstance(one, slice):
            removed.append(axis)
    return array[np.ix_(*entries)].squeeze(tuple(removed))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(index=indices())
def test_any_index_selects_what_numpy_selects_axis_by_axis(containers, index):
    expected = orthogonal(EXPECTED, index)
    for name, container in containers.items():
        got = container["block.0"][index]
        assert got.shape == expected.shape, name
        assert got.dtype == expected.dtype, name
        np.testing.assert_array_equal(got, expected, name)


def test_indices_that_once_gave_other_rows(containers):
    mask = EXPECTED[:, 0, 0] > 0
    assert 0 < mask.sum() < 10
    for container in containers.values():
        array = container["block.0"]
        np.testing.assert_array_equal(array[mask], EXPECTED[mask])
        np.testing.assert_array_equal(array[list(mask)], EXPECTED[mask])
        np.testing.assert_array_equal(array[0, 3], EXPECTED[0, 3])
        np.testing.assert_array_equal(array[:, 3], EXPECTED[:, 3])
        np.testing.assert_array_equal(array[...], EXPECTED)
        np.testing.assert_array_equal(array[..., -1], EXPECTED[..., -1])
        np.testing.assert_array_equal(array[()], EXPECTED)
        np.testing.assert_array_equal(array[mask, ::-1, [5, 0, 0]], EXPECTED[mask][:, ::-1][..., [5, 0, 0]])
        assert array[9, 3, 5] == EXPECTED[9, 3, 5]
        assert isinstance(array[9, 3, 5], np.float16)
        for rows in (mask, list(mask), slice(None, None, 3), [-1, 0, 0], np.array([9, 2], np.uint8)):
            numbers = np.sort(np.arange(10)[rows])
            blocks = list(array.blocks(rows, max_bytes=100))
            np.testing.assert_array_equal(np.concatenate([found for found, _ in blocks]), numbers)
            np.testing.assert_array_equal(np.concatenate([block for _, block in blocks]), EXPECTED[numbers])


@pytest.mark.parametrize(
    ("index", "sentence"),
    [
        (10, "10 is outside axis 0 (sample), which has 10 entries"),
        (10**30, "axis 0"),
        (np.array([0, 2**64 - 1], np.uint64), "18446744073709551615 is outside"),
        ([3, -11], "-11 is outside"),
        ((0, 4), "4 is outside axis 1 (patch), which has 4 entries"),
        ((0, 0, 0, 0), "4 indices for an array of 3 axes (sample, patch, channel)"),
        ((..., ...), "one ellipsis"),
        (None, "not by None"),
        (True, "not by True"),
        (1.0, "not by 1.0"),
        ([0.0, 1.0], "not by [0.0, 1.0]"),
        (np.zeros(0), "not by array"),
        ("block.0", "not by 'block.0'"),
        ([[0, 1], [2]], "axis 0"),
        (np.zeros((2, 2), int), "an array of 2 axes"),
        (np.ones((10, 4), bool), "an array of 2 axes"),
        (np.ones(9, bool), "a mask of 9 entries cannot select from axis 0 (sample), which has 10"),
        ((slice(None), [True, False]), "a mask of 2 entries"),
        (slice("a"), "axis 0"),
        (slice(0, 5, 0), "axis 0"),
    ],
)
def test_other_indices_are_refused_in_one_sentence(containers, index, sentence):
    for container in containers.values():
        with pytest.raises(IndexError) as refused:
            container["block.0"][index]
        assert sentence in str(refused.value)
        assert "\n" not in str(refused.value)


def test_only_chunks_with_selected_rows_are_read(tmp_path, monkeypatch):
    made = stored(tmp_path, [ARRAY], range_rows=2)
    read = []
    before = type(made.objects).read
    monkeypatch.setattr(type(made.objects), "read", lambda self, key: read.append(key) or before(self, key))
    made["block.0"][[7, 6, 7], 1, ::2]
    assert [key.rpartition("/")[2] for key in read] == ["c.3.0.0"]


def test_a_torch_data_set_takes_masks_slices_and_negative_rows(tmp_path):
    torch_data = pytest.importorskip("stores.torch_data")
    made = stored(tmp_path, [ARRAY])
    mask = np.arange(10) % 3 == 1
    for rows, expected in ((mask, [1, 4, 7]), (list(mask), [1, 4, 7]), (slice(8, None), [8, 9]), ([-1, 0], [0, 9])):
        found = [int(row) for rows, _ in torch_data.RangeDataset(made, "block.0", rows=rows) for row in rows]
        assert found == expected
    with pytest.raises(UserError, match="a mask of 3 entries"):
        torch_data.RangeDataset(made, "block.0", rows=mask[:3])
