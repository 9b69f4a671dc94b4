"""A set with invalid rows gives the numbers of the set without them, in every analysis.

The rows of bad images are NaN and void; those of bad labels alone keep their features, which must not count either.
"""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from evaluate.analyses.agreement import Agreement
from evaluate.analyses.association import Association
from evaluate.analyses.attention import Attention
from evaluate.analyses.feature_geometry import FeatureGeometry
from evaluate.analyses.feature_treatments import FeatureTreatments
from evaluate.analyses.frequency import Frequency
from evaluate.analyses.global_context import GlobalContext
from evaluate.analyses.gram_drift import GramDrift
from evaluate.analyses.image_classification import ImageClassification
from evaluate.analyses.image_knn import ImageKnn
from evaluate.analyses.in_context_segmentation import InContextSegmentation
from evaluate.analyses.information import Information
from evaluate.analyses.intrinsic_dimension import IntrinsicDimension
from evaluate.analyses.invariance import Invariance
from evaluate.analyses.label_maps import LabelMaps
from evaluate.analyses.lidar import Lidar
from evaluate.analyses.object_positions import ObjectPositions
from evaluate.analyses.overclustering import Overclustering
from evaluate.analyses.patch_classification import PatchClassification
from evaluate.analyses.ranking_overlap import RankingOverlap
from evaluate.analyses.reconstruction import Reconstruction
from evaluate.analyses.retrieval import Retrieval
from evaluate.analyses.robustness import Robustness
from evaluate.analyses.similarity import Similarity
from evaluate.analyses.token_geometry import TokenGeometry
from evaluate.analyses.token_pictures import TokenPictures
from evaluate.analyses.tracking import Tracking
from evaluate.analyses.variance_spectrum import VarianceSpectrum
from evaluate.inputs.rows import select_rows
from evaluate.registry import ANALYSES, EvaluationSettings
from evaluate.results.table import ResultStore
from evaluate.runner import evaluate
from evaluate.selection import SelectionRule
from evaluate.settings import Selection
from stores.errors import UserError
from tests.evaluate.planted import planted, write_set
from tests.evaluate.planted_captures import write_captures
from tests.evaluate.planted_images import planted_images
from tests.evaluate.planted_reconstruction import BOLD, LinearDecoder, planted_reconstruction
from tests.evaluate.planted_similarity import compared, related
from tests.evaluate.planted_video import videos
from tests.evaluate.planted_views import viewed_sets

