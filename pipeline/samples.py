"""The rows of an experiment: which tile of which source is which row, the same for all its models."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline.datasets.contract import Dataset, Source
from pipeline.datasets.images import image_size
from pipeline.frames import Tile, coverage, owned_in_input, tiles
from pipeline.sources import FileDigests
from stores.errors import UserError
from stores.specs import DatasetRecord, FrameSpec, Size, samples_digest, sources_digest


@dataclass(frozen=True)
class Samples:
    """The rows with everything needed to make them again."""

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

    @property
    def coverage(self) -> float:
        """Share of all source pixels that some tile shows."""
        area = {name: size.height * size.width for name, size in self.sizes.items()}
        covered = sum(coverage(self.frame, size) * area[name] for name, size in self.sizes.items())
        return covered / sum(area.values())


def make_samples(dataset: Dataset, chosen: Sequence[Source], frame: FrameSpec, digests: FileDigests) -> Samples:
    """Return the rows of the chosen sources, sorted by source name, tiles row by row.

    Raises UserError when a source is smaller than a tile, its label file is missing, or nothing is chosen.
    """
    sources = {source.name: source for source in sorted(chosen, key=lambda source: source.name)}
    if not sources:
        raise UserError(f"no images are chosen from {dataset.root}: check [selection] in the experiment file")
    with ThreadPoolExecutor(4) as pool:
        sizes = dict(zip(sources, pool.map(lambda source: image_size(source.image), sources.values()), strict=True))
    paths = [source.image for source in sources.values()]
    labels = [source.label for source in sources.values() if source.label is not None]
    hashes = digests.of([*paths, *labels])
    image_digests = {name: hashes[source.image] for name, source in sources.items()}
    label_digests = {name: hashes[source.label] for name, source in sources.items() if source.label is not None}
    rows: list[tuple[str, Tile]] = []
    for name, size in sizes.items():
        try:
            rows += [(name, tile) for tile in tiles(frame, size)]
        except UserError as error:
            raise UserError(f"{sources[name].image}: {error}") from error
    table = pd.DataFrame(
        [_row(sources[name], tile, frame, image_digests[name], label_digests.get(name, "")) for name, tile in rows]
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
        sizes=sizes,
        tiles=tuple(rows),
        image_digests=image_digests,
        label_digests=label_digests,
        table=table,
        digest=samples_digest((name, tile.box) for name, tile in rows),
    )


def _row(source: Source, tile: Tile, frame: FrameSpec, image: str, label: str) -> dict[str, str | int | bool]:
    left, top, right, bottom = tile.box
    owned_left, owned_top, owned_right, owned_bottom = owned_in_input(frame, tile)
    return {
        "sample": f"{source.name}[{tile.row},{tile.column}]",
        "source": source.name,
        "group": source.group,
        "split": source.split,
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
        "image_class": -1 if source.image_class is None else source.image_class,
        "source_sha256": image,
        "label_sha256": label,
        "valid": True,
        "reason": "",
    }


def path_below(root: Path, folder: str) -> Path:
    """Return ``root / folder``; raises UserError when it would lie outside of ``root``."""
    path = (root / folder).resolve()
    if not path.is_relative_to(root.resolve()):
        raise UserError(f"the data folder {folder!r} leaves the data root {root}: name a folder below it")
    return root / folder
