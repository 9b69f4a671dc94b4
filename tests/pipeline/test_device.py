"""Copies beside the computation: their order, and that no memory is written before its reader gave it back."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pipeline.extraction import run
from pipeline.extraction.compute import Compute
from pipeline.extraction.loading import Batch
from pipeline.extraction.model_pass.device import Gpu, Processor, open_device
from pipeline.extraction.model_pass.forward import forward
from pipeline.extraction.model_pass.running import ModelPass
from pipeline.extraction.progress import StageSeconds
from pipeline.rows.samples import Samples
from stores import Store
from stores.format.layout import RowRange
from tests.pipeline.stand_in_gpu import AsBefore, Machine, StandIn
from tests.pipeline.tiny import recipe, write_camvid

ROWS = 4


class Mean(ModelPass):
    """A model whose one array is the first pixel of each row, doubled."""

    arrays = (SimpleNamespace(name="tokens/block.0", fill=0),)

    def __init__(self):
        self.model = SimpleNamespace(record=SimpleNamespace(name="mean"))

    def __call__(self, pixels, tile_ids, rows):
        values = 2 * pixels[:, 0, 0, :1]
        return {"tokens/block.0": values}, values.sum()[None]


def batches(device, n_batches, last=ROWS):
    """Batches of which every pixel is the row's number, written into slots as the decoders do."""
    for number in range(n_batches):
        n_rows = last if number == n_batches - 1 else ROWS
        rows = tuple(range(number * ROWS, number * ROWS + n_rows))
        slot = device.input_slot((ROWS, 2, 2, 3))
        slot[:] = number * ROWS + np.arange(ROWS, dtype=np.uint8)[:, None, None, None]
        yield Batch(RowRange(0, 0, 1000), rows, slot, {})


def through(device, n_batches, last=ROWS, keep=lambda values: values.copy()):
    samples = object.__new__(Samples)
    samples.__dict__.update(tiles=[("a", SimpleNamespace(box=None))] * 1000, bad_images={})
    return [
        (batch.rows, keep(arrays["tokens/block.0"][:, 0]))
        for batch, arrays in forward(batches(device, n_batches, last), Mean(), samples, device, StageSeconds())
    ]


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize(("n_batches", "last"), [(1, 4), (1, 2), (2, 4), (7, 3)])
def test_every_row_has_its_values_on_every_device(index, n_batches, last):
    found = through(Gpu(StandIn(Machine(), index)), n_batches, last)
    assert [row for rows, _ in found for row in rows] == list(range(ROWS * (n_batches - 1) + last))
    for rows, values in found:
        np.testing.assert_array_equal(values, 2.0 * np.array(rows))


def test_the_stand_in_shows_what_an_event_of_another_device_did():
    """On GPU 1 the event stood on an idle stream of GPU 0: the last batch held whatever was in its block, silently."""
    for index, is_right in ((0, True), (1, False)):
        (*_, (rows, values)) = through(Gpu(AsBefore(Machine(), index)), 3)
        assert rows == tuple(range(2 * ROWS, 3 * ROWS))
        assert np.array_equal(values, 2.0 * (2 * ROWS + np.arange(ROWS))) == is_right


def test_copies_run_beside_the_model_and_in_order():
    machine = Machine()
    through(Gpu(StandIn(machine, 1)), 2)
    waits = [line for line in machine.done if "compute1" in line or "host" in line]
    assert waits[0] == "up waits for compute1", "memory of the GPU may still be read by what was there before"
    one = ["compute1 waits for up", "down waits for compute1"]
    assert [line for line in waits if not line.startswith("up")] == [*one, *one, *["host waits for down"] * 2]
    assert machine.done.count("copy up") == 2
    assert machine.done.count("copy down") == 4, "the array and its sum, of each batch"


def test_pixels_are_not_written_over_while_the_model_may_read_them():
    """The GPU has memory for two batches of pixels: the third waits until the first was read."""
    machine = Machine()
    device = Gpu(StandIn(machine, 0))
    through(device, 5)
    assert sum(line == "up waits for compute0" for line in machine.done) == 5
    assert len(device._uploads) == 2


