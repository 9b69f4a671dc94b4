"""The frequency analysis: numpy's own transform of the tokens, planted waves, and the blocks of MAE's decoder."""

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import pytest

from evaluate.analyses.frequency import DecoderFrequencyTask, Frequency
from evaluate.figures import frequency as figures
from evaluate.inputs.rows import RowSplit
from evaluate.kernels.tokens.fourier import log_amplitudes
from evaluate.registry import EvaluationSettings
from evaluate.results.table import ResultStore
from evaluate.runner import evaluate
from evaluate.selection import SelectionRule
from evaluate.settings import Context, Selection
from stores.errors import MissingError, UserError
from tests.evaluate.planted_captures import amplitudes, write_captures
from tests.evaluate.planted_reconstruction import LinearDecoder, planted_reconstruction

SELECTION = Selection(train=SelectionRule(split="train"), validation=SelectionRule(split="val"))


@dataclass
class BlocksDecoder(LinearDecoder):
    """A decoder of two blocks, which double the tokens and add a checkerboard."""

    calls: list = field(default_factory=list)

    def block_tokens(self, tokens):
        self.calls.append(len(tokens))
        patches = tokens[:, 1:]
        yield patches
        yield 2 * patches
        yield 2 * patches + self.wave(patches.shape)

    @staticmethod
    def wave(shape):
        rows, columns = np.mgrid[:4, :4]
        return np.broadcast_to(np.cos(np.pi / 2 * (rows + columns)).reshape(1, 16, 1), shape).astype(np.float32) * 50


def run(folder, model, **settings):
    wanted = EvaluationSettings(selection=SELECTION, analyses=(Frequency(kind="frequency", resamples=100, **settings),))
    return evaluate("t", [model], wanted, ResultStore(folder / "results"))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_captures(tmp_path_factory.mktemp("frequency") / "store", grid=6)


def test_a_planted_wave_is_the_highest_at_its_frequency_and_matches_numpy():
    rows, columns = np.mgrid[:14, :14]
    noise = np.random.default_rng(0).normal(size=(2, 196, 3))
    np.testing.assert_allclose(log_amplitudes(noise, (14, 14)), amplitudes(noise, (14, 14)), atol=1e-9)
    for cycles in range(1, 7):
        wave = 20 * np.cos(2 * np.pi * cycles * (rows + columns) / 14).reshape(1, -1, 1) + noise[:1]
        assert log_amplitudes(wave, (14, 14))[0].argmax() == cycles


def test_rows_are_means_of_differences_with_their_frequency_and_depth(written, tmp_path):
    model, arrays = written
    found = run(tmp_path, model)
    validated = np.flatnonzero(model.samples["split"] == "val")
    for layer in range(2):
        tokens = arrays[f"tokens/block.{layer}"][validated]
        logs = amplitudes(tokens, (6, 6))
        expected = (logs - logs[:, :1]).mean(axis=0)
        rows = found.table[found.table["array"] == f"block.{layer}"]
        curve = rows[rows["metric"] == "delta_log_amplitude"]
        np.testing.assert_allclose(curve["value"].to_numpy(float), expected, atol=1e-5)
        np.testing.assert_allclose(curve["x_value"].to_numpy(float), np.arange(3) / 6)
        assert set(curve["x_name"]) == {"cycles_a_patch"}
        highest = rows[rows["metric"] == "delta_log_amplitude_highest"].iloc[0]
        assert highest["value"] == pytest.approx(expected[-1], abs=1e-5)
        assert (highest["x_name"], highest["x_value"]) == ("depth", layer + 1)
        assert highest["low"] < highest["value"] < highest["high"]
    assert run(tmp_path, model).n_reused == 2
    assert run(tmp_path, model, layers=(0,)).n_reused == 1
    drawn = figures.figure(found.table, list(found.results.values()))
    assert len(drawn.axes) == 2
    highest = found.table[found.table["metric"] == "delta_log_amplitude_highest"]
    np.testing.assert_array_equal(drawn.axes[0].lines[0].get_ydata(), highest["value"].to_numpy(float))
    assert "cycles a patch" in drawn.axes[1].get_xlabel()
    assert "nats" in drawn.axes[0].get_ylabel()


