"""The forecast of an extraction: which stage limits it, at which rate, and what would help. Rates are stand-ins."""

import tempfile

import numpy as np
import pytest

from pipeline.extraction import run
from pipeline.extraction.compute import Compute
from pipeline.extraction.job import prepare
from pipeline.extraction.model_pass.device import Gpu
from pipeline.extraction.plan import measuring, plan_models
from pipeline.extraction.plan.forecast import STAGES, Cost, Forecast, Machine
from pipeline.models import build_model
from stores import Store
from tests.pipeline.stand_in_gpu import Machine as Gpus
from tests.pipeline.stand_in_gpu import StandIn
from tests.pipeline.tiny import TINY, recipe, write_camvid

FAST = {"decode": 2000, "model": 2500, "hash": 5200, "write": 8000, "read back": 9000}
CPU = Compute("cpu", batch_size=8, threads=1)


def forecast(cores=64, workers=8, on_gpu=True, cpu=None, **rates):
    """A forecast from rows a second; ``cpu`` has the CPU seconds of a row, otherwise as many as pass."""
    known = FAST | {name.replace("_", " "): rate for name, rate in rates.items()}
    costs = {
        name: None if rate is None else Cost(1 / rate, (cpu or {}).get(name, 1 / rate)) for name, rate in known.items()
    }
    return Forecast(Machine(cores, workers, on_gpu), costs)


def test_stages_overlap_and_the_slowest_decides():
    found = forecast(decode=480, workers=8, cpu={"decode": 8 / 480})
    assert not found.cores_decide
    assert found.limit == "decode"
    assert found.seconds_per_row == pytest.approx(1 / 480)
    assert list(found.rates) == list(STAGES)
    assert found.sentence() == (
        "decode, 480 rows/s with 8 threads (model 2,500, hash 5,200, write 8,000, read back 9,000): "
        "a faster GPU will not help; more --workers will"
    )


def test_what_shares_the_cores_adds_up():
    cpu = {"decode": 0.02, "model": 0.16, "hash": 0.01, "write": 0.0, "read back": 0.01}
    found = forecast(cores=2, workers=2, on_gpu=False, cpu=cpu, decode=100, model=12.5)
    assert found.cores_decide
    assert found.seconds_per_row == pytest.approx(0.1)
    assert found.rate_without("model") == pytest.approx(50)
    assert found.sentence() == (
        "model, 10 rows/s on 2 cores, of which it takes 80% (alone: decode 100, model 12, hash 5,200, write 8,000, "
        "read back 9,000): a GPU will help, up to 50 rows/s on these cores and this disk; so will more cores"
    )
    unknown = forecast(cores=2, workers=2, on_gpu=False, cpu=cpu, decode=100, model=12.5, write=None)
    assert "on these cores (writing was not measured); so will" in unknown.sentence()
    on_gpu = forecast(cores=2, workers=2, cpu=cpu, decode=100, model=12.5)
    assert (on_gpu.limit, on_gpu.cores_decide) == ("model", False), "the model of a GPU takes no cores"
    assert on_gpu.seconds_per_row == pytest.approx(1 / 12.5)


NO_GPU = "neither a faster GPU nor more of them will help; "
PROCESSES = "a faster GPU will not help; fewer arrays, or more processes with --shard, will"


def test_cores_that_others_take_are_said():
    cpu = {"decode": 0.01, "model": 0.2, "hash": 0.01, "write": 0.0, "read back": 0.0}
    found = forecast(cores=2, on_gpu=False, cpu=cpu, model=4)
    assert not found.cores_decide
    assert found.sentence().startswith("model, 4 rows/s on 0.8 of 2 cores (decode 2,000, hash")


@pytest.mark.parametrize(
    ("limit", "advice", "settings"),
    [
        ("model", "a faster GPU, or more of them with --shard, will help, up to 2,000 rows/s on", {"model": 300}),
        ("decode", f"{NO_GPU}more cores will", {"decode": 480, "workers": 62, "cpu": {"decode": 62 / 480}}),
        ("decode", f"{NO_GPU}more --workers, or a faster disk for the images, will", {"decode": 480}),
        ("write", f"{NO_GPU}a faster disk or fewer arrays will", {"write": 90}),
        ("hash", PROCESSES, {"hash": 90}),
        ("read back", PROCESSES, {"read_back": 90}),
        ("hash", f"{NO_GPU}more cores or fewer arrays will", {"cores": 4, "cpu": {"hash": 0.1, "decode": 0.05}}),
        ("decode", "a GPU will not help beyond 20 rows/s; more cores will", {"cpu": {"decode": 0.1, "model": 0.05}}),
        ("decode", "a GPU will not help; more cores will", {"cpu": {"decode": 0.1, "model": 0.001}}),
    ],
)
def test_the_words_say_what_helps(limit, advice, settings):
    processor = {"cores": 2, "on_gpu": False} if advice.startswith("a GPU") else {}
    found = forecast(**processor, **settings)
    assert found.limit == limit
    assert advice in found.sentence()


