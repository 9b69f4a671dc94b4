"""What every container promises: to readers (Zarr on disk, on an object store, HDF5, memory), and to writers.

The helpers `put` and `raw` bypass the methods under test where they can: `raw` reads with zarr-python.
"""

import hashlib
import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stores.arrays import StoredArray, StoredSet
from stores.errors import MissingError, UserError, names_like
from stores.hdf5.exporting import export_set
from stores.hdf5.reader import HDF5Set
from stores.memory import MemorySet
from stores.sets import ZarrSet
from stores.storage.local import LocalObjects
from stores.storage.remote import RemoteObjects
from stores.writing.sealing import seal
from stores.writing.writer import SetWriter
from tests.stores.specs_for_tests import FEATURES, layout, samples, token_array, values

COUNTER = itertools.count()


def content(whole, range_rows):
    """Content digest of an array whose chunks are its ranges, by the definition in stores/README.md."""
    ranges = [whole[start : start + range_rows].tobytes() for start in range(0, len(whole), range_rows)]
    of_chunks = [hashlib.sha256(rows).digest() for rows in ranges]
    of_ranges = [hashlib.sha256(chunk).digest() for chunk in of_chunks]
    return hashlib.sha256(b"".join(of_ranges)).hexdigest()


class ReadableSetContract:
    """Whatever holds a sealed set gives the same answers; numpy is the judge."""

    def sealed(self, tmp_path, shape, arrays):
        """Return a set, opened for reading, whose arrays hold `values` and are sealed."""
        raise NotImplementedError

    @pytest.fixture
    def arrays(self):
        return [token_array(), token_array("prefix/block.0", patches=1, dtype="float32")]

    def test_a_sealed_set_says_what_it_is(self, tmp_path, arrays):
        found = self.sealed(tmp_path, layout(10, 4), arrays)
        assert isinstance(found, StoredSet)
        assert found.spec == FEATURES
        assert found.digest == FEATURES.digest
        assert (found.layout.n_rows, found.layout.range_rows) == (10, 4)
        assert found.arrays == {array.name: array for array in arrays}
        pd.testing.assert_frame_equal(found.samples, samples(10))
        pd.testing.assert_frame_equal(found.table("samples"), samples(10))
        for array in arrays:
            assert found.sealed(array.name)
            assert found.committed(array.name) == {0, 1, 2}
            assert found.content[array.name] == content(values(array, 10), found.layout.range_rows)

    def test_sealed_arrays_read_like_numpy(self, tmp_path, arrays):
        found = self.sealed(tmp_path, layout(10, 4), arrays)
        for array in arrays:
            read, expected = found[array.name], values(array, 10)
            assert isinstance(read, StoredArray)
            assert (read.shape, read.dtype, read.spec) == (expected.shape, expected.dtype, array)
            np.testing.assert_array_equal(read[:], expected)
            np.testing.assert_array_equal(read[3], expected[3])
            np.testing.assert_array_equal(read[-1], expected[-1])
            np.testing.assert_array_equal(read[2:9], expected[2:9])
            np.testing.assert_array_equal(read[[9, 0, 0, 4]], expected[[9, 0, 0, 4]])
            assert read[[]].shape == (0, *array.row_shape)
            for wrong in (10, -11, [0, 10]):
                with pytest.raises(IndexError):
                    read[wrong]
        np.testing.assert_array_equal(found["block.0"][:], values(arrays[0], 10))
        with pytest.raises(MissingError, match=r"has no array block\.7"):
            found["block.7"]

    @settings(
        max_examples=8,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
    )
    @given(
        n_rows=st.integers(1, 40),
        range_power=st.integers(0, 4),
        dtype=st.sampled_from(["float16", "float32", "uint8", "int64"]),
        data=st.data(),
    )
    def test_any_sealed_rows_in_any_order_equal_numpy(self, tmp_path, n_rows, range_power, dtype, data):
        array = token_array(patches=2, channels=3, dtype=dtype)
        found = self.sealed(tmp_path, layout(n_rows, 2**range_power), [array])
        expected = values(array, n_rows)
        chosen = np.array(data.draw(st.lists(st.integers(-n_rows, n_rows - 1), max_size=20)), dtype=np.int64)
        np.testing.assert_array_equal(found["block.0"][chosen], expected[chosen])
        start, stop = sorted(data.draw(st.tuples(st.integers(0, n_rows), st.integers(0, n_rows))))
        np.testing.assert_array_equal(found["block.0"][start:stop], expected[start:stop])
        some = np.unique(chosen % n_rows)
        blocks = list(found["block.0"].blocks(some, max_bytes=30))
        if some.size:
            np.testing.assert_array_equal(np.concatenate([rows for rows, _ in blocks]), some)
            np.testing.assert_array_equal(np.concatenate([block for _, block in blocks]), expected[some])
        assert all(block.nbytes <= 30 or len(block) == 1 for _, block in blocks)


