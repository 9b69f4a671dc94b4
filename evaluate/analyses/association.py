"""Association of ground-truth boxes over whole videos: from experiment A-16 of paper A to tracking's own scores.

Frame by frame, the objects' vectors (`evaluate.inputs.objects`) are assigned to the tracks that are still alive by the
Hungarian method, which minimises the summed Euclidean distance to each track's last vector. Boxes are the true ones, so
that only association can fail: DetA is 1. Scores are those of trackeval: HOTA, AssA and DetA (Luiten et al., IJCV
2021), IDF1 (Ristani et al., 2016) and the identity switches of CLEAR MOT (Bernardin and Stiefelhagen, 2008).
"""

import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64
from pydantic import Field

from evaluate.analyses.tracking import FrameObjects, counted_objects, frames_of, objects_bytes
from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.objects import Pooling
from evaluate.inputs.patches import token_variance
from evaluate.inputs.rows import scored_rows
from evaluate.kernels.bootstrap import ratio_interval
from evaluate.kernels.moments import variance_ranking, without_top
from evaluate.results.table import Result, ResultKey
from evaluate.settings import Context, Layers, Settings
from evaluate.task import Task, task_of

REVISION = 2
"""Raised when the same inputs and parameters give other numbers."""


class Association(Settings):
    """HOTA, IDF1 and identity switches when true boxes are joined to tracks by their features."""

    kind: Literal["association"]
    max_age: int = Field(default=30, ge=0)
    """Annotated frames that a track may go unseen before it ends; 0 ends it with the first."""
    gate: float | None = Field(default=None, gt=0, le=1)
    """No object joins a track farther than this quantile of all objects' distances to their nearest object one
    annotated frame later; none allows any distance."""
    remove: tuple[Annotated[int, Field(ge=0)], ...] = (0,)
    """Numbers m of highest-variance features to leave out; the ranking is that of all chosen frames' patches."""
    pooling: Pooling = "roi-align"
    """How a box's patches become one vector."""
    min_visibility: float = Field(default=0.0, ge=0, le=1)
    """Objects that are seen less than this are left out."""
    layers: Layers = (-1,)
    """Layers to ask about: ``all`` that are stored, or numbers from 0; negative ones count from the last stored."""
    norm: Literal["final", "none"] = "final"
    """Tokens through the model's final norm, or as the block left them."""
    resamples: int = Field(default=1000, ge=0)
    """Bootstrap resamples over videos; 0 prints no intervals."""


def distances(
    first: Float64[np.ndarray, "object channel"], second: Float64[np.ndarray, "other channel"]
) -> Float64[np.ndarray, "object other"]:
    """Return Euclidean distances by direct differences."""
    return np.sqrt(np.stack([((second - one) ** 2).sum(axis=1) for one in first]))


def largest_distance(frames: Sequence[FrameObjects], kept: Bool[np.ndarray, " channel"], quantile: float) -> float:
    """Return a quantile of the distances to the nearest object one frame later; infinite without such frames."""
    nearest = [
        distances(now.vectors[:, kept], later.vectors[:, kept]).min(axis=1)
        for now, later in itertools.pairwise(frames)
        if now.video == later.video and later.frame == now.frame + 1 and len(now.tracks) and len(later.tracks)
    ]
    return float(np.quantile(np.concatenate(nearest), quantile)) if nearest else float("inf")


