"""Writes painted street videos in the layout of MOT17, with exact boxes of people and vehicles.

A box is the amodal box clipped to the picture: the smallest box around the pixels that the instance would cover
without occlusion. Its visibility is the visible share of these pixels. An instance is listed in a frame when at least
``LEAST_PIXELS`` of its pixels are visible.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8, UInt16

from demo.painting.canvas import Extent
from demo.painting.files import save_jpeg, save_picture
from demo.painting.noise import generator_of
from demo.street.canvas import Canvas
from demo.street.placing import draw_street
from demo.street.scenery import sky_picture
from demo.street.street import Street, paint_street
from demo.street.style import draw_style

FRAMES_PER_SECOND = 15
LEAST_PIXELS = 16
"""Visible pixels below which an instance is not listed in a frame."""

SEQUENCES: Mapping[str, int] = {"street-01": 60, "street-02": 60, "street-03": 60, "street-04": 60}
"""Number of frames by sequence name."""

CLASS_IDS: Mapping[str, int] = {
    "person": 1,
    "rider": 2,
    "car": 3,
    "truck": 3,
    "bus": 3,
    "bicycle": 4,
    "motorcycle": 5,
}
"""MOT17's class numbers by Cityscapes label name; MOT17 has no class for buses and trucks but "car"."""
STATIC_PERSON = 7
"""MOT17's class number for people who do not walk."""


@dataclass(frozen=True)
class Box:
    """One line of the ground truth."""

    track: int
    """Instance number, the same in all frames of a sequence."""
    class_id: int
    extent: Extent
    """Amodal and clipped to the picture."""
    visible_pixels: int

    @property
    def visibility(self) -> float:
        """Visible share of the instance's pixels, 0..1."""
        return self.visible_pixels / self.extent.pixels


@dataclass(frozen=True)
class Frame:
    """One painted frame with its ground truth."""

    picture: UInt8[np.ndarray, "height width 3"]
    labels: UInt8[np.ndarray, "height width"]
    """Cityscapes labelIds."""
    instances: UInt16[np.ndarray, "height width"]
    """Instance numbers; 0 where there is scenery."""
    boxes: tuple[Box, ...]
    """By instance number."""


class StreetVideo:
    """One sequence; any frame can be painted without those before it."""

    def __init__(self, name: str, frames: int, size: tuple[int, int] = (360, 640), seed: int = 0) -> None:
        """Choose the street of a sequence at random; ``size`` is (height, width) in pixels."""
        self.name = name
        self.frames = frames
        self.height, self.width = size
        self._key = (seed, "video", name)
        generator = generator_of(*self._key)
        self.style = draw_style(generator, generator)
        # Half of the cameras stand still, as in MOT17.
        speed = generator.uniform(3, 8) if generator.random() < 0.5 else 0.0
        self.exposure = generator.uniform(0.95, 1.1)
        seconds = frames / FRAMES_PER_SECOND
        self.street: Street = draw_street(self.style, self.height, self.width, generator, speed, max(seconds, 0.1))

    @cached_property
    def _sky(self) -> Float32[np.ndarray, "height width 3"]:
        generator = generator_of(*self._key, "sky")
        return sky_picture(self.height, self.width, self.street.camera.horizon, self.style, generator)

    @cached_property
    def class_ids(self) -> Mapping[int, int]:
        """MOT17 class number by instance number."""
        return class_ids_of(self.street)

    def frame(self, number: int) -> Frame:
        """Paint one frame, counted from 0; it depends on the seed, the names and its number alone."""
        canvas = Canvas(self.height, self.width, self.style.horizon, generator_of(*self._key, "canvas"))
        paint_street(canvas, self.street, self._sky, number / FRAMES_PER_SECOND)
        red, green, blue = (part * self.exposure for part in self.style.light.tint)
        picture = canvas.developed(generator_of(*self._key, "noise", number), (red, green, blue))
        return Frame(picture, canvas.labels, canvas.instances, boxes_of(canvas, self.class_ids))


def boxes_of(canvas: Canvas, class_ids: Mapping[int, int]) -> tuple[Box, ...]:
    """Return the boxes of a painted canvas by instance number, from the class number of every instance."""
    visible = np.bincount(canvas.instances.ravel())
    boxes = []
    for track in np.flatnonzero(visible >= LEAST_PIXELS).tolist():
        extent = canvas.whole(track)
        if extent is not None:  # instance 0 is the scenery
            boxes.append(Box(track, class_ids[track], extent, int(visible[track])))
    return tuple(boxes)


def class_ids_of(street: Street) -> dict[int, int]:
    """Return the MOT17 class number of every instance on a street."""
    return {
        number: STATIC_PERSON if name == "person" and not (thing.along or thing.across) else CLASS_IDS[name]
        for thing in street.things
        for name, number in thing.instances.items()
    }


def write_street_video(
    root: Path,
    *,
    sequences: Mapping[str, int] = SEQUENCES,
    size: tuple[int, int] = (360, 640),
    seed: int = 0,
    suffix: str = ".jpg",
) -> None:
    """Write street videos below ``root`` in the layout of MOT17.

    Each sequence has ``img1/000001.jpg`` and on, ``gt/gt.txt`` (frame, track, left, top, width, height, flag, class,
    visibility; 1-based, flag always 1) and ``seqinfo.ini``. The bytes of a JPEG depend on the library
    version; with ``suffix=".png"`` equal arguments give equal pixels everywhere. Existing files of the same names are
    replaced. Layout: MOTChallenge, arXiv 1603.00831, and TrackEval's docs/MOTChallenge-format.txt.

    Args:
        root: Folder to write to.
        sequences: Number of frames by sequence name.
        size: Height and width in pixels.
        seed: Seed of the world.
        suffix: .jpg or .png.
    """
    save = {".jpg": save_jpeg, ".png": save_picture}[suffix]
    for name, frames in sequences.items():
        video = StreetVideo(name, frames, size, seed)
        images, truth = root / name / "img1", root / name / "gt"
        images.mkdir(parents=True, exist_ok=True)
        truth.mkdir(parents=True, exist_ok=True)
        lines = []
        for number in range(frames):
            frame = video.frame(number)
            save(images / f"{number + 1:06}{suffix}", frame.picture)
            lines += [box_line(number + 1, box) for box in frame.boxes]
        (truth / "gt.txt").write_text("".join(lines), encoding="ascii", newline="\n")
        card = sequence_card(name, frames, size, suffix)
        (root / name / "seqinfo.ini").write_text(card, encoding="ascii", newline="\n")


def box_line(frame: int, box: Box) -> str:
    """Return the line of gt.txt of a box in a frame, counted from 1."""
    extent = box.extent
    width, height = extent.right - extent.left, extent.bottom - extent.top
    place = f"{extent.left + 1},{extent.top + 1},{width},{height}"
    return f"{frame},{box.track},{place},1,{box.class_id},{box.visibility:.6g}\n"


def sequence_card(name: str, frames: int, size: tuple[int, int], suffix: str) -> str:
    """Return the text of seqinfo.ini.

    Args:
        name: Name of the sequence.
        frames: Number of frames.
        size: Height and width in pixels.
        suffix: .jpg or .png.
    """
    height, width = size
    return (
        f"[Sequence]\nname={name}\nimDir=img1\nframeRate={FRAMES_PER_SECOND}\nseqLength={frames}\n"
        f"imWidth={width}\nimHeight={height}\nimExt={suffix}\n"
    )
