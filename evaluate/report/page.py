"""HTML of the report: page, tables and figures, the style sheet, and the script that sorts and filters tables."""

import html
import re
from collections.abc import Sequence

STYLE = """
:root { --ink: #1b1b1b; --soft: #5b5b5b; --line: #d9d9d9; --paper: #fff; --tint: #f5f7f9; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: var(--paper);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
main { max-width: 72rem; margin: 0 auto; padding: 1.5rem 1.25rem 4rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: .5rem 0 .25rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; }
p { max-width: 44rem; margin: .5rem 0; }
.lead, figcaption, .count { color: var(--soft); }
figure { margin: 1rem 0; }
figure svg { display: block; max-width: 100%; height: auto; }
.wide { overflow-x: auto; }
nav a { color: inherit; display: inline-block; padding: .2rem 0; }
nav ul { columns: 18rem; margin: .5rem 0; padding-left: 1.1rem; }
figcaption { font-size: .9rem; max-width: 44rem; margin-top: .5rem; }
.box { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; }
.hint { display: none; margin: .5rem 0 .2rem; color: var(--soft); font-size: .8rem; }
@media (max-width: 44rem) { html:not(.js) .hint { display: block; } }
.hint.on { display: block; }
.tall { max-height: 32rem; overflow-y: auto; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .7rem; text-align: left; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { position: sticky; top: 0; background: var(--tint); font-weight: 600; white-space: normal; vertical-align: bottom; }
th button { all: unset; cursor: pointer; }
th button:focus-visible { outline: 2px solid #0072b2; outline-offset: 2px; }
th button::after { content: " \\2195"; color: #9a9a9a; }
.fit table { min-width: 44rem; }
.fit td { white-space: normal; overflow-wrap: break-word; vertical-align: top; }
.prose td { white-space: normal; min-width: 9rem; vertical-align: top; }
.prose td:first-child { min-width: 0; }
.prose td:nth-child(4) { min-width: 20rem; }
.prose ul { margin: 0; padding-left: 1rem; }
td.number { text-align: right; }
tbody tr:last-child td { border-bottom: 0; }
code { font: .85em ui-monospace, "Liberation Mono", monospace; }
small { color: var(--soft); }
input { font: inherit; padding: .35rem .6rem; border: 1px solid #9a9a9a; border-radius: 6px;
  width: 100%; max-width: 24rem; }
dl { margin: .75rem 0; font-size: .875rem; }
dl div { display: flex; gap: .75rem; padding: .1rem 0; }
dt { flex: 0 0 9rem; color: var(--soft); } dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
details { margin: 1rem 0; } summary { cursor: pointer; font-weight: 600; }
.script { display: none; } .js .script { display: block; margin: .75rem 0; }
.printed { display: none; }
@media print { @page { margin: 14mm; } body { font-size: 10.5pt; } main { max-width: none; padding: 0; }
  .box, .tall, .wide { overflow: visible; max-height: none; } .box { border: 0; }
  table, .fit table { font-size: 8pt; min-width: 0; } th { position: static; }
  th, td, .prose td { white-space: normal; overflow-wrap: break-word; padding: .25rem .4rem; min-width: 0 !important; }
  h2 { break-after: avoid; } figure, tr { break-inside: avoid; }
  .wide svg { min-width: 0 !important; max-height: 21cm; }
  nav, .script, .screen, .hint, summary, th button::after { display: none !important; } .printed { display: block; } }
"""

SCRIPT = """
document.documentElement.classList.add('js');
// The hint stands where something is wider than its box.
const sizes = new ResizeObserver(entries => entries.forEach(({ target }) =>
  target.previousElementSibling.classList.toggle('on', target.scrollWidth > target.clientWidth + 1)));
document.querySelectorAll('.hint + *').forEach(box => sizes.observe(box));
for (const table of document.querySelectorAll('table.sortable')) {
  const body = table.tBodies[0];
  table.querySelectorAll('th').forEach((head, place) => {
    const button = document.createElement('button');
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener('click', () => {
      const up = head.getAttribute('aria-sort') !== 'ascending';
      table.querySelectorAll('th').forEach(other => other.removeAttribute('aria-sort'));
      head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
      const value = row => row.cells[place].dataset.value ?? row.cells[place].textContent;
      const rows = [...body.rows].sort((a, b) => {
        const x = value(a), y = value(b);
        if (x === '' || y === '') return (x === '') - (y === '');
        return (isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y) * (up ? 1 : -1);
      });
      body.append(...rows);
    });
  });
}
for (const field of document.querySelectorAll('input[data-filters]')) {
  const table = document.getElementById(field.dataset.filters);
  const count = document.getElementById(field.dataset.filters + '-count');
  const show = () => {
    const words = field.value.toLowerCase().split(/\\s+/).filter(Boolean);
    let shown = 0;
    for (const row of table.tBodies[0].rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every(word => text.includes(word));
      shown += row.hidden ? 0 : 1;
    }
    count.textContent = shown + ' of ' + table.tBodies[0].rows.length + ' rows';
  };
  field.addEventListener('input', show);
  show();
}
"""


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


SMALLEST = 0.62
"""Share of its natural size to which a narrow screen shrinks a figure; letters of 10 points become 8 pixels."""


def drawing(svg: str, title: str, caption: str, number: int) -> str:
    """Return a figure with its caption; the drawing's text alternative is its title and caption.

    Args:
        svg: the drawing.
        title: its title.
        caption: its caption.
        number: its number on the page, which keeps ids of several drawings apart.
    """
    inner = svg[svg.index("<svg") :]
    # matplotlib numbers its clip paths and glyphs again in every drawing; on one page they must differ.
    for attribute in ('id="', 'href="#', "url(#"):
        inner = inner.replace(attribute, f"{attribute}f{number}-")
    # Below this width letters could not be read: the figure's own box scrolls instead.
    width = re.match(r'<svg [^>]*?width="([\d.]+)pt"', inner)
    least = f' style="min-width:{SMALLEST * float(width[1]) * 96 / 72:.0f}px"' if width else ""
    named = f'<svg role="img" aria-label="{escape(f"{title}. {caption}")}"{least} '
    inner = inner.replace("<svg ", named, 1)
    return (
        f'<figure>{HINT}<div class="wide" tabindex="0">{inner}</div><figcaption>{escape(caption)}</figcaption></figure>'
    )


def page(title: str, lead: str, sections: Sequence[tuple[str, str]]) -> str:
    """Return the whole page; sections are (heading, HTML)."""
    body = "\n".join(
        f'<section id="section-{number}"><h2>{escape(heading)}</h2>\n{content}</section>'
        for number, (heading, content) in enumerate(sections)
    )
    contents = "".join(
        f'<li><a href="#section-{number}">{escape(heading)}</a></li>' for number, (heading, _) in enumerate(sections)
    )
    body = f"<nav><details><summary>Contents</summary><ul>{contents}</ul></details></nav>\n{body}"
    body = body.replace(" %", "\u00a0%")  # a number and its sign stay on one line
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # Images of the drawings are embedded; nothing may be fetched from anywhere.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f'<h1>{escape(title)}</h1>\n<p class="lead">{escape(lead)}</p>\n{body}\n</main>\n'
        f"<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )
