"""What only a real GPU can show: `make gpu-check`, or `pytest -m gpu`. Without one every test skips and says so."""

import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluate.neighbours.knn import nearest
from pipeline.captures.table import wanted_arrays
from pipeline.extraction import run
from pipeline.extraction.compute import choose_compute
from pipeline.extraction.job import prepare
from pipeline.extraction.model_pass.device import open_device
from pipeline.extraction.model_pass.precision import converted
from pipeline.extraction.model_pass.running import ModelPass
from pipeline.extraction.options import ExtractOptions
from pipeline.extraction.recomputing.fidelity import recompute_rows
from pipeline.models import build_model
from pipeline.recipe import FeatureRecipe, ModelRecipe
from stores import Store
from stores.errors import UserError
from stores.maintenance.verify import verify
from stores.specs import Size
from tests.pipeline.test_device import ROWS, through
from tests.pipeline.tiny import TINY, recipe, write_camvid

pytestmark = pytest.mark.gpu
HIGHEST = f"cuda:{max(torch.cuda.device_count() - 1, 0)}"
VIT = ModelRecipe(name="vit_small_patch16_224", weights="random")
SIZE = Size(height=224, width=224)
KEEP = FeatureRecipe(norm="both", store_dtype="float32")
two_gpus = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are fewer than two GPUs")


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return build_model(VIT, SIZE, tmp_path_factory.mktemp("vit"))


@pytest.fixture
def where(tmp_path):
    write_camvid(tmp_path / "data" / "camvid")
    return lambda name="store": run.Workspace(Store(tmp_path / name), tmp_path / "data", tmp_path)


def pixels(n=8, device="cpu"):
    numbers = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, 224, 224, 3), generator=numbers).float().to(device)


def captured(model, precision, device, values, compiled=False):
    capture = ModelPass(model, wanted_arrays(model, KEEP), precision)
    with converted(model.module, device, precision), open_device(device).guard(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler's own
        if not compiled:
            return {name: one.cpu() for name, one in capture(values.to(device))[0].items()}
        with capture.compiled():
            return {name: one.cpu() for name, one in capture(values.to(device))[0].items()}


def error(values, exact):
    distance = torch.linalg.vector_norm(values.float() - exact.float(), dim=-1)
    return float((distance / torch.linalg.vector_norm(exact.float(), dim=-1)).median())


def extracted(where, device="cuda", batch_size=4, name="store", wanted=None, **options):
    compute = choose_compute(device, batch_size)
    return run.extract_recipe(wanted or recipe(), where(name), compute, ExtractOptions(**options)).outcomes[0]


class Slow:
    """Delays the current stream before every copy down, so that what does not wait for it reads too early."""

    def __init__(self, device):
        self.device, self.fetch = device, device.fetch
        device.fetch = self

    def __call__(self, values):
        torch.cuda._sleep(20_000_000)
        return self.fetch({name: one + 0 for name, one in values.items()})


@pytest.mark.parametrize("name", sorted({"cuda:0", HIGHEST}))
@pytest.mark.parametrize(("n_batches", "last"), [(1, 4), (2, 1), (9, 3)])
def test_every_row_is_right_up_to_the_last_batch(name, n_batches, last):
    """The event was once recorded on GPU 0: on another one the last batch held the rows of an earlier one."""
    device = open_device(name)
    Slow(device)
    found = through(device, n_batches, last)
    assert [row for rows, _ in found for row in rows] == list(range(ROWS * (n_batches - 1) + last))
    for rows, values in found:
        np.testing.assert_array_equal(values, 2.0 * np.array(rows))


@two_gpus
def test_a_pass_on_the_second_gpu_leaves_the_first_alone():
    torch.cuda.synchronize(0)
    before = torch.cuda.memory_allocated(0)
    through(open_device("cuda:1"), 5)
    assert torch.cuda.memory_allocated(0) == before
    assert torch.cuda.current_device() == 0


@two_gpus
def test_two_gpus_of_a_kind_make_the_same_set(where):
    if torch.cuda.get_device_name(0) != torch.cuda.get_device_name(1):
        pytest.skip("the two GPUs are of different kinds")
    made = [extracted(where, f"cuda:{index}", name=f"gpu{index}").set for index in range(2)]
    assert made[0].stored_digest() == made[1].stored_digest()


def test_slots_are_page_locked_and_few():
    device = open_device(HIGHEST)
    slot = device.input_slot((4, 8, 8, 3))
    assert torch.from_numpy(slot).is_pinned()
    through(device, 30)
    assert len(device.blocks) <= 2
    assert all(block.is_pinned() for block in device.blocks)
    assert len(device._slots) <= 4


def test_copies_have_streams_of_their_own():
    device = open_device(HIGHEST)
    with device.guard():
        streams = {device.up.cuda_stream, device.down.cuda_stream, device.cuda.current().cuda_stream}
    assert len(streams) == 3
    assert {one.device.index for one in (device.up, device.down)} == {int(HIGHEST[5:])}


def test_nothing_waits_for_the_gpu_between_batches(vit):
    """Uploading, the model and starting the download: PyTorch raises if one of them synchronises."""
    device = open_device(HIGHEST)
    capture = ModelPass(vit, wanted_arrays(vit, KEEP), "bfloat16")
    with converted(vit.module, HIGHEST, "bfloat16"), device.guard():
        for number in range(4):
            slot = device.input_slot((4, 224, 224, 3))
            slot[:] = number
            torch.cuda.set_sync_debug_mode("error" if number else "default")  # the first makes constants and memory
            try:
                stored, sums = capture(device.pixels(slot))
                fetched = device.fetch({**stored, "": sums})
            finally:
                torch.cuda.set_sync_debug_mode("default")
            fetched.wait()


def test_two_runs_give_the_same_bits(where):
    one, two = (extracted(where, name=name).set for name in ("one", "two"))
    assert one.stored_digest() == two.stored_digest()
    assert one.compute["device"] == "cuda"
    assert one.compute["gpu_architecture"].startswith("sm_")


def test_rows_depend_on_neither_their_place_nor_their_neighbours_in_a_batch(vit):
    """What is taken over from other sets relies on it (docs/decisions.md)."""
    values, order = pixels(8), torch.tensor([5, 0, 7, 2, 1, 6, 3, 4])
    for precision in ("float32", "bfloat16"):
        plain = captured(vit, precision, HIGHEST, values)
        moved = captured(vit, precision, HIGHEST, values[order])
        for name, one in plain.items():
            assert torch.equal(moved[name], one[order]), f"{name} in {precision}"


def test_half_a_batch_gives_the_values_of_the_whole_within_rounding(vit):
    whole, half = (captured(vit, "float32", HIGHEST, pixels(8)[:n]) for n in (8, 4))
    for name, one in half.items():
        torch.testing.assert_close(one, whole[name][:4], rtol=1e-3, atol=1e-3)


def test_float32_is_float32_as_on_the_processor(vit):
    """Without TF32: the patch embedding alone would err by 1e-3 with it."""
    here, there = (captured(vit, "float32", device, pixels(4)) for device in ("cpu", HIGHEST))
    for name, one in here.items():
        assert error(there[name], one) < 2e-5, name


def test_autocast_errs_less_than_a_cast_module(vit):
    exact = captured(vit, "float32", HIGHEST, pixels(4))
    cast, auto = (captured(vit, name, HIGHEST, pixels(4)) for name in ("bfloat16", "bfloat16-autocast"))
    name = "tokens/block.11.norm"
    assert 0 < error(auto[name], exact[name]) < error(cast[name], exact[name]) < 0.05


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_compiled_pass_is_the_plain_one_within_rounding(vit, precision):
    plain = captured(vit, precision, HIGHEST, pixels(4))
    compiled = captured(vit, precision, HIGHEST, pixels(4), compiled=True)
    bound = 1e-4 if precision == "float32" else 0.03
    for name, one in plain.items():
        assert error(compiled[name], one) < bound, name


def test_a_set_is_that_of_the_processor_within_rounding_and_verifies(where):
    wanted = recipe(features=FeatureRecipe(norm="both", store_dtype="float32"))
    there = extracted(where, HIGHEST, wanted=wanted)
    here = extracted(where, "cpu", name="cpu", wanted=wanted)
    assert there.missing == {}
    assert all(not verdict.findings for verdict in verify(where().store))
    assert there.set.digest == here.set.digest
    for name in there.set.arrays:
        np.testing.assert_allclose(there.set[name][:], here.set[name][:], rtol=1e-3, atol=1e-4)


def test_fidelity_finds_no_difference_on_the_same_gpu(where, tmp_path):
    made = extracted(where).set
    samples = run.read_samples(recipe(), where())
    job = prepare(recipe(), TINY, build_model(TINY, recipe().frame.input, tmp_path), samples, where().store)
    again = recompute_rows(job, choose_compute("cuda", 4), 9, 0)
    for name, values in again.arrays.items():
        np.testing.assert_array_equal(values, made[name][:][again.rows])


KILLED = """
import sys
from pathlib import Path
from pipeline.extraction import run
from pipeline.extraction.compute import choose_compute
from pipeline.extraction.options import ExtractOptions
from stores import Store
from tests.pipeline.tiny import recipe
where = run.Workspace(Store(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[1]))
show = lambda progress: print(progress.rows_done, flush=True)
run.extract_recipe(recipe(), where, choose_compute("cuda", 4), ExtractOptions(on_progress=show))
"""


def test_a_killed_extraction_resumes_to_the_same_bytes(where, tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path / "store"), str(tmp_path / "data")]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        for line in process.stdout:
            if line.strip().isdigit() and int(line) >= 16:
                process.send_signal(signal.SIGKILL)
                break
    resumed, alone = extracted(where), extracted(where, name="alone")
    assert resumed.set.stored_digest() == alone.set.stored_digest()


def test_a_batch_that_does_not_fit_is_halved_on_a_real_device(where, monkeypatch):
    total = torch.cuda.get_device_properties(0).total_memory
    original = ModelPass.__call__

    def hungry(self, values, tile_ids=(), rows=None):
        torch.empty(len(values) * total // 4, dtype=torch.uint8, device=values.device)
        return original(self, values, tile_ids, rows)

    monkeypatch.setattr(ModelPass, "__call__", hungry)
    made = extracted(where)
    assert made.set.compute["batch_size"] in (1, 2), "one if others use the GPU"
    assert any("do not fit the free memory of cuda: batches of 2 are used" in note for note in made.notes)
    assert made.missing == {}
    assert torch.cuda.memory_allocated() < total // 4


def test_the_search_of_faiss_on_a_gpu_finds_the_exact_neighbours():
    faiss = pytest.importorskip("faiss")
    if not getattr(faiss, "get_num_gpus", lambda: 0)():
        pytest.skip("this build of FAISS has no GPU code, or finds no GPU: install faiss-gpu>=1.15")
    numbers = np.random.default_rng(0)
    bank, queries = (numbers.standard_normal((n, 64), dtype=np.float32) for n in (20_000, 200))
    exact = nearest(bank, queries, 5)
    found = faiss.knn_gpu(faiss.StandardGpuResources(), queries, bank, 5)[1]
    assert (found == exact.indices).mean() > 0.999


def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(UserError, match=r"device 'cuda:99' cannot be used: there (is one|are \d+) GPU"):
        choose_compute("cuda:99", None)