SELECTION = Selection(train=SelectionRule(split="train"), validation=SelectionRule(split="val"))
FRAMES = Selection(train=SelectionRule(split="val"), validation=SelectionRule(split="val"))
ASKED = {
    "patches": (
        SELECTION,
        (
            VarianceSpectrum(kind="variance-spectrum", top=(3,)),
            PatchClassification(kind="patch-classification", remove=(0, 3), penalties=(1e-2,), resamples=20),
            FeatureTreatments(
                kind="feature-treatments", parts=("scores", "removed"), m=(3,), draws=1, penalties=(1e-2,), resamples=20
            ),
            InContextSegmentation(kind="in-context-segmentation", k=3, resamples=20),
            Overclustering(kind="overclustering", clusters=("classes",), draws=1, patches=100, resamples=20),
            GlobalContext(kind="global-context", classes=("road", "tree"), m=3, draws=1, resamples=20),
            LabelMaps(kind="label-maps", images=2, remove=(0,)),
            GramDrift(kind="gram-drift", resamples=20),
            FeatureGeometry(kind="feature-geometry", resamples=20),
            IntrinsicDimension(kind="intrinsic-dimension", resamples=20),
        ),
    ),
    "rankings": (SELECTION, (RankingOverlap(kind="ranking-overlap", m=(3,)),)),
    "layers": (
        None,
        (Similarity(kind="similarity", tokens=("mean-patch",), norm="none", minibatch=8, measures=("cka", "rsa")),),
    ),
    "images": (
        SELECTION,
        (
            ImageClassification(kind="image-classification", k=(3,), layers=(-1,), penalties=(1e-2,), resamples=20),
            Agreement(kind="agreement", classifier="knn", k=3, resamples=20),
            Information(kind="information", features=(4,), draws=1, penalties=(1e-2,), resamples=20),
            Invariance(kind="invariance", resamples=20),
            ObjectPositions(kind="object-positions", layers=(-1,), resamples=20),
        ),
    ),
    "captures": (
        SELECTION,
        (
            Attention(kind="attention", pictures=1, resamples=20),
            Frequency(kind="frequency", resamples=20),
            TokenGeometry(kind="token-geometry", norm="none", parts=("statistics", "spectra"), resamples=20),
            TokenPictures(kind="token-pictures", norm="none"),
        ),
    ),
    "pictures": (SELECTION, (Reconstruction(kind="reconstruction", m=len(BOLD), draws=1, resamples=20),)),
    "views": (
        SELECTION,
        (
            Robustness(kind="robustness", penalties=(1e-2,), resamples=20),
            Retrieval(kind="retrieval", remove=(0, 4), resamples=20),
            ImageKnn(kind="image-knn", remove=(0,), k=3, resamples=20),
            Lidar(kind="lidar", pooled=("mean-patch",)),
        ),
    ),
    "videos": (
        FRAMES,
        (
            Tracking(kind="tracking", gaps=(1, 2), remove=(0,), resamples=20),
            Association(kind="association", resamples=20),
        ),
    ),
}
BAD = {
    "patches": ("image03.png", "image20.png"),
    "rankings": ("image03.png",),
    "layers": ("image0003.png",),
    "images": ("004.png", "021.png"),
    "captures": ("image03.png", "image20.png"),
    "pictures": ("image03.png", "image20.png"),
    "views": ("image03.png", "image12.png"),
    "videos": ("v01/000002.png",),
}
DECODERS = {"planted": lambda: LinearDecoder("pixels")}
REASON = "train/a.png cannot be read as an image"


def test_every_analysis_is_tested_below():
    assert {type(one) for _, analyses in ASKED.values() for one in analyses} == set(ANALYSES)


def made(folder, what):
    if what == "patches":
        return [planted(folder / "p", planted=3)]
    if what == "rankings":
        first, second = (planted(folder / f"p{seed}", planted=3, seed=seed) for seed in (0, 1))
        return [first, dataclasses.replace(second, title="other")]
    if what == "layers":
        return [
            compared(folder / title, title, related(n), grams=False) for n, title in enumerate(("planted", "other"))
        ]
    if what == "images":
        return planted_images(folder / "i")
    if what == "captures":
        return [write_captures(folder / "c", title="planted")[0]]
    if what == "pictures":
        return [planted_reconstruction(folder / "r")]
    if what == "views":
        return [viewed_sets(folder / "v", noise=((10, 0.5),))]
    return [videos(folder / "f", n_videos=3, channels=8)]


def copied(stored_set, folder, change_rows, change_table):
    """Write a set again with other rows and tables."""
    arrays = {
        name: (change_rows(stored_set[name][:], array.fill), array.dimension_names, dict(array.attributes))
        for name, array in stored_set.arrays.items()
    }
    names = ["samples", *(["classes"] if stored_set.spec.kind == "labels" else [])]
    if stored_set.spec.kind == "labels" and stored_set.spec.objects:
        names.append("objects")
    return write_set(folder, stored_set.spec, arrays, {name: change_table(stored_set.table(name)) for name in names})


def changed(measured, folder, change_rows, change_table, features_too=True):
    """Return a model's sets, those of its views too, written again."""

    def of(one, path):
        copies = {}
        for kind in ("features", "labels") if features_too else ("labels",):
            copies[kind] = copied(getattr(one, kind), path / kind, change_rows, change_table)
        return dataclasses.replace(one, **copies)

    new = {key: of(view, folder / f"{key[0]}{key[1]:g}") for key, view in measured.views.items()}
    return dataclasses.replace(of(measured, folder), views=new)


