"""Your own images, listed in a CSV or Parquet file.

Columns: ``image`` (a path relative to the root), and any of ``mask`` (a path to a map of ids), ``class`` (a name),
``group``, ``split``, ``video`` and ``frame``. Class names, colours and ids of masks are in the experiment file.
"""

import difflib
import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import UInt8

from pipeline.dataset_recipe import ManifestClass
from pipeline.datasets.contract import ClassEntry, Dataset, LabelKind, Source
from pipeline.datasets.reading.colours import spread_colour
from pipeline.datasets.reading.files import MOST_FRAME
from pipeline.datasets.reading.folders import by_name, inside, is_plain, relative_name, require_folder
from pipeline.datasets.reading.labels import class_lookup, read_pixel_classes
from pipeline.datasets.reading.manifest_table import COLUMNS, Row, Table, read_table
from stores.errors import MissingError, UserError


@dataclass(frozen=True)
class Manifest(Dataset):
    """The images that a manifest lists; ``root`` holds it, and all paths are relative to ``root``.

    An empty group or split is "all", an empty mask or class means unlabelled.
    """

    file: str = "manifest.csv"
    class_rules: tuple[ManifestClass, ...] = ()
    mask_ids: tuple[tuple[int, ...], ...] = ()
    """Ids in mask files of every class of ``class_rules``."""
    void_ids: tuple[int, ...] = (255,)
    name: ClassVar[str] = "manifest"
    revision: ClassVar[int] = 1

    @functools.cached_property
    def _table(self) -> Table:
        require_folder(self.root, "give the folder that holds the manifest")
        path = self.root / self.file
        table = read_table(inside(self.root, path))
        _refuse_misspelt(path, table.columns)
        if not table.rows:
            raise MissingError(f"{path} lists no image; write one a line below the names of the columns")
        return table

    def _has(self, column: str) -> bool:
        return any(row.cells.get(column) for row in self._table.rows)

    @property
    def labels(self) -> frozenset[LabelKind]:
        """``pixels`` if a row has a mask, ``image`` if a row has a class; none if there is no manifest."""
        kinds: dict[str, LabelKind] = {"mask": "pixels", "class": "image"}
        try:
            return frozenset(kind for column, kind in kinds.items() if self._has(column))
        except UserError:  # `sources` raises it
            return frozenset()

    @property
    def label_settings(self) -> list[object]:
        """The ids of masks in the experiment file, part of the label set's digest."""
        return [[list(ids) for ids in self.mask_ids], list(self.void_ids)]

    def classes(self) -> Sequence[ClassEntry]:
        """Return the classes of the experiment file, or the sorted names in the column class."""
        rules = self.class_rules or tuple(
            ManifestClass(name=name) for name in sorted({row.cells.get("class", "") for row in self._table.rows} - {""})
        )
        return tuple(
            ClassEntry(index, rule.name, rule.supercategory or rule.name, rule.colour or spread_colour(index))
            for index, rule in enumerate(rules)
        )

    def sources(self) -> Sequence[Source]:
        """Return all listed images, sorted by name; raises UserError naming file and line."""
        if self._has("mask") and not self.class_rules:
            raise UserError(
                f"{self.root / self.file} lists masks, and [[dataset.classes]] tables in the experiment file do not "
                "say what their ids mean; write one table with name and ids a class"
            )
        ids = {entry.name: entry.id for entry in self.classes()}
        first: dict[str, str] = {}
        sources = []
        for row in self._table.rows:
            source = self._source(row, ids)
            if source.name in first:
                raise UserError(f"{row.where} lists {source.name} again, as {first[source.name]} does; list it once")
            first[source.name] = row.where.removesuffix(",")
            sources.append(source)
        return by_name(sources)

    def _source(self, row: Row, ids: dict[str, int]) -> Source:
        cells = {column: row.cells.get(column, "") for column in COLUMNS}
        if not cells["image"]:
            raise UserError(f"{row.where} names no image; write its path in the column `image`")
        if cells["class"] and cells["class"] not in ids:
            raise UserError(
                f"{row.where} names the class {cells['class']!r}, which no [[dataset.classes]] table has; known are "
                f"{', '.join(sorted(ids))}"
            )
        image = self._path(cells["image"], row)
        return Source(
            relative_name(self.root, image),
            self.root,
            self._path(cells["mask"], row, self.missing_labels == "keep") if cells["mask"] else None,
            group=cells["group"] or "all",
            split=cells["split"] or "all",
            image_class=ids[cells["class"]] if cells["class"] else None,
            video=cells["video"],
            frame=_frame(cells["frame"], row),
        )

    def _path(self, cell: str, row: Row, may_miss: bool = False) -> Path:
        """Return the file that a cell names, below the root."""
        if not is_plain(cell):
            raise UserError(f"{row.where} has the path {cell!r}; write plain names with / between folders")
        root = Path(os.path.normpath(self.root.absolute()))
        path = Path(os.path.normpath(root / cell))
        try:
            within = path.is_relative_to(root) and path.resolve().is_relative_to(self.root.resolve())
            there = path.is_file()
        except (OSError, RuntimeError) as error:  # a name that is too long, a cycle of links
            raise UserError(f"{row.where} has the path {cell!r}, which cannot be followed ({error})") from error
        if not within:
            raise UserError(f"{row.where} has the path {cell!r}, which leads outside {self.root}; copy the file there")
        if not there and not may_miss:
            raise MissingError(f"{row.where} names {cell}, and there is no file {path}; correct or remove the line")
        return self.root / path.relative_to(root)  # an absolute path below the root is the same file

    def pixel_classes(self, source: Source) -> UInt8[np.ndarray, "height width"]:
        """Return class ids, 255 for void; an image without a mask is all void."""
        if not self._has("mask"):
            raise UserError(f"{source.image} has no mask; choose an analysis that needs none, or add the column mask")
        advice = "list them in `void_ids` of [dataset] if they mean unlabelled, or in `ids` of a class"
        return read_pixel_classes(source, *self._lookup, advice)

    @functools.cached_property
    def _lookup(self) -> tuple[np.ndarray, str]:
        ids = {one: index for index, group in enumerate(self.mask_ids) for one in group}
        known = ", ".join(str(one) for one in sorted({*ids, *self.void_ids}))
        return class_lookup(ids, self.void_ids), f"{known} of [[dataset.classes]] and void_ids"

    def notes(self) -> Sequence[str]:
        """Return sentences on columns that are not read, and on rows without mask or class."""
        notes = []
        unread = [name for name in self._table.columns if name not in COLUMNS]
        if unread:
            notes.append(f"{self.name}: the columns {', '.join(unread)} of {self.file} are not read.")
        for column in ("mask", "class"):
            without = sum(not row.cells.get(column) for row in self._table.rows)
            if 0 < without < len(self._table.rows):
                notes.append(f"{self.name}: {without} of {len(self._table.rows)} images have no {column}.")
        return notes


def _refuse_misspelt(path: Path, columns: Sequence[str]) -> None:
    """Raise UserError for a column that is not read and is spelt like one that is not there, such as ``splits``.

    It would be left out in silence, and all images be in the split "all".
    """
    absent = [name for name in COLUMNS if name not in columns]
    for column in columns:
        near = [] if column in COLUMNS else difflib.get_close_matches(column.lower(), absent, n=1, cutoff=0.8)
        if near:
            raise UserError(
                f"{path} has a column {column!r}, which is not read, and no column {near[0]!r}: call it {near[0]!r}, "
                "or by a name that is less like it"
            )


def _frame(cell: str, row: Row) -> int:
    if not cell:
        return -1
    if not cell.isdecimal() or float(cell) > MOST_FRAME:
        raise UserError(f"{row.where} has the frame {cell[:40]!r}; write a number from 0 to {MOST_FRAME}")
    return int(cell)
