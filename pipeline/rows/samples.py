"""The rows of an experiment: which tile of which source each row is, the same for all models."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool

from pipeline.datasets.contract import Dataset, Source
from pipeline.datasets.reading import images
from pipeline.datasets.reading.files import is_file, is_folder
from pipeline.frame_recipe import FrameRecipe
from pipeline.rows.bad_samples import check_samples, sizes_of
from pipeline.rows.frames import Box, Tile, coverage, owned_in_input, tiles
from pipeline.rows.sources import FileDigests
from pipeline.views.contract import CLEAN, View
from stores.errors import UserError
from stores.specs import DatasetRecord, FrameSpec, Size, samples_digest, sources_digest


@dataclass(frozen=True)
class Samples:
    """The rows of a set, with everything needed to compute them again."""

    dataset: Dataset
    record: DatasetRecord
    frame: FrameSpec
    sources: dict[str, Source]
    sizes: dict[str, Size]
    tiles: tuple[tuple[str, Tile], ...]
    """Source name and tile of each row."""
    image_digests: dict[str, str]
    label_digests: dict[str, str]
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
    digests: FileDigests | None = field(default=None, compare=False)
    """Where the hashes of source files are remembered, to forget those that turn out wrong."""

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
        sizes = {name: size for name, size in self.sizes.items() if name not in self.bad_images}
        area = {name: size.height * size.width for name, size in sizes.items()}
        covered = sum(coverage(self.frame, size) * area[name] for name, size in sizes.items())
        return covered / sum(area.values())


def make_samples(
    dataset: Dataset,
    chosen: Sequence[Source],
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
        chosen: Sources to cut into rows.
        frame: How sources are resized and cut into tiles.
        digests: Hashes of files, and findings on bad samples, from earlier runs.
        chosen_tiles: Row and column of the tiles to keep of each source, by name; None keeps all.
        keep_invalid: Make bad samples rows too, marked with the reason; an image whose tiles are unknown is one row.
    """
    frame = frame.spec if isinstance(frame, FrameRecipe) else frame
    sources = {source.name: source for source in sorted(chosen, key=lambda source: source.name)}
    if not sources:
        raise UserError(f"no images are chosen from {dataset.root}: check [selection] in the experiment file")
    checked = check_samples(dataset, sources, frame, digests) if keep_invalid else sizes_of(sources)
    paths = [source.image for source in sources.values()]
    labels = {
        name: source.label
        for name, source in sources.items()
        if source.label is not None and (not keep_invalid or is_file(source.label))
    }
    hashes = digests.of([*paths, *labels.values()])
    image_digests = {name: hashes[source.image] for name, source in sources.items()}
    label_digests = {name: hashes[label] for name, label in labels.items()}
    sources = {name: replace(source, label_sha256=label_digests.get(name, "")) for name, source in sources.items()}
    cut: list[tuple[str, Tile]] = []
    for name, source in sources.items():
        try:
            cut += [(name, tile) for tile in tiles(frame, checked.sizes[name])]
        except (UserError, KeyError) as error:
            if name not in checked.images:
                raise UserError(f"{source.image}: {error}") from error
            cut.append((name, _placeholder(frame)))
    rows = [(name, tile) for name, tile in cut if chosen_tiles is None or (tile.row, tile.column) in chosen_tiles[name]]
    table = pd.DataFrame(
        [
            _row(sources[name], tile, frame, checked.sizes.get(name), image_digests[name], label_digests.get(name, ""))
            for name, tile in rows
        ]
    )
    return Samples(
        dataset=dataset,
        record=DatasetRecord(
            name=dataset.name,
            revision=dataset.revision,
            n_sources=len(sources),
            sources=sources_digest(image_digests.items()),
        ),
        frame=frame,
        sources=sources,
        sizes=checked.sizes,
        tiles=tuple(rows),
        image_digests=image_digests,
        label_digests=label_digests,
        table=_marked(table, checked.images),
        digest=samples_digest(((name, tile.box) for name, tile in rows), checked.images.keys()),
        bad_images=checked.images,
        bad_labels=checked.labels,
        n_tiles=len(cut),
        licence=dataset.licence,
        images_revision=checked.images_revision,
        digests=digests,
    )


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


def _row(
    source: Source, tile: Tile, frame: FrameSpec, size: Size | None, image: str, label: str
) -> dict[str, str | int | float | bool]:
    left, top, right, bottom = tile.box
    owned_left, owned_top, owned_right, owned_bottom = owned_in_input(frame, tile)
    return {
        "sample": f"{source.name}[{tile.row},{tile.column}]",
        "source": source.name,
        "group": source.group,
        "split": source.split,
        "source_width": 0 if size is None else size.width,
        "source_height": 0 if size is None else size.height,
        "tile_row": tile.row,
        "tile_column": tile.column,
        "left": left,
        "top": top,
        "right": right,
        "bottom": bottom,
        "owned_left": owned_left,
        "owned_top": owned_top,
        "owned_right": owned_right,
        "owned_bottom": owned_bottom,
        "video": source.video,
        "frame": source.frame,
        "seconds": source.seconds,
        "image_class": -1 if source.image_class is None else source.image_class,
        "source_sha256": image,
        "label_sha256": label,
        "valid": True,
        "reason": "",
    }


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
