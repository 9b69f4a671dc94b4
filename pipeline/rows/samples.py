"""The rows of an experiment: which tile of which source each row is, the same for all models."""

from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool

from pipeline.datasets.contract import Dataset, Source
from pipeline.datasets.reading import images
from pipeline.datasets.reading.files import is_file, is_folder
from pipeline.frame_recipe import FrameRecipe
from pipeline.rows.bad_samples import SampleCheck, check_samples, sizes_of
from pipeline.rows.columns import TEXT, RowTiles, SourceColumns
from pipeline.rows.frames import Box, Tile, coverage, owned_in_input, tiles
from pipeline.rows.sources import FileDigests, ListedFiles
from pipeline.views.contract import CLEAN, View
from stores.errors import UserError
from stores.specs import DatasetRecord, FrameSpec, LabelSpec, Size, samples_digest, sources_digest


@dataclass(frozen=True)
class Samples:
    """The rows of a set, with everything needed to compute them again."""

    dataset: Dataset
    record: DatasetRecord
    frame: FrameSpec
    columns: SourceColumns
    """The sources, with sizes and digests of their files."""
    tiles: RowTiles
    """Source name and tile of each row."""
    table: pd.DataFrame
    digest: str
    bad_images: dict[str, str]
    """Why an image is bad, by source name; its rows are invalid and have neither features nor labels."""
    bad_labels: dict[str, str]
    """Why the labels of a good image are bad, by source name; its rows have features, its label rows are invalid."""
    n_tiles: int
    """Tiles that the frame cuts from the sources; more than the rows if a few-shot rule chose among them."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Why images were excluded from a few-shot choice, by source name."""
    licence: str = "not stated"
    """Terms of use of the data, in one line."""
    view: View = CLEAN
    """The view of the rows; `under_view.for_view` returns the same rows under another one."""
    images_revision: int = images.REVISION
    """Revision of reading that the pixels depend on."""
    label_record: LabelSpec | None = field(default=None, compare=False)
    """What names the label set of the clean view, where another process has found it already."""
    digests: FileDigests | None = field(default=None, compare=False)
    """Where the hashes of source files are remembered, to forget those that turn out wrong."""

    @property
    def sources(self) -> Mapping[str, Source]:
        """The sources by name, in order."""
        return self.columns.sources

    @property
    def sizes(self) -> Mapping[str, Size]:
        """Sizes in pixels of the images of known size, by source name."""
        return self.columns.sizes

    @property
    def image_digests(self) -> Mapping[str, str]:
        """sha256 of every image, by source name."""
        return self.columns.image_digests

    @property
    def label_digests(self) -> Mapping[str, str]:
        """sha256 of the label file of every source that has one, by source name."""
        return self.columns.label_digests

    def noticing_changes(self) -> AbstractContextManager[None]:
        """Return the context in which source files are read, see `FileDigests.noticing_changes`."""
        return nullcontext() if self.digests is None else self.digests.noticing_changes()

    @cached_property
    def has_labels_of_few_bits(self) -> bool:
        """Whether some label map is a grey PNG of 2 or 4 bits, whose ids were read wrong before revision 2."""
        maps = self.dataset.labels & {"pixels", "objects"} == {"pixels"}
        return maps and any(
            images.has_few_bits(source.label) for source in self.sources.values() if source.label is not None
        )

    @property
    def tile_ids(self) -> list[tuple[str, Box]]:
        """Source name and tile box of each row."""
        return [(name, tile.box) for name, tile in self.tiles]

    @cached_property
    def bad(self) -> dict[str, str]:
        """Why a source has no valid labels, by its name: its image or its labels are bad."""
        return dict(sorted((self.bad_images | self.bad_labels).items()))

    @property
    def label_table(self) -> pd.DataFrame:
        """The sample table of the label set, in which rows with bad labels are invalid too."""
        return _marked(self.table, self.bad)

    def invalid(self, start: int, stop: int, *, labels: bool = False) -> Bool[np.ndarray, " row"]:
        """Return which of the rows ``start`` to ``stop`` have no features, or with ``labels`` no labels."""
        bad = self.bad if labels else self.bad_images
        return np.array([name in bad for name, _ in self.tiles[start:stop]], dtype=bool)

    @property
    def coverage(self) -> float:
        """Share of all source pixels that some tile shows, without bad images."""
        sizes = self.columns.table.select(["height", "width"])
        if self.bad_images:
            bad = pa.array(list(self.bad_images), TEXT)
            sizes = sizes.filter(pc.invert(pc.is_in(self.columns.table["name"], value_set=bad)))
        covered, area = 0.0, 0
        for one in sizes.group_by(["height", "width"]).aggregate([([], "count_all")]).sort_by("height").to_pylist():
            pixels = one["height"] * one["width"] * one["count_all"]
            covered += coverage(self.frame, Size(height=one["height"], width=one["width"])) * pixels
            area += pixels
        return covered / area


