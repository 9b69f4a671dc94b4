"""Figures show the table's numbers, and the page is whole without a network, a script or a wide screen."""

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from evaluate.figures import FIGURES
from evaluate.figures.style import save
from evaluate.report.writing import rewrite_report, write_report
from evaluate.results.metrics import METRICS
from evaluate.results.table import COLUMNS, ResultStore, long_table
from evaluate.runner import Evaluation
from evaluate.scoring.images.vectors import Pooled
from stores.errors import MissingError
from tests.conftest import write_svg_alone
from tests.evaluate.planted_report import TITLES, all_figures

README = Path(__file__).parent.parent.parent / "evaluate" / "README.md"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    results, evaluation, models = all_figures(tmp_path_factory.mktemp("report"))
    about = [{"model": one.title, "data set": "planted", "features": one.features.digest} for one in models]
    with pytest.MonkeyPatch.context() as patched:
        write_svg_alone(patched)
        return results, evaluation, about, write_report(results, "planted", evaluation, about)


def drawn(name, evaluation):
    entry = next(entry for entry in FIGURES if entry.name == name)
    results = list(evaluation.results.values())
    return entry.draw(evaluation.table, results)


def test_curves_are_the_tables_values_and_each_cell_once(made):
    evaluation = made[1]
    table = evaluation.table
    for panel, classifier in zip(drawn("removal-curve", evaluation).axes, ("knn", "probe"), strict=True):
        line = panel.lines[0]
        np.testing.assert_array_equal(line.get_xdata(), [0, 1, 3])
        rows = table[(table["metric"] == "patch_miou") & (table["classifier"] == classifier)]
        rows = rows[(rows["model"] == TITLES[0]) & (rows["analysis"] == "patch-classification")]
        rows = rows[(rows["train"] == "12 images") & (rows["x_value"] == 2)].drop_duplicates("m").sort_values("m")
        np.testing.assert_array_equal(line.get_ydata(), rows["value"].to_numpy(dtype=float))
    line, *_ = drawn("layer-curve", evaluation).axes[0].lines
    np.testing.assert_array_equal(line.get_xdata(), [0, 1, 2])
    line, *_ = drawn("train-size", evaluation).axes[0].lines
    np.testing.assert_array_equal(line.get_xdata(), [4, 8, 12])
    line, *_ = drawn("variance-spectrum", evaluation).axes[0].lines
    assert (np.diff(line.get_ydata()) <= 0).all()
    assert len(line.get_xdata()) == 16


def test_marks_are_the_tables_values_and_bars_their_intervals(made):
    table = made[1].table

    def marks(panel):
        """Return value and interval of every mark, model by model."""
        found = []
        for one in panel.containers:
            if one.__class__.__name__ == "ErrorbarContainer":
                line, _, bars = one.lines
                segments = np.array(bars[0].get_segments()) if bars else None
                found.append((line.get_xydata(), segments))
        return found

    rows = table[(table["analysis"] == "association") & (table["metric"] == "idf1")]
    for (points, bars), (_, of_model) in zip(
        marks(drawn("association", made[1]).axes[1]), rows.groupby("model", sort=False), strict=True
    ):
        np.testing.assert_array_equal(points[:, 1], of_model["value"].to_numpy(dtype=float))
        np.testing.assert_allclose(bars[:, :, 1], of_model[["low", "high"]].to_numpy(dtype=float), atol=1e-12)
    treated = drawn("feature-treatments", made[1]).axes[0]
    ticks = [label.get_text() for label in treated.get_yticklabels()]
    assert ticks[0] == "highest variance left out (m = 3)"
    assert ticks[-1] == "highest variance in other.toml left out (m = 3)"
    rows = table[(table["analysis"] == "feature-treatments") & (table["metric"] == "patch_miou_difference")]
    rows = rows[rows["outcome"].str.startswith("remove-other") & (rows["classifier"] == "knn")]
    rows = rows[rows["reference"] == "none"]
    assert rows["model"].tolist() == [TITLES[0]]
    points, _ = marks(treated)[0]
    assert points[np.rint(points[:, 1]) == len(ticks) - 1, 0].tolist() == rows["value"].tolist()
    square = drawn("feature-treatments-overlap", made[1]).axes[0]
    treated = [label.get_text() for label in square.get_yticklabels()]
    assert treated == [f"remove-{name} 3{draw}" for name, draw in (
        ("top", ""), ("random", " draw 0"), ("lowest", ""), ("other other.toml", "")
    )]  # fmt: skip
    rows = table[(table["analysis"] == "ranking-overlap") & (table["m"] == 8)]
    panel = drawn("ranking-overlap", made[1]).axes[1]
    first = rows[(rows["model"] == TITLES[0]) & (rows["array"] == "block.2.norm")]
    first = first.set_index(["reference", "metric"])["value"]
    points, _ = marks(panel)[0]
    shares = [first[reference, "overlap_share"] for reference in (TITLES[1], "other.toml")]
    np.testing.assert_array_equal(points[:2], list(zip(shares, (0, 1), strict=True)))
    chance = panel.patches[0].get_bbox()
    bounds = [first["other.toml", f"chance_overlap_{end}"] / 8 for end in ("low", "high")]
    np.testing.assert_allclose([chance.x0, chance.x1], bounds)
    lines = [panel.get_title(loc="left") for panel in drawn("robustness", made[1]).axes]
    assert lines == [f"noise, {name}{m}" for name in ("nearest neighbours", "linear probe")
                     for m in ("", "\nwithout top 4")]  # fmt: skip


