"""Tracking by retrieval: is an object found again some frames later? Paper A, section 3.4 (experiments A-16, A-17).

Every annotated object of a frame is one vector (`evaluate.inputs.objects`). For a gap g, each object of frame t whose
track also exists in frame t + g is a query; the candidates are all objects of frame t + g; the nearest by Euclidean
distance (float64, ties to the first) is retrieved. Gaps count annotated frames; seconds are those of the annotation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64
from pydantic import Field

from evaluate.inputs.memory import n_patches, reading_bytes
from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.objects import Pooling, boxes_in_plane, frame_rows, patch_map, pooled
from evaluate.inputs.patches import token_variance
from evaluate.inputs.rows import RowSelection
from evaluate.kernels.moments import variance_ranking, without_top
from evaluate.results.draws import result_of
from evaluate.results.table import Result
from evaluate.settings import (
    BootstrapSettings,
    LayerSettings,
    RemovalSettings,
)
from evaluate.task import ModelTask
from stores.errors import UserError

OBJECT_BYTES = 1024
"""What is known of one object beside its vector, and of what became of it as a query."""


class Tracking(LayerSettings, RemovalSettings, BootstrapSettings):
    """Share of objects whose nearest object some frames later is the same one (paper A, Fig. 7)."""

    kind: Literal["tracking"]
    gaps: tuple[Annotated[int, Field(ge=1)], ...] = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50)
    """Distances between the two frames, in annotated frames."""
    pooling: Pooling = "roi-align"
    """How a box's patches become one vector."""
    min_visibility: float = Field(default=0.0, ge=0, le=1)
    """Objects that are seen less than this are left out."""


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


@dataclass(frozen=True, eq=False)
class TrackingTask(ModelTask[Tracking]):
    """Shares of right objects and right categories, and chance, for every m and gap."""

    analysis: ClassVar[str] = "tracking"
    revision: ClassVar[int] = 4

    @property
    def description(self) -> str:
        """The array."""
        return f"tracking by {self.array}"

    def check(self) -> None:
        """Raise UserError for data without objects."""
        self.model.objects  # noqa: B018  (raises)

    def parameters(self) -> dict[str, Any]:
        """Return gaps, removed features, pooling and frames."""
        return {
            "gaps": sorted(set(self.settings.gaps)),
            "remove": sorted(set(self.settings.remove)),
            "pooling": self.settings.pooling,
            "min_visibility": self.settings.min_visibility,
            "resamples": self.settings.resamples,
            "seed": self.context.seed,
            "frames": list(self.split.scored.sources),
        }

    @property
    def columns(self) -> dict[str, Any]:
        """The shared columns, with the gap as x."""
        return {**super().columns, "classifier": "knn", "distance": "euclidean", "k": 1, "x_name": "gap"}

    def compute(self) -> Result:
        """Return one row a gap, m and metric; videos are resampled."""
        settings = self.settings
        frames = frames_of(self.model, self.array, self.split.scored, settings.pooling, settings.min_visibility)
        ranking = variance_ranking(token_variance(self.model, self.array, self.split.scored))
        rows: list[dict[str, Any]] = []
        for m in self.removed:
            kept = without_top(ranking, m)
            for gap in sorted(set(settings.gaps)):
                rows += self._rows(retrieve(frames, gap, kept), {"m": m, "x_value": float(gap)})
        if not rows:
            raise UserError(f"no video has two frames that are {min(settings.gaps)} apart: lower gaps")
        return result_of(rows, ("instance_accuracy",))

    def _rows(self, hits: Hits, columns: dict[str, Any]) -> list[dict[str, Any]]:
        if not len(hits.video):
            return []
        present = ~hits.vanished
        measures = {
            "instance_accuracy": (hits.same_track, present),
            "instance_accuracy_all": (hits.same_track, np.ones_like(present)),
            "category_accuracy": (hits.same_category, present),
            "category_accuracy_on_failure": (hits.same_category, present & ~hits.same_track),
            "chance": (hits.chance, present),
            "gap_seconds": (hits.seconds, present),
        }
        videos = list(dict.fromkeys(hits.video))
        bootstrap = self.bootstrap([str(video) for video in videos], "video")
        unit = np.array([videos.index(video) for video in hits.video])
        rows = []
        for metric, (values, counted) in measures.items():
            if not counted.any():
                continue
            numerator = np.bincount(unit[counted], values[counted].astype(np.float64), len(videos))
            denominator = np.bincount(unit[counted], minlength=len(videos)).astype(np.float64)
            draws = bootstrap.ratio(numerator, denominator)
            rows.append(bootstrap.row(metric, float(numerator.sum() / denominator.sum()), draws, **columns))
        return rows

    def peak_bytes(self) -> int:
        """Estimate peak memory: frames stream, and every object is one vector."""
        return objects_bytes(self.model, self.array, self.split.scored, self.settings.min_visibility)
