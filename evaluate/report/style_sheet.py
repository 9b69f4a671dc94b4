"""The style sheet of a page, and the script that sorts and filters its tables."""

STYLE = """
:root { color-scheme: light; --ink: #1b1b1b; --soft: #5b5b5b; --line: #d9d9d9; --edge: #767676; --paper: #fff;
  --tint: #f5f7f9; --focus: #0072b2; --figure-ink: #000; --figure-paper: #fff; --figure-grid: #ddd;
  --figure-soft: #5b5b5b; --figure-dim: #777; }
@media screen and (prefers-color-scheme: dark) { :root { color-scheme: dark; --ink: #e9eaec; --soft: #b0b5bb;
  --line: #3a4047; --edge: #8a9199; --paper: #15181b; --tint: #20252a; --focus: #56b4e9; --figure-ink: #e9eaec;
  --figure-paper: #15181b; --figure-grid: #363c43; --figure-soft: #b0b5bb; --figure-dim: #a0a6ad; } }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: var(--paper);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 1.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: .5rem 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.35rem; margin: 3rem 0 .5rem; padding-top: .75rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; line-height: 1.35; margin: 0 0 .25rem; }
p { max-width: 48rem; margin: .5rem 0; }
.answer { font-size: 1.2rem; line-height: 1.45; max-width: 56rem; margin: .75rem 0; }
.lead, .note, figcaption, .count { color: var(--soft); }
.note { font-size: .9rem; }
nav a { color: inherit; display: inline-block; padding: .2rem 0; }
nav ul { margin: .5rem 0; padding: 0; list-style: none; font-size: .9rem; }
nav.top ul { display: flex; flex-wrap: wrap; gap: 0 1.25rem; }
nav.figures ul { columns: 17rem; }
nav li { break-inside: avoid; }
.drawings { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 2.5rem 2rem; margin: 1.25rem 0; }
.drawing { grid-column: 1 / -1; min-width: 0; }
.drawing.half { grid-column: auto; }
figure { margin: 0; }
figure svg { display: block; width: 100%; height: auto; }
figure svg.ink { fill: var(--figure-ink); }
figcaption { font-size: .9rem; max-width: 48rem; margin-top: .5rem; }
.wide { overflow-x: auto; }
@media (min-width: 60rem) { .side figure { display: flex; gap: 2rem; align-items: flex-start; }
  .side .wide { flex: 0 1 auto; min-width: 0; } .side figcaption { flex: 1 0 15rem; margin-top: 2rem; } }
@media (min-width: 80rem) { .beyond figure > .wide { --w: min(100vw - 5rem, var(--natural));
  width: var(--w); margin-left: calc((100% - var(--w)) / 2); } }
@media (max-width: 44rem) { .answer { font-size: 1.1rem; } .drawing.half { grid-column: 1 / -1; } }
@media screen and (prefers-color-scheme: dark) { .card { background: #fff; color: #1b1b1b; padding: .5rem;
  border-radius: 6px; } }
.box { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; }
.hint { display: none; margin: .5rem 0 .2rem; color: var(--soft); font-size: .8rem; }
@media (max-width: 44rem) { html:not(.js) .hint { display: block; } }
.hint.on { display: block; }
.tall { max-height: 32rem; overflow-y: auto; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .7rem; text-align: left; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { position: sticky; top: 0; background: var(--tint); font-weight: 600; white-space: normal; vertical-align: bottom; }
th button { all: unset; cursor: pointer; }
a:focus-visible, summary:focus-visible, [tabindex]:focus-visible, th button:focus-visible {
  outline: 2px solid var(--focus); outline-offset: 2px; }
th button::after { content: " \\2195"; color: var(--soft); }
.fit table { min-width: 44rem; }
.fit td { white-space: normal; overflow-wrap: break-word; vertical-align: top; }
.prose td { white-space: normal; vertical-align: top; }
.prose td:nth-child(2) { white-space: nowrap; }
.prose td:nth-child(3) { min-width: 15rem; }
.prose td:nth-child(4) { width: 56%; min-width: 22rem; }
p a, small a { color: inherit; }
@media screen and (max-width: 44rem) { .prose > .hint { display: none !important; } .prose thead { display: none; }
  .prose .tall { max-height: none; }
  .prose tr { display: grid; grid-template-columns: 2rem 1fr; padding: .5rem .7rem;
    border-bottom: 1px solid var(--line); }
  .prose td, .prose td:nth-child(n) { min-width: 0; width: auto; padding: .1rem 0; border: 0; }
  .prose td:nth-child(n + 3) { grid-column: 1 / -1; padding-top: .3rem; } .prose tr:last-child { border-bottom: 0; } }
.prose ul { margin: 0; padding-left: 1rem; }
.prose td details { margin: 0; } .prose td summary { font-weight: 400; }
td.number { text-align: right; }
tbody tr:last-child td { border-bottom: 0; }
code { font: .85em ui-monospace, "Liberation Mono", monospace; }
small { color: var(--soft); }
input { font: inherit; color: inherit; background: var(--paper); padding: .35rem .6rem; border: 1px solid var(--edge);
  border-radius: 6px; width: 100%; max-width: 24rem; }
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
  h2, h3, summary { break-after: avoid; } h2 { margin-top: 1.5rem; }
  figure, tr, .drawing { break-inside: avoid; }
  .drawings { display: block; } .drawing { margin-bottom: 1.5rem; }
  .wide svg { min-width: 0 !important; max-height: 21cm; }
  .half svg, .side .ink { width: 13cm; } .half .card svg { width: 10.5cm; }
  /* What is folded stays out: the sentence above it says what it holds, and the files hold it. */
  td summary, details:not([open]), nav, .script, .screen, .hint, th button::after { display: none !important; }
  summary { list-style: none; } .printed { display: block; } }
"""
"""Light and dark by the reader's setting, and print, which is light. Lines and letters of figures follow; pictures and
maps of colours stay as they were drawn, on a light card."""

SCRIPT = """
document.documentElement.classList.add('js');
// Conditions of a claim that are folded on the screen are printed.
let opened = [];
addEventListener('beforeprint', () => {
  opened = [...document.querySelectorAll('td details:not([open])')];
  opened.forEach(fold => { fold.open = true; });
});
addEventListener('afterprint', () => opened.forEach(fold => { fold.open = false; }));
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
"""Without it the page is whole, its tables unsorted."""
