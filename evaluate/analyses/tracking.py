"""Tracking by retrieval: is an object found again some frames later? Paper A, section 3.4 (experiments A-16, A-17).

Every annotated object of a frame is one vector (`evaluate.inputs.objects`). For a gap g, each object of frame t whose
track also exists in frame t + g is a query; the candidates are all objects of frame t + g; the nearest by Euclidean
distance (float64, ties to the first) is retrieved. Gaps count annotated frames; seconds are those of the annotation.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64
from pydantic import Field

from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.objects import Pooling, boxes_in_plane, frame_rows, patch_map, pooled
from evaluate.inputs.patches import token_variance
from evaluate.inputs.rows import RowSelection, scored_rows
from evaluate.kernels.bootstrap import quantiles, resampled_ratio
from evaluate.kernels.memory import n_patches, reading_bytes
from evaluate.kernels.moments import variance_ranking, without_top
from evaluate.results.draws import DRAWS, BootstrapDraws, result_of, units_of
from evaluate.results.table import Result, ResultKey
from evaluate.settings import Context, Layers, Settings
from evaluate.task import Task, task_of
from stores.errors import UserError

REVISION = 3
"""Raised when the same inputs and parameters give other numbers."""

OBJECT_BYTES = 1024
"""What is known of one object beside its vector, and of what became of it as a query."""


class Tracking(Settings):
    """Share of objects whose nearest object some frames later is the same one (paper A, Fig. 7)."""

    kind: Literal["tracking"]
    gaps: tuple[Annotated[int, Field(ge=1)], ...] = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50)
    """Distances between the two frames, in annotated frames."""
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


@dataclass(frozen=True)
class FrameObjects:
    """The objects of one frame that count."""

    video: str
    frame: int
    """Number in its video, counted in the steps in which the data set's frames follow each other."""
    seconds: float
    tracks: np.ndarray
    categories: np.ndarray
    vectors: Float64[np.ndarray, "object channel"]


@dataclass(frozen=True)
class Hits:
    """What became of the queries of one gap; one entry a query."""

    video: np.ndarray
    same_track: Bool[np.ndarray, " query"]
    same_category: Bool[np.ndarray, " query"]
    vanished: Bool[np.ndarray, " query"]
    """Whether the track does not exist in the later frame, so that nothing right could be found."""
    chance: Float64[np.ndarray, " query"]
    """One over the number of candidates."""
    seconds: Float64[np.ndarray, " query"]


def counted_objects(model: ModelSets, min_visibility: float) -> pd.DataFrame:
    """Return the lines of the object table that count: tracked, not to be ignored, and visible enough."""
    objects = model.objects
    objects = objects[~objects["ignore"].astype(bool) & (objects["visibility"] >= min_visibility)]
    return objects[objects["track"] != ""]


def objects_bytes(model: ModelSets, array: str, chosen: RowSelection, min_visibility: float) -> int:
    """Return the bytes that following objects holds: one frame's patches, all objects' vectors, one pair of frames."""
    objects = counted_objects(model, min_visibility)
    in_frame = objects[objects["source"].isin(chosen.sources)].groupby("source", sort=False).size()
    total, most = int(in_frame.sum()), int(in_frame.max()) if len(in_frame) else 0
    n_tiles = int(model.samples["source"].iloc[chosen.rows].value_counts(sort=False).max())
    n_channels = model.n_channels(array)
    frame = 5 * 4 * n_channels * n_patches(model, array, n_tiles)  # stored, as float32, stitched, and for ROIAlign
    return reading_bytes(model, array) + frame + 8 * n_channels * (total + 3 * most**2) + OBJECT_BYTES * total


def _step(numbers: np.ndarray) -> int:
    """Return how far apart the frames of one video are numbered: 1, or more where only every so many are there."""
    return int(np.gcd.reduce(np.diff(np.sort(numbers)))) or 1


def frames_of(
    model: ModelSets, array: str, chosen: RowSelection, pooling: Pooling, min_visibility: float
) -> list[FrameObjects]:
    """Return the chosen frames with their objects' vectors over all features, by video and frame.

    Raises UserError when no chosen frame is part of a video or no object is left.
    """
    objects = counted_objects(model, min_visibility)
    by_source = dict(tuple(objects.groupby("source", sort=False)))
    sources = model.samples.drop_duplicates("source").set_index("source")[["video", "frame", "seconds"]]
    facts: dict[Any, dict[str, Any]] = sources.to_dict("index")  # type: ignore[assignment]
    steps = {video: _step(numbers.to_numpy()) for video, numbers in sources.groupby("video")["frame"]}
    found: list[FrameObjects] = []
    for source, rows in frame_rows(model, chosen).items():
        fact = facts[source]
        if not fact["video"] or source not in by_source:
            continue
        here = by_source[source]
        whole = patch_map(model, array, rows)
        vectors, seen = pooled(whole, boxes_in_plane(here, whole.scale), pooling)
        found.append(
            FrameObjects(
                video=str(fact["video"]),
                frame=int(fact["frame"]) // steps[fact["video"]],
                seconds=float(fact["seconds"]),
                tracks=here["track"].to_numpy()[seen],
                categories=here["category"].to_numpy()[seen],
                vectors=vectors[seen],
            )
        )
    if not any(len(frame.tracks) for frame in found):
        raise UserError(
            f"no chosen image of {model.label_spec.dataset.name} is a frame with tracked objects: "
            "check [selection], or lower min_visibility"
        )
    return sorted(found, key=lambda frame: (frame.video, frame.frame))


def retrieve(frames: Sequence[FrameObjects], gap: int, kept: Bool[np.ndarray, " channel"]) -> Hits:
    """Return what the nearest object ``gap`` annotated frames later is, for every object.

    Frames are told by their numbers: one that was not chosen, or shows no object, brings no later one nearer.
    """
    entries: list[tuple[str, bool, bool, bool, float, float]] = []
    for video in dict.fromkeys(frame.video for frame in frames):
        of_video = {frame.frame: frame for frame in frames if frame.video == video}
        for now in of_video.values():
            later = of_video.get(now.frame + gap)
            if later is None or not len(now.tracks) or not len(later.tracks):
                continue
            differences = now.vectors[:, None, kept] - later.vectors[None][:, :, kept]
            nearest = (differences**2).sum(axis=2).argmin(axis=1)
            for query, hit in enumerate(nearest):
                entries.append(
                    (
                        video,
                        bool(later.tracks[hit] == now.tracks[query]),
                        bool(later.categories[hit] == now.categories[query]),
                        bool(now.tracks[query] not in later.tracks),
                        1.0 / len(later.tracks),
                        later.seconds - now.seconds,
                    )
                )
    columns = list(zip(*entries, strict=True)) if entries else [()] * 6
    return Hits(
        video=np.array(columns[0], dtype=object),
        same_track=np.array(columns[1], dtype=np.bool_),
        same_category=np.array(columns[2], dtype=np.bool_),
        vanished=np.array(columns[3], dtype=np.bool_),
        chance=np.array(columns[4], dtype=np.float64),
        seconds=np.array(columns[5], dtype=np.float64),
    )


def asked(model: ModelSets, array: str, analysis: Tracking, context: Context) -> ResultKey:
    """Return what the answer depends on."""
    chosen = scored_rows(model, context.selection)
    model.objects  # noqa: B018  (says so where there are none)
    return ResultKey(
        "tracking",
        REVISION,
        {
            "gaps": sorted(set(analysis.gaps)),
            "remove": sorted(set(analysis.remove)),
            "pooling": analysis.pooling,
            "min_visibility": analysis.min_visibility,
            "resamples": analysis.resamples,
            "seed": context.seed,
            "frames": list(chosen.sources),
        },
        model.inputs(array),
    )


def answer(model: ModelSets, array: str, analysis: Tracking, context: Context) -> Result:
    """Return, for every m and gap, the shares of right objects and of right categories, and chance."""
    chosen = scored_rows(model, context.selection)
    frames = frames_of(model, array, chosen, analysis.pooling, analysis.min_visibility)
    ranking = variance_ranking(token_variance(model, array, chosen))
    rows: list[dict[str, Any]] = []
    for m in sorted(set(analysis.remove)):
        if m >= len(ranking):
            continue
        kept = without_top(ranking, m)
        for gap in sorted(set(analysis.gaps)):
            hits = retrieve(frames, gap, kept)
            cell = {"classifier": "knn", "k": 1, "m": m, "x_name": "gap", "x_value": float(gap), "seed": context.seed}
            rows += _rows(hits, cell, analysis.resamples, context.seed)
    if not rows:
        raise UserError(f"no video has two frames that are {min(analysis.gaps)} apart: lower gaps")
    return result_of(rows, ("instance_accuracy",))


def _rows(hits: Hits, cell: dict[str, Any], resamples: int, seed: int) -> list[dict[str, Any]]:
    if not len(hits.video):
        return []
    present = ~hits.vanished
    failed = present & ~hits.same_track
    measures = {
        "instance_accuracy": (hits.same_track, present),
        "instance_accuracy_all": (hits.same_track, np.ones_like(present)),
        "category_accuracy": (hits.same_category, present),
        "category_accuracy_on_failure": (hits.same_category, failed),
        "chance": (hits.chance, present),
        "gap_seconds": (hits.seconds, present),
    }
    videos = list(dict.fromkeys(hits.video))
    units = units_of([str(video) for video in videos], seed, resamples)
    unit = np.array([videos.index(video) for video in hits.video])
    rows = []
    for metric, (values, counted) in measures.items():
        if not counted.any():
            continue
        numerator = np.bincount(unit[counted], values[counted].astype(np.float64), len(videos))
        denominator = np.bincount(unit[counted], minlength=len(videos)).astype(np.float64)
        value = float(numerator.sum() / denominator.sum())
        drawn = resampled_ratio(numerator, denominator, seed=seed, resamples=resamples)
        low, high = quantiles(drawn)
        rows.append(
            {
                **cell,
                "metric": metric,
                "value": None if np.isnan(value) else value,
                "low": low,
                "high": high,
                "unit": "video",
                "n_units": len(videos),
                DRAWS: None if drawn is None else BootstrapDraws(drawn, units),
            }
        )
    return rows


def peak_bytes(model: ModelSets, array: str, analysis: Tracking, context: Context) -> int:
    """Return the bytes that answering holds; frames stream, and every object is one vector."""
    return objects_bytes(model, array, scored_rows(model, context.selection), analysis.min_visibility)


def cells(models: Sequence[ModelSets], analysis: Tracking, context: Context) -> Iterator[Task]:
    """Yield one answer a model and layer."""
    for model in models:
        for array in model.arrays(analysis.layers, analysis.norm):
            yield task_of(
                model,
                array,
                asked(model, array, analysis, context),
                partial(answer, model, array, analysis, context),
                f"tracking by {array}",
                partial(peak_bytes, model, array, analysis, context),
            )
