"""Objects of video frames as vectors, and the base of the tasks that follow them from frame to frame."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, TypeVar

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from evaluate.inputs.memory import n_patches, reading_bytes
from evaluate.inputs.objects import boxes_in_map, check_one_lattice, frame_rows, patch_map, pooled
from evaluate.inputs.patches import row_moments, token_variance
from evaluate.inputs.rows import RowSelection
from evaluate.inputs.work import Work, reading, treating
from evaluate.kernels.moments import Moments, variance_ranking
from evaluate.scoring.tokens.streamed import fit_on_tokens, fitting_bytes
from evaluate.settings import ObjectSettings
from evaluate.task import ModelTask
from stores.errors import UserError

OBJECT_BYTES = 1024
"""What is known of one object beside its vector (its box too), and of its outcome as a query."""

S = TypeVar("S", bound=ObjectSettings)


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
    boxes: Float64[np.ndarray, "object 4"]
    """Left, top, right, bottom in pixels of the patch map, as annotated: not clipped."""


@dataclass(frozen=True, eq=False)
class ObjectTask(ModelTask[S]):
    """A task about the annotated objects of video frames."""

    trains = False
    key_settings: ClassVar[tuple[str, ...]] = ("pooling", "min_visibility", "resamples")
    key_counts: ClassVar[tuple[str, ...]] = ("remove",)
    key_rows = ("frames",)

    @property
    def frames(self) -> RowSelection:
        """Rows of the frames."""
        return self.split.scored

    @cached_property
    def objects(self) -> pd.DataFrame:
        """The lines of the object table that count: tracked, not to be ignored, and visible enough."""
        objects = self.model.objects
        seen = ~objects["ignore"].astype(bool) & (objects["visibility"] >= self.settings.min_visibility)
        return objects[seen & (objects["track"] != "")]

    def check(self) -> None:
        """Raise UserError for data without objects, and for tiles that overlap."""
        self.model.objects  # noqa: B018  (raises)
        check_one_lattice(self.model, self.frames.rows)

    def ranking(self) -> Int64[np.ndarray, " channel"]:
        """Return the features by decreasing variance over the patches of all frames; treated ones in their order."""
        if self.treatment is not None:
            return np.arange(self.treatment.n_features(self.n_channels))
        return variance_ranking(token_variance(self.model, self.array, self.frames))

    def read_frames(self) -> list[FrameObjects]:
        """Read the frames with their objects' vectors over all features, by video and frame.

        Vectors are means of patches: a treatment, fitted on the patches of all frames, does the same to both.
        Raises UserError when no selected image is a frame of a video or no object is left.
        """
        by_source = dict(tuple(self.objects.groupby("source", sort=False)))
        sources = self.model.samples.drop_duplicates("source").set_index("source")[["video", "frame", "seconds"]]
        facts: dict[Any, dict[str, Any]] = sources.to_dict("index")  # type: ignore[assignment]
        steps = {video: _step(numbers.to_numpy()) for video, numbers in sources.groupby("video")["frame"]}
        frames: list[FrameObjects] = []
        for source, rows in frame_rows(self.model, self.frames).items():
            fact = facts[source]
            if not fact["video"] or source not in by_source:
                continue
            objects = by_source[source]
            whole = patch_map(self.model, self.array, rows)
            boxes = boxes_in_map(objects, whole)
            vectors, seen = pooled(whole, boxes, self.settings.pooling)
            frames.append(
                FrameObjects(
                    video=str(fact["video"]),
                    frame=int(fact["frame"]) // steps[fact["video"]],
                    seconds=float(fact["seconds"]),
                    tracks=objects["track"].to_numpy()[seen],
                    categories=objects["category"].to_numpy()[seen],
                    vectors=vectors[seen],
                    boxes=boxes[seen],
                )
            )
        if not any(len(frame.tracks) for frame in frames):
            raise UserError(
                f"no chosen image of {self.model.label_spec.dataset.name} is a frame with tracked objects: "
                "check [selection], or lower min_visibility"
            )
        if self.treatment is not None:
            mean = Moments.merged(row_moments(self.model, self.array, self.frames)).mean
            treated = fit_on_tokens(self.model, self.array, self.frames, mean, self.treatment, self.context.seed)
            frames = [replace(frame, vectors=treated.apply(frame.vectors)) for frame in frames]
        return sorted(frames, key=lambda frame: (frame.video, frame.frame))

    def fitting(self) -> Work:
        """Estimate the operations of a treatment: the patches are read twice; none without one."""
        tokens = float(n_patches(self.model, self.array, len(self.frames.rows)))
        read = reading(self.model, self.array, len(self.frames.rows)) if self.treatment is not None else Work()
        return read + treating(self.treatment, tokens, float(len(self.objects)), self.n_channels)

    def peak_bytes(self) -> int:
        """Estimate peak memory: one frame's patches, the vectors of all objects, and one pair of frames."""
        in_frame = self.objects[self.objects["source"].isin(self.frames.sources)].groupby("source", sort=False).size()
        total, most = int(in_frame.sum()), int(in_frame.max()) if len(in_frame) else 0
        n_tiles = int(self.model.samples["source"].iloc[self.frames.rows].value_counts(sort=False).max())
        patches = n_patches(self.model, self.array, n_tiles)
        frame = 5 * 4 * self.n_channels * patches  # stored, as float32, stitched, and for ROIAlign
        vectors = 8 * self.n_channels * (total + 3 * most**2)
        held = vectors + OBJECT_BYTES * total
        if self.treatment is None:
            return reading_bytes(self.model, self.array) + frame + held
        # The treatment is fitted after frames are read; then each frame's vectors are there before and after.
        fitting = fitting_bytes(self.model, self.array, self.treatment)
        treated = 8 * self.n_channels * (total + 3 * most)
        return max(reading_bytes(self.model, self.array) + frame, fitting) + held + treated


def by_video(frames: Iterable[FrameObjects]) -> dict[str, list[FrameObjects]]:
    """Return the frames of every video, in their order."""
    videos: dict[str, list[FrameObjects]] = {}
    for frame in frames:
        videos.setdefault(frame.video, []).append(frame)
    return videos


def _step(numbers: np.ndarray) -> int:
    """Return the step in which the frames of one video are numbered: 1, or more where frames are left out evenly."""
    return int(np.gcd.reduce(np.diff(np.sort(numbers)))) or 1
