"""Association of ground-truth boxes over whole videos, scored as multi-object tracking (beyond A-16 of paper A).

Frame by frame, the objects' vectors (`evaluate.inputs.objects`) are assigned to the tracks that have not ended by the
Hungarian method, which minimises the summed Euclidean distance to each track's last vector. Boxes are the true ones, so
that only association can fail. Scores are trackeval's: HOTA, AssA and DetA (Luiten et al., IJCV 2021), IDF1 (Ristani et
al., 2016) and the identity switches of CLEAR MOT (Bernardin and Stiefelhagen, 2008). By default every box is matched
with itself alone, so that DetA is 1; TrackEval's own scripts match by IoU, where overlapping boxes may be exchanged:
`matching` chooses, and numbers of the two are not to be compared.
"""

import io
import itertools
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64
from pydantic import Field

from evaluate.kernels.moments import without_top
from evaluate.results.metrics import ASS_A, DET_A, HOTA, ID_SWITCHES, IDF1
from evaluate.results.rows import Bootstrap, Draws
from evaluate.results.table import Result
from evaluate.scoring.frame_objects import FrameObjects, ObjectTask, by_video
from evaluate.settings import ObjectSettings


class Association(ObjectSettings):
    """HOTA, IDF1 and identity switches when true boxes are joined to tracks by their features."""

    kind: Literal["association"]
    max_age: int = Field(default=30, ge=0)
    """Annotated frames that a track may go unseen before it ends; 0 ends it with the first."""
    gate: float | None = Field(default=None, gt=0, le=1)
    """No object joins a track farther than this quantile of all objects' distances to their nearest object one
    annotated frame later; none allows any distance."""
    matching: Literal["identity", "iou"] = "identity"
    """Which boxes of the result may stand for a true box: that box alone, or by IoU as TrackEval's own scripts match
    (HOTA over 19 thresholds, IDF1 and identity switches at 0.5)."""


def _distances(
    first: Float64[np.ndarray, "object channel"], second: Float64[np.ndarray, "other channel"]
) -> Float64[np.ndarray, "object other"]:
    """Return Euclidean distances by direct differences."""
    return np.sqrt(np.stack([((second - one) ** 2).sum(axis=1) for one in first]))


def _largest_distance(frames: Sequence[FrameObjects], kept: Bool[np.ndarray, " channel"], quantile: float) -> float:
    """Return a quantile of the distances to the nearest object one frame later; infinite without such frames."""
    nearest = [
        _distances(now.vectors[:, kept], later.vectors[:, kept]).min(axis=1)
        for now, later in itertools.pairwise(frames)
        if now.video == later.video and later.frame == now.frame + 1 and len(now.tracks) and len(later.tracks)
    ]
    return float(np.quantile(np.concatenate(nearest), quantile)) if nearest else float("inf")


def _associate(
    vectors: Sequence[Float64[np.ndarray, "_ channel"]],
    times: Sequence[int],
    max_age: int,
    limit: float = float("inf"),
) -> list[Int64[np.ndarray, " _"]]:
    """Return a track number, from 0, for every object of every frame of one video; ``times`` are the frames' numbers.

    As many objects as possible join a track within ``limit``; of these assignments the one of least summed distance.
    """
    from scipy.optimize import linear_sum_assignment

    alive: dict[int, tuple[int, np.ndarray]] = {}
    n_tracks = 0
    numbered = []
    for time, here in zip(times, vectors, strict=True):
        alive = {track: seen for track, seen in alive.items() if time - seen[0] <= max_age + 1}
        numbers = np.full(len(here), -1, dtype=np.int64)
        if alive and len(here):
            tracks = list(alive)
            cost = _distances(np.stack([alive[track][1] for track in tracks]), here)
            allowed = cost <= limit
            # A forbidden pair costs more than all allowed ones together, so that none is taken in their place.
            forbidden = 1.0 + cost[allowed].max(initial=0.0) * (min(cost.shape) + 1)
            for row, column in zip(*linear_sum_assignment(np.where(allowed, cost, forbidden)), strict=True):
                if allowed[row, column]:
                    numbers[column] = tracks[row]
        unmatched = numbers < 0
        numbers[unmatched] = np.arange(n_tracks, n_tracks + unmatched.sum())
        n_tracks += int(unmatched.sum())
        alive |= {int(track): (time, vector) for track, vector in zip(numbers, here, strict=True)}
        numbered.append(numbers)
    return numbered


