"""Drift of the likeness of an image's patches over the layers, between models and under views."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from evaluate.figures import style
from evaluate.results.metrics import GRAM_DRIFT
from evaluate.results.table import Result


def figure(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return the drift of every layer from the last of its own model, between models, and under each view."""
    rows = style.metric_rows(table, "gram-drift", GRAM_DRIFT)
    if rows.empty:
        return None
    rows = rows.assign(depth=style.numbers(rows, "layer") + 1)
    clean = rows[rows["view"] == "clean"]
    own = clean[clean["model"] == clean["reference"]]
    last = own.groupby("model")["x_value"].transform("max")
    lasts = own.groupby("model")["x_value"].max()
    of_last = (clean["depth"] == clean["model"].map(lasts)) & (clean["x_value"] == clean["reference"].map(lasts))
    alike = (clean["depth"] == clean["x_value"]) | of_last
    between = clean[(clean["model"] != clean["reference"]) & alike]
    viewed = rows[rows["view"] != "clean"]
    panels = [
        (
            "from the last layer of the model",
            own[own["x_value"] == last] if (last > own["depth"]).any() else own[:0],
            ["model"],
        ),
        ("between models, same depth or last layers", between, ["model", "reference"]),
        ("under a view, same layer", viewed, ["model", "view", "level"]),
    ]
    panels = [panel for panel in panels if not panel[1].empty]
    if not panels:
        return None
    drawn, [axes] = style.new_figure((3.6 * len(panels) + 0.8, 3.7), len(panels), sharey=True)
    for panel, (title, some, keys) in zip(axes, panels, strict=True):
        for number, (names, part) in enumerate(some.groupby(keys, sort=False)):
            words = [f"{name:g}" if isinstance(name, float) else str(name) for name in names]
            label = " and ".join(words) if "reference" in keys else ", ".join(words)
            style.curve(panel, part, "depth", label=label, **style.look_of(number))
        panel.set_title(title, fontsize=10, loc="left")
        panel.set_xlabel("depth (blocks)")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        panel.legend(fontsize=7, frameon=False)
    axes[0].set_ylabel("mean squared difference of cosines")
    entries = max(len(panel.get_legend().get_texts()) for panel in axes)
    axes[0].set_ylim(0, max(axes[0].get_ylim()[1] * (1.0 + 0.08 * entries), 1e-6))  # legends lie above the curves
    style.name_conditions(drawn, rows)
    return drawn
