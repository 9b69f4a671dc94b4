"""Tracking by retrieval: whether an object is found again some frames later (paper A, section 3.4, A-16 and A-17).

Every annotated object of a frame is one vector (`evaluate.inputs.objects`). For a gap g, each object of frame t whose
track also exists in frame t + g is a query; the candidates are all objects of frame t + g; the nearest by Euclidean
distance (float64, ties to the first) is retrieved. Gaps count annotated frames; seconds are those of the annotation.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool
from pydantic import Field

from evaluate.inputs.work import CALL, Work, ranking, reading
from evaluate.kernels.moments import without_top
from evaluate.results import metrics
from evaluate.results.table import Result
from evaluate.scoring.frame_objects import FrameObjects, ObjectTask, by_video
from evaluate.settings import ObjectSettings
from stores.errors import UserError


class Tracking(ObjectSettings):
    """Share of objects whose nearest object some frames later is the same one (paper A, Fig. 7)."""

    kind: Literal["tracking"]
    gaps: tuple[Annotated[int, Field(ge=1)], ...] = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50)
    """Distances between the two frames, in annotated frames."""


def retrieve(frames: Sequence[FrameObjects], gap: int, kept: Bool[np.ndarray, " channel"]) -> pd.DataFrame:
    """Return one line an object, with what the nearest object ``gap`` annotated frames later is.

    Columns are ``video``, whether the track and the category are the same, whether the track has ``vanished`` in the
    later frame (so that nothing right can be retrieved), ``chance`` (one over the number of candidates) and ``seconds``
    between the frames. A frame that was not selected, or shows no object, does not bring later ones nearer.
    """
    hits: list[tuple[str, bool, bool, bool, float, float]] = []
    for video, of_video in by_video(frames).items():
        numbered = {frame.frame: frame for frame in of_video}
        for now in of_video:
            later = numbered.get(now.frame + gap)
            if later is None or not len(now.tracks) or not len(later.tracks):
                continue
            differences = now.vectors[:, None, kept] - later.vectors[None][:, :, kept]
            nearest = (differences**2).sum(axis=2).argmin(axis=1)
            for query, hit in enumerate(nearest):
                same_track = bool(later.tracks[hit] == now.tracks[query])
                same_category = bool(later.categories[hit] == now.categories[query])
                vanished = bool(now.tracks[query] not in later.tracks)
                seconds = later.seconds - now.seconds
                hits.append((video, same_track, same_category, vanished, 1.0 / len(later.tracks), seconds))
    return pd.DataFrame(hits, columns=["video", "same_track", "same_category", "vanished", "chance", "seconds"])


@dataclass(frozen=True, eq=False)
class TrackingTask(ObjectTask[Tracking]):
    """Shares of right objects and right categories, and chance, for every m and gap."""

    analysis = "tracking"
    revision = 4
    by_removal = True
    compared = (metrics.INSTANCE_ACCURACY,)
    what = "tracking by {task.array}"
    key_counts = ("remove", "gaps")
    fixed_columns: ClassVar[Mapping[str, Any]] = {"classifier": "knn", "distance": "euclidean", "k": 1, "x_name": "gap"}

    def compute(self) -> Result:
        """Return one row a gap, m and metric; videos are resampled."""
        frames, ranking = self.read_frames(), self.ranking()
        rows: list[dict[str, Any]] = []
        for m in self.removed:
            kept = without_top(ranking, m)
            for gap in sorted(set(self.settings.gaps)):
                rows += self._rows(retrieve(frames, gap, kept), {"m": m, "x_value": float(gap)})
        if not rows:
            raise UserError(f"no video has two frames that are {min(self.settings.gaps)} apart: lower gaps")
        return Result(rows)

    def work(self) -> Work:
        """Estimate the operations: frames are read twice, and all pairs of objects of two frames are compared."""
        in_frame = self.objects[self.objects["source"].isin(self.frames.sources)].groupby("source", sort=False).size()
        n_pairs = len(self.removed) * len(set(self.settings.gaps))
        compared = Work(passes=6.0 * self.n_channels * float((in_frame**2).sum()) + CALL * len(in_frame))
        n_rows = len(self.frames.rows)
        read = ranking(self.model, self.array, n_rows) + reading(self.model, self.array, 2 * n_rows)
        return read + self.fitting() + Work(passes=10 * CALL * len(in_frame)) + compared * n_pairs

    def _rows(self, hits: pd.DataFrame, columns: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if hits.empty:
            return
        present = ~hits["vanished"]
        measures = {
            metrics.INSTANCE_ACCURACY: ("same_track", present),
            metrics.INSTANCE_ACCURACY_ALL: ("same_track", present | True),
            metrics.CATEGORY_ACCURACY: ("same_category", present),
            metrics.CATEGORY_ACCURACY_ON_FAILURE: ("same_category", present & ~hits["same_track"]),
            metrics.CHANCE: ("chance", present),
            metrics.GAP_SECONDS: ("seconds", present),
        }
        unit, videos = pd.factorize(hits["video"])
        bootstrap = self.bootstrap([str(video) for video in videos], "video")
        for metric, (column, counted) in measures.items():
            if not counted.any():
                continue
            numerator = np.bincount(unit[counted], hits[column][counted].astype(np.float64), len(videos))
            denominator = np.bincount(unit[counted], minlength=len(videos)).astype(np.float64)
            draws = bootstrap.ratio(numerator, denominator)
            yield bootstrap.row(metric, float(numerator.sum() / denominator.sum()), draws, **columns)
