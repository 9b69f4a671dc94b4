"""Reads scene data sets: one folder per known class, splits in lists of file names."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from pipeline.datasets.contract import Source
from pipeline.datasets.reading.files import is_file, read_lines
from pipeline.datasets.reading.folders import (
    image_folders,
    image_names,
    inside,
    require_folder,
    subfolders,
    unread_notes,
)
from pipeline.datasets.reading.images import image_size
from stores.errors import MissingError, UserError
from stores.specs import Size

UNLISTED = "unlisted"
"""Split of images that no list names, if there are lists."""


def scene_sources(root: Path, folder: Path, ids: Mapping[str, int], splits: Mapping[str, str] | str) -> list[Source]:
    """Return the images of all class folders, each with its class id; groups are classes.

    Raises UserError for a folder that is not a class, MissingError when there is no image.

    Args:
        root: The data set's root, which no path may leave.
        folder: Folder with one folder per class.
        ids: Class id by folder name.
        splits: One split for all, or the split by file stem; if empty, all are in the split "all".
    """
    sources = []
    for class_folder in subfolders(require_folder(folder, "it should hold one folder a class")):
        if class_folder.name not in ids:
            raise UserError(f"{class_folder} is none of the {len(ids)} classes; remove the folder or correct its name")
        sources += [
            Source(
                name,
                root,
                label=None,
                group=class_folder.name,
                split=_split(name, splits),
                image_class=ids[class_folder.name],
            )
            for name in image_names(root, class_folder)
        ]
    if not sources:
        raise MissingError(f"{folder} holds no class/image file; unpack the images there")
    return sources


def _split(name: str, splits: Mapping[str, str] | str) -> str:
    if isinstance(splits, str):
        return splits
    return splits.get(PurePosixPath(name).stem, UNLISTED) if splits else "all"


def listed_splits(root: Path, families: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return the split of every file stem, from the first family of lists (split: file name) that exists.

    Each line is a path or a file name, of which the stem is used. Raises UserError when a file is in two lists.
    """
    for family in families:
        present = {split: root / name for split, name in family.items() if is_file(root / name)}
        if not present:
            continue
        splits: dict[str, str] = {}
        for split, path in present.items():
            for line_number, line in enumerate(read_lines(inside(root, path)), start=1):
                stem = Path(line.strip()).stem
                if stem in splits:
                    raise UserError(
                        f"{path}, line {line_number}, lists {line.strip()} a second time (splits {splits[stem]} and "
                        f"{split}); list every image once"
                    )
                if stem:
                    splits[stem] = split
        return splits
    return {}


def scene_notes(
    dataset: str, sources: Sequence[Source], official: int, size: Size, splits: Mapping[str, str]
) -> list[str]:
    """Return one sentence for every difference from the official release.

    Args:
        dataset: Name of the data set, with which the sentences begin.
        sources: All images.
        official: Number of images in the release.
        size: Size of images in the release, in pixels.
        splits: Split by file stem, from the lists.
    """
    notes = []
    if len(sources) != official:
        notes.append(f"{dataset}: there are {len(sources):,} images, officially {official:,}.")
    other = [source.name for source in sources if image_size(source.image) != size]
    if other:
        notes.append(
            f"{dataset}: {len(other)} images are not {size} pixels, the first is {other[0]}; resize in [frame] brings "
            "all to one size."
        )
    unlisted = [source.name for source in sources if source.split == UNLISTED]
    if unlisted:
        notes.append(f"{dataset}: {len(unlisted)} images are in no list, the first is {unlisted[0]}.")
    absent = sorted(splits.keys() - {PurePosixPath(source.name).stem for source in sources})
    if absent:
        notes.append(f"{dataset}: {len(absent)} listed images are missing, the first is {absent[0]}.")
    return notes + unread_notes(dataset, image_folders(sources))