def _overlaps(boxes: Float64[np.ndarray, "object 4"]) -> Float64[np.ndarray, "object object"]:
    """Return the intersection over union of all pairs of boxes (left, top, right, bottom)."""
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    sides = np.clip(np.minimum(high, boxes[None, :, 2:]) - np.maximum(low, boxes[None, :, :2]), 0.0, None)
    shared, areas = sides.prod(axis=2), (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    overlaps: np.ndarray = shared / (areas[:, None] + areas[None] - shared)
    return overlaps


def _counts(
    truth: Sequence[np.ndarray],
    assigned: Sequence[Int64[np.ndarray, " _"]],
    similarities: Sequence[Float64[np.ndarray, "_ _"]] | None = None,
) -> dict[str, np.ndarray]:
    """Return trackeval's counts of one video: boxes, AssA summed over them, identity counts and switches.

    The counts of HOTA have one value a localisation threshold; there is one threshold where ``similarities`` is None.

    Args:
        truth: names the track of every object, frame by frame.
        assigned: numbers the track it joined.
        similarities: of all pairs of a frame's boxes; None matches every box with itself alone.
    """
    from trackeval import metrics

    names = np.unique(np.concatenate(list(truth)).astype(str))
    tracks = [np.searchsorted(names, frame.astype(str)) for frame in truth]
    given, numbers = np.unique(np.concatenate(list(assigned)), return_inverse=True)
    n_boxes = len(numbers)
    data = {
        "num_timesteps": len(tracks),
        "num_gt_dets": n_boxes,
        "num_tracker_dets": n_boxes,
        "num_gt_ids": len(names),
        "num_tracker_ids": len(given),
        "gt_ids": tracks,
        "tracker_ids": [np.searchsorted(given, frame) for frame in assigned],
        "similarity_scores": [np.eye(len(frame)) for frame in tracks] if similarities is None else list(similarities),
    }
    scores: dict[str, Any] = {}
    with redirect_stdout(io.StringIO()):  # trackeval prints its settings and times
        for metric in (metrics.HOTA(), *(kind({"PRINT_CONFIG": False}) for kind in (metrics.Identity, metrics.CLEAR))):
            scores |= metric.eval_sequence(data)
    # Every box matched with itself has similarity 1: all of HOTA's thresholds agree.
    thresholds = slice(1) if similarities is None else slice(None)
    true, missed, false = (np.array(scores[f"HOTA_{name}"], np.float64)[thresholds] for name in ("TP", "FN", "FP"))
    return {
        "boxes": true,
        "all_boxes": true + missed + false,
        "association": np.array(scores["AssA"], np.float64)[thresholds] * true,
        "identity": np.array([float(scores["IDTP"])]),
        "identity_all": np.array([float(scores["IDTP"] + 0.5 * scores["IDFP"] + 0.5 * scores["IDFN"])]),
        "switches": np.array([float(scores["IDSW"])]),
    }


HOTA_THRESHOLDS = 19
"""Localisation thresholds over which TrackEval's HOTA averages."""


@dataclass(frozen=True, eq=False)
class AssociationTask(ObjectTask[Association]):
    """HOTA, AssA, DetA, IDF1 and identity switches of all videos together, for every m."""

    analysis = "association"
    revision = 4
    by_removal = True
    what = "association by {task.array}"
    key_settings = (*ObjectTask.key_settings, "max_age", "gate", "matching")
    fixed_columns: ClassVar[Mapping[str, Any]] = {"distance": "euclidean"}

    def compute(self) -> Result:
        """Return one row a metric and m; videos are resampled."""
        settings, frames, ranking = self.settings, self.read_frames(), self.ranking()
        videos = {name: some for name, some in by_video(frames).items() if any(len(frame.tracks) for frame in some)}
        bootstrap = self.bootstrap(list(videos), "video")
        rows: list[dict[str, Any]] = []
        for m in self.removed:
            kept = without_top(ranking, m)
            limit = float("inf") if settings.gate is None else _largest_distance(frames, kept, settings.gate)
            counts = []
            for some in videos.values():
                vectors = [frame.vectors[:, kept] for frame in some]
                tracks = _associate(vectors, [frame.frame for frame in some], settings.max_age, limit)
                overlaps = [_overlaps(frame.boxes) for frame in some] if settings.matching == "iou" else None
                counts.append(_counts([frame.tracks for frame in some], tracks, overlaps))
            rows += _rows(counts, bootstrap, m)
        return Result(rows)

    def peak_bytes(self) -> int:
        """Estimate peak memory: frames stream, and every object is one vector.

        One video's vectors are copied without their top features, and its tracks are compared at HOTA's 19 thresholds,
        as if four times as many were found as there are.
        """
        in_frames = self.objects[self.objects["source"].isin(self.frames.sources)]
        videos = in_frames.groupby("video", sort=False)["track"].agg(["size", "nunique"])
        if not len(videos):
            return super().peak_bytes()
        vectors = 8 * self.n_channels * int(videos["size"].max())
        tracks = 8 * (HOTA_THRESHOLDS + 3) * 4 * int(videos["nunique"].max()) ** 2
        return super().peak_bytes() + vectors + tracks


def _rows(counts: Sequence[Mapping[str, np.ndarray]], bootstrap: Bootstrap, m: int) -> list[dict[str, Any]]:
    column = {name: np.stack([video[name] for video in counts]) for name in counts[0]}
    ones = np.full_like(column["switches"], 1.0 / len(counts))
    ass_a = _ratio(column["association"], column["boxes"], bootstrap)
    det_a = _ratio(column["boxes"], column["all_boxes"], bootstrap)
    scores = {
        ASS_A: ass_a,
        DET_A: det_a,
        IDF1: _ratio(column["identity"], column["identity_all"], bootstrap),
        ID_SWITCHES: _ratio(column["switches"], ones, bootstrap),
        # Luiten et al., eq. 7: the root of DetA times AssA at every threshold, then their mean.
        HOTA: [
            (np.sqrt(det * ass), None if det_draws is None or ass_draws is None else np.sqrt(det_draws * ass_draws))
            for (det, det_draws), (ass, ass_draws) in zip(det_a, ass_a, strict=True)
        ],
    }
    rows = []
    for metric, by_threshold in scores.items():
        drawn = [draws for _, draws in by_threshold if draws is not None]
        value = float(np.mean([value for value, _ in by_threshold]))
        rows.append(bootstrap.row(metric, value, np.mean(drawn, axis=0) if drawn else None, m=m))
    return rows


def _ratio(
    numerators: Float64[np.ndarray, "video threshold"],
    denominators: Float64[np.ndarray, "video threshold"],
    bootstrap: Bootstrap,
) -> list[tuple[float, Draws | None]]:
    """Return a ratio of sums over all videos at every threshold, 0 where nothing is matched, and its resamples."""
    found = []
    for above, below in zip(numerators.T, denominators.T, strict=True):
        value = float(above.sum() / below.sum()) if below.sum() else 0.0
        draws = bootstrap.ratio(above, below)
        found.append((value, None if draws is None else np.nan_to_num(draws, nan=0.0)))
    return found
