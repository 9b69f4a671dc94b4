"""Analyses of one vector an image, against scikit-learn, direct formulas and planted answers."""

import dataclasses

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import cohen_kappa_score

from evaluate.analyses.agreement import Agreement, kappa
from evaluate.analyses.image_classification import ImageClassification
from evaluate.analyses.information import Information
from evaluate.analyses.invariance import Invariance, cosines
from evaluate.analyses.object_positions import ObjectPositions, targets_of
from evaluate.analyses.robustness import Robustness
from evaluate.figures import image_classification, image_robustness
from evaluate.inputs.rows import RowSplit
from evaluate.kernels.bootstrap import quantiles, resampled_ratio
from evaluate.kernels.tokens.spectra import centred_gram, participation_ratio
from evaluate.registry import EvaluationSettings
from evaluate.results.table import ResultStore
from evaluate.runner import collect_tasks, evaluate
from evaluate.scoring.images.classifiers import ImageProbe
from evaluate.selection import SelectionRule
from evaluate.settings import Context, Selection
from stores.errors import MissingError, UserError
from tests.evaluate.planted_images import planted_images

SELECTION = Selection(train=SelectionRule(split="train"), validation=SelectionRule(split="val"))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return planted_images(tmp_path_factory.mktemp("images"))


def table_of(folder, models, analysis, selection=SELECTION):
    settings = EvaluationSettings(selection=selection, analyses=(analysis,), seed=1)
    return evaluate("t", models, settings, ResultStore(folder / "results")).table


def vectors(model, name):
    split = RowSplit(model, SELECTION, "test")
    values = model.features[name][:].astype(np.float64)
    values = values[:, 0] if values.ndim == 3 else values
    return values[split.train.rows], values[split.validation.rows]


def classes(model):
    split, every = RowSplit(model, SELECTION, "test"), model.samples["image_class"].to_numpy()
    return every[split.train.rows], every[split.validation.rows]


def test_accuracies_equal_those_of_scikit_learn(tmp_path, models):
    settings = ImageClassification(kind="image-classification", k=(1, 5), penalties=(1e-2,), resamples=50)
    table = table_of(tmp_path, models, settings)
    accuracies = table[table["metric"] == "image_accuracy"]
    assert len(accuracies) == 2 * 2 * 2 * (2 + 1)
    truth = classes(models[0])
    for model in models:
        for layer in (0, 1):
            for group, token in (("prefix", "class-token"), ("means", "mean-patch")):
                bank, queries = vectors(model, f"{group}/block.{layer}.norm")
                mine = accuracies[
                    (accuracies["model"] == model.title)
                    & (accuracies["layer"] == layer)
                    & (accuracies["token"] == token)
                ].set_index("k")["value"]
                units = [one / np.linalg.norm(one, axis=1, keepdims=True) for one in (bank, queries)]
                nearest = truth[0][np.argmax(units[1] @ units[0].T, axis=1)]
                assert mine.loc[1] == (nearest == truth[1]).mean()
                fitted = LogisticRegression(C=1 / (len(bank) * 1e-2), tol=1e-8, max_iter=5000).fit(bank, truth[0])
                assert mine[mine.index.isna()].iloc[0] == pytest.approx(
                    (fitted.predict(queries) == truth[1]).mean(), abs=0.035
                )
    last = accuracies[(accuracies["layer"] == 1) & (accuracies["token"] == "class-token")]
    first = accuracies[(accuracies["layer"] == 0) & (accuracies["token"] == "class-token")]
    assert last["value"].min() > 0.8 > 0.6 > first["value"].max()


def test_both_tokens_together_are_their_concatenation(tmp_path, models):
    settings = ImageClassification(
        kind="image-classification", k=(1,), classifiers=("knn",), pooled=("class-and-mean",)
    )
    table = table_of(tmp_path, models[:1], settings)
    both = [np.concatenate(parts, axis=1) for parts in zip(
        *(vectors(models[0], f"{group}/block.1.norm") for group in ("prefix", "means")), strict=True
    )]  # fmt: skip
    units = [one / np.linalg.norm(one, axis=1, keepdims=True) for one in both]
    truth = classes(models[0])
    expected = (truth[0][np.argmax(units[1] @ units[0].T, axis=1)] == truth[1]).mean()
    rows = table[(table["metric"] == "image_accuracy") & (table["layer"] == 1)]
    assert rows["value"].tolist() == [expected]


def test_more_than_255_classes_are_all_told_apart():
    """255 marks void patches; a class with that id must not be lost."""
    rng = np.random.default_rng(0)
    bank = np.eye(300, dtype=np.float32).repeat(2, axis=0) + 0.01 * rng.normal(size=(600, 300)).astype(np.float32)
    labels = np.arange(300).repeat(2)
    predicted, _ = ImageProbe(0, (1e-4,)).predict(bank, labels, bank[::2], 300, False)
    np.testing.assert_array_equal(predicted, np.arange(300))


def test_an_attentive_probe_finds_the_one_patch_that_tells_the_class():
    from evaluate.kernels.probing.attentive import fit_attentive

    rng = np.random.default_rng(0)
    labels = np.arange(256) % 2
    tokens = 0.3 * rng.normal(size=(256, 16, 32)).astype(np.float32)
    marked = rng.integers(0, 16, 256)
    tokens[np.arange(256), marked, 0] = 4.0  # says "look here"
    tokens[np.arange(256), marked, 1] = np.where(labels, 4.0, -4.0)
    options = {"seed": 3, "epochs": 8, "learning_rate": 3e-3}
    probe = fit_attentive(tokens[:192].astype(np.float16), labels[:192], 2, **options)
    right = probe.scores(tokens[192:].astype(np.float16)).argmax(axis=1) == labels[192:]
    assert right.mean() > 0.9, "the mean of all patches tells it to two thirds"
    again = fit_attentive(tokens[:192].astype(np.float16), labels[:192], 2, **options)
    np.testing.assert_array_equal(again.scores(tokens[192:]), probe.scores(tokens[192:]))


def test_error_consistency_is_cohens_kappa_of_being_right(tmp_path, models):
    rng = np.random.default_rng(2)
    for _ in range(20):
        one, other = (rng.random(40) < 0.7 for _ in range(2))
        expected = cohen_kappa_score(one, other)
        found = kappa(np.array(one.mean()), np.array(other.mean()), np.array((one == other).mean()))
        assert float(found) == pytest.approx(expected, abs=1e-12)
    table = table_of(tmp_path, models, Agreement(kind="agreement", pooled="class-token", classifier="knn", k=5))
    assert set(table["metric"]) == {"agreement", "error_consistency"}
    assert table["reference"].unique().tolist() == ["other"]
    assert table.loc[table["metric"] == "agreement", "value"].item() > 0.8
    twin = dataclasses.replace(models[0], title="twin")
    same = table_of(tmp_path / "twin", [models[0], twin], Agreement(kind="agreement", pooled="mean-patch"))
    assert same["value"].tolist() == pytest.approx([1.0, 1.0])


def test_agreement_of_one_model_is_refused(tmp_path, models):
    with pytest.raises(UserError, match="compares two models and the experiment has one"):
        table_of(tmp_path, models[:1], Agreement(kind="agreement"))


def test_the_participation_ratio_counts_directions_of_equal_variance():
    rng = np.random.default_rng(3)
    for rank in (1, 4, 9):
        basis = np.linalg.qr(rng.normal(size=(12, rank)))[0]
        scores = rng.normal(size=(500, rank))
        scores = np.linalg.qr(scores - scores.mean(axis=0))[0]
        assert participation_ratio(centred_gram(scores @ basis.T + 7)) == pytest.approx(rank, rel=1e-9)
    vectors = rng.normal(size=(30, 50)) * np.linspace(1, 5, 50)
    eigenvalues = np.linalg.eigvalsh(np.cov(vectors.T))
    expected = eigenvalues.sum() ** 2 / (eigenvalues**2).sum()
    assert participation_ratio(centred_gram(vectors)) == pytest.approx(expected, rel=1e-9)
    assert np.isnan(participation_ratio(centred_gram(np.ones((5, 3)))))


def test_information_of_components_equals_a_pca_and_grows(tmp_path, models):
    settings = Information(
        kind="information", features=(1, 2, 12, 50), draws=3, penalties=(1e-2,), pooled=("class-token",)
    )
    table = table_of(tmp_path, models[:1], settings)
    rows = table[table["metric"] == "image_accuracy"].set_index(["outcome", "x_value"])["value"]
    assert sorted(rows.index) == [
        ("all", 12),
        ("pca", 1),
        ("pca", 2),
        ("pca", 12),
        ("random", 1),
        ("random", 2),
        ("random", 12),
    ]
    assert rows["random", 12] == rows["all", 12]
    bank, queries = vectors(models[0], "prefix/block.1.norm")
    truth, pca = classes(models[0]), PCA(2).fit(bank)
    fitted = LogisticRegression(C=1 / (len(bank) * 1e-2), tol=1e-8, max_iter=5000).fit(pca.transform(bank), truth[0])
    assert rows["pca", 2] == pytest.approx((fitted.predict(pca.transform(queries)) == truth[1]).mean(), abs=0.035)


def test_invariance_is_the_cosine_less_that_of_all_other_pairs(tmp_path, models):
    rng = np.random.default_rng(4)
    one, other = rng.normal(size=(2, 7, 5))
    own, others = cosines(one, other)
    units = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (one, other)]
    every = units[0] @ units[1].T
    np.testing.assert_allclose(own, np.diag(every))
    np.testing.assert_allclose(others, (every.sum(axis=1) - np.diag(every)) / 6)
    table = table_of(tmp_path, models, Invariance(kind="invariance"))
    rows = table[table["model"] == "one"].set_index(["metric", "token"])["value"]
    assert rows["cosine", "class-token"] > 0.9 > 0.4 > rows["random_cosine", "class-token"]
    assert rows["invariance", "class-token"] == pytest.approx(
        rows["cosine", "class-token"] - rows["random_cosine", "class-token"]
    )


def test_invariance_needs_a_view(tmp_path, models):
    with pytest.raises(UserError, match=r"invariance needs \[\[views\]\]"):
        table_of(tmp_path, [dataclasses.replace(models[0], views={})], Invariance(kind="invariance"))


def test_places_and_numbers_of_objects_are_found_where_they_are_planted(tmp_path, models):
    table = table_of(tmp_path, models[:1], ObjectPositions(kind="object-positions", layers=(-1,), resamples=50))
    rows = table.set_index(["token", "outcome"])["value"]
    assert rows["mean-patch", "count"] > 0.99
    assert rows["mean-patch", "position"] > 0.99
    assert rows["class-token", "position"] < 0.2
    split = RowSplit(models[0], SELECTION, "test")
    values, defined = targets_of(models[0], split.train, "distance")
    objects = models[0].objects
    for name, value, has_some in zip(split.train.sources, values[:, 0], defined, strict=True):
        some = objects[objects["source"] == name]
        assert has_some == (len(some) > 0)
        if len(some):
            x, y = (some["left"] + some["right"]) / 2 - 32, (some["top"] + some["bottom"]) / 2 - 32
            assert value == pytest.approx(np.hypot(x, y).min() / np.hypot(32, 32))


def test_tokens_that_are_not_stored_are_named_with_their_key(tmp_path, models):
    settings = ImageClassification(kind="image-classification", classifiers=("attentive-probe",))
    with pytest.raises(MissingError, match="is not complete"):
        table_of(tmp_path, models[:1], settings)


def test_robustness_of_image_classes_is_that_of_the_clean_classifier_on_changed_images(tmp_path, models):
    asked = {"kind": "robustness", "classes": "images", "image_k": 3, "penalties": (1e-2,), "resamples": 50}
    table = table_of(tmp_path, models, Robustness(**asked))
    assert set(table["metric"]) == {"image_accuracy", "image_accuracy_difference"}
    truth = classes(models[0])
    for model in models:
        viewed = model.for_view("flip", 1.0)
        for group, token in (("prefix", "class-token"), ("means", "mean-patch")):
            bank, queries = vectors(model, f"{group}/block.1.norm")
            changed = vectors(viewed, f"{group}/block.1.norm")[1]
            fitted = LogisticRegression(C=1 / (len(bank) * 1e-2), tol=1e-8, max_iter=5000).fit(bank, truth[0])
            right = [fitted.predict(one) == truth[1] for one in (queries, changed)]
            rows = table[(table["model"] == model.title) & (table["token"] == token)]
            rows = rows[rows["classifier"] == "probe"].set_index(["metric", "view"])
            assert rows.loc[("image_accuracy", "clean"), "value"] == pytest.approx(right[0].mean())
            assert rows.loc[("image_accuracy", "flip"), "value"] == pytest.approx(right[1].mean())
            less = rows.loc[("image_accuracy_difference", "flip")]
            assert less["value"] == pytest.approx(right[1].mean() - right[0].mean())
            draws = resampled_ratio(right[1] - right[0].astype(float), np.ones(len(right[0])), seed=1, resamples=50)
            assert (less["low"], less["high"]) == pytest.approx(quantiles(draws)), "both sides are drawn together"
            assert (less["reference"], less["x_name"], less["x_value"]) == ("clean", "level", 1.0)
    drawn = image_robustness.figure(table, [])
    assert [panel.get_xlabel() for panel in drawn.axes[-1:]] == ["level of the view"]
    of_bands = image_robustness.figure(table.replace({"view": {"flip": "frequency-noise"}}), [])
    assert "0.5 cycles a pixel" in of_bands.axes[-1].get_xlabel()
    settings = EvaluationSettings(selection=SELECTION, analyses=(Robustness(**asked),), seed=1)
    assert evaluate("t", models, settings, ResultStore(tmp_path / "results")).n_computed == 0
    with pytest.raises(ValueError, match="leave them out"):
        Robustness(**{**asked, "remove": (0, 2)})
    with pytest.raises(UserError, match="k = 99 neighbours are more than"):
        table_of(tmp_path, models, Robustness(**{**asked, "image_k": 99}))


