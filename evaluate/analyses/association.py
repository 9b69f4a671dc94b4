"""Association of ground-truth boxes over whole videos, scored as multi-object tracking (beyond A-16 of paper A).

Frame by frame, the objects' vectors (`evaluate.inputs.objects`) are assigned to the tracks that have not ended by the
Hungarian method, which minimises the summed Euclidean distance to each track's last vector. Boxes are the true ones, so
that only association can fail: DetA is 1. Scores are those of trackeval: HOTA, AssA and DetA (Luiten et al., IJCV
2021), IDF1 (Ristani et al., 2016) and the identity switches of CLEAR MOT (Bernardin and Stiefelhagen, 2008).
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
from evaluate.results.rows import Bootstrap
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


def _counts(truth: Sequence[np.ndarray], assigned: Sequence[Int64[np.ndarray, " _"]]) -> dict[str, float]:
    """Return trackeval's counts of one video: boxes, AssA summed over them, identity counts and switches.

    ``truth`` names the track of every object, ``assigned`` numbers the track it joined, frame by frame.
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
        "similarity_scores": [np.eye(len(frame)) for frame in tracks],
    }
    model: dict[str, Any] = {}
    with redirect_stdout(io.StringIO()):  # trackeval prints its settings and times
        for metric in (metrics.HOTA(), *(kind({"PRINT_CONFIG": False}) for kind in (metrics.Identity, metrics.CLEAR))):
            model |= metric.eval_sequence(data)
    # Every box is compared with itself, similarity 1: all of HOTA's thresholds agree.
    true, missed, false = (float(model[f"HOTA_{name}"][0]) for name in ("TP", "FN", "FP"))
    return {
        "boxes": true,
        "all_boxes": true + missed + false,
        "association": float(model["AssA"][0]) * true,
        "identity": float(model["IDTP"]),
        "identity_all": float(model["IDTP"] + 0.5 * model["IDFP"] + 0.5 * model["IDFN"]),
        "switches": float(model["IDSW"]),
    }


HOTA_THRESHOLDS = 19
"""Localisation thresholds over which TrackEval's HOTA averages."""


@dataclass(frozen=True, eq=False)
class AssociationTask(ObjectTask[Association]):
    """HOTA, AssA, DetA, IDF1 and identity switches of all videos together, for every m."""

    analysis = "association"
    revision = 3
    what = "association by {task.array}"
    key_settings = (*ObjectTask.key_settings, "max_age", "gate")
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
                counts.append(_counts([frame.tracks for frame in some], tracks))
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


def _rows(counts: Sequence[Mapping[str, float]], bootstrap: Bootstrap, m: int) -> list[dict[str, Any]]:
    column = {name: np.array([video[name] for video in counts]) for name in counts[0]}
    ratios = {
        ASS_A: (column["association"], column["boxes"]),
        DET_A: (column["boxes"], column["all_boxes"]),
        IDF1: (column["identity"], column["identity_all"]),
        ID_SWITCHES: (column["switches"], np.full(len(counts), 1.0 / len(counts))),
    }
    rows = {
        metric: bootstrap.row(metric, float(sides[0].sum() / sides[1].sum()), bootstrap.ratio(*sides), m=m)
        for metric, sides in ratios.items()
    }
    # HOTA is the root of DetA times AssA, and DetA is 1 in every resample: value and bounds go through the root.
    ass_a, det_a = rows[ASS_A], rows[DET_A]["value"]
    root = {
        name: None if ass_a[name] is None else float(np.sqrt(ass_a[name] * det_a)) for name in ("value", "low", "high")
    }
    return [*rows.values(), {**ass_a, "metric": HOTA, **root}]
