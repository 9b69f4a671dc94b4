"""Association of true boxes: tracks by hand, the Hungarian method by brute force, scores by hand."""

import itertools

import numpy as np
import pytest

from evaluate.analyses.association import (
    Association,
    _associate,
    _counts,
    _largest_distance,
    _overlaps,
    _rows,
)
from evaluate.registry import EvaluationSettings
from evaluate.results.rows import Bootstrap
from evaluate.results.table import ResultStore
from evaluate.runner import evaluate
from evaluate.scoring.frame_objects import FrameObjects
from evaluate.selection import SelectionRule
from evaluate.settings import Selection
from tests.evaluate.planted_video import videos

SELECTION = Selection(train=SelectionRule(split="val"), validation=SelectionRule(split="val"))


def points(*values):
    return np.array(values, dtype=np.float64).reshape(-1, 1)


def test_tracks_end_after_max_age_and_at_the_gate():
    frames = [points(0.0, 10.0), points(10.1), points(10.2), points(10.3, 0.1)]
    assert [list(one) for one in _associate(frames, range(4), max_age=2)] == [[0, 1], [1], [1], [1, 0]]
    assert [list(one) for one in _associate(frames, range(4), max_age=1)] == [[0, 1], [1], [1], [1, 2]]
    assert [list(one) for one in _associate(frames, range(4), 2, limit=0.15)] == [[0, 1], [1], [1], [1, 0]]
    assert [list(one) for one in _associate(frames, range(4), 2, limit=0.05)] == [[0, 1], [2], [3], [4, 5]]


def test_frames_that_are_not_there_age_a_track():
    frames = [points(0.0), points(0.1), points(0.2)]
    assert [list(one) for one in _associate(frames, (3, 4, 6), max_age=1)] == [[0], [0], [0]]
    assert [list(one) for one in _associate(frames, (3, 4, 7), max_age=1)] == [[0], [0], [1]]
    one = [
        FrameObjects("v", number, 0.0, np.array(["a"]), np.array([0]), seen, np.array([[0.0, 0.0, 1.0, 1.0]]))
        for number, seen in zip((3, 4, 7), frames, strict=True)
    ]
    assert _largest_distance(one, np.array([True]), 1.0) == pytest.approx(0.1)


def test_a_forbidden_pair_never_costs_an_allowed_one():
    # The first track may take either object, the second only the first object: both are joined.
    found = _associate([points(0.0, 2.0), points(1.1, -0.95)], range(2), 0, limit=1.0)
    assert list(found[1]) == [1, 0]


def test_assignment_has_the_least_summed_distance():
    rng = np.random.default_rng(0)
    for _ in range(20):
        first, second = rng.normal(size=(2, 4, 3))
        found = _associate([first, second], range(2), 0)[1]
        cost = np.linalg.norm(first[:, None] - second[None], axis=2)
        least = min(sum(cost[order[j], j] for j in range(4)) for order in itertools.permutations(range(4)))
        assert sum(cost[found[j], j] for j in range(4)) == pytest.approx(least)


def test_scores_of_a_swap_by_hand():
    # Tracks a, b over four frames change places after two: every pair of identities shares 2 of 4 + 4 - 2 boxes.
    truth = [np.array(["a", "b"], dtype=object)] * 4
    found = [np.array([0, 1])] * 2 + [np.array([1, 0])] * 2
    counts = _counts(truth, found)
    assert counts["boxes"] == counts["all_boxes"] == 8
    assert counts["association"] / counts["boxes"] == pytest.approx(2 / 6)
    assert counts["identity"] / counts["identity_all"] == pytest.approx(4 / 8)
    assert counts["switches"] == 2


def crowd(rng, n_frames=12, n_objects=5):
    """Boxes that overlap and drift, with their tracks and the tracks they joined, some exchanged."""
    centres, frames = rng.uniform(0, 30, (n_objects, 2)), []
    for _ in range(n_frames):
        centres = centres + rng.normal(0, 1, centres.shape)
        joined = np.arange(n_objects)
        if rng.random() < 0.4:
            first, second = rng.choice(n_objects, 2, replace=False)
            joined[[first, second]] = joined[[second, first]]
        frames.append((np.hstack([centres - 10, centres + 10]), np.arange(n_objects), joined))
    return frames


def test_matching_by_iou_agrees_with_trackeval_over_all_videos():
    from trackeval import metrics

    rng = np.random.default_rng(0)
    crowds = [crowd(rng) for _ in range(3)]
    counts, references = [], []
    for frames in crowds:
        overlaps = [_overlaps(boxes) for boxes, _, _ in frames]
        # An overlap by counting cells of a fine grid.
        first, second = frames[0][0][:2]
        grid = np.stack(np.meshgrid(*[np.arange(-40, 70, 0.05)] * 2), axis=-1)
        inside = [((grid >= box[:2]) & (grid < box[2:])).all(axis=-1) for box in (first, second)]
        by_cells = (inside[0] & inside[1]).sum() / (inside[0] | inside[1]).sum()
        assert overlaps[0][0, 1] == pytest.approx(by_cells, abs=0.01)
        truth = [tracks.astype(str) for _, tracks, _ in frames]
        counts.append(_counts(truth, [joined for _, _, joined in frames], overlaps))
        n_boxes = sum(len(tracks) for _, tracks, _ in frames)
        data = {
            "num_timesteps": len(frames),
            "num_gt_dets": n_boxes,
            "num_tracker_dets": n_boxes,
            "num_gt_ids": 5,
            "num_tracker_ids": 5,
            "gt_ids": [tracks for _, tracks, _ in frames],
            "tracker_ids": [joined for _, _, joined in frames],
            "similarity_scores": overlaps,
        }
        references.append(data)
    hota, identity = metrics.HOTA(), metrics.Identity({"PRINT_CONFIG": False})
    whole = hota.combine_sequences({str(n): hota.eval_sequence(data) for n, data in enumerate(references)})
    found = {row["metric"]: row["value"] for row in _rows(counts, Bootstrap(("a", "b", "c"), "video", 0, 0), 0)}
    for metric, name in (("hota", "HOTA"), ("ass_a", "AssA"), ("det_a", "DetA")):
        assert found[metric] == pytest.approx(np.mean(whole[name]), abs=1e-12)
    idf1 = identity.combine_sequences({str(n): identity.eval_sequence(data) for n, data in enumerate(references)})
    assert found["idf1"] == pytest.approx(idf1["IDF1"], abs=1e-12)
    itself = [_counts([t.astype(str) for _, t, _ in frames], [j for _, _, j in frames]) for frames in crowds]
    alone = {row["metric"]: row["value"] for row in _rows(itself, Bootstrap(("a", "b", "c"), "video", 0, 0), 0)}
    assert alone["det_a"] == 1.0
    assert abs(alone["hota"] - found["hota"]) > 1e-4, "the two ways of matching are told apart"


def table(tmp_path, measured, **changes):
    analysis = Association(kind="association", resamples=100, **changes)
    settings = EvaluationSettings(selection=SELECTION, analyses=(analysis,))
    return evaluate("t", [measured], settings, ResultStore(tmp_path / "results")).table.set_index("metric")


def test_planted_identities_are_kept(tmp_path, capsys):
    found = table(tmp_path, videos(tmp_path / "store"))
    for metric in ("hota", "ass_a", "det_a", "idf1"):
        assert found.loc[metric, "value"] == found.loc[metric, "low"] == 1.0
    assert found.loc["id_switches", "value"] == 0
    assert found.loc["hota", "n_units"] == 12
    assert capsys.readouterr().out == ""


def test_without_identities_they_are_lost(tmp_path):
    found = table(tmp_path, videos(tmp_path / "store", identities=False))
    assert found.loc["det_a", "value"] == 1.0
    assert found.loc["hota", "value"] == pytest.approx(np.sqrt(found.loc["ass_a", "value"]))
    assert found.loc["ass_a", "low"] < found.loc["ass_a", "value"] < 0.7
    assert found.loc["id_switches", "low"] < found.loc["id_switches", "value"] < found.loc["id_switches", "high"]


def test_matching_by_iou_is_another_result(tmp_path):
    by_iou = table(tmp_path, videos(tmp_path / "store"), matching="iou")
    assert by_iou.loc["hota", "value"] <= 1.0
    assert by_iou.loc["det_a", "value"] <= 1.0
    assert by_iou.loc["hota", "low"] <= by_iou.loc["hota", "value"] <= by_iou.loc["hota", "high"]
