"""Results of an experiment, read back for a notebook."""

import pandas as pd
import pytest
from matplotlib.axes import Axes

import evaluate
from evaluate.analyses.variance_spectrum import VarianceSpectrum
from evaluate.registry import EvaluationSettings
from evaluate.report.writing import write_report
from evaluate.results.table import ResultStore
from evaluate.runner import evaluate as run_analyses
from stores.errors import MissingError, UserError
from tests.evaluate.planted import planted


def test_tables_are_frames_and_figures_have_axes(tmp_path):
    results = ResultStore(tmp_path / "r")
    settings = EvaluationSettings(analyses=(VarianceSpectrum(kind="variance-spectrum", top=(3,)),))
    found = run_analyses("mine", [planted(tmp_path / "s", planted=3)], settings, results)
    write_report(results, "mine", found, [{"model": "planted", "data set": "-"}])
    read = evaluate.read(tmp_path / "r", "mine")
    pd.testing.assert_frame_equal(read.table, pd.read_parquet(tmp_path / "r" / "mine" / "results.parquet"))
    (axes,) = read.figure("variance-spectrum").axes
    assert isinstance(axes, Axes)
    (line,) = axes.get_lines()
    expected = read.table.loc[read.table["metric"] == "variance", "value"]
    assert sorted(line.get_ydata()) == sorted(expected)
    with pytest.raises(UserError, match="there is no figure 'variance': choose one of main-scores, variance-"):
        read.figure("variance")
    with pytest.raises(UserError, match="the results hold no numbers for the figure tracking"):
        read.figure("tracking")
    with pytest.raises(MissingError, match="run `patchbank evaluate`"):
        evaluate.read(tmp_path / "r", "yours")
