"""How far a long evaluation is, and that one with nothing to do draws nothing."""

from types import SimpleNamespace

import numpy as np
import pytest

from commands.terminal.evaluation_progress import EvaluationProgress
from evaluate.kernels.probing.penalties import choose_penalty
from evaluate.kernels.progress import Step, listening
from evaluate.neighbours.knn import nearest
from tests.tiny_experiment import EXPERIMENT, wrong


def told(monkeypatch, moments, steps):
    """Return what is printed of steps that come at some moments, in seconds."""
    printed = []
    monkeypatch.setattr("commands.terminal.evaluation_progress.say", printed.append)
    times = iter(moments)
    progress = EvaluationProgress(lambda: next(times))
    progress.start(4)
    for step in steps:
        if isinstance(step, Step):
            progress.step(step)
        else:
            progress.task(SimpleNamespace(title=step, description="k-NN"), False)
    return printed


def test_tasks_are_counted_with_the_time_left(monkeypatch):
    lines = told(monkeypatch, [0, 0, 0, 30, 60], ["A", "B", "C"])
    assert lines == [
        "A: k-NN (1 of 4)",
        "B: k-NN (2 of 4, 30 s, about 90 s left)",
        "C: k-NN (3 of 4, 60 s, about 60 s left)",
    ]


def test_steps_inside_a_task_are_told_every_ten_seconds(monkeypatch):
    steps = [Step("blocks", done, 100) for done in (10, 20, 30, 40)]
    lines = told(monkeypatch, [0, 0, 0, 2, 7, 12, 13], ["A", *steps])
    assert lines == ["A: k-NN (1 of 4)", "  30 of 100 blocks, 35 s left, 12 s so far"]


def test_the_last_row_is_told_once_though_rows_that_are_taken_over_follow(monkeypatch):
    from commands.terminal.output import progress
    from pipeline.extraction.progress import Progress

    printed = []
    monkeypatch.setattr("commands.terminal.output.say", printed.append)
    with progress() as tell:
        for done in (4, 8, 8, 8):
            tell(Progress("A", done, 8, float(done), "model"))
        tell(Progress("B", 8, 8, 1.0, "model"))
    assert printed == ["A: 8/8 rows, 1.0 rows/s", "B: 8/8 rows, 8.0 rows/s"]


def test_searches_and_probes_report_their_steps():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(4000, 8)).astype(np.float32)
    steps = []
    with listening(steps.append):
        nearest(features, features, 3)
        choose_penalty(
            features[:400],
            rng.integers(0, 3, 400),
            np.arange(400) // 40,
            3,
            standardise=False,
            seed=0,
            penalties=[1e-3],
        )
    searched = [step for step in steps if step.what == "blocks of distances"]
    assert searched[-1].done == searched[-1].total
    assert any("probe fits" in step.what and step.done for step in steps)
    n_steps = len(steps)
    nearest(features, features, 3)
    assert len(steps) == n_steps


@pytest.mark.slow
def test_an_evaluation_with_nothing_to_do_draws_nothing(site, run, monkeypatch, svg_alone):
    assert run("extract", "tiny.toml")[0] == 0
    assert run("evaluate", "tiny.toml")[0] == 0
    page = site / "results" / "tiny" / "report.html"
    before = page.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "evaluate.report.writing.write_report", lambda *_, **__: pytest.fail("the page was written again")
        )
        assert run("evaluate", "tiny.toml")[1].startswith("made    0 results")
    figure = next((site / "results" / "tiny" / "figures").iterdir())
    figure.unlink()
    assert run("evaluate", "tiny.toml")[0] == 0
    assert figure.exists()
    page.write_text("edited")
    assert run("evaluate", "tiny.toml")[0] == 0
    assert page.read_bytes() == before
    (site / "tiny.toml").write_text(
        wrong(EXPERIMENT, 'weights = "random"', 'weights = "random"\ntitle = "Another name"')
    )
    assert run("evaluate", "tiny.toml")[0] == 0
    assert b"Another name" in page.read_bytes()


def test_a_slow_machine_tells_of_an_extraction_before_its_first_row(monkeypatch):
    from commands.terminal.output import progress
    from pipeline.extraction.progress import Progress

    printed = []
    monkeypatch.setattr("commands.terminal.output.say", printed.append)
    with progress() as tell:
        tell(Progress("ViT", 0, 16, 12.0, "model"))
    assert len(printed) == 1
    assert "no range is complete yet, bottleneck: model" in printed[0]
