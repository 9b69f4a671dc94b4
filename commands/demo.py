"""``patchbank demo``: extract, evaluate and report on painted street scenes, offline."""

import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

from commands.evaluate import evaluate
from commands.extract import extract
from commands.terminal.options import DataOption, JsonOption, ResultsOption, StoreOption
from commands.terminal.output import echo, echo_json


def demo(
    store: StoreOption = "store",
    data: DataOption = Path("data"),
    results: ResultsOption = Path("results"),
    as_json: JsonOption = False,
) -> None:
    """Run everything offline: paint street scenes, extract two small models, evaluate, report."""
    experiment = Path(__file__).parent.parent / "experiments" / "demo.toml"
    with redirect_stdout(sys.stderr) if as_json else nullcontext():  # they print text
        extract(experiment, store=store, data=data, device="cpu")
        evaluate(experiment, store=store, results=results)
    page = (results / "demo" / "report.html").resolve()
    if as_json:
        found = {"store": store, "data": str(data / "street-world"), "report": str(page)}
        echo_json(found)
        return
    echo()
    for line in (
        f"Street scenes in the Cityscapes layout were painted to {data / 'street-world'}.",
        "Two small vision transformers ran once on every image; all numbers were then computed from the store.",
        "Their weights are random: the numbers show how the tool works and are no finding about the models.",
        f"Open {page}",
    ):
        echo(line)
