"""Chooses rows by the classes they contain: paper A's few-shot sets of FAIR1M (tiles) and ADE20K (images).

One class after another takes its share of the candidates that are left. The order of a class's candidates is random,
by seed and names, so that it depends neither on the order of files nor on the other classes.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from pipeline.dataset_recipe import FewShot
from pipeline.datasets.contract import Dataset, Source
from pipeline.datasets.reading.images import image_size
from pipeline.datasets.reading.outlines import BACKGROUND
from pipeline.datasets.reading.polygons import Polygon, area, clip
from pipeline.rows.bad_samples import check_bad_count, read_labels
from pipeline.rows.frames import Tile, resized_size, tiles
from stores.canonical import canonical_json
from stores.errors import UserError
from stores.specs import VOID, FrameSpec

_SLACK = 1e-9
"""Relative tolerance, so that exactly a third of an area counts as a third in float64."""

Key = tuple[str, int, int]
"""Source name, tile row and tile column; for whole images row and column are -1."""


@dataclass(frozen=True)
class FewShotChoice:
    """The sources and tiles that a rule chose."""

    sources: tuple[Source, ...]
    tiles: Mapping[str, Collection[tuple[int, int]]] | None
    """Row and column of the chosen tiles of each source; None means all tiles."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Why an image's labels could not be read, by its name; no class could choose it."""


def choose_rows(
    dataset: Dataset, sources: Sequence[Source], frame: FrameSpec, rule: FewShot, *, keep_invalid: bool = False
) -> FewShotChoice:
    """Return the sources, and for the unit ``tiles`` their tiles, that a rule chooses.

    Reads the labels of all images of the rule's splits. Raises UserError when a split is unknown, when tiles are to be
    chosen from a data set without objects, when nothing is labelled, and for labels that cannot be used.

    Args:
        dataset: Reader of the data set.
        sources: Sources to choose from.
        frame: How sources are cut into tiles.
        rule: The rule of the experiment.
        keep_invalid: Exclude images with labels that cannot be used; raise only when these are too many.
    """
    if rule.unit == "tiles" and "objects" not in dataset.labels:
        raise UserError(f'{dataset.name} has no objects to choose tiles by: set unit = "images" in [dataset.few_shot]')
    known = sorted({source.split for source in sources})
    taken: set[Key] = set()
    left_out: dict[str, str] = {}
    n_read = 0
    for split, count in sorted(rule.per_class.items()):
        of_split = [source for source in sources if source.split == split]
        if not of_split:
            raise UserError(f"[dataset.few_shot] names the split {split!r}, the data set has: {', '.join(known)}")
        contains, bad = _contents(dataset, of_split, frame, rule, keep_invalid)
        left_out |= bad
        n_read += len(of_split)
        order = class_order(dataset, contains, rule.unit)
        taken |= {key for keys in choose(contains, order, count, rule.seed).values() for key in keys}
    if left_out:
        check_bad_count(left_out, n_read)
    if not taken:
        raise UserError(f"[dataset.few_shot] finds no labels below {dataset.root}: choose another split or share")
    chosen: dict[str, set[tuple[int, int]]] = {}
    for name, row, column in taken:
        chosen.setdefault(name, set()).add((row, column))
    left = tuple(source for source in sources if source.name in chosen)
    return FewShotChoice(left, chosen if rule.unit == "tiles" else None, left_out)


def class_order(dataset: Dataset, contains: Mapping[Key, Collection[int]], unit: str) -> list[tuple[int, str]]:
    """Return id and name of the classes in the order of choosing: that of the class table, for images rarest first."""
    classes = [(entry.id, entry.name) for entry in dataset.classes() if entry.name != BACKGROUND.name]
    if unit == "tiles":
        return classes
    counts = dict.fromkeys((class_id for class_id, _ in classes), 0)
    for found in contains.values():
        for class_id in found:
            counts[class_id] = counts.get(class_id, 0) + 1
    return sorted(classes, key=lambda entry: (counts[entry[0]], entry[0]))


