"""Treatments beside `remove`: every analysis that offers both against one on features treated by hand in float64."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from evaluate.claims import decide_all
from evaluate.figures import treated_scores
from evaluate.figures.style import save
from evaluate.inputs.gallery import read_gallery, treat_gallery
from evaluate.inputs.rows import select_rows
from evaluate.kernels.subspaces import Placement
from evaluate.kernels.treatments import AFFINE, Treatment, fit_treatment
from evaluate.kernels.treatments.streamed import fit_affine
from evaluate.registry import EvaluationSettings
from evaluate.report.headline import headline
from evaluate.report.reading import StoredResults
from evaluate.results.preferred import untreated
from evaluate.results.table import COLUMNS, Result, ResultKey, ResultStore, long_table
from evaluate.runner import collect_tasks, evaluate
from evaluate.settings import Context
from stores.errors import UserError
from tests.evaluate.planted import write_set
from tests.evaluate.planted_report import FRAMES, SELECTION
from tests.evaluate.planted_video import videos
from tests.evaluate.planted_views import viewed_sets

NUMBERS = {"position_ranks": (3,), "first_components": (3,), "kept_components": (10,)}
TREATED = ("remove-position", "pca-k")
KINDS = {
    "patch-classification": {"classifiers": ("knn",)},
    "label-maps": {"images": 3},
    "in-context-segmentation": {"k": 3},
    "robustness": {"classifiers": ("knn",), "views": ("noise",)},
    "retrieval": {"left_out": ("nothing", "source"), "recall_at": (1, 3)},
    "image-knn": {"k": 3},
    "tracking": {"gaps": (1, 2)},
    "association": {"gate": 0.9},
}
READERS = ("patch-classification", "in-context-segmentation", "retrieval", "image-knn", "tracking")
"""Those that read features in a way of their own; the others are slow tests."""
OF_FRAMES = ("tracking", "association")
TOLD_APART = (
    *("metric", "class", "view", "level", "token", "classifier", "distance", "k", "x_name", "x_value", "outcome"),
    "reference",
)


def asked(kind, **changes):
    analysis = {"kind": kind, "resamples": 30, **KINDS[kind], **NUMBERS, **changes}
    if kind == "label-maps":
        analysis.pop("resamples")
    selection = FRAMES if kind in OF_FRAMES else SELECTION
    return EvaluationSettings(selection=selection, analyses=(analysis,))


def run(folder, model, kind, **changes):
    return evaluate("t", [model], asked(kind, **changes), ResultStore(folder))


def changed(folder, model, tokens, prefix=lambda values: values):
    """The model with other values in its arrays, under every view: functions of ``(row, token, channel)``."""

    def rewritten(name, features):
        values = {}
        for address, spec in features.arrays.items():
            change = tokens if spec.group == "tokens" else prefix
            new = change(features[address][:].astype(np.float64)).astype(np.float32)
            values[address] = (new, spec.dimension_names, spec.attributes)
        return write_set(folder / name, features.spec, values, {"samples": features.samples}, 1 << 16)

    views = {
        view: replace(of, features=rewritten(f"{view[0]}{view[1]:g}", of.features)) for view, of in model.views.items()
    }
    return replace(model, features=rewritten("clean", model.features), views=views)


def with_position(folder, model):
    """Tokens lie anywhere along three directions that the place on the grid decides, over all features."""
    _, n_patches, n_channels = model.features["tokens/block.0.norm"].shape
    rng = np.random.default_rng(4)
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])[np.arange(n_patches) % 4]
    basis = np.linalg.qr(rng.choice([-1.0, 1.0], size=(n_channels, 3)))[0]

    def moved(tokens):
        return tokens + rng.normal(20.0, 15.0, (*tokens.shape[:2], 1)) * (corners @ basis.T)

    return changed(folder, model, moved)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("treated")
    views = viewed_sets(folder / "views", n_images=24, own=0.5, noise=((10, 0.5),), void=0.1, pictures=True)
    frames = videos(folder / "frames", n_videos=10, n_frames=3, noise=0.6)
    plain = {"views": views, "frames": frames}
    return {name: with_position(folder / f"{name} moved", model) for name, model in plain.items()}


def of(kind, models):
    """The model that an analysis is run on, with the views that it reads and no others."""
    if kind in OF_FRAMES:
        return models["frames"]
    views = models["views"].views if kind in ("robustness", "retrieval") else {}
    return replace(models["views"], views={view: one for view, one in views.items() if view[0] == "noise"})


def by_hand(name, model, kind):
    """A treatment of (..., channel) in float64: its statistics are of the patches that rank the features."""
    tokens = model.features["tokens/block.0.norm"][:].astype(np.float64)
    n_rows, n_patches = tokens.shape[:2]
    used = np.ones((n_rows, n_patches), bool)
    if kind not in OF_FRAMES:
        used &= (model.samples["split"] == "train").to_numpy()[:, None]
        if kind != "image-knn":
            used &= model.labels["patches/4x4"][:] != 255
    bank, places = tokens[used], np.nonzero(used)[1]
    mean = bank.mean(axis=0)
    if name == "centre":
        return lambda values: values - mean
    if name == "remove-position":
        means = np.stack([bank[places == place].mean(axis=0) - mean for place in range(n_patches)])
        weights = np.sqrt(np.bincount(places) / len(bank))
        basis = np.linalg.svd(weights[:, None] * means)[2][:3]
        return lambda values: values - values @ basis.T @ basis
    vectors = np.linalg.svd(bank - mean, full_matrices=False)[2]
    if name == "pca-k":
        return lambda values: (values - mean) @ vectors[:10].T
    return lambda values: (values - mean) - (values - mean) @ vectors[:3].T @ vectors[:3]


def scores(table):
    rows = table[~table["metric"].isin(["redone_in_float64", "memory_patches"])]
    return rows.astype(object).where(rows.notna(), None).set_index(list(TOLD_APART))[["value", "low", "high"]]


def agree(kind, name, models, folder):
    model = of(kind, models)
    treated = run(folder / "r", model, kind, remove=(), treatments=(name,)).table
    assert set(treated["treatment"]) == {Treatment(name, rank={"centre": None, "pca-k": 10}.get(name, 3)).label}
    assert treated["m"].isna().all()
    treat = by_hand(name, model, kind)
    hand = run(folder / "h", changed(folder / "s", model, treat, treat), kind, remove=(0,)).table
    assert hand["treatment"].isna().all()
    found, expected = scores(treated), scores(hand)
    assert len(found) == len(expected) > 0
    both = found.join(expected.add_suffix("_by_hand"), validate="one_to_one")
    for column in ("value", "low", "high"):
        pair = both[[column, f"{column}_by_hand"]].to_numpy(dtype=float)
        np.testing.assert_allclose(pair[:, 0], pair[:, 1], rtol=1e-4, atol=1e-6, err_msg=f"{kind} {name} {column}")


@pytest.mark.parametrize("kind", READERS)
def test_rows_equal_those_of_features_treated_by_hand(kind, models, tmp_path):
    agree(kind, TREATED[sorted(KINDS).index(kind) % 2], models, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", AFFINE)
def test_rows_of_every_treatment_too(kind, name, models, tmp_path):
    agree(kind, name, models, tmp_path)


@pytest.mark.parametrize("name", AFFINE)
def test_a_streamed_fit_equals_the_one_in_memory(name):
    rng = np.random.default_rng(1)
    n_rows, n_patches, n_channels = 40, 9, 12
    rows = rng.normal(size=(n_rows, n_patches, n_channels)) + 3 * rng.normal(size=(n_patches, n_channels)) + 5
    images = np.sort(rng.integers(0, 15, n_rows))
    placed = Placement(np.repeat(images, n_patches), np.tile(np.arange(n_patches), n_rows), 15, n_patches)
    bank, treatment = rows.reshape(-1, n_channels), Treatment(name, rank=None if name == "centre" else 4)
    held = fit_treatment(treatment, bank, np.arange(n_channels), 0, placed)
    mean = bank.mean(axis=0)
    fitted = fit_affine(treatment, mean, zip(images.tolist(), rows, strict=True), 15, 0)
    queries = rng.normal(size=(20, n_channels)) * 4
    one, other = held(queries), fitted.apply(queries)
    assert one.shape[1] == treatment.n_features(n_channels)
    np.testing.assert_allclose(one @ one.T, other @ other.T, rtol=1e-4, atol=1e-3)
    averaged = fitted.apply(queries.reshape(5, 4, -1).mean(axis=1))
    np.testing.assert_allclose(averaged, other.reshape(5, 4, -1).mean(axis=1), atol=1e-12)
    if name == "remove-position":
        assert 0 < fitted.directions.shape[1] <= 4
        mixed = rng.permuted(rows, axis=1)
        none = fit_affine(treatment, mean, zip(images.tolist(), mixed, strict=True), 15, 0)
        assert none.directions.shape == (n_channels, 0), "where nothing is positional nothing is taken out"


def test_neighbours_are_recovered_by_the_treatment_of_the_culprit_alone(models, tmp_path):
    for kind, metric, where in (
        ("patch-classification", "patch_miou", {}),
        ("retrieval", "share", {"outcome": "same-patch", "view": "noise"}),
    ):
        table = run(tmp_path / kind, of(kind, models), kind, remove=(0, 3), treatments=("remove-position",)).table
        rows = table[table["metric"] == metric]
        for column, wanted in where.items():
            rows = rows[rows[column] == wanted]
        whole, removed, treated = (
            rows[chosen.fillna(False)].iloc[0] for chosen in (rows["m"] == 0, rows["m"] == 3, rows["treatment"].notna())
        )
        assert treated["low"] > max(whole["high"], removed["high"]), kind


def test_outliers_leave_the_training_patches_and_the_gallery(models, tmp_path):
    views = models["views"]
    selection = select_rows(views, SELECTION.train)
    tokens = views.features["tokens/block.0.norm"][:].astype(np.float64)[selection.rows]
    norms, labels = np.linalg.norm(tokens, axis=2), views.labels["patches/4x4"][:][selection.rows]
    known = norms[labels != 255]
    limit = np.median(known) + np.median(np.abs(known - np.median(known)))
    outliers = (norms > limit) & (labels != 255)
    assert 0 < outliers.sum() < 0.5 * outliers.size
    treatment = Treatment("drop-outlier-tokens", deviations=1.0)
    gallery = treat_gallery(read_gallery(views, "tokens/block.0.norm", selection), treatment, 0)
    np.testing.assert_array_equal(gallery.patches, np.flatnonzero(((labels != 255) & ~outliers).reshape(-1)))
    assert gallery.features.tobytes() == tokens[(labels != 255) & ~outliers].astype(np.float32).tobytes()
    np.testing.assert_array_equal(gallery.treat(tokens), tokens)
    # Training patches without a label are no bank either.
    unlabelled, pixels = views.labels["patches/4x4"][:].copy(), views.labels["pixels/classes"][:].copy()
    unlabelled[selection.rows] = np.where(outliers, 255, labels)
    of_patches = outliers.reshape(-1, 4, 4).repeat(4, axis=1).repeat(4, axis=2)
    pixels[selection.rows] = np.where(of_patches, 255, pixels[selection.rows])
    arrays, names = views.labels.arrays, ("pixels/classes", "patches/4x4")
    values = {
        name: (value, arrays[name].dimension_names, arrays[name].attributes)
        for name, value in zip(names, (pixels, unlabelled), strict=True)
    }
    tables = {"samples": views.samples, "classes": views.classes}
    fewer = replace(views, views={}, labels=write_set(tmp_path / "l", views.labels.spec, values, tables, 1 << 16))
    dropped = {"treatments": ("drop-outlier-tokens",), "outlier_deviations": (1.0,), "remove": ()}
    for kind in ("patch-classification", "in-context-segmentation"):
        found = scores(run(tmp_path / kind, views, kind, **dropped).table)
        expected = scores(run(tmp_path / f"{kind} hand", fewer, kind, remove=(0,)).table)
        pd.testing.assert_frame_equal(found, expected)


@pytest.fixture(scope="module")
def evaluated(models, tmp_path_factory):
    """Evaluations of several analyses with and without treatments, in results folders of their own."""
    folder, tables = tmp_path_factory.mktemp("evaluated"), {}
    for name, treatments in (("without", ()), ("with", TREATED)):
        parts = [
            run(folder / name, of(kind, models), kind, remove=(0, 3), treatments=treatments)
            for kind in ("patch-classification", "label-maps")
        ]
        table = long_table([row for part in parts for row in part.table.to_dict("records")])
        tables[name] = table, {digest: one for part in parts for digest, one in part.results.items()}
    return folder, tables


def test_results_of_m_are_named_and_shown_as_without_treatments(evaluated):
    _, tables = evaluated
    (plain, plain_results), (table, results) = tables["without"], tables["with"]
    assert set(table["treatment"].dropna()) == {"remove-position 3", "pca-k 10"}
    kept = table[table["treatment"].isna()].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, plain)
    assert plain_results.keys() < results.keys()
    assert not any("treat" in params for params in plain["params"])
    one, other = (StoredResults(rows, [], some) for rows, some in ((table, results), (plain, plain_results)))
    assert decide_all(one.evidence()) == decide_all(other.evidence())
    assert headline(untreated(table), {}) == headline(plain, {})
    assert len(one["label-maps"].axes) == 3 * 6, "the image, the truth, two m and two treatments"


@pytest.mark.slow
def test_only_one_more_figure_is_drawn_and_the_others_stay(models, tmp_path):
    for kind in ("patch-classification", "retrieval", "image-knn", "robustness", "tracking", "association"):
        parts = [
            run(tmp_path / name, of(kind, models), kind, remove=(0, 3), treatments=treatments)
            for name, treatments in (("with", TREATED), ("without", ()))
        ]
        one, other = (StoredResults(part.table, [], part.results) for part in parts)
        assert set(one.figures) == {*other.figures, "treated-scores"}
        for name in other.figures:
            assert save(one[name], "png") == save(other[name], "png"), name


def test_stored_results_are_reused_and_neighbours_of_treated_features_are_not_stored(evaluated, models):
    folder, _ = evaluated
    again = run(folder / "with", models["views"], "patch-classification", remove=(0, 3), treatments=TREATED)
    assert (again.n_computed, again.n_reused) == (0, 3)
    longer = (*TREATED, "centre")
    more = run(folder / "with", models["views"], "patch-classification", remove=(0, 3), treatments=longer)
    assert (more.n_computed, more.n_reused) == (1, 3)

    def neighbours(name):
        return {path.parent.name for path in (folder / name).rglob("answer.json") if '"neighbours"' in path.read_text()}

    assert neighbours("with") == neighbours("without") != set()


def test_the_figure_has_a_line_a_treatment_and_a_panel_a_score(evaluated):
    table = evaluated[1]["with"][0]
    drawn = treated_scores.figure(table, [])
    titles = [axes.get_title(loc="left").replace("\n", " ") for axes in drawn.axes]
    assert titles == ["patches", "label maps"]
    assert [label.get_text() for label in drawn.axes[0].get_yticklabels()] == [
        "all features",
        "without top 3",
        "position taken out (3)",
        "first components alone (10)",
    ]
    positions = {float(y) for line in drawn.axes[0].containers for y in line.lines[0].get_ydata()}
    assert positions == {0.0, 1.0, 2.0, 3.0}
    assert treated_scores.figure(evaluated[1]["without"][0], []) is None


def test_numbers_that_leave_no_feature_are_left_out_with_a_note_or_refused(models):
    settings = asked("patch-classification", treatments=("pca-k", "centre"), kept_components=(10,))
    context = Context(SELECTION, 0)
    assert collect_tasks([models["views"]], settings, context)[1] == []
    [analysis] = settings.analyses
    default = analysis.model_copy(update={"kept_components": (64, 10)})
    default.model_fields_set.discard("kept_components")
    tasks, notes = collect_tasks([models["views"]], settings.model_copy(update={"analyses": (default,)}), context)
    assert notes == ["patch-classification leaves out pca-k 64 for planted with 32 features"]
    assert [task.description for task in tasks][1:] == [
        "k-NN on tokens/block.0.norm, pca-k 10",
        "k-NN on tokens/block.0.norm, centre",
    ]
    named = asked("tracking", treatments=("remove-position",), position_ranks=(24,))
    with pytest.raises(UserError, match="tracking cannot have remove-position 24: planted has 24 features; choose"):
        collect_tasks([models["frames"]], named, Context(FRAMES, 0))


def test_wrong_settings_are_refused_in_a_sentence():
    for kind in ("tracking", "association", "image-knn"):
        with pytest.raises(ValidationError, match="drop-outlier-tokens needs patches that are compared"):
            asked(kind, treatments=("drop-outlier-tokens",))
    with pytest.raises(ValidationError, match="has no `remove`, `treatments` or probe"):
        asked("robustness", classes="images", treatments=("centre",))
    with pytest.raises(ValidationError, match="leaves nothing to compute: write 0 for all features"):
        asked("label-maps", remove=())
    for name in ("position_ranks", "first_components", "kept_components", "outlier_deviations"):
        with pytest.raises(ValidationError, match=rf"{name}\n.*at least 1 item"):
            asked("retrieval", treatments=("pca-k",), **{name: ()})
    with pytest.raises(ValidationError, match="remove-position"):
        asked("patch-classification", treatments=("whiten",))


def test_a_treated_task_states_more_memory_and_work(models):
    for kind in KINDS:
        tasks, _ = collect_tasks([of(kind, models)], asked(kind, treatments=TREATED), Context(asked(kind).selection, 0))
        plain, *treated = tasks
        assert len(treated) == 2
        assert all(task.peak_bytes() > plain.peak_bytes() for task in treated), kind
        if plain.work() is not None:
            assert all(task.work().passes > plain.work().passes for task in treated), kind


def test_tables_of_earlier_versions_have_no_treated_rows(tmp_path):
    store, key = ResultStore(tmp_path), ResultKey("own", 1, {}, {})
    store.write(key, Result([{"metric": "spread", "value": 1.0}]))
    path = store.folder(key) / "rows.parquet"
    pd.read_parquet(path).drop(columns="treatment").to_parquet(path)
    [row] = store.read(key).rows
    assert row.keys() == COLUMNS.keys()
    assert pd.isna(row["treatment"])


def test_whole_images_need_tokens_for_all_but_centring(models, tmp_path):
    views = models["views"]
    means = views.features["tokens/block.0.norm"][:].astype(np.float64)
    facts = {"layer": 0, "norm": True, "n_patches": means.shape[1]}
    values = {
        f"{group}/block.0.norm": (of_rows.astype(np.float32), ("sample", "channel"), facts)
        for group, of_rows in (("means", means.mean(axis=1)), ("deviations", means.std(axis=1)))
    }
    reduced = replace(
        views,
        views={},
        features=write_set(tmp_path / "s", views.features.spec, values, {"samples": views.samples}, 1 << 16),
    )
    pooled = {"pooled": ("mean-patch",), "remove": ()}
    with pytest.raises(UserError, match="fits pca-k 10 on patch tokens, and planted keeps none of block"):
        run(tmp_path / "r", reduced, "image-knn", treatments=("centre", "pca-k"), **pooled)
    centred = scores(run(tmp_path / "r", reduced, "image-knn", treatments=("centre",), **pooled).table)
    whole = replace(views, views={})
    pd.testing.assert_frame_equal(
        centred, scores(run(tmp_path / "w", whole, "image-knn", treatments=("centre",), **pooled).table)
    )
