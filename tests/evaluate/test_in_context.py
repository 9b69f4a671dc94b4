"""In-context segmentation and overclustering: kernels against torch, loops and brute force, and planted sets."""

from itertools import permutations

import numpy as np
import pytest
import torch

from evaluate.analyses.feature_geometry import FeatureGeometry
from evaluate.analyses.in_context_segmentation import InContextSegmentation
from evaluate.analyses.overclustering import Overclustering
from evaluate.analyses.token_pictures import TokenPictures
from evaluate.kernels.segmentation import in_context as kernel
from evaluate.kernels.segmentation.clustering import (
    cluster_centres,
    contingency,
    hungarian_mapping,
    majority_mapping,
    nearest_centres,
    unit_length,
)
from evaluate.neighbours.knn import nearest
from evaluate.registry import EvaluationSettings
from evaluate.results.table import ResultStore
from evaluate.runner import evaluate
from evaluate.selection import SelectionRule
from evaluate.settings import Selection
from stores.errors import UserError
from stores.specs import VOID
from tests.evaluate.planted import planted

RNG = np.random.default_rng(7)
SELECTION = Selection(train=SelectionRule(split="train"), validation=SelectionRule(split="val"))


def run(model, folder, *analyses):
    settings = EvaluationSettings(selection=SELECTION, analyses=analyses)
    return evaluate("planted", [model], settings, ResultStore(folder / "results"))


@pytest.mark.parametrize(("grid", "size"), [((3, 4), (12, 20)), ((14, 14), (224, 224)), ((5, 1), (7, 3))])
def test_votes_are_resized_as_by_torch(grid, size):
    votes = RNG.random((*grid, 3)).astype(np.float32)
    by_torch = torch.nn.functional.interpolate(
        torch.from_numpy(votes).permute(2, 0, 1)[None].double(), size=size, mode="bilinear", align_corners=False
    )[0]
    resized = np.einsum("yr,rck,xc->kyx", kernel.bilinear(grid[0], size[0]), votes, kernel.bilinear(grid[1], size[1]))
    np.testing.assert_allclose(resized, by_torch.numpy(), atol=1e-12)
    assert (kernel.pixel_classes(votes, size) == by_torch.argmax(0).numpy()).all()


def test_attention_is_that_of_the_formula():
    bank, queries = (RNG.normal(size=(n, 6)).astype(np.float32) for n in (40, 7))
    labels = RNG.dirichlet(np.ones(3), 40).astype(np.float32)
    neighbours = nearest(bank, queries, 5, metric="cosine")
    found = kernel.attended(neighbours.indices, neighbours.squared_distances, labels, 0.02)
    for query, votes in zip(queries.astype(np.float64), found, strict=True):
        cosines = bank.astype(np.float64) @ query / np.linalg.norm(bank, axis=1) / np.linalg.norm(query)
        best = np.argsort(-cosines)[:5]
        weights = np.exp(cosines[best] / 0.02)
        np.testing.assert_allclose(votes, weights @ labels[best] / weights.sum(), rtol=1e-4)


def test_a_limited_memory_prefers_rare_classes_and_never_holds_void():
    counts = np.zeros((50, 16, 3), dtype=np.int64)
    counts[:, :10, 0] = 9
    counts[:, 10:12, 1] = 9
    counts[:, 12, 2] = 9  # the others are void
    kept = kernel.remembered(counts, 4, np.random.default_rng(0))
    assert (kept.sum(axis=1) == 4).all()
    assert not kept[:, 13:].any()
    common, rare, rarest = kept[:, :10].mean(), kept[:, 10:12].mean(), kept[:, 12].mean()
    assert common < 0.25 < rare < rarest
    scores = (counts[0] > 0) @ (counts[0] > 0).sum(axis=0) * np.random.default_rng(3).random(16)
    scores[13:] = np.inf
    [own] = kernel.remembered(counts[:1], 5, np.random.default_rng(3))
    assert sorted(np.flatnonzero(own)) == sorted(np.argsort(scores)[:5])


def test_pixels_are_counted_inside_the_owned_box_and_void_is_not():
    truth = RNG.integers(0, 3, (6, 8)).astype(np.uint8)
    truth[2, 3] = VOID
    predicted = RNG.integers(0, 3, (6, 8))
    matrix = kernel.pixel_matrix(predicted, truth, (1, 0, 7, 5), 3)
    expected = np.zeros((3, 3), dtype=int)
    for y in range(5):
        for x in range(1, 7):
            if truth[y, x] != VOID:
                expected[truth[y, x], predicted[y, x]] += 1
    assert (matrix == expected).all()