class WritableSetContract(ReadableSetContract):
    def create(self, tmp_path, shape):
        raise NotImplementedError

    def put(self, target, number, rows):
        raise NotImplementedError

    def seal(self, target, names):
        raise NotImplementedError

    def reopen(self, target):
        raise NotImplementedError

    def sealed(self, tmp_path, shape, arrays):
        target = self.create(tmp_path, shape)
        target.add_arrays(arrays)
        self.fill(target, arrays, range(shape.n_ranges))
        assert self.seal(target, [array.name for array in arrays]) == {}
        return self.reopen(target)

    def fill(self, target, arrays, numbers, seed=0):
        for number in numbers:
            row_range = target.layout.range(number)
            self.put(
                target,
                number,
                {a.name: values(a, target.layout.n_rows, seed)[row_range.start : row_range.stop] for a in arrays},
            )

    def test_uncommitted_rows_read_as_nan_and_committed_rows_as_written(self, tmp_path, arrays):
        target = self.create(tmp_path, layout(10, 4))
        target.add_arrays(arrays)
        self.fill(target, arrays, [1])
        target = self.reopen(target)
        for array in arrays:
            read = target[array.name][:]
            np.testing.assert_array_equal(read[4:8], values(array, 10)[4:8])
            assert np.isnan(read[:4]).all()
            assert np.isnan(read[8:]).all()
            assert target.committed(array.name) == {1}
            assert not target.sealed(array.name)

    def test_seal_names_the_missing_ranges_and_then_the_content(self, tmp_path, arrays):
        target = self.create(tmp_path, layout(10, 4))
        target.add_arrays(arrays)
        self.fill(target, arrays, [0, 2])
        names = [array.name for array in arrays]
        assert self.seal(target, names) == {name: [1] for name in names}
        self.fill(target, arrays, [1])
        assert self.seal(target, names) == {}
        target = self.reopen(target)
        for array in arrays:
            whole = values(array, 10)
            np.testing.assert_array_equal(target[array.name][:], whole)
            assert target.content[array.name] == content(whole, target.layout.range_rows)

    def test_committed_ranges_are_never_rewritten(self, tmp_path, arrays):
        target = self.create(tmp_path, layout(8, 4))
        target.add_arrays(arrays)
        self.fill(target, arrays, [0], seed=0)
        self.fill(target, arrays, [0], seed=1)
        target = self.reopen(target)
        for array in arrays:
            np.testing.assert_array_equal(target[array.name][:4], values(array, 8, 0)[:4])

    def test_sealed_arrays_are_never_rewritten(self, tmp_path, arrays):
        target = self.create(tmp_path, layout(8, 4))
        target.add_arrays(arrays)
        self.fill(target, arrays, [0, 1])
        self.seal(target, [array.name for array in arrays])
        self.fill(target, arrays, [0, 1], seed=1)
        target = self.reopen(target)
        for array in arrays:
            np.testing.assert_array_equal(target[array.name][:], values(array, 8, 0))

    def test_arrays_are_added_later_without_touching_what_is_there(self, tmp_path, arrays):
        target = self.create(tmp_path, layout(10, 4))
        target.add_arrays(arrays)
        self.fill(target, arrays, [0, 1, 2])
        self.seal(target, [array.name for array in arrays])
        before = dict(target.content)
        later = [token_array("tokens/block.1", channels=40)]
        target.add_arrays(later)
        self.fill(target, later, [0, 1, 2])
        assert self.seal(target, [array.name for array in later]) == {}
        target = self.reopen(target)
        assert {name: target.content[name] for name in before} == before
        np.testing.assert_array_equal(target["block.1"][:], values(later[0], 10))

    def test_unknown_arrays_and_changed_shapes_are_refused(self, tmp_path, arrays):
        target = self.create(tmp_path, layout(10, 4))
        target.add_arrays(arrays)
        with pytest.raises(MissingError, match=r"has no array block\.7"):
            target["block.7"]
        with pytest.raises(UserError, match="block"):
            target.add_arrays([token_array(channels=7)])

    # The containers inherit this test on purpose, and every example makes a store of its own.
    @settings(
        max_examples=25,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
    )
    @given(data=st.data(), n_rows=st.integers(1, 40), range_power=st.integers(0, 4))
    def test_any_rows_in_any_order_equal_numpy(self, tmp_path, data, n_rows, range_power):
        array = token_array(patches=2, channels=3)
        target = self.create(tmp_path, layout(n_rows, 2**range_power))
        target.add_arrays([array])
        done = data.draw(st.sets(st.integers(0, target.layout.n_ranges - 1)))
        order = data.draw(st.permutations(sorted(done)))
        self.fill(target, [array], order)
        target = self.reopen(target)
        expected = np.full((n_rows, 2, 3), np.nan, np.float16)
        for number in done:
            rows = target.layout.range(number)
            expected[rows.start : rows.stop] = values(array, n_rows)[rows.start : rows.stop]
        chosen = np.array(data.draw(st.lists(st.integers(0, n_rows - 1), max_size=20)), dtype=np.int64)
        np.testing.assert_array_equal(target["block.0"][chosen], expected[chosen])
        start, stop = sorted(data.draw(st.tuples(st.integers(0, n_rows), st.integers(0, n_rows))))
        np.testing.assert_array_equal(target["block.0"][start:stop], expected[start:stop])
        blocks = list(target["block.0"].blocks(np.unique(chosen), max_bytes=30))
        if chosen.size:
            np.testing.assert_array_equal(np.concatenate([rows for rows, _ in blocks]), np.unique(chosen))
            np.testing.assert_array_equal(np.concatenate([b for _, b in blocks]), expected[np.unique(chosen)])


