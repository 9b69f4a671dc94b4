"""Finds bad samples: images that cannot be decoded or tiled, and labels that cannot be used.

Every image is checked before the first row is made, from its bytes alone, so that shards, resumed runs and repairs
agree on rows and digests without communicating.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import PIL
from jaxtyping import Int64

from pipeline.datasets.contract import Dataset, Source
from pipeline.datasets.reading import images
from pipeline.datasets.reading.files import ChangedFileError, is_file, read_bytes
from pipeline.rows.frames import tiles
from pipeline.rows.sources import MOST_SOURCE_BYTES, FileDigests, ListedFiles
from stores.errors import UserError
from stores.specs import FrameSpec

REVISION = 2
"""Increased when a file is found bad or good that was not before; remembered findings of others are not used."""

IMAGES_PER_BAD_IMAGE = 100
"""At most one image in this many may be bad; one bad image is always tolerated beside a good one."""
_NAMED = 3
"""Number of bad images that an error names."""

T = TypeVar("T")


@dataclass(frozen=True)
class SampleCheck:
    """Sizes and problems of the sources, found before there are rows; reasons are by source name, in sorted order."""

    heights: Int64[np.ndarray, " source"]
    """Height of each image in pixels, 0 where its header cannot be read."""
    widths: Int64[np.ndarray, " source"]
    images_revision: int = images.REVISION
    """Revision of reading that the pixels of these images depend on."""
    images: dict[str, str] = field(default_factory=dict)
    """Why an image is bad; its rows get neither features nor labels."""
    labels: dict[str, str] = field(default_factory=dict)
    """Why the label of a good image is bad; its rows get features and no labels."""

    @property
    def reasons(self) -> dict[str, str]:
        """Every bad source with its problem."""
        return dict(sorted((self.images | self.labels).items()))


def sizes_of(images: ListedFiles) -> SampleCheck:
    """Return the sizes of all images; raises UserError at the first that is bad."""
    height, width, revision = images.headers().T
    return SampleCheck(height, width, int(revision.max()))


def check_samples(dataset: Dataset, listed: Sequence[Source], frame: FrameSpec, digests: FileDigests) -> SampleCheck:
    """Decode every image and read its labels, or take the findings of an earlier run.

    Raises UserError when too many samples are bad, naming the first ones and the number, and when a file cannot be
    opened at all, because an unreachable disk says nothing about a sample.

    Args:
        dataset: Reader of the data set.
        listed: The sources.
        frame: How sources are cut into tiles.
        digests: Hashes of files, and findings, from earlier runs; new findings are added.
    """
    hashes = digests.of(path for source in listed for path in _files(source))
    sources = {
        source.name: replace(source, label_sha256="" if source.label is None else hashes.get(source.label, ""))
        for source in listed
    }
    classes = [[entry.id, entry.name] for entry in dataset.classes()]
    reader = [dataset.name, dataset.revision, classes, dataset.label_settings, REVISION, PIL.__version__]

    def one(name: str) -> tuple[images.Header | None, str, str]:
        source = sources[name]
        for path in _files(source):
            _open(path)
        try:
            header = images.read_header(source.image)
        except UserError as error:
            return None, str(error), ""
        try:
            tiles(frame, header.size)
        except UserError as error:
            return header, f"{name}: {error}", ""
        sha256 = hashes[source.image]
        if missing := _missing(source):
            return header, _problem(dataset, lambda: _read_image(source, sha256)), missing
        key = [*reader, name, [hashes[path] for path in _files(source)]]
        return header, *digests.verdict(key, lambda: _problems(dataset, source, sha256))

    heights, widths = np.zeros(len(sources), np.int64), np.zeros(len(sources), np.int64)
    bad: dict[str, dict[str, str]] = {"images": {}, "labels": {}}
    revision = images.REVISION
    with ThreadPoolExecutor(4) as pool, digests.noticing_changes():
        for number, (name, (header, image, label)) in enumerate(zip(sources, pool.map(one, sources), strict=True)):
            if header is not None:
                heights[number], widths[number] = header.size.height, header.size.width
                revision = max(revision, header.revision)
            if image or label:
                bad["images" if image else "labels"][name] = _without(dataset, image or label)
    check = SampleCheck(heights, widths, revision, **bad)
    check_bad_count(check.reasons, len(sources))
    return check


def read_labels(dataset: Dataset, source: Source, read: Callable[[Source], T]) -> tuple[T | None, str]:
    """Return what ``read`` makes of a source's labels, or None and why they are bad.

    Raises UserError when a file cannot be opened at all.
    """
    for path in _files(source):
        _open(path)
    if missing := _missing(source):
        return None, _without(dataset, missing)
    try:
        return read(source), ""
    except UserError as error:
        return None, _without(dataset, str(error))


def _missing(source: Source) -> str:
    if source.label is None or is_file(source.label):
        return ""
    return f"{source.label} is missing, the labels of {source.name}; unpack them again or remove the image"


def _files(source: Source) -> list[Path]:
    return [source.image, *([source.label] if source.label is not None and is_file(source.label) else [])]


def _open(path: Path) -> None:
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise UserError(f"{path} cannot be opened ({error.strerror}): make it readable, then run it again") from error


def _read_image(source: Source, sha256: str) -> object:
    return images.read_image(read_bytes(source.image, sha256, MOST_SOURCE_BYTES), source.name)


def _problems(dataset: Dataset, source: Source, sha256: str) -> tuple[str, str]:
    """Return the problem of an image with this sha256, and of its labels; empty where there is none."""
    image = _problem(dataset, lambda: _read_image(source, sha256))
    label = ""
    if source.label is not None and "objects" in dataset.labels:
        label = _problem(dataset, lambda: dataset.objects(source))
    if source.label is not None and "pixels" in dataset.labels:
        label = label or _problem(dataset, lambda: dataset.pixel_classes(source))
    return image, "" if image else label


def _problem(dataset: Dataset, read: Callable[[], object]) -> str:
    try:
        read()
    except ChangedFileError:  # says nothing about the bytes that the finding is remembered for
        raise
    except UserError as error:
        return _without(dataset, str(error))
    return ""


def _without(dataset: Dataset, reason: str) -> str:
    """Return a reason with paths relative to the data set's root, so that it is the same on every machine."""
    return reason.replace(f"{dataset.root.absolute()}/", "").replace(f"{dataset.root}/", "")


def check_bad_count(reasons: Mapping[str, str], n_sources: int) -> None:
    """Raise UserError when more than 1 % of the images, and more than one, are bad, or all are."""
    most = min(max(1, n_sources // IMAGES_PER_BAD_IMAGE), n_sources - 1)
    if len(reasons) > most:
        raise UserError(
            f"{len(reasons)} of {n_sources} images are bad and at most {most} may be kept as invalid "
            f"(1 %, and one in any set): {_listed(reasons.values())}"
        )


def _listed(reasons: Iterable[str]) -> str:
    listed = list(reasons)
    more = len(listed) - _NAMED
    return "; ".join(f"({number}) {reason}" for number, reason in enumerate(listed[:_NAMED], start=1)) + (
        f"; and {more} more" if more > 0 else ""
    )