def test_a_stage_that_was_not_measured_limits_nothing():
    found = forecast(write=None, model=300)
    assert found.rates["write"] is None
    assert "write not measured" in found.sentence()
    assert found.limit == "model"


@pytest.fixture
def site(tmp_path):
    write_camvid(tmp_path / "data" / "camvid")
    return lambda store: run.Workspace(Store(store), tmp_path / "data", tmp_path)


@pytest.fixture
def quick(monkeypatch):
    """Measurements end at once: a number of each thread."""
    for name in ("DECODE_SECONDS", "HASH_SECONDS", "WRITE_SECONDS"):
        monkeypatch.setattr(measuring, name, 0.0)


def planned(where, **options):
    wanted = recipe()
    return list(plan_models(wanted, where, run.read_samples(wanted, where, remember=False), CPU, **options))


@pytest.mark.usefixtures("quick")
def test_plan_measures_every_stage_and_leaves_no_file(site, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    [plan] = planned(site(tmp_path / "deep" / "store"), workers=3)
    assert sorted(tmp_path.rglob("*")) == before
    assert plan.forecast.machine.workers == 3
    written = plan.canonical()
    assert list(written["rates"]) == list(STAGES)
    assert all(rate > 0 for rate in written["rates"].values())
    assert written["limit"] in STAGES
    assert written["seconds_per_row"] > 0
    assert written["seconds"] == pytest.approx(28 * written["seconds_per_row"])


def test_nothing_is_measured_without_timing(site, tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "measured", None)
    [plan] = planned(site(tmp_path / "store"), timed=False)
    written = plan.canonical()
    assert (written["rates"], written["limit"], written["seconds"]) == ({}, None, None)


@pytest.mark.usefixtures("quick")
def test_writing_is_not_measured_where_nothing_may_be_written(site, tmp_path, monkeypatch):
    [plan] = planned(site("memory://forecast"))
    assert plan.forecast.rates["write"] is None

    def refuse(**options):
        raise PermissionError

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    [plan] = planned(site(tmp_path / "store"))
    assert plan.forecast.rates["write"] is None
    assert plan.forecast.rates["hash"] > 0


@pytest.mark.usefixtures("quick")
def test_models_share_what_does_not_depend_on_them(site, tmp_path, monkeypatch):
    calls = []
    for name in ("decode_cost", "model_cost", "hash_work"):
        original = getattr(measuring, name)
        monkeypatch.setattr(
            measuring, name, lambda *args, name=name, original=original: calls.append(name) or original(*args)
        )
    wanted = recipe(TINY, TINY.model_copy(update={"seed": 4, "title": "another"}))
    where = site(tmp_path / "store")
    assert len(list(plan_models(wanted, where, run.read_samples(wanted, where), CPU))) == 2
    assert calls == ["decode_cost", "model_cost", "hash_work", "model_cost"]


def job(where, tmp_path):
    wanted = recipe()
    model = build_model(TINY, wanted.frame.input, tmp_path)
    return prepare(wanted, TINY, model, run.read_samples(wanted, where), where.store)


def test_batches_of_a_gpu_are_timed_after_the_first_and_all_are_fetched(site, tmp_path, monkeypatch):
    gpus = Gpus()
    monkeypatch.setattr(measuring, "open_device", lambda name: Gpu(StandIn(gpus, 0)))
    cost = measuring.model_cost(job(site(tmp_path / "store"), tmp_path), np.zeros((1, 32, 32, 3), np.uint8), CPU)
    assert cost.seconds > 0
    assert gpus.done.count("host waits for down") == measuring.MOST_BATCHES


def test_a_gpu_holds_two_blocks_of_results(site, tmp_path):
    made = job(site(tmp_path / "store"), tmp_path)
    assert made.buffer_bytes(8, on_gpu=True) - made.buffer_bytes(8, on_gpu=False) == 8 * made.row_bytes
