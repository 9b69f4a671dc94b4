"""`patchbank plan` says which stage limits an extraction, in words and as JSON."""

import json

from pipeline.extraction.plan.forecast import Cost, Forecast, Machine
from pipeline.extraction.plan.measuring import Measurements

COSTS = {"decode": Cost(1 / 480, 8 / 480), "model": Cost(1 / 1900, 0.001), "write": None}
RATES = {name: None if cost is None else 1 / cost.seconds for name, cost in COSTS.items()}


def test_plan_says_which_stage_limits(site, run, monkeypatch):
    forecast = Forecast(Machine(cores=64, workers=8, on_gpu=True), COSTS)
    monkeypatch.setattr(Measurements, "forecast", lambda self, job: forecast)
    code, out, _ = run("plan", "tiny.toml")
    assert code == 0
    [line] = [line for line in out.splitlines() if line.startswith("limits  ")]
    assert line == (
        "limits  test_vit: decode, 480 rows/s with 8 threads (model 1,900, write not measured): a faster GPU will not "
        "help; more --workers will"
    )
    [planned] = json.loads(run("plan", "tiny.toml", "--json")[1])["models"]
    assert (planned["rates"], planned["limit"]) == (RATES, "decode")
    assert planned["seconds_per_row"] == 1 / 480
    [planned] = json.loads(run("plan", "tiny.toml", "--json", "--no-time")[1])["models"]
    assert (planned["rates"], planned["limit"]) == ({}, None)
    assert "limits" not in run("plan", "tiny.toml", "--no-time")[1]
    assert not (site / "store").exists(), "plan wrote something"


def test_a_slow_rate_is_told_in_a_unit_that_fits(site, run, monkeypatch):
    """A model that keeps means alone writes a few kilobytes a second, which was told as 0 MB/s."""
    slow = Forecast(Machine(cores=2, workers=2, on_gpu=False), {**COSTS, "model": Cost(30.0, 30.0)})
    monkeypatch.setattr(Measurements, "forecast", lambda self, job: slow)
    out = run("plan", "tiny.toml")[1]
    assert " kB/s " in out
    assert " 0 MB/s" not in out
