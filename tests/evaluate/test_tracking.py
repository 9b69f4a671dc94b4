"""Tracking by retrieval on videos with planted identities, and pooling against torchvision and by hand."""

from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import torch
from torchvision.ops import roi_align

from evaluate.analyses.tracking import Tracking, TrackingTask, retrieve
from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.objects import PatchMap, boxes_in_map, frame_rows, patch_map, pooled
from evaluate.inputs.rows import select_rows
from evaluate.registry import EvaluationSettings
from evaluate.results.table import ResultStore
from evaluate.runner import evaluate
from evaluate.scoring.frame_objects import _step
from evaluate.selection import SelectionRule
from evaluate.settings import Context, Selection
from stores.errors import UserError
from stores.specs import FrameSpec
from tests.evaluate.planted import planted
from tests.evaluate.planted_video import CELLS, PIXELS, videos

SELECTION = Selection(train=SelectionRule(split="val"), validation=SelectionRule(split="val"))
ARRAY = "tokens/block.0.norm"


def table(tmp_path, measured, **changes):
    analysis = Tracking(kind="tracking", **{"gaps": (1, 3), "resamples": 200, **changes})
    settings = EvaluationSettings(selection=SELECTION, analyses=(analysis,))
    return evaluate("t", [measured], settings, ResultStore(tmp_path / "results")).table


def value(found, metric, gap, m=0):
    rows = found[(found["metric"] == metric) & (found["x_value"] == gap) & (found["m"] == m)]
    assert len(rows) == 1
    return rows.iloc[0]


@pytest.mark.parametrize("pooling", ["roi-align", "centres"])
def test_planted_identities_are_found_again(tmp_path, pooling):
    found = table(tmp_path, videos(tmp_path / "store"), pooling=pooling)
    for gap in (1, 3):
        assert value(found, "instance_accuracy", gap)["value"] == 1.0
        assert value(found, "gap_seconds", gap)["value"] == pytest.approx(gap / 5)
    # Of 12 videos with 5 pairs of frames: 4, 4, 4, 3, 3 queries, one of the third four has vanished.
    assert value(found, "instance_accuracy_all", 1)["value"] == pytest.approx(17 / 18)
    assert value(found, "chance", 1)["value"] == pytest.approx((4 / 4 + 4 / 4 + 3 / 3 + 3 / 3 + 3 / 3) / 17)
    assert value(found, "instance_accuracy", 1)["n_units"] == 12
    assert value(found, "instance_accuracy", 1)["low"] == 1.0


def test_without_identities_only_chance_is_left(tmp_path):
    measured = videos(tmp_path / "store", n_videos=20, identities=False)
    found = table(tmp_path, measured)
    accuracy, chance = value(found, "instance_accuracy", 1), value(found, "chance", 1)
    assert accuracy["low"] < chance["value"] < accuracy["high"]


