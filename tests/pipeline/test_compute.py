"""Devices that can be chosen, and what the compute record says of them."""

from types import SimpleNamespace

import pytest
import torch

from pipeline.extraction.compute import Compute, choose_compute, reconcile_with_recorded
from pipeline.extraction.model_pass.precision import converted
from stores.errors import UserError
from stores.format.machines import differences

CPU = Compute("cpu", batch_size=4, threads=1)


@pytest.fixture
def two_gpus(monkeypatch):
    """Two GPUs as far as the compute record can tell."""
    found = SimpleNamespace(name="NVIDIA H100 80GB HBM3", major=9, minor=0, multi_processor_count=132)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: found)
    real = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *shape, device="cpu", **more: real(*shape, **more))
    return found


@pytest.mark.parametrize("device", ["mps", "xpu", "meta", "cpu:0", "cuda:", "cuda:-1", "gpu", ""])
def test_other_devices_are_refused_in_one_sentence(device):
    with pytest.raises(UserError, match=r"--device takes cpu, cuda, cuda:N \(the N-th GPU\) or auto$"):
        choose_compute(device, None)


def test_a_gpu_that_is_not_there_is_refused_in_one_sentence(two_gpus, monkeypatch):
    assert choose_compute("cuda:1", None).batch_size == 128
    assert choose_compute(None, 3).device == "cuda"
    with pytest.raises(UserError, match=r"^device 'cuda:2' cannot be used: there are 2 GPUs, cuda:0 to cuda:1$"):
        choose_compute("cuda:2", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"finds no NVIDIA GPU\): try --device cpu$"):
        choose_compute("cuda", None)
    assert choose_compute("auto", None) == Compute("cpu", 16, torch.get_num_threads())


def test_the_record_of_a_gpu_says_what_decides_its_kernels(two_gpus, monkeypatch):
    record = Compute("cuda:1", 128, 2).record("bfloat16")
    assert record["device"] == "cuda"
    assert record["device_kind"] == "NVIDIA H100 80GB HBM3"
    assert (record["gpu_architecture"], record["gpu_multiprocessors"]) == ("sm_90", 132)
    assert {"tf32", "tf32_convolutions", "compiled", "fused_attention", "cuda", "cudnn"} <= record.keys()
    assert "cpu" not in record
    two_gpus.name, two_gpus.multi_processor_count = "NVIDIA H100 PCIe", 114
    other = Compute("cuda", 128, 7).record("bfloat16")
    assert set(differences(record, other)) == {"device_kind", "gpu_multiprocessors"}, "threads decide nothing here"
    _, lines = reconcile_with_recorded(Compute("cuda", 128, 2), record, allow_mixed=False)
    assert "device_kind was NVIDIA H100 80GB HBM3 and is NVIDIA H100 PCIe here" in lines[0]


def test_tf32_is_in_the_record_and_marks_what_it_changes(two_gpus):
    gpu = Compute("cuda", 128, 2)
    before = gpu.record("bfloat16")
    assert not gpu.record("float32")["tf32_convolutions"], "it is off during the pass"
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = False, True
    try:
        assert set(differences(before, gpu.record("bfloat16"))) == {"tf32", "tf32_convolutions"}
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = True, False


def test_float32_runs_without_tf32_in_convolutions():
    """cuDNN rounds them to 10 bits by default, the matrix products of PyTorch not."""
    seen = {}
    assert torch.backends.cudnn.allow_tf32
    for precision in ("float32", "bfloat16"):
        with converted(torch.nn.Linear(2, 2), "cpu", precision):
            seen[precision] = torch.backends.cudnn.allow_tf32
    assert seen == {"float32": False, "bfloat16": True}
    assert torch.backends.cudnn.allow_tf32


def test_constants_of_the_normalisation_are_made_once(tmp_path):
    from pipeline.models import build_model
    from stores.specs import Size
    from tests.pipeline.tiny import TINY

    model = build_model(TINY, Size(height=32, width=32), tmp_path)
    device = torch.device("cpu")
    assert all(one is again for one, again in zip(model.constants(device), model.constants(device), strict=True))
    pixels = torch.randint(0, 256, (2, 32, 32, 3)).float()
    mean, std = torch.tensor(model.record.mean), torch.tensor(model.record.std)
    assert torch.equal(model.normalise(pixels), ((pixels / 255.0 - mean) / std).permute(0, 3, 1, 2))