def test_no_figure_without_numbers():
    assert [entry.name for entry in FIGURES if entry.draw(long_table([]), []) is not None] == []


def test_examples_that_cannot_be_shown_are_explained(made, tmp_path):
    table = made[1].table
    bare = Evaluation(table[table["metric"] == "upper_bound"])
    page = write_report(ResultStore(tmp_path), "bare", bare, made[2]).read_text()
    assert "<code>input_pixels = true</code>" in page
    assert "<code>input_pixels = true</code>" not in made[3].read_text()


def test_every_metric_of_the_planted_report_is_in_the_list_of_metrics(made):
    found = set(made[1].table["metric"])
    assert len(found) > 100
    assert found <= METRICS.keys()


@pytest.mark.parametrize("kind", ["svg", pytest.param("pdf", marks=pytest.mark.slow)])
def test_equal_numbers_give_equal_bytes(made, kind):
    assert save(drawn("removal-curve", made[1]), kind) == save(drawn("removal-curve", made[1]), kind)


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.ids, self.text, self.sources, self.links = [], [], [], [], []

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append((tag, found))
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "a" and not found.get("href", "#").startswith("#"):
            self.links.append(found["href"])  # followed by a reader, fetched by nobody before
            return
        self.sources += [found[name] for name in ("src", "href", "xlink:href", "action") if name in found]

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_is_one_file_that_says_everything(made):
    page = Page()
    text = made[3].read_text()
    page.feed(text)
    drawings = [found for tag, found in page.tags if tag == "svg"]
    assert len(drawings) == len(FIGURES)
    assert all(found["role"] == "img" and len(found["aria-label"]) > 20 for found in drawings)
    assert all(found.get("viewbox") or found.get("viewBox") for found in drawings)
    assert all(source.startswith(("#", "data:")) for source in page.sources), "something is fetched"
    assert all(link.startswith("https://arxiv.org/abs/") for link in page.links)
    assert len(page.ids) == len(set(page.ids)), "two elements share an id"
    assert len(text) < 15_000_000
    assert "<b>&" not in text.replace("&lt;b&gt;&amp;", ""), "a model's title was not escaped"
    assert TITLES[1] in page.text
    for reference in re.findall(r'(?:url\(#|href="#)([^")]+)', text):
        assert reference in page.ids
    for entry in FIGURES:
        assert (made[3].parent / "figures" / f"{entry.name}.svg").exists()
        assert (made[3].parent / "figures" / f"{entry.name}.pdf").exists()


@pytest.mark.slow
def test_every_figure_is_drawn_as_pdf(made):
    for entry in FIGURES:
        assert save(drawn(entry.name, made[1]), "pdf").startswith(b"%PDF"), entry.name


@pytest.mark.slow
@pytest.mark.usefixtures("svg_alone")  # the page holds no more
def test_the_page_is_made_again_from_the_results_alone(made):
    results, _, _, path = made
    before = path.read_bytes()
    path.unlink()
    assert rewrite_report(results, "planted") == path
    assert path.read_bytes() == before
    with pytest.raises(MissingError, match="run `patchbank evaluate`"):
        rewrite_report(results, "absent")


