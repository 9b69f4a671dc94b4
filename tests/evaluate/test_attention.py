"""The attention analysis: means and heads in a second implementation, uniform attention, and maps that are true."""

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from evaluate.analyses.attention import Attention
from evaluate.figures import attention as figures
from evaluate.kernels.tokens.attention import uniform_distance
from evaluate.registry import EvaluationSettings
from evaluate.results.table import ResultStore
from evaluate.runner import collect_tasks, evaluate
from evaluate.selection import SelectionRule
from evaluate.settings import Context, Selection
from stores.errors import MissingError
from tests.evaluate.planted_captures import HEAD_CHANNELS, HEADS, PREFIX, write_captures
from tests.evaluate.planted_similarity import compared, related

SELECTION = Selection(train=SelectionRule(split="train"), validation=SelectionRule(split="val"))
BY_STATISTIC = ("attention_distance_px", "attention_distance_unit", "attention_entropy", "attention_nmi")


def run(folder, *models, **settings):
    analysis = Attention(kind="attention", **{"resamples": 100, "pictures": 2, **settings})
    return evaluate(
        "t",
        list(models),
        EvaluationSettings(selection=SELECTION, analyses=(analysis,)),
        ResultStore(folder / "results"),
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_captures(tmp_path_factory.mktemp("attention") / "store")


@pytest.fixture(scope="module")
def found(written, tmp_path_factory):
    return run(tmp_path_factory.mktemp("found"), written[0])


def validated(model):
    return np.flatnonzero(model.samples["split"] == "val")


def test_means_and_heads_are_those_of_the_captured_rows(written, found):
    model, arrays = written
    table = found.table[found.table["reference"].isna()]
    for layer in range(2):
        rows = table[(table["array"] == f"block.{layer}") & (table["x_value"] == layer + 1)]
        values = arrays[f"attention/block.{layer}"][validated(model)].astype(np.float64)
        for place, metric in enumerate(BY_STATISTIC):
            of_metric = rows[rows["metric"] == metric]
            mean = of_metric[of_metric["outcome"].isna()].iloc[0]
            assert mean["value"] == pytest.approx(values[:, place].mean(), rel=1e-12)
            assert mean["low"] < mean["value"] < mean["high"]
            assert mean["n_units"] == 12
            heads = of_metric[of_metric["outcome"].notna()]
            assert heads["outcome"].tolist() == ["head 0", "head 1"]
            np.testing.assert_allclose(heads["value"].to_numpy(float), values[:, place].mean(axis=0), rtol=1e-12)
            assert heads["low"].isna().all()


def test_intervals_resample_images_with_all_of_their_tiles(written, found):
    model, arrays = written
    values = arrays["attention/block.1"][validated(model), 0].astype(np.float64).mean(axis=1)
    of_image = values.reshape(12, 2).mean(axis=1)
    drawn = np.random.Generator(np.random.PCG64(0)).integers(0, 12, (100, 12))
    expected = np.quantile(of_image[drawn].mean(axis=1), [0.025, 0.975])
    row = found.table[(found.table["metric"] == BY_STATISTIC[0]) & (found.table["array"] == "block.1")].iloc[0]
    np.testing.assert_allclose([row["low"], row["high"]], expected, rtol=1e-6)


def test_uniform_attention_has_its_known_values(found):
    assert uniform_distance((14, 14), (16.0, 16.0)) == pytest.approx(116.5, abs=0.06)
    assert uniform_distance((16, 16), (14.0, 14.0)) == pytest.approx(116.6, abs=0.06)
    rows = found.table[found.table["reference"] == "uniform attention"].drop_duplicates("metric").set_index("metric")
    centres = np.array([(4 * row, 4 * column) for row in range(4) for column in range(4)], dtype=float)
    pairs = [np.hypot(*(one - other)) for one in centres for other in centres]
    assert rows["value"]["uniform_distance_px"] == pytest.approx(np.mean(pairs))
    assert rows["value"]["uniform_distance_unit"] == pytest.approx(np.mean(pairs) / 12)
    assert rows["value"]["uniform_entropy"] == pytest.approx(np.log(16))


def test_the_same_images_in_other_rows_give_the_same_numbers(found, tmp_path):
    order = np.random.default_rng(5).permutation(48)
    moved = run(tmp_path, write_captures(tmp_path / "store", order=order)[0])
    columns = ["array", "metric", "outcome", "reference", "x_value"]
    parts = [one.table[one.table["metric"].isin(BY_STATISTIC)] for one in (found, moved)]
    assert parts[0][columns].equals(parts[1][columns])
    for name in ("value", "low", "high"):
        numbers = [part[name].to_numpy(dtype=float, na_value=np.nan) for part in parts]
        np.testing.assert_allclose(numbers[0], numbers[1], rtol=1e-12)


def test_results_are_reused_and_pictures_have_a_key_of_their_own(written, tmp_path):
    assert run(tmp_path, written[0]).n_computed == 3
    assert run(tmp_path, written[0]).n_reused == 3
    assert run(tmp_path, written[0], pictures=1).n_computed == 1


def maps_of(found):
    [result] = [result for _, result in found.results.values() if "map_samples" in result.arrays]
    return result


def test_maps_are_those_of_the_class_token_and_of_the_query_patches(written, found):
    model, arrays = written
    maps = maps_of(found).arrays
    shown = validated(model)[[0, -1]]
    assert maps["map_samples"].tolist() == model.samples["sample"][shown].tolist()
    np.testing.assert_array_equal(maps["class_maps"].reshape(2, HEADS, 16), arrays["attention/block.1.class"][shown])
    assert maps["query_places"].tolist() == [[2, 2], [1, 1]]
    for picture, row in enumerate(shown):
        query, key = (
            arrays[f"sublayers/block.1.{name}"][row, :, PREFIX:].astype(np.float64) for name in ("query", "key")
        )
        for number, patch in enumerate((10, 5)):
            for head in range(HEADS):
                weights = np.exp(key[head] @ query[head, patch] / np.sqrt(HEAD_CHANNELS))
                shown_map = maps["query_maps"][picture, number, head].reshape(-1)
                np.testing.assert_allclose(shown_map, weights / weights.sum(), rtol=1e-4)
    rows = found.table[found.table["metric"] == "class_attention_on_patches"]
    sums = arrays["attention/block.1.class"][validated(model)].astype(np.float64).sum(axis=2)
    np.testing.assert_allclose(rows["value"].to_numpy(float), [sums.mean(), *sums.mean(axis=0)], rtol=1e-6)


def test_maps_that_lack_what_the_model_adds_are_left_out(tmp_path):
    biased = run(tmp_path, write_captures(tmp_path / "store", biased=True)[0])
    maps = maps_of(biased).arrays
    assert "query_maps" not in maps
    assert maps["query_difference"] > 0.02
    drawn = figures.query_maps(biased.table, list(biased.results.values()))
    assert "left out" in drawn.axes[1].texts[0].get_text()


def test_missing_captures_are_named_with_what_makes_them(written, tmp_path):
    with pytest.raises(MissingError, match=r'no captured arrays of layer 5 of "attention" .*: add it to `captures`'):
        run(tmp_path, written[0], layers=(5,))


def test_figures_show_the_tables_numbers(found):
    table, results = found.table, list(found.results.values())
    drawn = figures.figure(table, results)
    assert "px" in drawn.axes[0].get_ylabel()
    assert "nats" in drawn.axes[2].get_ylabel()
    for axes, metric in zip(drawn.axes, ("attention_distance_px", "attention_nmi", "attention_entropy"), strict=True):
        rows = table[(table["metric"] == metric) & table["outcome"].isna()]
        line = next(line for line in axes.lines if line.get_label() == "planted")
        np.testing.assert_array_equal(line.get_ydata(), rows["value"].to_numpy(float))
        np.testing.assert_array_equal(line.get_xdata(), [1, 2])
    boxed = figures.query_maps(table, results).axes[0]
    sides = {(box.get_width(), box.get_height()) for box in boxed.patches if isinstance(box, Rectangle)}
    assert sides == {(4.0, 4.0)}
    assert len(figures.class_maps(table, results).axes) == 2 * (2 + HEADS)


def test_a_backbone_of_stages_is_left_out_with_a_note(written, tmp_path):
    stages = compared(tmp_path / "s", "Stages", related(1, n_rows=8))
    named = {name.replace("block.", "stage."): array for name, array in stages.features.arrays.items()}
    stages.features.__dict__["arrays"] = named
    settings = EvaluationSettings(selection=SELECTION, analyses=(Attention(kind="attention", pictures=0),))
    tasks, notes = collect_tasks([written[0], stages], settings, Context(SELECTION, 0))
    assert {task.title for task in tasks} == {written[0].title}
    assert notes == ["attention leaves out Stages, which has no transformer blocks"]
    with pytest.raises(MissingError, match="Stages has no captured arrays"):
        collect_tasks([stages], settings, Context(SELECTION, 0))