def choose(
    contains: Mapping[Key, Collection[int]], order: Sequence[tuple[int, str]], count: int, seed: int
) -> dict[int, list[Key]]:
    """Return the keys that every class takes.

    Args:
        contains: Classes of every tile or image.
        order: Id and name of the classes in the order of choosing.
        count: Keys to take for each class; a class with fewer takes all that are left.
        seed: Seed of the order of candidates.
    """
    candidates: dict[int, list[Key]] = {class_id: [] for class_id, _ in order}
    for key, found in contains.items():
        for class_id in found:
            if class_id in candidates:
                candidates[class_id].append(key)
    taken: set[Key] = set()
    chosen: dict[int, list[Key]] = {}
    for class_id, name in order:
        drawn = sorted((_random_order([seed, name, *key]), key) for key in candidates[class_id] if key not in taken)
        chosen[class_id] = [key for _, key in drawn[:count]]
        taken.update(chosen[class_id])
    return chosen


def _random_order(key: list[object]) -> bytes:
    return hashlib.sha256(canonical_json(key)).digest()


def _contents(
    dataset: Dataset, sources: Sequence[Source], frame: FrameSpec, rule: FewShot, keep_invalid: bool
) -> tuple[dict[Key, frozenset[int]], dict[str, str]]:
    """Return the classes of every tile or image, and why sources were excluded, by name."""

    def of_tiles(source: Source) -> dict[Key, frozenset[int]]:
        size = image_size(source.image)
        plane = resized_size(frame, size)
        scale = (plane.width / size.width, plane.height / size.height)
        outlines = [(entry.category, entry.polygon) for entry in dataset.objects(source)]
        found = tile_classes(outlines, tiles(frame, size), scale, rule.share)
        return {(source.name, row, column): frozenset(ids) for (row, column), ids in found.items()}

    def of_image(source: Source) -> dict[Key, frozenset[int]]:
        return {(source.name, -1, -1): _image_classes(dataset, source)}

    read: Callable[[Source], dict[Key, frozenset[int]]] = of_tiles if rule.unit == "tiles" else of_image

    def one(source: Source) -> tuple[dict[Key, frozenset[int]] | None, str]:
        return read_labels(dataset, source, read) if keep_invalid else (read(source), "")

    found: dict[Key, frozenset[int]] = {}
    left_out: dict[str, str] = {}
    with ThreadPoolExecutor(4) as pool:
        for source, (part, reason) in zip(sources, pool.map(one, sources), strict=True):
            found |= part or {}
            if part is None:
                left_out[source.name] = reason
    return found, left_out


def _image_classes(dataset: Dataset, source: Source) -> frozenset[int]:
    if "pixels" in dataset.labels:
        return frozenset(np.unique(dataset.pixel_classes(source)).tolist()) - {VOID}
    if "objects" in dataset.labels:
        return frozenset(entry.category for entry in dataset.objects(source))
    return frozenset() if source.image_class is None else frozenset({source.image_class})


def tile_classes(
    outlines: Sequence[tuple[int, Polygon]], tile_list: Sequence[Tile], scale: tuple[float, float], share: float
) -> dict[tuple[int, int], set[int]]:
    """Return the classes of which each tile shows enough of an object, by the tile's row and column.

    Args:
        outlines: Class id and outline of the objects, in source pixels.
        tile_list: Tiles of the source.
        scale: Factors (x, y) from source pixels to the plane of the tiles.
        share: Share of an object's area that a tile must show, 0..1.
    """
    rows = {tile.row: (tile.box[1], tile.box[3]) for tile in tile_list}
    columns = {tile.column: (tile.box[0], tile.box[2]) for tile in tile_list}
    found: dict[tuple[int, int], set[int]] = {(tile.row, tile.column): set() for tile in tile_list}
    for class_id, outline in outlines:
        scaled = tuple((x * scale[0], y * scale[1]) for x, y in outline)
        xs, ys = zip(*scaled, strict=True)
        min_area = share * area(scaled) * (1 - _SLACK)
        for row, (top, bottom) in rows.items():
            if bottom <= min(ys) or top >= max(ys):
                continue
            for column, (left, right) in columns.items():
                if right <= min(xs) or left >= max(xs) or class_id in found[row, column]:
                    continue
                if area(clip(scaled, (float(left), float(top), float(right), float(bottom)))) >= min_area:
                    found[row, column].add(class_id)
    return found
