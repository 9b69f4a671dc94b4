"""Similarity of stored sets: rows of the table against float64 in memory, rows left out, keys and refusals."""

import dataclasses

import numpy as np
import pytest

from evaluate.analyses.similarity import Similarity
from evaluate.inputs.model_sets import ModelSets
from evaluate.registry import EvaluationSettings
from evaluate.results.draws import draws_of
from evaluate.results.table import ResultStore
from evaluate.runner import collect_tasks, evaluate
from evaluate.scoring.similarity.minibatches import StoredGrams
from evaluate.scoring.similarity.pairs import left_out
from evaluate.selection import SelectionRule
from evaluate.settings import Context, Selection
from pipeline.extraction.compute import Compute
from pipeline.extraction.options import ExtractOptions
from pipeline.extraction.run import Workspace, extract_recipe
from pipeline.recipe import FeatureRecipe, StorageRecipe
from stores import Store
from stores.errors import MissingError, UserError
from tests.evaluate.planted_similarity import compared, related
from tests.pipeline.tiny import TINY, recipe, write_camvid
from tests.stores.specs_for_tests import FEATURES

TRAIN = Selection(train=SelectionRule(split="train"))


def asked(**settings):
    return Similarity(kind="similarity", **settings)


def run(folder, models, selection=None, **settings):
    wanted = EvaluationSettings(selection=selection, analyses=(asked(**settings),))
    return evaluate("t", models, wanted, ResultStore(folder))


def of(table, metric="cka", **columns):
    rows = table[table["metric"] == metric]
    for name, value in columns.items():
        rows = rows[rows[name].isna() if value is None else rows[name] == value]
    return rows


def matrix(table, metric="cka", **columns):
    rows = of(table, metric, **columns)
    return rows.pivot(index="layer", columns="x_value", values="value").to_numpy(dtype=float)


def direct_cka(one, other, minibatches):
    """CKA of flattened tokens in memory, by HSIC1 with matrices of ones, in float64."""
    sums = np.zeros(3)
    for rows in minibatches:
        pair = [tokens[rows].reshape(len(rows), -1).astype(np.float64) for tokens in (one, other)]
        k, m = (part @ part.T for part in pair)
        np.fill_diagonal(k, 0)
        np.fill_diagonal(m, 0)
        n, ones = len(rows), np.ones((len(rows), len(rows)))

        def hsic(a, b, n=n, ones=ones):
            total = np.trace(a @ b) + np.trace(a @ ones) * np.trace(b @ ones) / ((n - 1) * (n - 2))
            return (total - 2 / (n - 2) * np.trace(ones @ a @ b)) / (n * (n - 3))

        sums += n * np.array([hsic(k, m), hsic(k, k), hsic(m, m)])
    return sums[0] / np.sqrt(sums[1] * sums[2])


@pytest.fixture(scope="module")
def tokens():
    """A model of four patches (as of 16 pixels) and one of nine (as of 14), of other widths, and one without prefix."""
    return {
        "Sixteen": related(1, n_rows=90, n_patches=4, channels=6),
        "Fourteen": related(2, n_rows=90, n_patches=9, channels=4),
        "Stages": related(3, n_rows=90, n_patches=4, channels=5, n_layers=2, n_prefix=0),
    }


@pytest.fixture(scope="module")
def models(tokens, tmp_path_factory):
    folder = tmp_path_factory.mktemp("similar")
    return [compared(folder / title, title, layers) for title, layers in tokens.items()]


def test_stored_gram_matrices_give_the_numbers_of_tokens_in_memory(tokens, models, tmp_path):
    found = run(tmp_path, models, tokens=("patches", "all")).table
    minibatches = [np.arange(0, 32), np.arange(32, 64), np.arange(64, 90)]
    for first, one in tokens.items():
        for second, other in list(tokens.items())[list(tokens).index(first) :]:
            for kind in ("patches", "all"):
                values = matrix(found, model=first, reference=second, token=kind)
                skipped = [int(kind == "patches" and "no class token" not in part) for part in (one, other)]
                expected = [
                    [
                        direct_cka(one[a, "output"][:, skipped[0] :], other[b, "output"][:, skipped[1] :], minibatches)
                        for b in range(len(other) - ("no class token" in other))
                    ]
                    for a in range(len(one) - ("no class token" in one))
                ]
                np.testing.assert_allclose(values, expected, atol=1e-6)
                if first == second:
                    np.testing.assert_allclose(np.diagonal(values), 1.0, atol=1e-12)
    assert set(found["x_name"].dropna()) == {"reference_depth"}
    assert sorted(of(found, model="Sixteen", reference="Stages")["x_value"].unique()) == [1.0, 2.0]
    assert of(found)["low"].isna().all(), "three minibatches are too few for intervals"