def make_samples(
    dataset: Dataset,
    chosen: Iterable[Source],
    frame: FrameSpec,
    digests: FileDigests,
    chosen_tiles: Mapping[str, Collection[tuple[int, int]]] | None = None,
    *,
    keep_invalid: bool = False,
) -> Samples:
    """Return the rows of the chosen sources, sorted by source name, tiles row by row.

    Raises UserError when a source is smaller than a tile, its label file is missing, or nothing is chosen; with
    ``keep_invalid`` when too many are bad.

    Args:
        dataset: Reader of the data set.
        chosen: Sources to cut into rows; read once, so that those of an iterator can be freed.
        frame: How sources are resized and cut into tiles.
        digests: Hashes of files, and findings on bad samples, from earlier runs.
        chosen_tiles: Row and column of the tiles to keep of each source, by name; None keeps all.
        keep_invalid: Make bad samples rows too, marked with the reason; an image whose tiles are unknown is one row.
    """
    frame = frame.spec if isinstance(frame, FrameRecipe) else frame
    sources = sorted(chosen, key=lambda source: source.name)
    if not sources:
        raise UserError(f"no images are chosen from {dataset.root}: check [selection] in the experiment file")
    labels = dict.fromkeys(source.label for source in sources if source.label is not None)
    label_sha256 = digests.of(label for label in labels if not keep_invalid or is_file(label))
    found = check_samples(dataset, sources, frame, digests) if keep_invalid else None
    columns = SourceColumns.of(sources, label_sha256)
    del sources  # of a million images they take 300 MB
    images = ListedFiles(digests, columns.names, columns.paths)
    checked = found or sizes_of(images)
    columns = columns.with_images(images.sha256(), checked.heights, checked.widths)
    tiles = _cut(frame, columns, checked)
    n_tiles = len(tiles)
    if chosen_tiles is not None:
        taken = np.array([(tile.row, tile.column) in chosen_tiles[name] for name, tile in tiles], bool)
        tiles = RowTiles(tiles.names, tiles.source[taken], tiles.kind[taken], tiles.kinds)
    return Samples(
        dataset=dataset,
        record=DatasetRecord(
            name=dataset.name,
            revision=dataset.revision,
            n_sources=len(columns),
            sources=sources_digest(columns.image_digests.items(), in_order=True),
        ),
        frame=frame,
        columns=columns,
        tiles=tiles,
        table=_marked(_table(tiles, columns, frame), checked.images),
        digest=samples_digest(((name, tile.box) for name, tile in tiles), checked.images.keys()),
        bad_images=checked.images,
        bad_labels=checked.labels,
        n_tiles=n_tiles,
        licence=dataset.licence,
        images_revision=checked.images_revision,
        digests=digests,
    )


def _cut(frame: FrameSpec, columns: SourceColumns, checked: SampleCheck) -> RowTiles:
    """Return the tiles of all sources; raises UserError for the first good one that cannot be cut."""
    _, first, of_size = np.unique(checked.heights << 32 | checked.widths, return_index=True, return_inverse=True)
    kinds: list[Tile] = [_placeholder(frame)]
    starts, counts = np.zeros(len(first), np.int64), np.ones(len(first), np.int64)
    failed: dict[int, str] = {}
    for number, source in enumerate(first.tolist()):
        height, width = int(checked.heights[source]), int(checked.widths[source])
        try:
            if height:
                found = tiles(frame, Size(height=height, width=width))
                starts[number], counts[number] = len(kinds), len(found)
                kinds += found
        except UserError as error:
            failed[number] = str(error)
    for source in np.flatnonzero(np.isin(of_size, list(failed))).tolist():
        name = columns.table["name"][source].as_py()
        if name not in checked.images:
            raise UserError(f"{columns.root / name}: {failed[int(of_size[source])]}")
    n_tiles = counts[of_size]
    source = np.repeat(np.arange(len(n_tiles)), n_tiles)
    within = np.arange(len(source)) - np.repeat(np.cumsum(n_tiles) - n_tiles, n_tiles)
    return RowTiles(columns.table["name"], source, starts[of_size][source] + within, kinds)