def test_accuracy_equals_brute_force(tmp_path):
    measured = videos(tmp_path / "store", noise=2.0)
    tokens = measured.features["block.0.norm"][:].astype(np.float64)
    samples, objects = measured.samples, measured.objects
    variance = tokens.reshape(-1, tokens.shape[-1]).var(axis=0)
    kept = np.argsort(-variance, kind="stable")[5:]

    def vector(line):
        tile, column = divmod(int(line.left) // PIXELS, CELLS)
        row = samples.index[(samples["source"] == line.source) & (samples["tile_column"] == tile)][0]
        return tokens[row, int(line.top) // PIXELS * CELLS + column, kept]

    right = total = 0
    for line in objects.itertuples():
        later = objects[(objects["video"] == line.video) & (objects["frame"] == line.frame + 3)]
        if line.track not in set(later["track"]):
            continue
        distances = [((vector(line) - vector(other)) ** 2).sum() for other in later.itertuples()]
        right += later["track"].iloc[int(np.argmin(distances))] == line.track
        total += 1
    found = table(tmp_path, measured, remove=(0, 5), pooling="centres")
    assert value(found, "instance_accuracy", 3, m=5)["value"] == pytest.approx(right / total)
    assert 0 < right < total


def test_a_frame_that_is_not_there_makes_no_other_come_sooner(tmp_path):
    # Of frames 0 to 5 number 2 is left out: one apart are 0-1, 3-4 and 4-5, three apart 0-3 and 1-4.
    measured = videos(tmp_path / "store", n_videos=1)
    [task] = TrackingTask.of_model(measured, Tracking(kind="tracking"), Context(None, 0))
    frames = task.read_frames()
    left = [frame for frame in frames if frame.frame != 2]
    for gap, firsts in ((1, (0, 3, 4)), (3, (0, 1))):
        hits = retrieve(left, gap, np.ones(24, dtype=np.bool_))
        assert len(hits.video) == sum(len(frames[first].tracks) for first in firsts)
        np.testing.assert_allclose(hits.seconds, gap / 5)


@pytest.mark.parametrize(("numbers", "step"), [([7], 1), ([1, 2, 4], 1), ([40, 0, 10, 60], 10), ([3, 3], 1)])
def test_frames_are_counted_in_the_steps_of_their_video(numbers, step):
    assert _step(np.array(numbers)) == step


def test_maps_are_stitched_and_pooled_as_torchvision_does(tmp_path):
    measured = videos(tmp_path / "store", n_videos=1, noise=1.0)
    rows = next(iter(frame_rows(measured, select_rows(measured, SELECTION.train)).values()))
    whole = patch_map(measured, ARRAY, rows)
    stored = measured.features["block.0.norm"][rows].astype(np.float32).reshape(2, CELLS, CELLS, -1)
    side_by_side = np.concatenate([stored[0], stored[1]], axis=1).transpose(2, 0, 1)
    np.testing.assert_array_equal(whole.values, side_by_side)
    boxes = np.array([[3.0, 5.0, 77.0, 41.0], [60.0, 0.0, 68.0, 64.0]])  # the second crosses the tiles' border
    expected = roi_align(
        torch.from_numpy(side_by_side)[None], [torch.from_numpy(boxes.astype(np.float32))], 1, 1 / PIXELS, -1, True
    )
    vectors, seen = pooled(whole, boxes, "roi-align")
    assert seen.all()
    np.testing.assert_allclose(vectors, expected[:, :, 0, 0].numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("resize", "scale"), [({"shorter": 40}, (40 / 50, 53 / 67)), (None, (1.0, 1.0))])
def test_objects_are_found_on_the_map_of_a_centre_crop(resize, scale):
    tile = {"left": 10, "top": 4, "right": 42, "bottom": 36, "source": "a", "source_height": 50, "source_width": 67}
    model = Mock(spec=ModelSets, samples=pd.DataFrame([tile]))
    model.spec.frame = FrameSpec(input=32, tile=32, resize=resize, edge="centre")
    model.grid.return_value = (4, 4)
    model.features = {ARRAY: np.arange(16, dtype=np.float32).reshape(1, 16, 1)}
    whole = patch_map(model, ARRAY, np.array([0]))
    assert whole.scale == scale
    left, top = (10 + 8) / scale[1], (4 + 16) / scale[0]  # the patch in row 2, column 1
    objects = pd.DataFrame([{"left": left, "top": top, "right": left + 8 / scale[1], "bottom": top + 8 / scale[0]}])
    vectors, seen = pooled(whole, boxes_in_map(objects, whole), "centres")
    assert (vectors.item(), seen.item()) == (9.0, True)


def test_boxes_beyond_the_map_are_clipped_or_left_out():
    values = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    found = PatchMap(values, (8.0, 8.0), (1.0, 1.0))
    boxes = np.array([[-20.0, -20.0, 8.0, 8.0], [40.0, 0.0, 50.0, 8.0], [9.0, 9.0, 10.0, 10.0]])
    vectors, seen = pooled(found, boxes, "centres")
    assert seen.tolist() == [True, False, True]
    assert vectors[[0, 2], 0].tolist() == [0.0, 5.0]


def test_data_without_objects_and_overlapping_tiles_are_refused(tmp_path):
    settings = EvaluationSettings(analyses=(Tracking(kind="tracking"),))
    with pytest.raises(UserError, match="has no objects"):
        evaluate("t", [planted(tmp_path / "a")], settings, ResultStore(tmp_path / "r"))
    measured = planted(tmp_path / "b")
    with pytest.raises(UserError, match="overlap"):
        patch_map(measured, ARRAY, np.array([0, 1]))


def test_overlapping_tiles_are_refused_before_a_model_runs(tmp_path, monkeypatch):
    """`extract` makes all rows before `evaluate` reads the first map; only `check` comes earlier."""
    monkeypatch.setattr(ModelSets, "objects", pd.DataFrame())
    [task] = TrackingTask.of_model(planted(tmp_path), Tracking(kind="tracking"), Context(None, 0))
    with pytest.raises(UserError, match=r"tiles of image00.png overlap, .*: set edge = "):
        task.check()
