"""CKA of a model's last layer on clean inputs with the same layer under every view."""

import pandas as pd
from matplotlib.figure import Figure

from evaluate.figures import style
from evaluate.results.metrics import CKA
from evaluate.results.preferred import last_layer
from evaluate.results.table import Result

TOKENS = {"patches": "patches", "all": "all tokens", "class-token": "class token", "mean-patch": "mean patch"}


def figure(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return one panel a kind of token: a mark a model for every view and level, of the last layer at block outputs."""
    rows = style.metric_rows(table, "similarity", CKA)
    rows = rows[rows["level"].notna() & rows["outcome"].isna()]
    if rows.empty:
        return None
    rows = last_layer(rows)
    titles = [f"{view} {level:g}" for view, level in zip(rows["view"], rows["level"], strict=True)]
    rows = rows.assign(shown=titles)
    views = list(dict.fromkeys(titles))
    tokens = [token for token in TOKENS if (rows["token"] == token).any()]
    a_view = max(0.45, 0.16 * rows["model"].nunique())
    drawn, [panels] = style.new_figure(
        (3.2 * len(tokens) + 1.8, a_view * len(views) + 2.0), len(tokens), sharey=True, sharex=True
    )
    for panel, token in zip(panels, tokens, strict=True):
        for model, look, shift, part in style.by_model(rows[rows["token"] == token], table):
            places = [views.index(view) + 0.6 * shift for view in part["shown"]]
            style.marks(panel, part, y=places, label=model, markersize=5.5, **look)
        panel.set_title(TOKENS[token], fontsize=10, loc="left")
        panel.set_xlabel("CKA with the clean inputs")
        panel.axvline(1.0, color="#888888", linewidth=0.8)
    panels[0].set_yticks(range(len(views)), views)
    panels[0].set_ylim(len(views) - 0.5, -0.5)
    style.legend_above(drawn, panels[0])
    style.name_conditions(drawn, rows.assign(view=None, level=None, token=None))
    return drawn