def test_a_slot_is_used_again_only_after_its_copy():
    machine = Machine()
    device = Gpu(StandIn(machine, 1))
    first = device.input_slot((2, 2, 2, 3))
    first[:] = 1
    with device.guard():
        there = device.pixels(first)
    again = device.input_slot((2, 2, 2, 3))
    assert again.ctypes.data == first.ctypes.data, "the model's stream waited for the copy"
    assert float(there.sum()) == 24
    device.cuda.wait = lambda stream, event: None  # nobody waits: the copy is still to come
    with device.guard():
        device.pixels(again)
    assert device.input_slot((2, 2, 2, 3)).ctypes.data != again.ctypes.data


def test_results_are_not_written_over_while_something_refers_to_them():
    machine = Machine()
    device = Gpu(StandIn(machine, 1))
    with device.guard():
        one = device.fetch({"a": torch.arange(6.0), "b": torch.ones(3, dtype=torch.int32)})
        held = one.wait()
        two = device.fetch({"a": torch.full((6,), 9.0), "b": torch.full((3,), 8, dtype=torch.int32)})
        kept = two.wait()
        np.testing.assert_array_equal(held["a"], np.arange(6.0))
        assert len(machine.blocks) == 2
        part = held["b"][1:]
        del held
        assert len(device.blocks) == 0, "a part of an array holds the block"
        del part
        assert len(device.blocks) == 1
        three = device.fetch({"a": torch.full((5,), 5.0)}).wait()
    np.testing.assert_array_equal(three["a"], np.full(5, 5.0))
    assert len(machine.blocks) == 2, "the block that nothing refers to is used again"
    np.testing.assert_array_equal(kept["a"], np.full(6, 9.0))


def test_few_blocks_serve_many_batches():
    machine = Machine()
    through(Gpu(StandIn(machine, 0)), 20)
    assert len(machine.blocks) <= 2 + 2


def test_a_consumer_that_keeps_views_keeps_their_blocks():
    """As the threads that write do: they are handed parts of the arrays."""
    machine = Machine()
    device = Gpu(StandIn(machine, 0))
    views = through(device, 6, keep=lambda values: values[1:])
    for rows, values in views:
        np.testing.assert_array_equal(values, 2.0 * np.array(rows)[1:])
    assert not device.blocks
    del views, values
    assert len(device.blocks) == 6


def test_an_array_of_the_callers_own_is_read_before_it_is_returned():
    device = Gpu(StandIn(Machine(), 1))
    own = np.full((2, 2, 2, 3), 3, np.uint8)
    with device.guard():
        there = device.pixels(own)
        own[:] = 0
    assert float(there.sum()) == 3 * 24


def test_the_processor_copies_nothing():
    device = open_device("cpu")
    assert isinstance(device, Processor)
    values = torch.arange(3.0)
    assert np.shares_memory(device.fetch({"a": values}).wait()["a"], values.numpy())
    for rows, found in through(device, 3, last=2):
        np.testing.assert_array_equal(found, 2.0 * np.array(rows))


def test_a_set_made_through_the_streams_is_that_of_the_processor(tmp_path, monkeypatch):
    """The whole extraction on GPU 1 of the stand-in; the model itself runs on the processor."""
    write_camvid(tmp_path / "data" / "camvid")
    made = []
    for name, index in (("cpu", None), ("gpu", 1)):
        if index is not None:
            monkeypatch.setattr("pipeline.extraction.computing.open_device", lambda _: Gpu(StandIn(Machine(), 1)))
        where = run.Workspace(Store(tmp_path / name), tmp_path / "data", tmp_path)
        made.append(run.extract_recipe(recipe(), where, Compute("cpu", 3, 1)).outcomes[0].set)
    assert made[0].stored_digest() == made[1].stored_digest()
