"""The painted worlds that experiments name as their data folder; `patchbank extract` paints those that are missing."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from demo.satellite.world import write_satellite_world
from demo.street.nuisances import ALL
from demo.street.video import write_street_video
from demo.street.world import write_street_world

NUISANCE_IMAGES: Mapping[str, Mapping[str, int]] = {
    "train": {"aurora": 12, "boreal": 12, "cinder": 12, "dune": 12},
    "val": {"ember": 10, "fjord": 10, "grove": 10, "heath": 10, "isle": 10, "jetty": 10},
}
"""Number of images of the world with nuisances by split and city; no backbone was trained on these cities."""
VIDEOS: Mapping[str, int] = {f"MOT17-{number:02}-FRCNN": 24 for number in range(1, 13)}
"""Number of frames of every street video."""


def _nuisances(root: Path) -> None:
    write_street_world(root, images_per_city=NUISANCE_IMAGES, nuisances=ALL)


def _videos(root: Path) -> None:
    write_street_video(root / "train", sequences=VIDEOS)


WORLDS: Mapping[str, Callable[[Path], object]] = {
    "street-world": write_street_world,
    "street-nuisances": _nuisances,
    "street-videos": _videos,
    "satellite-world": write_satellite_world,
}
"""Writes a world below a folder, by the name that experiments give the folder."""


def is_missing(folder: str, data: Path) -> bool:
    """Return whether a folder below the data root is that of a painted world and is not there."""
    return folder in WORLDS and not (data / folder).exists()


def paint(folder: str, data: Path) -> None:
    """Paint a world below the data root; a run that is killed leaves ``FOLDER.partial``, which the next one replaces.

    Args:
        folder: Name in `WORLDS`.
        data: The data root.
    """
    partial = data / f"{folder}.partial"
    if partial.exists():
        shutil.rmtree(partial)
    WORLDS[folder](partial)
    partial.rename(data / folder)
