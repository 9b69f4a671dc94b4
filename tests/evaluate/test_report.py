"""Figures show the table's numbers, and the page is whole without a network, a script or a wide screen."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from evaluate.figures import FIGURES
from evaluate.figures.style import save
from evaluate.questions import LabelMaps, PatchClassification, VarianceSpectrum
from evaluate.report import rewrite_report, write_report
from evaluate.results import COLUMNS, Results, long_table
from evaluate.run import evaluate
from stores.errors import MissingError
from tests.evaluate.planted import planted
from tests.evaluate.test_patch_classification import ask

README = Path(__file__).parent.parent.parent / "evaluate" / "README.md"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    measured = planted(folder, planted=3, layers=3)
    measured = type(measured)('<b>&"', *list(measured.__dict__.values())[1:5])
    questions = ask(
        VarianceSpectrum(kind="variance-spectrum", top=(3,)),
        PatchClassification(kind="patch-classification", remove=(0, 1, 3), penalties=(1e-2,)),
        PatchClassification(kind="patch-classification", classifiers=("knn",), layers="all"),
        PatchClassification(kind="patch-classification", classifiers=("knn",), train_per_group=(2, 4)),
        LabelMaps(kind="label-maps", images=2, remove=(0, 3)),
    )
    results = Results(folder / "results")
    evaluation = evaluate("planted", [measured], questions, results)
    about = [{"model": measured.title, "data set": "planted", "features": measured.features.digest}]
    return results, evaluation, about, write_report(results, "planted", evaluation, about)


def drawn(name, evaluation):
    entry = next(entry for entry in FIGURES if entry.name == name)
    answers = [(cell.measured.title, answer) for cell, answer in evaluation.answers.values()]
    return entry.draw(evaluation.table, answers)


def test_curves_are_the_tables_values_and_each_cell_once(made):
    evaluation = made[1]
    table = evaluation.table
    for panel, classifier in zip(drawn("removal-curve", evaluation).axes, ("knn", "probe"), strict=True):
        (line,) = panel.lines
        np.testing.assert_array_equal(line.get_xdata(), [0, 1, 3])
        rows = table[(table["metric"] == "patch_miou") & (table["classifier"] == classifier)]
        rows = rows[(rows["train"] == "12 images") & (rows["x_value"] == 2)].drop_duplicates("m").sort_values("m")
        np.testing.assert_array_equal(line.get_ydata(), rows["value"].to_numpy(dtype=float))
    (line,) = drawn("layer-curve", evaluation).axes[0].lines
    np.testing.assert_array_equal(line.get_xdata(), [0, 1, 2])
    (line,) = drawn("train-size", evaluation).axes[0].lines
    np.testing.assert_array_equal(line.get_xdata(), [4, 8, 12])
    (line,) = drawn("variance-spectrum", evaluation).axes[0].lines
    assert (np.diff(line.get_ydata()) <= 0).all()
    assert len(line.get_xdata()) == 16


def test_no_figure_without_numbers():
    assert [entry.name for entry in FIGURES if entry.draw(long_table([]), []) is not None] == []


@pytest.mark.parametrize("kind", ["svg", "pdf"])
def test_equal_numbers_give_equal_bytes(made, kind):
    assert save(drawn("removal-curve", made[1]), kind) == save(drawn("removal-curve", made[1]), kind)


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.ids, self.text, self.sources = [], [], [], []

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append((tag, found))
        if "id" in found:
            self.ids.append(found["id"])
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
    assert len(page.ids) == len(set(page.ids)), "two elements share an id"
    assert len(text) < 15_000_000
    assert "<b>&" not in text.replace("&lt;b&gt;&amp;", ""), "a model's title was not escaped"
    assert '<b>&"' in page.text
    for reference in re.findall(r'(?:url\(#|href="#)([^")]+)', text):
        assert reference in page.ids
    for entry in FIGURES:
        assert (made[3].parent / "figures" / f"{entry.name}.svg").exists()
        assert (made[3].parent / "figures" / f"{entry.name}.pdf").exists()


def test_the_page_is_made_again_from_the_results_alone(made):
    results, _, _, path = made
    before = path.read_bytes()
    path.unlink()
    assert rewrite_report(results, "planted") == path
    assert path.read_bytes() == before
    with pytest.raises(MissingError, match="run `patchbank evaluate`"):
        rewrite_report(results, "absent")


@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_overflows_in_a_browser(made, tmp_path, width):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine")
    probe = (
        "<script>addEventListener('load', () => { document.title = 'width ' + document.documentElement.scrollWidth"
        " + ' of ' + innerWidth + '; sizes ' + [...document.querySelectorAll('svg')].every(s =>"
        " s.getBoundingClientRect().width > 100); const head = document.querySelector('#numbers th button');"
        " head.click(); document.title += '; sorted ' + head.parentNode.getAttribute('aria-sort'); });</script>"
    )
    framed = tmp_path / "framed.html"
    framed.write_text(made[3].read_text().replace("</body>", probe + "</body>"))
    # Headless windows are never narrower than 500 pixels, so the page is looked at through a frame.
    outer = tmp_path / "outer.html"
    outer.write_text(
        f'<iframe src="framed.html" style="width:{width}px;height:900px;border:0"></iframe>'
        "<script>addEventListener('load', () => setTimeout(() => { document.body.append("
        "document.querySelector('iframe').contentDocument.title); }, 300));</script>"
    )
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-quic", "--allow-file-access-from-files",
         f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000", "--dump-dom", outer.as_uri()],
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    found = re.search(r"width (\d+) of (\d+); sizes (\w+); sorted (\w+)", done.stdout)
    assert found, done.stdout[-500:] + done.stderr[-500:]
    assert int(found[1]) <= int(found[2]) <= width
    assert found[3] == "true"
    assert found[4] == "ascending"


def test_the_readme_explains_every_column_in_order():
    named = re.findall(r"`(\w+)`", "\n".join(
        line.split("|")[1] for line in README.read_text().split("## Metrics")[0].splitlines() if line.startswith("| `")
    ))  # fmt: skip
    assert named == list(COLUMNS)
