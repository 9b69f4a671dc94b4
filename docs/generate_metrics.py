"""Write the table of metrics in evaluate/README.md from the code: ``python docs/generate_metrics.py``."""

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from evaluate.results.metrics import METRICS  # noqa: E402

PAGE = ROOT / "evaluate" / "README.md"
BEGIN, END = "<!-- metrics: made by `python docs/generate_metrics.py` -->", "<!-- end of metrics -->"


def page() -> str:
    """Return the page with the table between its two marker comments written again."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    lines = ["", "", "| metric | unit | better | meaning |", "|---|---|---|---|"]
    for metric in METRICS.values():
        better = "" if metric.direction == "none" else metric.direction
        lines.append(f"| `{metric.name}` | {metric.unit} | {better} | {metric.description} |")
    return before + BEGIN + "\n".join(lines) + "\n\n" + END + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