OUTER = """<!doctype html><title>outer</title><body>
<iframe id="phone" src="page.html" style="width:390px;height:900px"></iframe>
<iframe id="desk" src="page.html" style="width:1440px;height:900px"></iframe>
<iframe id="plain" src="page.html" sandbox="allow-same-origin" style="width:390px;height:900px"></iframe>
<script>
function look(frame) {
  const page = frame.contentDocument, table = page.querySelector('#numbers');
  const seen = [...page.querySelectorAll('figure svg')].map(one => one.getBoundingClientRect());
  return {
    page: page.documentElement.scrollWidth, window: frame.clientWidth,
    widest: Math.max(...[...page.querySelectorAll('figure')].map(one => one.getBoundingClientRect().right)),
    figures: seen.filter(box => box.width > 100 && box.height > 40).length,
    named: [...page.querySelectorAll('figure svg[role=img]')].filter(one => one.ariaLabel.length > 20).length,
    pictures: [...page.querySelectorAll('image')].every(one => one.getBoundingClientRect().width > 0),
    lines: [...table.tBodies[0].rows].filter(row => row.offsetHeight > 0).length,
    buttons: page.querySelectorAll('button').length,
    filters: [...page.querySelectorAll('input')].filter(field => field.offsetWidth > 0).length,
  };
}
function use(page) {
  const table = page.querySelector('#numbers'), heads = [...table.querySelectorAll('th')], found = {};
  const column = head => [...table.tBodies[0].rows].map(row => row.cells[heads.indexOf(head)].textContent);
  for (const title of ['m', 'metric']) {
    const head = heads.find(one => one.textContent === title);
    for (const way of ['up', 'down']) {
      head.firstChild.click();
      found[title + ' ' + way] = column(head);
      found[title + ' ' + way + ' said'] = head.ariaSort;
    }
  }
  const field = page.querySelector('input[data-filters=numbers]');
  field.value = 'SHARE_OF planted';
  field.dispatchEvent(new Event('input'));
  found.filtered = [...table.tBodies[0].rows].filter(row => row.offsetHeight > 0).map(row => row.textContent);
  found.count = page.querySelector('#numbers-count').textContent;
  return found;
}
addEventListener('load', () => {
  const found = {};
  for (const frame of document.querySelectorAll('iframe')) found[frame.id] = look(frame);
  found.used = use(document.querySelector('#desk').contentDocument);
  const said = document.createElement('pre');
  said.textContent = JSON.stringify(found);
  document.body.replaceChildren(said);
  console.error('the outer page is heard');
});
</script>"""
"""Headless windows are never narrower than 500 pixels, so the page is looked at through frames; the last runs no
script."""


@pytest.fixture(scope="module")
def browsed(made, tmp_path_factory):
    """What Chromium makes of the page: sizes at two widths and without scripts, sorting, filtering and its log."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine")
    folder = tmp_path_factory.mktemp("browser")
    (folder / "page.html").write_bytes(made[3].read_bytes())
    (folder / "outer.html").write_text(OUTER)
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-quic", "--allow-file-access-from-files",
         "--enable-logging=stderr", "--v=0", f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=5000",
         "--dump-dom", (folder / "outer.html").as_uri()],
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    said = re.search(r"<pre>(.*)</pre>", done.stdout, re.DOTALL)
    assert said, done.stdout[-500:] + done.stderr[-500:]
    log = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return json.loads(html.unescape(said[1])), log


@pytest.mark.parametrize("frame", ["phone", "desk", "plain"])
def test_nothing_overflows_and_every_figure_is_seen_and_named(browsed, frame):
    found = browsed[0][frame]
    assert found["page"] <= found["window"] == (1440 if frame == "desk" else 390)
    assert found["widest"] <= found["window"]
    assert found["figures"] == found["named"] == len(FIGURES)
    assert found["pictures"]
    assert found["lines"] > 100


def test_without_scripts_nothing_is_offered_that_needs_them(browsed):
    assert browsed[0]["plain"]["buttons"] == browsed[0]["plain"]["filters"] == 0
    assert browsed[0]["desk"]["buttons"] > 0
    assert browsed[0]["desk"]["filters"] > 0


def test_the_browser_has_nothing_to_complain_of(browsed):
    log = [line for line in browsed[1] if "is sandboxed" not in line]  # the frame that shall run no script
    assert len(log) == 1, log
    assert "the outer page is heard" in log[0]
    assert len(browsed[1]) == 2


def test_tables_sort_both_ways_and_filter_by_words(browsed, made):
    used = browsed[0]["used"]
    listed = [value for value in used["m up"] if value]
    assert listed == sorted(listed, key=float)
    assert len(set(listed)) > 3
    assert [value for value in used["m down"] if value] == listed[::-1]
    assert used["m up"][len(listed) :] == used["m down"][len(listed) :] == [""] * (len(used["m up"]) - len(listed))
    assert [used["m up said"], used["m down said"]] == ["ascending", "descending"]
    assert used["metric down"] == used["metric up"][::-1] != used["metric up"]
    table = made[1].table
    expected = (table["metric"] == "share_of_variance") & table["model"].str.contains("planted")
    assert len(used["filtered"]) == expected.sum() > 0
    assert all("share_of_variance" in line and "planted" in line for line in used["filtered"])
    assert used["count"] == f"{expected.sum()} of {len(used['m up'])} rows"


def test_the_readme_explains_every_column_in_order():
    named = re.findall(r"`(\w+)`", "\n".join(
        line.split("|")[1] for line in README.read_text().split("## Metrics")[0].splitlines() if line.startswith("| `")
    ))  # fmt: skip
    assert named == list(COLUMNS)


def test_the_readme_names_what_stands_for_an_image():
    [line] = re.findall(r"^\| `token` \|(.*)\|$", README.read_text(), re.MULTILINE)
    assert re.findall(r"`(\S+)`", line) == ["patch", *get_args(Pooled), "patches", "all"]