class TestMemorySet(WritableSetContract):
    def create(self, tmp_path, shape):
        return MemorySet(FEATURES, shape, {"samples": samples(shape.n_rows)})

    def put(self, target, number, rows):
        target.write_range(target.layout.range(number), rows)

    def seal(self, target, names):
        return target.seal(names)

    def reopen(self, target):
        return target


class TestZarrSet(WritableSetContract):
    compression = "none"

    def objects(self, tmp_path):
        return LocalObjects(tmp_path / f"store{next(COUNTER)}")

    def create(self, tmp_path, shape):
        shape = shape.model_copy(update={"compression": self.compression})
        tables = {"samples": samples(shape.n_rows)}
        return ZarrSet.create(self.objects(tmp_path), FEATURES, shape, tables, {"batch": 4}, {"command": "test"})

    def put(self, target, number, rows):
        with SetWriter(target, rows, threads=1) as writer:
            one = writer.range(target.layout.range(number))
            for name, block in rows.items():
                half = len(block) // 2
                one.write(name, block[:half])
                one.write(name, block[half:])
            one.commit().result()

    def seal(self, target, names):
        missing = seal(target, names)
        target.refresh()
        return missing

    def reopen(self, target):
        return ZarrSet(target.objects, target.prefix)


class TestCompressedZarrSet(TestZarrSet):
    compression = "zstd"


class TestZarrSetOnAnObjectStore(TestZarrSet):
    def objects(self, tmp_path):
        return RemoteObjects(f"memory://store{next(COUNTER)}")


class TestHDF5Set(ReadableSetContract):
    def sealed(self, tmp_path, shape, arrays):
        made = TestZarrSet().sealed(tmp_path, shape, arrays)
        path = tmp_path / f"{next(COUNTER)}.h5"
        export_set(made, path)
        return HDF5Set(path)


def test_messages_list_a_few_names_and_only_the_nearest_of_many():
    assert names_like("a", []) == "none yet"
    assert names_like("a", ["c", "b"]) == "b, c"
    arrays = [f"{group}/block.{number}{norm}" for group in ("tokens", "prefix") for number in range(12)
              for norm in ("", ".norm")]  # fmt: skip
    assert names_like("tokens/block.12.norm", arrays).startswith("tokens/block.")
    assert names_like("tokens/block.12.norm", arrays).endswith(" and 45 more")