@pytest.mark.parametrize(
    "analysis",
    [
        ImageClassification(kind="image-classification", k=(1,), layers=(-1,)),
        Invariance(kind="invariance", pooled=("class-token", "mean-patch")),
        Information(kind="information", pooled=("class-token", "class-and-mean", "mean-patch")),
        ObjectPositions(kind="object-positions", layers=(-1,)),
    ],
    ids=lambda analysis: analysis.kind,
)
def test_class_tokens_of_a_model_that_has_none_are_left_out_with_a_note(tmp_path, models, analysis, monkeypatch):
    staged = planted_images(tmp_path)[1]
    arrays = {name: array for name, array in staged.features.arrays.items() if array.group != "prefix"}
    monkeypatch.setitem(staged.features.__dict__, "arrays", arrays)
    wanted = EvaluationSettings(selection=SELECTION, analyses=(analysis,))
    with pytest.raises(MissingError, match=f"{staged.title} has no stored class token: .* or set prefix = true"):
        collect_tasks([models[0], staged], wanted, Context(SELECTION, 0))
    of_stages = "evaluate.scoring.images.pooled_task.has_stages"
    monkeypatch.setattr(of_stages, lambda model: model.title == staged.title)
    tasks, notes = collect_tasks([models[0], staged], wanted, Context(SELECTION, 0))
    kinds = [task.parameters()["pooled"] for task in tasks if task.title == staged.title]
    assert kinds, "its means are analysed"
    assert {tuple([one] if isinstance(one, str) else one) for one in kinds} == {("mean-patch",)}
    assert notes == [f"{analysis.kind} leaves out class tokens of {staged.title}, which has none"]
    alone = analysis.model_copy(update={"pooled": ("class-token",)})
    with pytest.raises(MissingError, match=f"{staged.title} has no stored class token: ask for mean-patch"):
        collect_tasks([staged], wanted.model_copy(update={"analyses": (alone,)}), Context(SELECTION, 0))


def test_the_legend_names_a_model_that_the_first_panel_lacks(tmp_path, models):
    asked = ImageClassification(kind="image-classification", k=(1,), layers=(-1,), classifiers=("knn",), resamples=0)
    table = table_of(tmp_path, models, asked)
    lacking = table[(table["model"] == models[0].title) | (table["token"] == "mean-patch")]
    [legend] = image_classification.figure(lacking, []).legends
    assert [text.get_text() for text in legend.get_texts()] == [model.title for model in models]


@pytest.mark.parametrize("settings", [ImageClassification, Agreement, Information])
def test_infinite_settings_are_refused(settings):
    kind = settings.model_fields["kind"].annotation.__args__[0]
    for name, value in {"penalties": (np.inf,), "temperature": np.inf, "learning_rate": np.inf}.items():
        if name in settings.model_fields:
            with pytest.raises(ValueError, match="finite"):
                settings(**{"kind": kind, name: value})


def test_more_features_than_a_model_has_are_left_out_with_a_note(tmp_path, models):
    asked = {"kind": "information", "draws": 1, "penalties": (1e-2,), "layers": (-1,)}

    def tasks(*some, **settings):
        analysis = Information(**{**asked, **settings})
        wanted = EvaluationSettings(selection=SELECTION, analyses=(analysis,))
        return collect_tasks(list(some), wanted, Context(SELECTION, 0))

    narrow = planted_images(tmp_path, width=5)[0]
    found, notes = tasks(models[0], narrow, features=(2, 8))
    assert notes == [f"information leaves out features = 8 for {narrow.title} with 5"]
    assert len(found) == 2
    assert len(tasks(*models, features=(1, 100000))[1]) == 2
    assert tasks(*models)[1] == [], "the default numbers are meant for wide and narrow models alike"
    assert tasks(*models, features=(24,), pooled=("class-and-mean",))[1] == []
