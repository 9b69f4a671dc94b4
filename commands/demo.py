"""``patchbank demo``: extract, evaluate and report on painted street scenes, offline."""

import json
import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

from commands.evaluate import evaluate
from commands.extract import extract
from commands.terminal.options import DataOption, JsonOption, ResultsOption, StoreOption
from commands.terminal.output import echo, echo_json

WORLD = "street-nuisances"
"""Folder of the painted scenes, as experiments/demo.toml names it."""


def demo(
    store: StoreOption = "store",
    data: DataOption = Path("data"),
    results: ResultsOption = Path("results"),
    as_json: JsonOption = False,
) -> None:
    """Run everything offline: paint street scenes, extract three small trained models and a control, evaluate."""
    experiment = Path(__file__).parent.parent / "experiments" / "demo.toml"
    with redirect_stdout(sys.stderr) if as_json else nullcontext():  # they print text
        extract(experiment, store=store, data=data, device="cpu")
        evaluate(experiment, store=store, results=results)
    page = (results / "demo" / "report.html").resolve()
    if as_json:
        echo_json({"store": store, "data": str(data / WORLD), "report": str(page)})
        return
    echo()
    for line in (
        f"Street scenes in the Cityscapes layout, light and weather changing, were painted to {data / WORLD}.",
        f"{_scores(results / 'demo')}.",
        f"{_claims(results / 'demo')}; the page says which and why.",
        f"Open {page}",
    ):
        echo(line)


def _scores(folder: Path) -> str:
    """Return the 1-NN score of every model, the best first."""
    import pandas as pd

    from evaluate.results.metrics import PATCH_MIOU

    table = pd.read_parquet(folder / "results.parquet")
    rows = table[(table["metric"] == PATCH_MIOU) & (table["classifier"] == "knn") & (table["m"] == 0)]
    rows = rows[(rows["analysis"] == "patch-classification") & (rows["layer"] == rows["layer"].max())]
    rows = rows.drop_duplicates("model").sort_values("value", ascending=False, kind="stable")
    listed = ", ".join(f"{model} {value:.2f}" for model, value in zip(rows["model"], rows["value"], strict=True))
    return f"mIoU of patches labelled by their nearest neighbour, frozen models by what they were trained for: {listed}"


def _claims(folder: Path) -> str:
    """Return how many of the papers' claims hold and fail."""
    verdicts = [claim["verdict"] for claim in json.loads((folder / "claims.json").read_text(encoding="utf-8"))]
    counts = {verdict: verdicts.count(verdict) for verdict in ("holds", "fails")}
    holds = f"{counts['holds']} {'holds' if counts['holds'] == 1 else 'hold'}"
    fails = f"{counts['fails']} {'fails' if counts['fails'] == 1 else 'fail'}"
    return f"Of the papers' claims {holds} and {fails} for these models and scenes"
