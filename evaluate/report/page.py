"""HTML of the report: page, tables, and figures laid out by their widths."""

import html
import re
from collections.abc import Sequence
from typing import NamedTuple

from evaluate.report.style_sheet import SCRIPT, STYLE

HINT = '<p class="hint">Scroll sideways to see all of it \N{RIGHTWARDS ARROW}</p>'
"""Stands before a box that may be wider than the screen."""


def escape(text: object) -> str:
    """Return text that is safe in HTML, quotes too."""
    return html.escape(str(text), quote=True)


def prose(text: str) -> str:
    """Return a sentence as HTML: what stands between backticks is code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


class Number(float):
    """A value that is printed short and sorted in full."""


TableCell = str | Number | None


def table(
    head: Sequence[str], rows: Sequence[Sequence[TableCell]], name: str = "", *, raw: bool = False, fit: bool = False
) -> str:
    """Return a table in a box of its own that scrolls.

    Args:
        head: titles of the columns.
        rows: cells by row.
        name: id of the table, by which it sorts and is filtered; empty for neither.
        raw: whether cells are HTML already.
        fit: whether lines break before the table scrolls.
    """
    titles = "".join(f'<th scope="col">{escape(title)}</th>' for title in head)

    def html_of(cell: TableCell) -> str:
        if isinstance(cell, Number):
            return f'<td class="number" data-value="{float(cell)!r}">{cell:.4g}</td>'
        return f"<td>{'' if cell is None else cell if raw else escape(cell)}</td>"

    lines = [f"<tr>{''.join(map(html_of, row))}</tr>" for row in rows]
    attributes = f' class="sortable" id="{escape(name)}"' if name else ""
    classes = f"box{' tall' if len(rows) > 20 else ''}{' fit' if fit else ''}"
    body = "\n".join(lines)
    return (
        f'{HINT}<div class="{classes}" tabindex="0"><table{attributes}><thead><tr>{titles}</tr></thead>'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def filter_field(name: str, words: str) -> str:
    """Return a field that filters the table of this name; it shows only where scripts run."""
    return (
        f'<div class="script"><label>{escape(words)} <input type="search" data-filters="{escape(name)}"></label> '
        f'<span class="count" id="{escape(name)}-count"></span></div>'
    )


SMALLEST, LARGEST = 0.62, 1.1
"""Shares of its natural size between which a figure is drawn; letters of 10 points become 8 to 15 pixels."""
PHONE = 400.0
"""Least width in pixels up to which a figure shrinks to a phone's screen rather than scrolls: letters of 7 pixels."""
HALF, ASIDE, TEXT = 640.0, 860.0, 1176.0
"""Natural widths in pixels: up to the first two figures stand side by side, up to the second a figure has its caption
beside it, and beyond the last it is wider than the text where the window is."""
_INKS = {"#000000": "ink", "#ffffff": "paper", "#dddddd": "grid", "#5b5b5b": "soft", "#777777": "dim"}
"""Colours of letters, axes and ground, which follow the reader's setting; those of data stay."""


class Drawing(NamedTuple):
    """A figure of the page."""

    name: str
    """Its id on the page."""
    title: str
    html: str
    """The figure with its caption, or a sentence on why it is not shown."""
    width: float = 0.0
    """Natural width in pixels; 0 where nothing is drawn."""


def drawing(name: str, svg: str, title: str, caption: str, *, coloured: bool = False) -> Drawing:
    """Return a figure with its caption; the drawing's text alternative is its title and caption.

    Args:
        name: its name, unlike that of every other figure, which keeps their ids apart.
        svg: the drawing.
        title: its title.
        caption: its caption.
        coloured: whether it shows pictures or colours with a meaning of their own, and stays on white.
    """
    inner = svg[svg.index("<svg") :]
    # matplotlib numbers its clip paths and glyphs again in every drawing; on one page they must differ.
    for attribute in ('id="', 'href="#', "url(#"):
        inner = inner.replace(attribute, f"{attribute}{name}-")
    if not coloured:
        inner = re.sub(r"(?<=: )(#[0-9a-f]{6})\b", lambda found: _ink(found[1]), inner)
    found = re.match(r'<svg [^>]*?width="([\d.]+)pt"', inner)
    width = float(found[1]) * 96 / 72 if found else 0.0
    # Below the least width letters could not be read: the figure's own box scrolls instead, unless by a little.
    least = SMALLEST * width if SMALLEST * width > PHONE else 0.0
    sizes = f' style="min-width:{least:.0f}px;max-width:{LARGEST * width:.0f}px"' if found else ""
    kind = "" if coloured else ' class="ink"'
    spoken = escape(f"{title}. {caption}".replace("`", ""))
    named = f'<svg role="img"{kind} aria-label="{spoken}"{sizes} '
    inner = inner.replace("<svg ", named, 1)
    box = f'<div class="wide{" card" if coloured else ""}" tabindex="0">{inner}</div>'
    return Drawing(name, title, f"<figure>{HINT}{box}<figcaption>{prose(caption)}</figcaption></figure>", width)


def _ink(colour: str) -> str:
    return f"var(--figure-{_INKS[colour]}, {colour})" if colour in _INKS else colour


def drawings(some: Sequence[Drawing]) -> str:
    """Return figures below each other, two narrow ones that follow each other side by side."""
    kinds: list[str] = []
    for one in some:
        is_narrow = 0 < one.width <= HALF
        if is_narrow and kinds and kinds[-1] == "alone":
            kinds[-1:] = ["half", "half"]
        else:
            kinds.append("alone" if is_narrow else "side" if one.width <= ASIDE else "")
    lines = []
    for one, kind in zip(some, kinds, strict=True):
        is_beyond = one.width > TEXT
        classes = " ".join(["drawing", *([{"alone": "side"}.get(kind, kind)] if kind else []), *["beyond"] * is_beyond])
        natural = f' style="--natural:{one.width:.0f}px"' if is_beyond else ""
        lines.append(
            f'<div class="{classes}" id="figure-{escape(one.name)}"{natural}><h3>{escape(one.title)}</h3>'
            f"{one.html}</div>"
        )
    return f'<div class="drawings">{"".join(lines)}</div>'


def contents(some: Sequence[Drawing]) -> str:
    """Return a list of figures to jump to; nothing for fewer than three."""
    listed = "".join(f'<li><a href="#figure-{escape(one.name)}">{escape(one.title)}</a></li>' for one in some)
    return f'<nav class="figures" aria-label="Figures"><ul>{listed}</ul></nav>' if len(some) > 2 else ""


def page(title: str, lead: str, sections: Sequence[tuple[str, str]], answer: str = "") -> str:
    """Return the whole page.

    Args:
        title: its title.
        lead: a sentence on what it is about.
        sections: (heading, HTML) by section.
        answer: what the results say, before anything else.
    """
    body = "\n".join(
        f'<section id="section-{number}"><h2>{escape(heading)}</h2>\n{content}</section>'
        for number, (heading, content) in enumerate(sections)
    )
    listed = "".join(
        f'<li><a href="#section-{number}">{escape(heading)}</a></li>' for number, (heading, _) in enumerate(sections)
    )
    said = f'<p class="answer">{escape(answer)}</p>\n' if answer else ""
    top = f'<p class="lead">{escape(lead)}</p>\n<nav class="top" aria-label="Contents"><ul>{listed}</ul></nav>'
    body = f"{said}{top}\n{body}"
    body = body.replace(" %", "\u00a0%")  # a number and its sign stay on one line
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # Images of the drawings are embedded; nothing may be fetched from anywhere.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(title)}</h1>\n{body}\n</main>\n"
        f"<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )
