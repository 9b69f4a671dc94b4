"""Chunks are read ahead in bounded number and given in order, and reading twice is not needed."""

import threading

import numpy as np
import pytest

import evaluate.inputs.chunks as module
from evaluate.inputs.chunks import ahead, held_bytes, of_chunks, whole
from evaluate.inputs.patches import token_variance, tokens, tokens_and_variance
from evaluate.inputs.rows import RowSelection
from evaluate.kernels.moments import Moments
from stores.arrays import ZarrArray
from stores.errors import DamageError
from tests.evaluate.planted import planted

ARRAY = "tokens/block.0.norm"


@pytest.fixture
def model(tmp_path):
    return planted(tmp_path, n_images=48)


def selection(model, rows):
    return RowSelection(tuple(model.samples["source"].to_numpy()[rows]), np.asarray(rows))


ROWS = [*range(3, 40), 41, 44, *range(60, 96)]


def test_blocks_come_in_order_with_the_position_of_their_first_row(model):
    stored = model.features[ARRAY]
    rows = np.array(ROWS)
    chunk = stored.layout.chunk_rows(stored.spec)
    assert len(np.unique(rows // chunk)) > 5
    seen = list(of_chunks(stored, rows, lambda first, block: (first, block)))
    assert [first for first, _ in seen] == np.cumsum([0, *(len(block) for _, block in seen[:-1])]).tolist()
    np.testing.assert_array_equal(np.concatenate([block for _, block in seen]), stored[rows])
    np.testing.assert_array_equal(whole(stored, rows), stored[rows])
    assert list(of_chunks(stored, rows[:0], lambda first, block: block)) == []


def test_no_more_chunks_are_under_way_than_are_counted(model, monkeypatch):
    monkeypatch.setattr(module, "available_cores", lambda: 8)
    stored = model.features[ARRAY]
    lock, given, read, most = threading.Lock(), [0], [0], [0]

    def note(first, block):
        with lock:
            read[0] += 1
            most[0] = max(most[0], read[0] - given[0])

    for _ in of_chunks(stored, np.array(ROWS), note):
        with lock:
            given[0] += 1
    chunk_bytes = stored.layout.chunk_rows(stored.spec) * stored.spec.row_bytes
    window = ahead(chunk_bytes)
    assert window == module.MOST_READERS + 1
    assert 1 < most[0] <= window + 1
    assert held_bytes(chunk_bytes) == (2 + window + module.MOST_READERS) * chunk_bytes
    monkeypatch.setattr(module, "AHEAD_BYTES", 1)
    assert ahead(chunk_bytes) == 1


def test_damage_is_raised_at_its_place(model, monkeypatch):
    stored = model.features[ARRAY]
    read = ZarrArray._read

    def broken(self, selected):
        if selected.rows[0] > 50:
            raise DamageError("broken")
        return read(self, selected)

    monkeypatch.setattr(ZarrArray, "_read", broken)
    firsts = []
    with pytest.raises(DamageError, match="broken"):
        firsts += of_chunks(stored, np.array(ROWS), lambda first, block: firsts.append(first))
    assert firsts


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_kept_patches_and_variances_are_those_of_the_rows(model, share):
    chosen = selection(model, ROWS)
    values = model.features[ARRAY][np.array(ROWS)]
    kept = np.random.default_rng(0).random(values.shape[0] * values.shape[1]) < share
    expected = Moments.of(values).variance
    together, variance = tokens_and_variance(model, ARRAY, chosen, kept)
    flat = values.reshape(-1, values.shape[-1])
    np.testing.assert_array_equal(together, flat[kept])
    np.testing.assert_array_equal(tokens(model, ARRAY, chosen, kept), flat[kept])
    np.testing.assert_array_equal(tokens(model, ARRAY, chosen), flat)
    np.testing.assert_array_equal(variance, expected)
    np.testing.assert_array_equal(token_variance(model, ARRAY, chosen), expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("shape", [(5, 196, 768), (3, 400, 700), (1, 7, 3), (0, 4, 2)])
def test_moments_of_several_blocks_have_the_bits_of_each(shape, dtype):
    blocks = (np.random.default_rng(1).standard_normal(shape) * 3 + 5).astype(dtype)
    together = Moments.from_blocks(blocks)
    assert len(together) == len(blocks)
    for one, block in zip(together, blocks, strict=True):
        alone = Moments.from_block(block)
        assert one.count == alone.count
        np.testing.assert_array_equal(one.mean, alone.mean)
        np.testing.assert_array_equal(one.squared_deviations, alone.squared_deviations)
