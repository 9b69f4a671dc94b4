"""Finds files below a data set's root and refuses paths that leave it."""

import itertools
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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
    name = text[len(prefix) :] if text.startswith(prefix) else path.relative_to(root).as_posix()
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
    """Return all image files below the folder, sorted by name, without hidden files and folders.

    Links to folders are not followed. Raises UserError when a file leads outside the root or a folder cannot be
    listed, MissingError for a broken link.
    """
    inside(root, folder)
    images: dict[str, Path] = {}
    for directory, folders, files in os.walk(folder, onerror=_raise_unlisted):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for file in files:
            path = Path(directory, file)
            if file.startswith(".") or path.suffix.lower() not in EXTENSIONS:
                continue
            if path.is_symlink() and not inside(root, path).exists():
                raise MissingError(f"{path} is a link to nothing; restore what it leads to or remove it")
            images[relative_name(root, path)] = path
    return [images[name] for name in sorted(images)]


def _unlisted(error: OSError) -> UserError:
    return UserError(f"{error.filename} cannot be listed ({error.strerror}); make it readable")


def _raise_unlisted(error: OSError) -> None:
    raise _unlisted(error) from error


def unread_notes(dataset: str, folders: Iterable[Path]) -> list[str]:
    """Return one sentence on the files in some folders, and below, that are not looked at, counted by suffix.

    Hidden files and folders are left out, and links to folders are not followed.
    """
    unread: dict[Path, str] = {}
    for folder in folders:
        for directory, below, files in os.walk(folder):
            below[:] = [name for name in below if not name.startswith(".")]
            for file in files:
                suffix = Path(file).suffix.lower()
                if not file.startswith(".") and suffix not in EXTENSIONS:
                    unread[Path(directory, file)] = suffix or "no suffix"
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
    counts = dict.fromkeys(official, 0)
    for source in sources:
        counts[source.split] = counts.get(source.split, 0) + 1
    return [
        f"{dataset}: the split {split} has {counts[split]} images, officially {official[split]}."
        for split in official
        if counts[split] != official[split]
    ]