def _marked(table: pd.DataFrame, bad: Mapping[str, str]) -> pd.DataFrame:
    """Return a sample table whose rows of bad sources are invalid, with the reason."""
    if not bad:
        return table
    sources = [str(name) for name in table["source"]]
    return table.assign(valid=[name not in bad for name in sources], reason=[bad.get(name, "") for name in sources])


def _placeholder(frame: FrameSpec) -> Tile:
    """Return the one tile of an image whose tiles are unknown: as large as a tile, with no part that is scored."""
    size = frame.tile or (frame.resize if isinstance(frame.resize, Size) else frame.input)
    return Tile(0, 0, (0, 0, size.width, size.height), (0, 0, 0, 0))


def _table(rows: RowTiles, columns: SourceColumns, frame: FrameSpec) -> pd.DataFrame:
    """Return the sample table, made as Arrow columns: texts for each of a million rows would take gigabytes."""
    numbers = pa.array(rows.source)
    whole = len(rows) == len(columns) and np.array_equal(rows.source, np.arange(len(rows)))  # texts are shared then

    def of_source(name: str, unknown: Any = None) -> Any:
        values = columns.table[name] if whole else pc.take(columns.table[name], numbers)
        return values if unknown is None else pc.fill_null(values, unknown)

    row, column = (rows.of_kinds([getattr(tile, name) for tile in rows.kinds]) for name in ("row", "column"))
    names = of_source("name")
    place = pc.binary_join_element_wise(pa.array(row).cast(TEXT), pa.array(column).cast(TEXT), pa.scalar(",", TEXT))
    brackets = (pa.scalar("[", TEXT), pa.scalar("]", TEXT), pa.scalar("", TEXT))
    inputs = [owned_in_input(frame, tile) for tile in rows.kinds]
    edges = ("left", "top", "right", "bottom")
    made = {
        "sample": pc.binary_join_element_wise(names, brackets[0], place, *brackets[1:]),
        "source": names,
        "group": of_source("group"),
        "split": of_source("split"),
        "source_width": of_source("width", 0),
        "source_height": of_source("height", 0),
        "tile_row": row,
        "tile_column": column,
        **{name: rows.of_kinds([tile.box[at] for tile in rows.kinds]) for at, name in enumerate(edges)},
        **{f"owned_{name}": rows.of_kinds([box[at] for box in inputs]) for at, name in enumerate(edges)},
        "video": of_source("video"),
        "frame": of_source("frame"),
        "seconds": of_source("seconds"),
        "image_class": of_source("image_class", -1),
        "source_sha256": of_source("image_digest"),
        "label_sha256": of_source("label_digest", ""),
    }
    table: pd.DataFrame = pa.table(made).to_pandas()
    return table.assign(valid=True, reason="")


def bad_rows(samples: Samples, table: pd.DataFrame) -> dict[str, Any]:
    """Return the entries of a set's provenance on bad samples: invalid rows, and excluded images."""
    entries: dict[str, Any] = {"left_out_of_choice": samples.left_out} if samples.left_out else {}
    invalid = table[~table["valid"].to_numpy(dtype=bool)]
    if not invalid.empty:
        entries |= {"invalid_rows": len(invalid), "invalid_because": sorted(set(invalid["reason"].astype(str)))}
    return entries


def path_below(root: Path, folder: str) -> Path:
    """Return ``root / folder``; raises UserError when it would lie outside of ``root`` or cannot be looked at."""
    is_folder(root / folder)  # raises for names that are too long
    path = (root / folder).resolve()
    if not path.is_relative_to(root.resolve()):
        raise UserError(f"the data folder {folder!r} leaves the data root {root}: name a folder below it")
    return root / folder
