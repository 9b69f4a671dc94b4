"""Files of a results folder: cells that no spreadsheet runs, and nothing left by killed writers."""

import csv
import os
import time
from pathlib import Path

import pytest

from evaluate.claims.verdicts import Decision
from evaluate.report.claims import write_claims
from evaluate.report.writing import rewrite_report, write_report
from evaluate.results.files import write_file
from evaluate.results.table import ResultStore, long_table, read_long_table
from evaluate.runner import Evaluation
from stores.errors import UserError

FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "\nx", "a\r=1+1")


def test_no_cell_is_a_formula_and_numbers_stay_numbers(tmp_path):
    rows = [{"model": text, "class": text, "metric": "r2", "value": -0.5, "x_value": -1.0} for text in FORMULAS]
    folder = ResultStore(tmp_path).write_experiment("e", long_table([*rows, {"model": "a-b=c", "value": 1.0}]))
    with (folder / "results.csv").open(newline="", encoding="utf-8") as stream:
        cells = list(csv.DictReader(stream))
    defused = ["'=1+1", "'+1", "'-1", "'@SUM(A1)", "'\tx", "'\nx", "'\nx", "a\n=1+1"]
    assert [cell["model"] for cell in cells] == [*defused, "a-b=c"]
    assert [cell["class"] for cell in cells][:-1] == defused
    assert {cell["value"] for cell in cells[:-1]} == {"-0.5"}
    assert {cell["x_value"] for cell in cells[:-1]} == {"-1"}
    assert read_long_table(folder / "results.parquet")["model"].tolist() == [*FORMULAS, "a-b=c"]


def test_claims_have_no_formula_either(tmp_path):
    write_claims(tmp_path, [Decision(1, "s", "holds", ("=cmd()",), "-reason", ("@model",))])
    with (tmp_path / "claims.csv").open(newline="", encoding="utf-8") as stream:
        [cells] = csv.DictReader(stream)
    assert (cells["numbers"], cells["reason"], cells["models"]) == ("'=cmd()", "'-reason", "'@model")


@pytest.mark.parametrize("again", ["evaluate", "report"])
def test_what_killed_writers_left_is_removed_after_an_hour(tmp_path, again):
    results, evaluation = ResultStore(tmp_path), Evaluation(long_table([]))
    write_report(results, "e", evaluation, [])
    results.write_experiment("e", evaluation.table)
    old, new = tmp_path / "answers" / "x" / "rows.parquet.7-0123abcd.partial", tmp_path / "e" / "a.1-ffffffff.partial"
    own = tmp_path / "e" / "notes.partial"
    for path in (old, new, own):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    for path in (old, own):
        os.utime(path, (time.time() - 7200,) * 2)
    if again == "evaluate":
        results.write_experiment("e", evaluation.table)
    else:
        rewrite_report(results, "e")
    assert (old.exists(), new.exists(), own.exists()) == (False, True, True)


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def full(self, data):
        with self.open("wb") as stream:
            stream.write(data[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="No space left on device"):
        write_file(tmp_path / "a", b"xx")
    assert list(tmp_path.iterdir()) == []
