"""Accuracy of whole images under views less that on clean ones: for bands of noise the robustness by frequency."""

import pandas as pd
from matplotlib.figure import Figure

from evaluate.figures import style
from evaluate.figures.image_classification import TOKENS
from evaluate.results.metrics import IMAGE_ACCURACY_DIFFERENCE
from evaluate.results.preferred import last_layer
from evaluate.results.table import Result

BANDS = "frequency-noise"
UNITS = {BANDS: "centre of the noise band, fraction of π a pixel\n(1 is 0.5 cycles a pixel)"}


def figure(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return a row a classifier and kind of token, a panel a view, last layer; a model is a line over the levels, of
    a single level a mark."""
    rows = style.metric_rows(table, "robustness", IMAGE_ACCURACY_DIFFERENCE)
    if rows.empty:
        return None
    rows = last_layer(rows)
    pairs = set(zip(rows["classifier"], rows["token"], strict=True))
    lines = [(one, token) for one in style.CLASSIFIERS for token in TOKENS if (one, token) in pairs]
    views = list(dict.fromkeys(rows["view"]))
    levels = {view: rows.loc[rows["view"] == view, "x_value"] for view in views}
    single = {view: float(some.iloc[0]) for view, some in levels.items() if some.nunique() == 1}
    size = 3.1 * len(views) - 1.2 * len(single) + 1.2, 2.6 * len(lines) + 1.1
    drawn, axes = style.new_figure(size, len(views), len(lines), sharey=True)
    for panels, (classifier, token) in zip(axes, lines, strict=True):
        for panel, view in zip(panels, views, strict=True):
            some = rows[(rows["classifier"] == classifier) & (rows["token"] == token) & (rows["view"] == view)]
            for model, look, shift, part in style.by_model(some, table):
                if view in single:  # lines of one point would all lie at one place
                    style.marks(panel, part, x=[shift] * len(part), label=model, markersize=4.5, **look)
                else:
                    style.curve(panel, part, "x_value", label=model, **look)
            if view in single:
                panel.set_xticks([0.0], [f"{single[view]:g}"])
                panel.set_xlim(-0.75, 0.75)
            panel.axhline(0.0, color="#888888", linewidth=0.8)
            panel.set_title(f"{view},\n{style.CLASSIFIERS[classifier]},\n{TOKENS[token]}", fontsize=9, loc="left")
        panels[0].set_ylabel("accuracy less that\non clean images")
    for panel, view in zip(axes[-1], views, strict=True):
        panel.set_xlabel(UNITS.get(view, "level of the view"), fontsize=9)
    style.legend_above(drawn, axes[0][0])
    style.name_conditions(drawn, rows.assign(view=None, level=None, classifier=None, token=None))
    return drawn
