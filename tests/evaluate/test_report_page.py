"""What a reader sees first and how: the answer, the order of sections, figures by width, dark mode and print."""

import re
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure

from evaluate.claims import decide_all
from evaluate.figures import FIGURES, PICTURES, main_scores
from evaluate.figures.style import has_colour_maps, save
from evaluate.report.answer import answer
from evaluate.report.claims import SHOWN, claims_section
from evaluate.report.page import ASIDE, HALF, LARGEST, SMALLEST, TEXT, Drawing, contents, drawing, drawings, page
from evaluate.report.style_sheet import STYLE
from evaluate.report.writing import write_report
from evaluate.results.table import Result, ResultStore, long_table
from evaluate.runner import Evaluation
from tests.conftest import write_svg_alone
from tests.evaluate.planted_claims import paper_world
from tests.evaluate.test_report_choice import cityscapes, row

MAPS = {
    "truth": np.array([[[0, 1], [1, 255]]], np.uint8),
    "predicted": np.array([[[[0, 1], [1, 1]]]], np.uint8),
    "predicted_m": np.array([0]),
    "colours": np.array([[128, 64, 128], [0, 0, 142]], np.uint8),
    "class_names": np.array(["road", "car"]),
    "sources": np.array(["a.png"]),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A page with scores, curves and label maps of two models."""
    table = cityscapes()
    results = {str(n): (model, Result([], MAPS)) for n, model in enumerate(("MAE", "DINO"))}
    about = [{"model": title, "data set": "cityscapes", "images": "102"} for title in ("MAE", "DINO")]
    with pytest.MonkeyPatch.context() as patched:
        write_svg_alone(patched)
        made = ResultStore(tmp_path_factory.mktemp("page"))
        return write_report(made, "e", Evaluation(table, results), about).read_text()


def test_the_answer_and_a_picture_come_first_then_claims_figures_and_what_was_measured(written):
    order = re.findall(r"<h2>(.*?)</h2>", written)
    assert order == ["Summary", "Claims of the papers", "Figures", "What was measured on what", "All numbers"]
    summary = written[: written.index("Claims of the papers</h2>")]
    assert 'id="figure-label-maps"' in summary
    assert written.index('<p class="answer">') < written.index('<p class="lead">') < written.index("<nav")
    assert "2 models on cityscapes. Every number was computed from stored features of 102 images;" in written
    drawn = re.findall(r'id="figure-([\w-]+)"', written)
    assert drawn == ["main-scores", "label-maps", "removal-curve", "layer-curve", "train-size"]
    for number, heading in enumerate(order):
        assert f'<a href="#section-{number}">{heading}</a>' in written


def test_headings_are_in_order(written):
    levels = [int(level) for level in re.findall(r"<h([1-6])", written)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_every_picture_is_a_figure():
    assert set(PICTURES) <= {entry.name for entry in FIGURES}
    assert len(set(PICTURES)) == len(PICTURES)
    assert PICTURES[0] == "label-maps"


# -- the answer -------------------------------------------------------------------------------------------------------


def two(first, second):
    return long_table([row("A", value=first, classifier="knn"), row("B", value=second, classifier="knn")])


def test_the_answer_names_who_leads_by_how_much_and_whether_intervals_overlap():
    assert answer(two(0.2, 0.5), (), ()) == (
        "Patch classes by nearest neighbours: B leads with mIoU 0.500 [0.400, 0.600], A gets 0.200 [0.100, 0.300]; the "
        "intervals do not overlap."
    )
    assert answer(two(0.45, 0.5), (), ()).endswith("the intervals overlap.")
    alone = long_table([row("A", value=0.2).copy() | {"low": None, "high": None}])
    assert answer(alone, (), ()) == "Patch classes by nearest neighbours: A gets mIoU 0.200."
    third = long_table([row(name, value=value) for name, value in (("A", 0.1), ("B", 0.5), ("C", 0.3))])
    assert "C as the next gets 0.300" in answer(third, (), ())


def test_the_answer_marks_a_model_whose_sets_are_not_whole():
    assert "A (gone from the store) gets 0.200" in answer(
        two(0.2, 0.5), (), (), {"A": "gone from the store", "B": "whole"}
    )


def test_random_weights_are_no_finding():
    some = [SimpleNamespace(role="random"), SimpleNamespace(role="random")]
    assert "no finding about the models" in answer(two(0.2, 0.5), some, ())
    assert "no finding" not in answer(two(0.2, 0.5), [*some, SimpleNamespace(role="mae")], ())


def test_decided_claims_are_counted_in_the_answer():
    world = paper_world()
    world.change("mae", "tracking", "instance_accuracy", 0.3, m=200)
    decisions = decide_all(world.evidence())
    assert "Of 20 claims 18 hold, 1 fails." in answer(two(1, 2), (), decisions)
    for role in ("mae", "simmim", "dino", "supervised", "ibot", "scale-mae"):
        world.without(role)
    few = answer(two(1, 2), (), decide_all(world.evidence()))
    assert re.search(r"Of 20 claims (1 is|\d+ are) decided in part\.", few)
    assert "claims" not in answer(two(1, 2), (), [one for one in decisions if one.verdict == "not testable"])


def test_without_scores_of_patches_another_analysis_leads_and_without_any_the_numbers_are_counted():
    rows = [
        {"experiment": "e", "analysis": "tracking", "metric": "instance_accuracy", "model": "A", "value": 1 / gap,
         "classifier": "knn", "m": 0, "k": 1, "x_name": "gap", "x_value": float(gap), "data_set": "d", "view": "clean"}
        for gap in (5, 1, 2)
    ]  # fmt: skip
    assert answer(long_table(rows), (), ()) == ("Objects found again, nearest neighbours: A gets accuracy 1.000.")
    other = [rows[0] | {"analysis": name, "metric": "loss"} for name in ("a", "b", "c", "d", "f")]
    assert answer(long_table(other), (), ()) == "5 numbers of a, b, c, d and 1 more."


def test_what_comes_from_outside_is_escaped():
    assert "<b>" not in page("<b>", "<b>", [("<b>", "")], "<b>").replace("&lt;b&gt;", "")


# -- the main scores --------------------------------------------------------------------------------------------------


def test_main_scores_are_the_tables_and_stand_on_one_axis():
    table = cityscapes()
    figure = main_scores.figure(table, [])
    titles = [panel.get_title(loc="left").replace("\n", " ") for panel in figure.axes]
    assert titles == [score.title for score in main_scores.main_scores(table)]
    assert titles == [f"{name} mIoU, {of}" for name in ("k-NN", "probe") for of in ("all features", "top 200 removed")]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["MAE", "DINO"]
    for panel, value in zip(figure.axes, (0.2, 0.4, 0.2, 0.4), strict=True):
        assert [container.lines[0].get_xdata().tolist() for container in panel.containers] == [[value]] * 2
        assert panel.get_xlim() == figure.axes[0].get_xlim()
        assert panel.get_xlim()[0] <= 0.0


def test_the_most_common_class_is_marked_where_it_is_known():
    baseline = row("MAE", metric="majority_miou", value=0.07, classifier=None, m=None, k=None)
    figure = main_scores.figure(long_table([*cityscapes().to_dict("records"), baseline]), [])
    marked = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_marker() == "|"]
    assert 0.07 in marked
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["most common class"]


# -- figures on the page ----------------------------------------------------------------------------------------------


def kinds_of(*widths):
    html = drawings([Drawing(f"d{n}", "", "", width) for n, width in enumerate(widths)])
    return re.findall(r'<div class="drawing(?: ([\w ]+))?"', html)


def test_narrow_figures_stand_side_by_side_and_wide_ones_alone():
    assert kinds_of(HALF, HALF, HALF) == ["half", "half", "side"]
    assert kinds_of(HALF, ASIDE, TEXT, TEXT + 1, HALF) == ["side", "side", "", "beyond", "side"]
    assert kinds_of(0.0) == ["side"], "a sentence in place of a figure"
    assert contents([Drawing("a", "A", "")]) == ""
    assert contents([Drawing(name, name, "") for name in "abc"]).count("<li>") == 3


def test_letters_and_axes_follow_the_page_and_pictures_do_not(written):
    scores = written[written.index('id="figure-main-scores"') : written.index('id="figure-label-maps"')]
    maps = written[written.index('id="figure-label-maps"') : written.index('id="figure-removal-curve"')]
    assert '<svg role="img" class="ink"' in scores
    assert "stroke: var(--figure-ink, #000000)" in scores
    assert "fill: var(--figure-paper, #ffffff)" in scores
    assert "#0072b2" in scores, "colours of data stay"
    assert "var(--figure" not in maps
    assert 'class="wide card"' in maps
    assert re.search(r"(?<!, )#000000", re.sub(r'aria-label=".*?"', "", scores)) is None


def test_a_figure_has_a_least_and_a_largest_size():
    svg = '<?xml?><svg width="{}pt" height="200pt" id="x"></svg>'
    made = drawing("d", svg.format(600), "T", "C with `code`")
    assert made.width == 800.0
    assert f"min-width:{800 * SMALLEST:.0f}px;max-width:{800 * LARGEST:.0f}px" in made.html
    assert "min-width:0px" in drawing("d", svg.format(460), "T", "C").html, "a curve of one panel fits a phone"
    assert 'aria-label="T. C with code"' in made.html
    assert "<code>code</code>" in made.html
    assert 'id="d-x"' in made.html


def test_figures_with_maps_of_colours_are_told_from_lines():
    figure = Figure()
    axes = figure.subplots()
    axes.plot([0, 1])
    assert not has_colour_maps(figure)
    axes.pcolormesh(np.eye(2))
    assert has_colour_maps(figure)


def test_the_last_bits_of_a_layout_change_no_byte():
    def drawn(noise):
        figure = Figure()
        figure.add_axes((0.1, 0.1 + noise, 0.8, 0.8)).plot([0, 1], [1, 2])
        return save(figure, "svg")

    assert drawn(0.0) == drawn(1e-15)
    assert b"url(#p0)" in drawn(0.0)
    assert drawn(0.0) != drawn(1e-2)


def test_an_upright_label_is_no_longer_than_its_axes():
    figure = Figure(figsize=(4, 2), layout="constrained")
    axes = figure.subplots()
    axes.set_ylabel("a long name of a metric that is measured in some unit of its own (units a patch)")
    save(figure, "svg")
    figure.draw_without_rendering()
    label, panel = axes.yaxis.label.get_window_extent(), axes.get_window_extent()
    assert label.height <= panel.height
    assert save(figure, "svg") == save(figure, "svg")


# -- claims -----------------------------------------------------------------------------------------------------------


def test_conditions_beyond_the_first_are_folded_and_those_that_fail_come_first():
    world = paper_world()
    world.change("mae", "tracking", "instance_accuracy", 0.3, m=200)
    decisions = [one for one in decide_all(world.evidence()) if one.verdict != "not testable"]
    text = claims_section(decisions, {})
    rows = dict(zip([one.claim for one in decisions], re.findall(r"<tr><td>\d.*?</tr>", text), strict=True))
    for one in decisions:
        open_, _, folded = rows[one.claim].partition("<details>")
        assert open_.count("<li>") == min(SHOWN, len(one.numbers))
        assert (open_ + folded).count("<li>") == len(one.numbers)
        if one.verdict == "fails":
            assert not re.search(r"<ul><li>[^<]*: yes</li>", open_)


# -- dark mode and print ----------------------------------------------------------------------------------------------


def luminance(colour):
    digits = colour.lstrip("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    parts = np.array([int(digits[at : at + 2], 16) for at in (0, 2, 4)]) / 255
    return float(np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])


def contrast(first, second):
    """WCAG 2.1: (L1 + 0.05) / (L2 + 0.05), the lighter above the darker."""
    lighter, darker = sorted((luminance(first), luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_text_has_contrast_by_day_and_by_night():
    light, dark = ({} for _ in range(2))
    for mode, found in zip((light, dark), re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL), strict=True):
        mode |= dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})", found))
    assert light.keys() == dark.keys()
    for mode in (light, dark):
        for text in ("ink", "soft"):
            assert min(contrast(mode[text], mode[ground]) for ground in ("paper", "tint")) >= 4.5
        for text in ("figure-ink", "figure-soft"):
            assert contrast(mode[text], mode["figure-paper"]) >= 4.5
        for mark in ("edge", "focus", "figure-dim"):
            assert contrast(mode[mark], mode["paper"]) >= 3.0
    assert contrast(light["paper"], dark["paper"]) > 10, "the night is dark"


def test_print_is_light_and_breaks_in_no_figure():
    assert (
        STYLE.count("prefers-color-scheme: dark") == STYLE.count("@media screen and (prefers-color-scheme: dark)") == 2
    )
    printed = STYLE[STYLE.index("@media print") :]
    assert "break-inside: avoid" in printed
    assert "details:not([open])" in printed
    assert "overflow: visible" in printed