def test_planted_classes_are_found_and_leading_noise_that_hides_them_is_removed(tmp_path):
    clear = run(planted(tmp_path / "clear"), tmp_path, InContextSegmentation(kind="in-context-segmentation", k=3)).table
    assert clear.loc[clear["metric"] == "pixel_accuracy", "value"].iloc[0] > 0.85, (
        "not all of them: patches are resized to pixels"
    )
    hidden = planted(tmp_path / "hidden", planted=4)
    some = InContextSegmentation(kind="in-context-segmentation", k=3, remove=(0, 4), memory_size=60)
    table = run(hidden, tmp_path, some).table
    scores = table[table["metric"] == "pixel_miou"].set_index("m")["value"]
    assert scores[4] > scores[0] + 0.2
    n_remembered = table.loc[table["metric"] == "memory_patches", "value"].iloc[0]
    assert 0 < n_remembered <= 60
    assert (run(hidden, tmp_path, some).n_computed, len(table["result"].unique())) == (0, 2)


def test_more_neighbours_than_remembered_patches_are_refused(tmp_path):
    model = planted(tmp_path)
    with pytest.raises(UserError, match="k = 30 neighbours are more than the 25 training patches in memory"):
        run(model, tmp_path, InContextSegmentation(kind="in-context-segmentation", memory_size=25))
    with pytest.raises(UserError, match=r"memory_size = 2 is less than the \d+ training tiles"):
        run(model, tmp_path, InContextSegmentation(kind="in-context-segmentation", memory_size=2, k=1))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (lambda: Overclustering(kind="overclustering", clusters=()), "clusters"),
        (lambda: TokenPictures(kind="token-pictures", pictures=()), "pictures"),
        (lambda: TokenPictures(kind="token-pictures", queries=()), "queries"),
        (lambda: FeatureGeometry(kind="feature-geometry", deviations=float("inf")), "deviations"),
    ],
)
def test_settings_that_ask_for_nothing_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        settings()


def test_the_hungarian_mapping_is_the_best_of_all_permutations_and_majority_is_no_worse():
    for _ in range(20):
        counts = RNG.integers(0, 30, (5, 5))
        best = max(sum(counts[i, order[i]] for i in range(5)) for order in permutations(range(5)))
        mapped = hungarian_mapping(counts)
        assert sorted(mapped) == list(range(5))
        assert counts[np.arange(5), mapped].sum() == best
        assert counts[np.arange(5), majority_mapping(counts)].sum() >= best
    with pytest.raises(ValueError, match="4 clusters cannot be mapped one to one to 3"):
        hungarian_mapping(np.ones((4, 3), dtype=np.int64))


def test_planted_clusters_are_found_and_tokens_go_to_the_nearest_centre():
    means = np.eye(4, 8) * 10
    tokens = (np.repeat(means, 50, axis=0) + RNG.normal(size=(200, 8))).astype(np.float32)
    centres = cluster_centres(tokens, 4, 0)
    found = nearest_centres(tokens, centres)
    distances = np.linalg.norm(tokens[:, None].astype(np.float64) - centres[None], axis=2)
    assert (found == distances.argmin(axis=1)).all()
    counts = contingency(found, np.repeat(np.arange(4), 50), 4, 4)
    assert counts.max(axis=1).tolist() == [50] * 4
    assert (cluster_centres(tokens, 4, 0) == centres).all()
    lengths = np.linalg.norm(unit_length(np.array([[3.0, 4.0], [0.0, 0.0]])), axis=1)
    np.testing.assert_allclose(lengths, [1.0, 0.0])


def test_overclustering_finds_planted_classes_without_labels(tmp_path):
    some = Overclustering(kind="overclustering", clusters=("classes", 6), draws=2, patches=100)
    table = run(planted(tmp_path / "set"), tmp_path, some).table
    accuracy = table[(table["metric"] == "patch_accuracy")]
    assert set(zip(accuracy["k"], accuracy["outcome"], strict=True)) == {
        (3, "majority"), (3, "one to one"), (6, "majority")
    }  # fmt: skip
    best = accuracy.groupby(["k", "outcome"])["value"].max()
    assert best[3, "majority"] > 0.95
    assert best[6, "majority"] > 0.95
    assert 0.7 < best[3, "one to one"] < best[3, "majority"], "two classes are planted, and one cluster must be third"
    with pytest.raises(UserError, match="500 clusters are more than the"):
        run(planted(tmp_path / "set"), tmp_path, Overclustering(kind="overclustering", clusters=(500,)))
