"""The whole chain in one command, offline."""

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
    """Run the whole chain offline: paint street scenes, extract two small models, evaluate, report."""
    experiment = Path(__file__).parent.parent / "experiments" / "demo.toml"
    with redirect_stdout(sys.stderr) if as_json else nullcontext():  # what the two say is for people
        extract(experiment, store=store, data=data, device="cpu")
        evaluate(experiment, store=store, results=results)
    page = (results / "demo" / "report.html").resolve()
    if as_json:
        found = {"store": store, "data": str(data / "street-world"), "report": str(page)}
        echo_json(found)
        return
    for line in (
        "",
        f"Street scenes in the Cityscapes layout were painted to {data / 'street-world'}, two small vision",
        "transformers looked at every image once, and every number was then computed from the store.",
        "Their weights are random: this shows the machinery, not the finding that masked-image models have",
        f"high-variance features which ruin nearest neighbours. Open {page}",
    ):
        echo(line)