def associate(
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
    found = []
    for time, here in zip(times, vectors, strict=True):
        alive = {track: seen for track, seen in alive.items() if time - seen[0] <= max_age + 1}
        numbers = np.full(len(here), -1, dtype=np.int64)
        if alive and len(here):
            tracks = list(alive)
            cost = distances(np.stack([alive[track][1] for track in tracks]), here)
            allowed = cost <= limit
            # A forbidden pair costs more than all allowed ones together, so that none is taken in their place.
            forbidden = 1.0 + cost[allowed].max(initial=0.0) * (min(cost.shape) + 1)
            for row, column in zip(*linear_sum_assignment(np.where(allowed, cost, forbidden)), strict=True):
                if allowed[row, column]:
                    numbers[column] = tracks[row]
        for place in np.flatnonzero(numbers < 0):
            numbers[place] = n_tracks
            n_tracks += 1
        alive |= {int(track): (time, vector) for track, vector in zip(numbers, here, strict=True)}
        found.append(numbers)
    return found


def scores(truth: Sequence[np.ndarray], found: Sequence[Int64[np.ndarray, " _"]]) -> dict[str, float]:
    """Return trackeval's counts of one video: boxes, AssA summed over them, identity counts and switches.

    ``truth`` names the track of every object, ``found`` numbers the track it was given, frame by frame.
    """
    from trackeval.metrics import CLEAR, HOTA, Identity

    names = np.unique(np.concatenate(list(truth)).astype(str))
    tracks = [np.searchsorted(names, frame.astype(str)) for frame in truth]
    given, numbers = np.unique(np.concatenate(list(found)), return_inverse=True)
    n_boxes = len(numbers)
    data = {
        "num_timesteps": len(tracks),
        "num_gt_dets": n_boxes,
        "num_tracker_dets": n_boxes,
        "num_gt_ids": len(names),
        "num_tracker_ids": len(given),
        "gt_ids": tracks,
        "tracker_ids": [np.searchsorted(given, frame) for frame in found],
        "similarity_scores": [np.eye(len(frame)) for frame in tracks],
    }
    model: dict[str, Any] = {}
    with redirect_stdout(io.StringIO()):  # trackeval prints its settings and times
        for metric in (HOTA(), Identity({"PRINT_CONFIG": False}), CLEAR({"PRINT_CONFIG": False})):
            model |= metric.eval_sequence(data)
    # Every box meets itself with similarity 1: all of HOTA's thresholds agree.
    true, missed, false = (float(model[f"HOTA_{name}"][0]) for name in ("TP", "FN", "FP"))
    return {
        "boxes": true,
        "all_boxes": true + missed + false,
        "association": float(model["AssA"][0]) * true,
        "identity": float(model["IDTP"]),
        "identity_all": float(model["IDTP"] + 0.5 * model["IDFP"] + 0.5 * model["IDFN"]),
        "switches": float(model["IDSW"]),
    }


def asked(model: ModelSets, array: str, analysis: Association, context: Context) -> ResultKey:
    """Return what the answer depends on."""
    chosen = scored_rows(model, context.selection)
    model.objects  # noqa: B018  (says so where there are none)
    parameters = analysis.model_dump(mode="json", exclude={"kind", "layers", "norm"})
    parameters |= {"remove": sorted(set(analysis.remove)), "seed": context.seed, "frames": list(chosen.sources)}
    return ResultKey("association", REVISION, parameters, model.inputs(array))


def answer(model: ModelSets, array: str, analysis: Association, context: Context) -> Result:
    """Return the scores of all videos together for every m; videos are what is resampled."""
    chosen = scored_rows(model, context.selection)
    frames = frames_of(model, array, chosen, analysis.pooling, analysis.min_visibility)
    ranking = variance_ranking(token_variance(model, array, chosen))
    videos: dict[str, list[FrameObjects]] = {}
    for frame in frames:
        videos.setdefault(frame.video, []).append(frame)
    videos = {name: listed for name, listed in videos.items() if any(len(frame.tracks) for frame in listed)}
    rows: list[dict[str, Any]] = []
    for m in sorted(set(analysis.remove)):
        if m >= len(ranking):
            continue
        kept = without_top(ranking, m)
        limit = float("inf") if analysis.gate is None else largest_distance(frames, kept, analysis.gate)
        counted = [
            scores(
                [frame.tracks for frame in listed],
                associate(
                    [frame.vectors[:, kept] for frame in listed],
                    [frame.frame for frame in listed],
                    analysis.max_age,
                    limit,
                ),
            )
            for listed in videos.values()
        ]
        common = {"m": m, "unit": "video", "n_units": len(videos), "seed": context.seed}
        rows += [{**common, **row} for row in _rows(counted, analysis.resamples, context.seed)]
    return Result(rows)


def _rows(counted: Sequence[Mapping[str, float]], resamples: int, seed: int) -> Iterator[dict[str, Any]]:
    column = {name: np.array([video[name] for video in counted]) for name in counted[0]}
    ratios = {
        "ass_a": (column["association"], column["boxes"]),
        "det_a": (column["boxes"], column["all_boxes"]),
        "idf1": (column["identity"], column["identity_all"]),
        "id_switches": (column["switches"], np.full(len(counted), 1.0 / len(counted))),
    }
    found: dict[str, list[float | None]] = {}
    for metric, (numerator, denominator) in ratios.items():
        bounds = ratio_interval(numerator, denominator, seed=seed, resamples=resamples)
        found[metric] = [float(numerator.sum() / denominator.sum()), *bounds]
    # HOTA is the root of DetA times AssA, and DetA is 1 in every resample: bounds go through the root.
    detection = found["det_a"][0] or 0.0
    found["hota"] = [None if value is None else float(np.sqrt(value * detection)) for value in found["ass_a"]]
    for metric, (value, low, high) in found.items():
        yield {"metric": metric, "value": value, "low": low, "high": high}


def peak_bytes(model: ModelSets, array: str, analysis: Association, context: Context) -> int:
    """Return the bytes that answering holds; frames stream, and every object is one vector.

    One video's vectors are copied without their top features, and its tracks are compared at HOTA's 19 thresholds, as
    if four times as many were found as there are.
    """
    chosen = scored_rows(model, context.selection)
    objects = counted_objects(model, analysis.min_visibility)
    videos = (
        objects[objects["source"].isin(chosen.sources)].groupby("video", sort=False)["track"].agg(["size", "nunique"])
    )
    vectors = 8 * model.n_channels(array) * int(videos["size"].max()) if len(videos) else 0
    tracks = 8 * (19 + 3) * 4 * int(videos["nunique"].max()) ** 2 if len(videos) else 0
    return objects_bytes(model, array, chosen, analysis.min_visibility) + vectors + tracks


def cells(models: Sequence[ModelSets], analysis: Association, context: Context) -> Iterator[Task]:
    """Yield one answer a model and layer."""
    for model in models:
        for array in model.arrays(analysis.layers, analysis.norm):
            yield task_of(
                model,
                array,
                asked(model, array, analysis, context),
                partial(answer, model, array, analysis, context),
                f"association by {array}",
                partial(peak_bytes, model, array, analysis, context),
            )