def test_rows_that_are_invalid_or_not_selected_are_left_out_of_their_minibatch(tokens, tmp_path):
    invalid, validation = (0, 3, 40), (1, *range(64, 88))
    part = {title: tokens[title] for title in ("Sixteen", "Fourteen")}
    models = [
        compared(tmp_path / title, title, layers, invalid=invalid if number else (), validation=validation)
        for number, (title, layers) in enumerate(part.items())
    ]
    found = run(tmp_path / "r", models, TRAIN).table
    kept = np.array(sorted({*range(90)} - {*invalid, *validation}))
    of_pair = [kept[kept < 32], kept[(kept >= 32) & (kept < 64)]]  # two rows of the third minibatch are too few
    one, other = (layers[1, "output"][:, 1:] for layers in part.values())
    values = matrix(found, model="Sixteen", reference="Fourteen")
    assert values[1, 1] == pytest.approx(direct_cka(one, other, of_pair), abs=1e-6)
    assert set(of(found, model="Sixteen", reference="Fourteen")["n_units"]) == {2}
    assert set(of(found, model="Sixteen", reference="Fourteen")["n_train"]) == {sum(map(len, of_pair))}, (
        "of 62 that train"
    )
    alone = np.setdiff1d(np.arange(90), validation)
    of_self = [alone[alone // 32 == number] for number in range(2)]
    values = matrix(found, model="Sixteen", reference="Sixteen")
    first = part["Sixteen"][0, "output"][:, 1:]
    assert values[0, 1] == pytest.approx(direct_cka(first, one, of_self), abs=1e-6)


def test_vectors_are_cut_into_shuffled_minibatches(tokens, models, tmp_path):
    found = run(tmp_path, models[:2], tokens=("class-token", "mean-patch"), norm="none", minibatch=8).table
    order = np.random.Generator(np.random.PCG64(0)).permutation(90)
    minibatches = [order[start : start + 8] for start in range(0, 88, 8)]  # two rows are left over
    for kind, part in (("class-token", slice(0, 1)), ("mean-patch", slice(1, None))):
        one, other = (
            tokens[title][2, "output"][:, part].mean(axis=1, dtype=np.float64).astype(np.float32)
            for title in ("Sixteen", "Fourteen")
        )
        [row] = of(found, model="Sixteen", reference="Fourteen", token=kind, layer=2, x_value=3.0).to_dict("records")
        assert row["value"] == pytest.approx(direct_cka(one, other, minibatches), abs=1e-6)
        assert row["low"] < row["value"] < row["high"]
        assert (row["unit"], row["n_units"]) == ("minibatch", 11)


def test_tokens_serve_where_no_means_are_stored(tokens, models, tmp_path):
    """Layer 0 keeps its patch tokens alone."""
    from tests.evaluate.planted import write_set

    layers, whole = tokens["Sixteen"], models[0]
    patches = layers[0, "output"][:, 1:]
    facts = {"layer": 0, "norm": False, "grid_rows": 2, "grid_columns": 2}
    values = {"tokens/block.0": (patches, ("sample", "patch", "channel"), facts)}
    features = write_set(tmp_path / "s", FEATURES, values, {"samples": whole.samples})
    bare = dataclasses.replace(whole, title="Bare", features=features)
    settings = {"tokens": ("mean-patch",), "norm": "none", "layers": (0,)}
    found = run(tmp_path / "r", [whole, bare], **settings).table
    assert of(found, reference="Bare")["value"].tolist() == pytest.approx([1.0, 1.0], abs=1e-9)


def test_other_measures_and_chance_are_rows_of_the_table(models, tmp_path):
    names = ("linear-cka", "procrustes", "cca", "rsa", "mutual-knn")
    found = run(tmp_path, models, tokens=("mean-patch", "patches"), measures=("cka", *names), norm="none", k=5).table
    for metric in (name.replace("-", "_") for name in names):
        own = matrix(found, metric, model="Fourteen", reference="Fourteen", token="mean-patch")
        np.testing.assert_allclose(np.diagonal(own), 1.0, atol=1e-9)
        both = matrix(found, metric, model="Sixteen", reference="Stages")
        assert both.shape == (3, 2)
        assert (np.abs(both) < 1).all()
        assert both[0, 0] > both[2, 1], "noise grows with depth"
        assert of(found, metric, token="patches").empty
    assert set(of(found, "chance_mutual_knn")["value"]) == {5 / 89}


def test_the_depth_of_divergence_is_a_row_of_models_of_one_depth(tokens, tmp_path):
    """Twenty minibatches; the third layers are unrelated."""
    one, other = related(1, n_rows=320, noise=0.1), related(2, n_rows=320, noise=0.1)
    other[2, "output"] = np.random.default_rng(5).normal(size=other[2, "output"].shape).astype(np.float32)
    models = [compared(tmp_path / name, name, layers, size=16) for name, layers in (("A", one), ("B", other))]
    models.append(compared(tmp_path / "C", "C", related(3, n_rows=320, n_layers=2), size=16))
    found = run(tmp_path / "r", models).table
    [row] = of(found, "divergence_depth").to_dict("records")
    assert (row["model"], row["reference"], row["value"], row["unit"], row["n_units"]) == ("A", "B", 3, "minibatch", 20)
    assert (row["low"], row["high"]) == (3, 3)
    assert matrix(found, model="A", reference="B")[1, 1] > 0.5
    results = ResultStore(tmp_path / "r")
    pairs = of(found, model="A", layer=0, x_value=1.0, token="patches").to_dict("records")
    drawn = [draws_of(results.read_digest(row["result"]).arrays, row["row"]) for row in pairs]
    assert [row["reference"] for row in pairs] == ["A", "B", "C"]
    assert len({draws.units for draws in drawn}) == 1, "claims compare pairs of models minibatch by minibatch"
    np.testing.assert_allclose(drawn[0].values, 1.0)
    again = run(tmp_path / "r2", [models[0], dataclasses.replace(models[0], title="Same")]).table
    assert of(again, "divergence_depth")[["value", "low", "high"]].isna().all(axis=None), "they never diverge"


def test_sublayers_are_compared_at_the_same_point(tokens, tmp_path):
    rng = np.random.default_rng(0)
    layers = dict(tokens["Sixteen"])
    shape = layers[0, "output"].shape
    for block in range(3):
        for point in ("norm1", "mlp"):
            layers[block, point] = rng.normal(size=shape).astype(np.float32)
    model = compared(tmp_path / "m", "M", layers)
    found = run(
        tmp_path / "r", [model], points=("mlp", "output"), tokens=("patches", "class-token", "mean-patch"), norm="none"
    ).table
    minibatches = [np.arange(0, 32), np.arange(32, 64), np.arange(64, 90)]
    expected = direct_cka(layers[0, "mlp"][:, 1:], layers[2, "mlp"][:, 1:], minibatches)
    values = matrix(found, outcome="mlp", token="patches")
    assert values[0, 2] == pytest.approx(expected, abs=1e-6)
    assert sorted(of(found, outcome="mlp")["x_value"].unique()) == [0.5, 1.5, 2.5]
    assert sorted(of(found, outcome=None)["x_value"].unique()) == [1.0, 2.0, 3.0]
    assert set(of(found, outcome="mlp", layer=1)["array"]) == {"block.1.mlp"}
    order = np.random.Generator(np.random.PCG64(0)).permutation(90)
    shuffled = [order[start : start + 32] for start in (0, 32, 64)]
    expected = direct_cka(layers[0, "mlp"][:, :1], layers[2, "mlp"][:, :1], shuffled)
    assert matrix(found, outcome="mlp", token="class-token")[0, 2] == pytest.approx(expected, abs=1e-6)


def test_models_without_a_class_token_are_left_out_with_a_note(models, tmp_path):
    found = run(tmp_path, models, tokens=("class-token",), norm="none")
    assert "Stages" not in set(found.table["model"]) | set(found.table["reference"])
    assert found.notes == ["similarity leaves out class tokens of Stages, which has none stored"]
    with pytest.raises(MissingError, match="no model has a stored class token: set prefix = true in \\[features\\]"):
        run(tmp_path, models[2:], tokens=("class-token",), norm="none")


def test_points_inside_of_blocks_leave_out_backbones_of_stages(models, tmp_path, monkeypatch):
    blocks, stages = models[0], models[2]
    inside = {name.replace("block.", "stage."): array for name, array in stages.features.arrays.items()}
    monkeypatch.setitem(stages.features.__dict__, "arrays", inside)
    wanted = EvaluationSettings(analyses=(asked(points=("mlp",), tokens=("patches",)),))
    with pytest.raises(MissingError, match='Sixteen has no captured arrays at "mlp" of "grams"'):
        collect_tasks([blocks, stages], wanted, Context(None, 0))
    assert left_out([blocks, stages], ("patches",), ("mlp", "output")) == [
        "mlp of Stages, which has no transformer blocks"
    ]
    assert left_out([stages], ("patches",), ("mlp",)) == [], "with nothing to compare, what is missing is said"


def keys(models, selection=None, **settings):
    wanted = EvaluationSettings(selection=selection, analyses=(asked(**settings),))
    return [task.key.digest for task in collect_tasks(models, wanted, Context(selection, wanted.seed))[0]]


def test_stored_results_are_found_again_and_what_changes_them_is_in_their_key(models, tmp_path):
    assert run(tmp_path, models).n_computed == 6
    assert run(tmp_path, models, tokens=("patches", "mean-patch"), norm="none").n_reused == 6
    assert keys(models) == keys(models, minibatch=16, k=3)
    base = keys(models[:2], tokens=("mean-patch",), norm="none")
    assert len(base) == 3
    for change in ({"minibatch": 16}, {"resamples": 7}, {"measures": ("rsa",)}, {"layers": (0,)}):
        assert not {*base} & {*keys(models[:2], **{"tokens": ("mean-patch",), "norm": "none", **change})}, change
    some = Selection(train=SelectionRule(split="train", per_group=40))
    assert not {*keys(models, TRAIN)} & {*keys(models, some)}
    renamed = [dataclasses.replace(models[0], title="New"), models[1]]
    before, after = keys(models[:2]), keys(renamed)
    assert before[1] == after[1]
    assert before[2] == after[2]


def refusal(models, error=UserError, **settings):
    with pytest.raises(error) as stop:
        keys(models, **settings)
    return str(stop.value)


def test_sets_that_cannot_be_compared_are_refused_by_what_differs(tokens, models, tmp_path):
    other_data = FEATURES.dataset.model_copy(update={"sources": "9" * 64})
    strangers = {
        "data": FEATURES.model_copy(update={"dataset": other_data}),
        "rows": FEATURES.model_copy(update={"samples": "8" * 64}),
    }
    layers = tokens["Sixteen"]
    data, rows = (compared(tmp_path / name, name, layers, spec=spec) for name, spec in strangers.items())
    sentence = refusal([models[0], data])
    assert "Sixteen and data cannot be compared image by image: their data sets differ" in sentence
    assert "camvid, 3 images, sources 111111111111; camvid, 3 images, sources 999999999999" in sentence
    assert "their rows differ (samples 333333333333, 90 rows; 888888888888, 90 rows)" in refusal([models[0], rows])
    small = compared(tmp_path / "small", "Small", layers, size=16)
    assert "the Gram matrices of Sixteen are of 32 rows (gram_rows) and those of Small of 16" in refusal(
        [models[0], small]
    )
    assert keys([models[0], small], tokens=("mean-patch",), norm="none")
    for one in ([models[0], data], [models[0], rows], [models[0], small]):
        assert refusal(one).count(". ") == 0


def test_what_was_not_captured_is_named_with_the_key_that_makes_it(tokens, models, tmp_path):
    bare = compared(tmp_path / "bare", "Bare", tokens["Sixteen"], grams=False)
    sentence = refusal([models[0], bare], MissingError)
    assert 'Bare has no captured arrays at "output" of "grams" that are complete: add it to `captures`' in sentence
    sentence = refusal([models[0]], MissingError, points=("mlp",))
    assert "mlp" in sentence
    assert "`capture_points`" in sentence
    sentence = refusal([models[0]], MissingError, points=("mlp",), tokens=("mean-patch",))
    assert 'add "mlp" to `sublayers` in [features] and run `patchbank extract planted.toml`' in sentence


def test_too_few_rows_and_measures_without_tokens_are_refused(models, tokens, tmp_path):
    few = compared(tmp_path / "few", "Few", tokens["Sixteen"], validation=range(3, 90))
    sentence = refusal([few], selection=TRAIN)
    assert "[selection.train] leaves 3 valid rows: choose more images" in sentence
    assert "k = 90 neighbours are more than the 89" in refusal(
        models[:1], tokens=("mean-patch",), measures=("mutual-knn",), norm="none", k=90
    )
    with pytest.raises(ValueError, match='rsa needs vectors: add "class-token" or "mean-patch" to tokens'):
        asked(measures=("cka", "rsa"))
    with pytest.raises(ValueError, match='patches is compared by "cka" alone'):
        asked(tokens=("mean-patch", "patches"), measures=("rsa",))


def test_gram_matrices_stream_by_chunks(tmp_path):
    """The estimate is that of a chunk of all layers; twice the rows add HSIC of their minibatches alone."""
    stated = []
    for n_rows in (96, 192):
        model = compared(tmp_path / str(n_rows), "M", related(1, n_rows=n_rows))
        wanted = EvaluationSettings(analyses=(asked(resamples=0),))
        [task] = collect_tasks([model], wanted, Context(None, 0))[0]
        array = model.features[task.own.layers[0].addresses[0]]
        assert array.layout.chunk_rows(array.spec) == 32
        stated.append(task.peak_bytes())
    assert stated[1] - stated[0] == 3 * 2 * 8 * (3 * 3 + 3 + 3)


def test_one_block_of_every_layer_is_read_at_a_time(models, tmp_path, monkeypatch):
    """Minibatches of one chunk share its reading, and no row is read twice."""
    read = []
    original = StoredGrams.block

    def note(self, start, stop):
        read.append((self.model.title, start, stop))
        return original(self, start, stop)

    monkeypatch.setattr(StoredGrams, "block", note)
    run(tmp_path, models[:2])
    expected = [(0, 32), (32, 64), (64, 90)]
    assert read[:3] == [("Sixteen", *rows) for rows in expected]
    assert read[3:9] == [(title, *rows) for rows in expected for title in ("Sixteen", "Fourteen")]


def test_extracted_models_of_two_patch_sizes_give_the_numbers_of_their_stored_tokens(tmp_path):
    """From the model to the table: 28 rows in seven minibatches of four, patches of 16 and of 8 pixels."""
    data = write_camvid(tmp_path / "data" / "CamVid").parent
    features = FeatureRecipe(norm="none", store_dtype="float32", captures=("grams",), gram_rows=4)
    where = Workspace(Store(tmp_path / "store"), data, tmp_path)
    recipes = [TINY, TINY.model_copy(update={"title": "Fine", "arguments": {"patch_size": 8}})]
    wanted = recipe(*recipes, features=features, storage=StorageRecipe(range_megabytes=0.05))
    report = extract_recipe(wanted, where, Compute("cpu", batch_size=3, threads=1), ExtractOptions())
    models = [
        ModelSets(one.display, outcome.set, report.labels, False, "patchbank extract tiny.toml")
        for one, outcome in zip(recipes, report.outcomes, strict=True)
    ]
    found = run(tmp_path / "r", models, tokens=("patches", "all"))
    minibatches = [np.arange(start, start + 4) for start in range(0, 28, 4)]
    for kind in ("patches", "all"):
        stored = []
        for model in models:
            patches = model.features["block.2"][:]
            prefix = model.features["prefix/block.2"][:]
            stored.append(np.concatenate([prefix, patches], axis=1) if kind == "all" else patches)
        assert stored[0].shape[1] != stored[1].shape[1]
        values = matrix(found.table, model=models[0].title, reference="Fine", token=kind)
        assert values[2, 2] == pytest.approx(direct_cka(*stored, minibatches), abs=1e-6)
