"""How alike an image and its changed version are to a model, less what unrelated images are."""

import pandas as pd
from matplotlib.figure import Figure

from evaluate.figures import style
from evaluate.figures.image_classification import TOKENS
from evaluate.results.metrics import INVARIANCE
from evaluate.results.preferred import last_layer
from evaluate.results.table import Result


def figure(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return one panel a kind of token: a mark a model for every view, at its largest level, of the last layer."""
    rows = style.metric_rows(table, "invariance", INVARIANCE)
    if rows.empty:
        return None
    rows = last_layer(rows)
    views = list(dict.fromkeys(rows["view"]))
    tokens = [token for token in TOKENS if (rows["token"] == token).any()]
    most = {view: float(rows.loc[rows["view"] == view, "level"].max()) for view in views}
    rows = rows[[float(level) == most[view] for view, level in zip(rows["view"], rows["level"], strict=True)]]
    a_view = max(0.5, 0.16 * rows["model"].nunique())
    size = (3.4 * len(tokens) + 1.6, a_view * len(views) + 2.0)
    drawn, [panels] = style.new_figure(size, len(tokens), sharey=True, sharex=True)
    for panel, token in zip(panels, tokens, strict=True):
        for model, look, shift, part in style.by_model(rows[rows["token"] == token], table):
            places = [views.index(view) + 0.6 * shift for view in part["view"]]
            style.marks(panel, part, y=places, label=model, markersize=5.5, **look)
        panel.set_title(TOKENS[token], fontsize=10, loc="left")
        panel.set_xlabel("cosine with the changed image,\nless that with other images")
        panel.axvline(0.0, color="#888888", linewidth=0.8)
    panels[0].set_yticks(range(len(views)), [f"{view} {most[view]:g}" for view in views])
    panels[0].set_ylim(len(views) - 0.5, -0.5)
    style.legend_above(drawn, panels[0])
    style.name_conditions(drawn, rows.assign(view=None, level=None, token=None))
    return drawn
