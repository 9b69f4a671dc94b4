"""What holds more memory than it may is refused from the command line, and the value it names is enough."""

import re
from unittest.mock import Mock

import pytest

from evaluate.runner import check_memory
from evaluate.task import Task
from stores.errors import UserError
from tests.pipeline.tiny import write_camvid

ASKED = """
[dataset]
name = "camvid"
folder = "camvid"
[frame]
tile = 32
input = 32
edge = "shift-last"
[features]
layers = [-1]
[[models]]
name = "test_vit"
weights = "random"
[selection.train]
split = "train"
[selection.validation]
split = "val"
[[analyses]]
kind = "variance-spectrum"
[[analyses]]
kind = "global-context"
classes = ["car"]
m = 5
draws = 1
resamples = 5000000
"""


@pytest.fixture
def site(tmp_path, monkeypatch):
    write_camvid(tmp_path / "data" / "camvid", n_train=2, n_val=1)
    (tmp_path / "asked.toml").write_text(ASKED)
    monkeypatch.chdir(tmp_path)
    for name in ("PATCHBANK_STORE", "PATCHBANK_DATA", "PATCHBANK_RESULTS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.usefixtures("undrawn")
def test_a_run_with_the_memory_that_a_refusal_names_is_answered(site, run):
    assert run("extract", "asked.toml")[0] == 0
    code, out, err = run("evaluate", "asked.toml", "--memory", "0.1")
    assert (code, out) == (2, "")
    limits = r"needs an estimated (\S+) GB and the limit is 0\.10 GB"
    said = rf"global-context {limits} \(camvid, .*\): run with --memory (\S+), or"
    [(held, stated)] = re.findall(said, err)
    assert 0.3 < float(held) < 0.5
    assert float(stated) == pytest.approx(float(held), abs=0.02)
    assert not (site / "results").exists()  # nor is the spectrum, which is asked first and holds little
    code, out, err = run("evaluate", "asked.toml", "--memory", stated)
    assert (code, out.splitlines()[:1]) == (0, ["made    2 results"]), err


GRAMS = """
[dataset]
name = "camvid"
folder = "camvid"
[frame]
tile = 32
input = 32
edge = "shift-last"
[features]
tokens = "none"
captures = ["grams"]
gram_rows = 4
[[models]]
name = "test_vit"
weights = "random"
[[analyses]]
kind = "similarity"
tokens = ["patches", "all"]
resamples = 5000000
"""


@pytest.mark.usefixtures("undrawn")
def test_gram_matrices_are_streamed_or_refused_with_both_numbers(site, run):
    """What resamples hold is too much; the matrices of all rows are not held, so that the least memory serves."""
    write_camvid(site / "data" / "grams", n_train=6, n_val=6)
    text = GRAMS.replace('folder = "camvid"', 'folder = "grams"')
    (site / "grams.toml").write_text(text)
    assert run("extract", "grams.toml")[0] == 0
    code, out, err = run("evaluate", "grams.toml", "--memory", "0.1")
    assert (code, out) == (2, "")
    [(held, stated)] = re.findall(
        r"similarity needs an estimated (\S+) GB and the limit is 0\.10 GB \(camvid, .*\): run with --memory (\S+), or",
        err,
    )
    assert float(stated) == pytest.approx(float(held), abs=0.02)
    assert err.strip().count("\n") == 0, "one sentence"
    assert not (site / "results").exists()
    (site / "grams.toml").write_text(text.replace("5000000", "20"))
    code, out, err = run("evaluate", "grams.toml", "--memory", "0.1")
    assert (code, out.splitlines()[:1]) == (0, ["made    2 results"]), err


def test_no_finite_memory_is_no_traceback(site, run):
    code, _, err = run("evaluate", "asked.toml", "--memory", "inf")
    assert code == 2
    assert "less than or equal" in err


def test_workers_that_share_the_limit_are_told_of_it_as_a_whole():
    task = Mock(spec=Task, columns={}, analysis="knn", title="vit", description="k 5")
    task.peak_bytes.return_value = 88_200_000
    check_memory([task], 180_000_000, 2)
    said = r"the limit is 50\.0 MB for each of 2 workers, which share 0\.10 GB .*: run with --memory 0\.18, use fewer"
    with pytest.raises(UserError, match=said):
        check_memory([task], 100_000_000, 2)
