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
from stores.specs import DatasetRecord, FrameSpec, LabelSpec, Size, samples_digest, sources_digest


@dataclass(frozen=True)
class Samples:
    """The rows of a set, with everything needed to compute them again."""

    dataset: Dataset
    record: DatasetRecord
    frame: FrameSpec
    sources: Mapping[str, Source]
    sizes: Mapping[str, Size]
    tiles: Sequence[tuple[str, Tile]]
    """Source name and tile of each row."""
    image_digests: Mapping[str, str]
    label_digests: Mapping[str, str]
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
        of_size = {size: coverage(self.frame, size) for size in set(sizes.values())}
        covered = sum(of_size[size] * area[name] for name, size in sizes.items())
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
    checked = check_samples(dataset, sources, frame, digests) if keep_invalid else sizes_of(sources, digests)
    paths = [source.image for source in sources.values()]
    labels = {
        name: source.label
        for name, source in sources.items()
        if source.label is not None and (not keep_invalid or is_file(source.label))
    }
    hashes = digests.of([*paths, *labels.values()])
    image_digests = {name: hashes[source.image] for name, source in sources.items()}
    label_digests = {name: hashes[label] for name, label in labels.items()}
    sources |= {name: replace(sources[name], label_sha256=sha256) for name, sha256 in label_digests.items()}
    cut: list[tuple[str, Tile]] = []
    of_size: dict[tuple[int, int], tuple[Tile, ...]] = {}
    for name, source in sources.items():
        try:
            size = checked.sizes[name]
            if (size.height, size.width) not in of_size:
                of_size[size.height, size.width] = tiles(frame, size)
            cut += [(name, tile) for tile in of_size[size.height, size.width]]
        except (UserError, KeyError) as error:
            if name not in checked.images:
                raise UserError(f"{source.image}: {error}") from error
            cut.append((name, _placeholder(frame)))
    rows = [(name, tile) for name, tile in cut if chosen_tiles is None or (tile.row, tile.column) in chosen_tiles[name]]
    table = _table(rows, sources, frame, checked.sizes, image_digests, label_digests)
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


def _table(
    rows: Sequence[tuple[str, Tile]],
    sources: Mapping[str, Source],
    frame: FrameSpec,
    sizes: Mapping[str, Size],
    images: Mapping[str, str],
    labels: Mapping[str, str],
) -> pd.DataFrame:
    """Return the sample table; column by column, because a dict for each of a million rows would take gigabytes."""
    of_rows = [sources[name] for name, _ in rows]
    cut = [tile for _, tile in rows]
    owned: dict[int, Box] = {}
    for tile in cut:  # images of equal size share their tiles
        if id(tile) not in owned:
            owned[id(tile)] = owned_in_input(frame, tile)
    boxes = np.array([tile.box for tile in cut], dtype=np.int64).reshape(-1, 4)
    inputs = np.array([owned[id(tile)] for tile in cut], dtype=np.int64).reshape(-1, 4)
    unknown = Size(height=1, width=1)
    known = [sizes.get(name, unknown) for name, _ in rows]
    is_known = np.array([name in sizes for name, _ in rows], dtype=np.int64)
    return pd.DataFrame(
        {
            "sample": [f"{name}[{tile.row},{tile.column}]" for name, tile in rows],
            "source": [name for name, _ in rows],
            "group": [source.group for source in of_rows],
            "split": [source.split for source in of_rows],
            "source_width": is_known * np.array([size.width for size in known], dtype=np.int64),
            "source_height": is_known * np.array([size.height for size in known], dtype=np.int64),
            "tile_row": np.array([tile.row for tile in cut], dtype=np.int64),
            "tile_column": np.array([tile.column for tile in cut], dtype=np.int64),
            **dict(zip(("left", "top", "right", "bottom"), boxes.T, strict=True)),
            **dict(zip(("owned_left", "owned_top", "owned_right", "owned_bottom"), inputs.T, strict=True)),
            "video": [source.video for source in of_rows],
            "frame": [source.frame for source in of_rows],
            "seconds": [source.seconds for source in of_rows],
            "image_class": [-1 if source.image_class is None else source.image_class for source in of_rows],
            "source_sha256": [images[name] for name, _ in rows],
            "label_sha256": [labels.get(name, "") for name, _ in rows],
            "valid": True,
            "reason": "",
        }
    )


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
