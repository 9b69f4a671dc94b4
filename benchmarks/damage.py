"""Every single-object damage to a small extracted store: is it named, is it repaired?

Each object of a feature set, its label set and the notes that lead to them is damaged in turn: one flipped bit at a
drawn place, truncation to a drawn length, deletion, a swap with a drawn neighbour of the same size. A stray object is
added to every folder, and an object counts as named only if `verify` gives its own key. Then `repair` runs with the
images and the model at hand, and the store counts as repaired only if every byte of it is as before. What
no digest covers is left out: the caches in ``sources/``, whose loss costs hashing again, and ``logs/``, which nothing
that counts reads.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.measure import row
from demo.street import write_street_world
from pipeline.dataset_recipe import DatasetRecipe
from pipeline.extraction.compute import Compute
from pipeline.extraction.recomputing.repair import repair_recipe
from pipeline.extraction.run import Recorded, Workspace, extract_recipe
from pipeline.frame_recipe import FrameRecipe
from pipeline.recipe import FeatureRecipe, ModelRecipe, Recipe, StorageRecipe
from pipeline.views import CLEAN
from stores import Store
from stores.format.paths import LOGS, SOURCES
from stores.maintenance.repair import repair_index
from stores.maintenance.verify import verify
from stores.specs import Size

KINDS = ("flipped bit", "truncated", "deleted", "swapped", "stray")
SEED = 0
COMPUTE = Compute("cpu", batch_size=4, threads=1)


@dataclass(frozen=True)
class Case:
    """One damage and what came of it."""

    kind: str
    keys: tuple[str, ...]
    """The objects that are not what they were."""
    named: bool
    repaired: bool


def small_store(
    folder: Path, layers: Any = "all", norm: Literal["final", "none", "both"] = "both", images: int = 2
) -> tuple[Workspace, Recipe]:
    """Paint some street scenes and extract them with a tiny model.

    Args:
        folder: Where images and store are written.
        layers: Layers that are kept.
        norm: Whether they are kept with the final norm, without it or both.
        images: Number of training images; there is one more for validation.
    """
    write_street_world(folder / "world", images_per_city={"train": {"alpha": images}, "val": {"beta": 1}})
    recipe = Recipe(
        dataset=DatasetRecipe(name="cityscapes", folder="world"),
        frame=FrameRecipe(input=Size(height=32, width=32), tile=Size(height=128, width=128)),
        models=(ModelRecipe(name="test_vit", weights="random"),),
        features=FeatureRecipe(layers=layers, norm=norm),
        storage=StorageRecipe(range_megabytes=0.002),
    )
    site = Workspace(Store(folder / "store"), folder, folder)
    extract_recipe(recipe, site, COMPUTE)
    return site, recipe


def bytes_of(root: Path) -> dict[str, bytes]:
    """Return every object of a store by its key, caches and logs left out."""
    paths = [path for path in sorted(root.rglob("*")) if path.is_file()]
    found = {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}
    return {key: data for key, data in found.items() if key.partition("/")[0] not in (SOURCES, LOGS)}


def damages(whole: dict[str, bytes], keys: Sequence[str], seed: int) -> Iterator[tuple[str, dict[str, bytes | None]]]:
    """Yield ``(kind of damage, new bytes by key)`` for every object; None deletes it."""
    by_size: dict[tuple[str, int], list[str]] = {}
    for key, data in whole.items():
        by_size.setdefault((key.partition("/")[0], len(data)), []).append(key)
    for key in keys:
        data = whole[key]
        # A generator an object, so that leaving some out changes nothing for the others.
        rng = np.random.default_rng([seed, *key.encode()])
        flipped = bytearray(data)
        bit = int(rng.integers(8 * len(data)))
        flipped[bit // 8] ^= 1 << bit % 8
        yield "flipped bit", {key: bytes(flipped)}
        yield "truncated", {key: data[: int(rng.integers(len(data)))]}
        yield "deleted", {key: None}
        others = [other for other in by_size[key.partition("/")[0], len(data)] if whole[other] != data]
        if others:
            other = others[int(rng.integers(len(others)))]
            yield "swapped", {key: whole[other], other: data}
    for folder in sorted({key.rpartition("/")[0] for key in keys}):
        yield "stray", {f"{folder}/c.99.0.0": b"stray"}


def campaign(
    root: Path, keys: Sequence[str], check: Callable[[], set[str]], repair: Callable[[], None], seed: int = SEED
) -> Iterator[Case]:
    """Damage the objects of a store one at a time; ``check`` returns the keys that are named, ``repair`` repairs."""
    whole = bytes_of(root)
    for kind, changes in damages(whole, keys, seed):
        for key, data in changes.items():
            if data is None:
                (root / key).unlink()
            else:
                (root / key).write_bytes(data)
        named = changes.keys() <= check()
        repair()
        after = bytes_of(root)
        for key in after.keys() - whole.keys():
            (root / key).unlink()
        for key, data in whole.items():
            if after.get(key) != data:
                (root / key).write_bytes(data)
        yield Case(kind, tuple(changes), named, after == whole)


def recorded(site: Workspace, recipe: Recipe) -> list[Recorded]:
    """Return the sets that the note of the recipe's model names."""
    noted = site.store.recall(recipe.model_key(recipe.models[0])) or {}
    return [Recorded(recipe.models[0], CLEAN, noted["features"], noted["labels"])]


def check_and_repair(site: Workspace, recipe: Recipe) -> tuple[Callable[[], set[str]], Callable[[], None]]:
    """Return what `verify` names of a store, and what `repair EXP --remove-strays` does to it."""
    sets = recorded(site, recipe)

    def check() -> set[str]:
        return {finding.key for verdict in verify(site.store) for finding in verdict.findings}

    def repair() -> None:
        repair_index(site.store, remove_strays=True)
        repair_recipe(recipe, site, sets, lambda: COMPUTE, remove_strays=True)

    return check, repair


def rows() -> list[dict[str, Any]]:
    """Return the shares of damages that are named and repaired, by kind of damage."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("PATCHBANK_BENCH_DIR")) as name:
        site, recipe = small_store(Path(name))
        root = Path(site.store.location)
        started = time.perf_counter()
        cases = list(campaign(root, list(bytes_of(root)), *check_and_repair(site, recipe)))
        seconds = time.perf_counter() - started
    table = []
    for kind in KINDS:
        here = [case for case in cases if case.kind == kind]
        for what, count in (("named", sum(c.named for c in here)), ("repaired", sum(c.repaired for c in here))):
            peer = f"{len(here)} damages, one at a time"
            table.append(row(f"damage {what}, {kind}", count / len(here), "at least", 1.0, seconds, 0, peer))
    for case in cases:
        if not (case.named and case.repaired):
            print(f"{case.kind} {' '.join(case.keys)}: named {case.named}, repaired {case.repaired}")
    return table
