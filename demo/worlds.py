"""The painted worlds that experiments name as their data folder; `patchbank extract` paints those that are missing."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from demo.satellite.world import write_satellite_world
from demo.street.nuisances import ALL
from demo.street.stills import write_street_kinds, write_street_objects
from demo.street.video import write_street_video
from demo.street.world import write_street_world
from stores.errors import UserError

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
    "street-kinds": write_street_kinds,
    "street-objects": write_street_objects,
    "satellite-world": write_satellite_world,
}
"""Writes a world below a folder, by the name that experiments give the folder."""


def is_missing(folder: str, data: Path) -> bool:
    """Return whether a folder below the data root is that of a painted world and is not there, or empty."""
    world = data / folder
    return folder in WORLDS and (not world.exists() or (world.is_dir() and not any(world.iterdir())))


def paint(folder: str, data: Path) -> None:
    """Paint a world below the data root, unless another process has meanwhile.

    A run that is killed leaves ``FOLDER.partial``, which the next one replaces. Of several at a time one paints and the
    others wait.

    Args:
        folder: Name in `WORLDS`.
        data: The data root.

    Raises UserError where the data root cannot be written.
    """
    partial = data / f"{folder}.partial"
    try:
        partial.mkdir(parents=True, exist_ok=True)
        with _locked(partial):
            if not is_missing(folder, data):
                if partial.exists():  # made after the other process had renamed its own
                    partial.rmdir()
                return
            for left in partial.iterdir():
                shutil.rmtree(left)
            WORLDS[folder](partial)
            partial.rename(data / folder)
    except OSError as error:
        raise UserError(
            f"cannot paint {folder} below {data}: {error.strerror or error}: set --data or PATCHBANK_DATA to a folder "
            "that can be written and has free space"
        ) from error


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder alone; the lock stays with it when it is renamed, and ends with the process."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        # Without locks, as on some network file systems, one of two painters fails with a sentence.
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
