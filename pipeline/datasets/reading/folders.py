"""Finds files below a data set's root and refuses paths that leave it."""

import itertools
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.datasets.contract import Source
from pipeline.datasets.reading.files import is_folder
from pipeline.datasets.reading.images import EXTENSIONS
from stores.errors import MissingError, UserError

_SUFFIXES_NAMED = 6


def require_folder(folder: Path, what: str) -> Path:
    """Return the folder; raises MissingError with the advice ``what`` when it does not exist."""
    if not is_folder(folder):
        raise MissingError(f"{folder} is not a folder; {what}")
    return folder


def inside(root: Path, path: Path) -> Path:
    """Return the path unchanged; raises UserError when it leads outside the root, by links or dots."""
    try:
        within = path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError) as error:  # too long, a circle of links, a NUL
        raise UserError(f"{str(path)[:200]!r} cannot be followed ({error}); correct what names it") from error
    if not within:
        raise UserError(
            f"{path} leads to {path.resolve()}, outside {root}; copy it into that folder, "
            "or give a folder that holds both"
        )
    return path


def relative_name(root: Path, path: Path) -> str:
    """Return the path relative to the root, with POSIX separators.

    Raises UserError for backslashes, bytes that are not UTF-8 and characters that print as nothing; any kind of space
    is allowed, as in names of screenshots.
    """
    text, prefix = path.as_posix(), f"{root.as_posix()}/"
    return _checked_name(text[len(prefix) :] if text.startswith(prefix) else path.relative_to(root).as_posix())


def _checked_name(name: str) -> str:
    if not is_plain(name):
        raise UserError(f"the file name {name!r} holds a backslash or unprintable characters; rename the file")
    return name


def is_plain(name: str) -> bool:
    """Return whether a name has neither backslashes nor unprintable characters; spaces of any kind are printable."""
    if "\\" in name:
        return False
    return name.isprintable() or all(char.isprintable() or unicodedata.category(char) == "Zs" for char in name)


def subfolders(folder: Path) -> list[Path]:
    """Return the folders directly below, sorted by name, without hidden ones; raises UserError if it is unreadable."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_dir())
    except OSError as error:
        raise _unlisted(error) from error


def image_files(root: Path, folder: Path) -> list[Path]:
    """Return the paths of all image files below the folder, in the order and with the errors of `image_names`."""
    return [root / name for name in image_names(root, folder)]


def image_names(root: Path, folder: Path) -> list[str]:
    """Return all image files below the folder by their names relative to the root, sorted, without hidden ones.

    Links to folders are not followed. Raises UserError when a file leads outside the root or a folder cannot be
    listed, MissingError for a broken link.
    """
    below = inside(root, folder).relative_to(root).as_posix()
    return sorted(_names_below(root, folder, "" if below == "." else f"{below}/"))


def _names_below(root: Path, folder: Path, below: str) -> Iterator[str]:
    """Yield the names of the images in a folder whose own name is ``below``; a `Path` of each would take longer."""
    try:
        with os.scandir(folder) as listed:
            entries = [entry for entry in listed if not entry.name.startswith(".")]
    except OSError as error:
        raise _unlisted(error) from error
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _names_below(root, folder / entry.name, f"{below}{entry.name}/")
        elif os.path.splitext(entry.name)[1].lower() in EXTENSIONS and not _leads_to_folder(entry):  # noqa: PTH122
            if entry.is_symlink() and not inside(root, folder / entry.name).exists():
                raise MissingError(f"{entry.path} is a link to nothing; restore what it leads to or remove it")
            yield _checked_name(below + entry.name)


def _leads_to_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself, which `inside` refuses
        return False


def _unlisted(error: OSError) -> UserError:
    return UserError(f"{error.filename} cannot be listed ({error.strerror}); make it readable")


def unread_notes(dataset: str, folders: Iterable[Path]) -> list[str]:
    """Return one sentence on the files in some folders, and below, that are not looked at, counted by suffix.

    Hidden files and folders are left out, and links to folders are not followed.
    """
    unread: dict[str, str] = {}
    for folder in folders:
        for directory, below, files in os.walk(folder):
            below[:] = [name for name in below if not name.startswith(".")]
            for file in files:
                suffix = os.path.splitext(file)[1].lower()  # noqa: PTH122 (of a million files a `Path` takes seconds)
                if suffix not in EXTENSIONS and not file.startswith("."):
                    unread[f"{directory}/{file}"] = suffix or "no suffix"
    if not unread:
        return []
    counts = sorted(Counter(unread.values()).items(), key=lambda pair: (-pair[1], pair[0]))
    listed = ", ".join(f"{count} {suffix}" for suffix, count in counts[:_SUFFIXES_NAMED])
    more = f" and {len(counts) - _SUFFIXES_NAMED} other kinds" if len(counts) > _SUFFIXES_NAMED else ""
    verb = "file was" if len(unread) == 1 else "files were"
    return [f"{dataset}: {len(unread)} {verb} not looked at, being no image that can be read: {listed}{more}."]


def image_folders(sources: Iterable[Source]) -> list[Path]:
    """Return the folders that hold some images, without those inside of another."""
    folders: list[Path] = []
    for folder in sorted({source.image.parent for source in sources}):
        if not folders or not folder.is_relative_to(folders[-1]):
            folders.append(folder)
    return folders


def by_name(sources: Sequence[Source]) -> tuple[Source, ...]:
    """Return the sources sorted by name; raises UserError when two have the same name."""
    ordered = tuple(sorted(sources, key=lambda source: source.name))
    for first, second in itertools.pairwise(ordered):
        if first.name == second.name:
            raise UserError(
                f"{first.name} is listed twice (splits {first.split} and {second.split}); list every image once"
            )
    return ordered


def count_notes(dataset: str, sources: Sequence[Source], official: Mapping[str, int]) -> list[str]:
    """Return one sentence for every split whose number of images differs from the official one."""
    return split_notes(dataset, Counter(source.split for source in sources), official)


def split_notes(dataset: str, counts: Mapping[str, int], official: Mapping[str, int]) -> list[str]:
    """Return the sentences of `count_notes` from the number of images in each split that has any."""
    return [
        f"{dataset}: the split {split} has {counts.get(split, 0)} images, officially {expected}."
        for split, expected in official.items()
        if counts.get(split, 0) != expected
    ]