def with_invalid(measured, folder, bad, features_too=True):
    gone = measured.samples["source"].isin(bad).to_numpy()

    def rows(values, fill):
        values = values.copy()
        values[gone] = fill
        return values

    def table(one):
        if "valid" not in one:
            return one[~one["source"].isin(bad)] if "track" in one else one
        return one.assign(valid=~gone, reason=np.where(gone, REASON, ""))

    return changed(measured, folder, rows, table, features_too)


def without(measured, folder, bad):
    kept = ~measured.samples["source"].isin(bad).to_numpy()
    return changed(
        measured,
        folder,
        lambda values, fill: values[kept],
        lambda one: one[~one["source"].isin(bad)].reset_index(drop=True) if "source" in one else one,
    )


LONG = {"images", "captures", "videos"}
"""Analyses that select their rows as those of ``patches`` and ``views`` do; they take longest."""


@pytest.mark.parametrize(
    ("what", "features_too"),
    [
        *(pytest.param(what, True, marks=[pytest.mark.slow] * (what in LONG)) for what in ASKED),
        ("videos", False),
    ],
)
def test_invalid_rows_are_left_out_and_counted(tmp_path, what, features_too):
    selection, analyses = ASKED[what]
    models = made(tmp_path / "whole", what)
    bad = BAD[what]
    settings = EvaluationSettings(selection=selection, analyses=analyses)
    found = []
    for name in ("marked", "removed"):
        sets = [
            with_invalid(one, tmp_path / name / str(number), bad, features_too)
            if name == "marked"
            else without(one, tmp_path / name / str(number), bad)
            for number, one in enumerate(models)
        ]
        results = ResultStore(tmp_path / f"results of {name}")
        found.append(evaluate(name, sets, settings, results, decoders=DECODERS).table)
    marked, removed = found
    counted = marked["metric"] == "invalid_rows"
    assert set(marked["analysis"][counted]) == {one.kind for one in analyses}
    assert set(marked["model"][counted]) == {one.title for one in models}
    n_bad = int(models[0].samples["source"].isin(bad).sum())
    assert set(marked["value"][counted]) == {n_bad}
    assert set(marked["n_units"][counted]) == {len(models[0].samples)}
    assert not (removed["metric"] == "invalid_rows").any()
    same = [name for name in removed if name not in ("experiment", "inputs", "result", "value", "low", "high")]
    left = marked[~counted].reset_index(drop=True)
    pd.testing.assert_frame_equal(left[same], removed[same])
    for name in ("value", "low", "high"):
        ours, theirs = (table[name].to_numpy(dtype=float, na_value=-1.0) for table in (left, removed))
        assert not np.isnan(ours).any()
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, err_msg=name)


def test_images_without_a_valid_row_are_not_chosen_and_others_keep_their_good_rows(tmp_path):
    measured = planted(tmp_path / "whole")
    table = measured.samples
    table.loc[[2, 6, 7], "valid"] = False
    measured.__dict__["samples"] = table
    chosen = select_rows(measured, SelectionRule(split="train", groups=("b",)))
    assert chosen.sources == tuple(f"image{number:02d}.png" for number in (1, 5, 7, 9, 11))
    assert list(chosen.rows) == [3, 10, 11, 14, 15, 18, 19, 22, 23]
    assert chosen.title == "5 images"


def test_a_selection_of_invalid_rows_alone_is_refused(tmp_path):
    measured = with_invalid(planted(tmp_path / "whole"), tmp_path / "marked", [f"image{n:02d}.png" for n in range(12)])
    with pytest.raises(UserError, match=r"rows that .* of planted are invalid: choose others") as stop:
        select_rows(measured, SELECTION.train)
    assert str(stop.value).startswith("all 24 rows that [selection] chooses of planted")