def test_the_line_goes_along_the_sums_where_other_points_were_captured_too(written, tmp_path):
    table = run(tmp_path, written[0]).table
    more = [table]
    for point in ("norm1", "mlp", "attention-residual"):
        some = table.assign(array=table["array"] + f".{point}")
        some.loc[some["x_name"] == "depth", "x_value"] -= 0.5
        more.append(some)
    drawn = figures.figure(pd.concat(more, ignore_index=True), [])
    np.testing.assert_array_equal(drawn.axes[0].lines[0].get_xdata(), [0.5, 1.0, 1.5, 2.0])
    alone = figures.figure(more[2], [])
    np.testing.assert_array_equal(alone.axes[0].lines[0].get_xdata(), [0.5, 1.5])


def test_the_same_images_in_other_rows_give_the_same_numbers(written, tmp_path):
    order = np.random.default_rng(5).permutation(48)
    moved = write_captures(tmp_path / "store", grid=6, order=order)[0]
    tables = [run(tmp_path / str(number), one).table for number, one in enumerate((written[0], moved))]
    for name in ("value", "low", "high"):
        numbers = [table[name].to_numpy(dtype=float) for table in tables]
        np.testing.assert_allclose(numbers[0], numbers[1], rtol=1e-12, atol=1e-15)


def test_a_point_that_was_not_captured_is_named(written, tmp_path):
    match = r'no captured arrays at "norm1" of "frequency" .*points norm1 to `capture_points`'
    with pytest.raises(MissingError, match=match):
        run(tmp_path, written[0], points=("norm1",))


@pytest.fixture(scope="module")
def encoded(tmp_path_factory):
    """A model whose decoder has blocks, with an amplitude captured of its tokens."""
    return planted_reconstruction(tmp_path_factory.mktemp("encoded") / "store")


def decoder_task(model, decoder, title="planted"):
    """The task of a model's decoder; it is given under the title ``planted``."""
    model = replace(model, title=title)
    context = Context(SELECTION, 0, decoders={"planted": lambda: decoder})
    split = RowSplit(model, SELECTION, "frequency")
    return DecoderFrequencyTask.of(model, Frequency(kind="frequency", resamples=100, decoder=True), context, split)


def test_blocks_of_a_decoder_have_the_amplitudes_of_their_tokens(encoded):
    task = decoder_task(encoded, BlocksDecoder())
    rows = task.compute().rows
    validated = np.flatnonzero(encoded.samples["split"] == "val")
    tokens = encoded.features["tokens/block.0.norm"][validated].astype(np.float32)
    by_depth = [tokens, 2 * tokens, 2 * tokens + BlocksDecoder.wave(tokens.shape)]
    highest = [row for row in rows if row["metric"] == "delta_log_amplitude_highest"]
    assert [row["array"] for row in highest] == ["decoder.embedding", "decoder.block.0", "decoder.block.1"]
    assert [row["x_value"] for row in highest] == [0, 1, 2]
    for row, of_depth in zip(highest, by_depth, strict=True):
        logs = amplitudes(of_depth, (4, 4))
        assert row["value"] == pytest.approx((logs[:, -1] - logs[:, 0]).mean(), abs=1e-5)
        assert row["outcome"] == "decoder"
    assert highest[2]["value"] > highest[1]["value"] + 1
    assert task.peak_bytes() > 0
    assert "decoder" in task.inputs()


def test_decoders_that_cannot_be_read_are_refused_with_a_sentence(encoded):
    with pytest.raises(UserError, match=r"does not give the tokens of its blocks .* set decoder = false"):
        decoder_task(encoded, LinearDecoder())
    with pytest.raises(UserError, match="belongs to an encoder with other weights"):
        decoder_task(encoded, BlocksDecoder(encoder="another"))
    with pytest.raises(UserError, match="needs the decoder of other and was given none"):
        decoder_task(encoded, BlocksDecoder(), "other")
