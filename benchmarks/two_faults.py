"""Every pair of objects of a small store damaged at once: what is named, repaired, completed, lost, removed, believed?

Each pair of objects of a feature set, its label set and the note that leads to them gets two damages, each kind of one
with a drawn kind of the other: deleted, torn, swapped with a drawn object, replaced by an empty folder or by a pipe.
Then, as a user would: `verify`, `repair` with the experiment, and where that leaves something `extract` and `repair`.
"""

import contextlib
import errno
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.damage import COMPUTE, bytes_of, recorded, small_store
from benchmarks.measure import row
from pipeline.extraction.options import ExtractOptions
from pipeline.extraction.recomputing.repair import Repaired, repair_recipe
from pipeline.extraction.run import Workspace, extract_recipe
from pipeline.recipe import Recipe
from stores import Store, ZarrSet
from stores.errors import PatchbankError
from stores.format.paths import LOGS, SOURCES
from stores.maintenance.repair import repair_index
from stores.maintenance.verify import verify
from stores.storage.base import PARTIAL

KINDS = ("deleted", "torn", "swapped", "folder", "pipe")
SEED = 0

Fault = tuple[str, str]
"""Kind of damage and the object that is damaged."""


@dataclass(frozen=True)
class Outcome:
    """Two faults and what came of them."""

    faults: tuple[Fault, Fault]
    named: bool
    """`verify` names something, so that nobody takes the store for whole."""
    repaired: bool
    """After `repair` every byte is as before."""
    completed: bool
    """After `extract` and another `repair` every number is as before and `verify` names nothing."""
    removed: tuple[str, ...]
    """Objects that were not damaged and are gone after `repair`, though nothing replaced them."""
    believed: bool
    """`verify` named nothing, and what is read differs from what was stored."""
    problem: str = ""
    """An error that was not made for users."""


def damage(root: Path, whole: dict[str, bytes], fault: Fault, rng: np.random.Generator) -> set[str]:
    """Damage one object; return the keys of the objects that are not what they were."""
    kind, key = fault
    path, data = root / key, whole[key]
    if path.is_dir():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
    if kind == "torn":
        path.write_bytes(data[: int(rng.integers(len(data)))])
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "swapped":
        others = sorted(other for other in whole if other != key and (root / other).is_file())
        other = others[int(rng.integers(len(others)))]
        path.write_bytes((root / other).read_bytes())
        (root / other).write_bytes(data)
        return {key, other}
    return {key}


def restore(root: Path, whole: dict[str, bytes]) -> None:
    """Give a store back the bytes that it had."""
    for path in sorted(root.rglob("*"), reverse=True):
        key = path.relative_to(root).as_posix()
        if key.partition("/")[0] in (SOURCES, LOGS):
            continue
        if path.is_dir() and not path.is_symlink():
            with contextlib.suppress(OSError):
                path.rmdir()
        elif key not in whole or not path.is_file() or path.read_bytes() != whole[key]:
            path.unlink()
    for key, data in whole.items():
        if not (root / key).exists():
            (root / key).parent.mkdir(parents=True, exist_ok=True)
            (root / key).write_bytes(data)


def numbers(store: Store) -> dict[str, Any]:
    """Return what a reader is given of every set that opens: each sealed array and table, where it can be read."""
    held: dict[str, Any] = {}
    for kind, digest in store.set_folders():
        with contextlib.suppress(PatchbankError):
            opened = ZarrSet(store.objects, f"{kind}/{digest}")
            for name in opened.seals:
                with contextlib.suppress(PatchbankError):
                    held[f"{digest}/{name}"] = opened[name][:].tobytes()
            for name in ("samples", "classes", "objects"):
                with contextlib.suppress(PatchbankError):
                    held[f"{digest}/{name}"] = opened.table(name).to_json()
    return held


class TwoFaults:
    """Damages pairs of objects of one store and gives the store back afterwards."""

    def __init__(self, site: Workspace, recipe: Recipe) -> None:
        self.site, self.recipe = site, recipe
        self.root = Path(site.store.location)
        self.whole = bytes_of(self.root)
        self.numbers = numbers(site.store)
        self.recorded = recorded(site, recipe)

    def pairs(self, keys: Sequence[str] | None = None, seed: int = SEED) -> Iterator[tuple[Fault, Fault]]:
        """Yield two faults for every pair of objects and kind of damage of the first; the second kind is drawn."""
        rng = np.random.default_rng(seed)
        for first, second in combinations(sorted(keys or self.whole), 2):
            shift = int(rng.integers(len(KINDS)))
            for index, kind in enumerate(KINDS):
                yield (kind, first), (KINDS[(index + shift) % len(KINDS)], second)

    def repair(self) -> list[Repaired]:
        """Run `repair EXP`."""
        repair_index(self.site.store)
        return repair_recipe(self.recipe, self.site, self.recorded, lambda: COMPUTE)

    def extract(self) -> None:
        """Run `extract EXP`, and `repair EXP` after it."""
        extract_recipe(self.recipe, self.site, COMPUTE, ExtractOptions(workers=1))
        self.repair()

    def named(self) -> set[str]:
        """Return what `verify` names."""
        verdicts = list(verify(self.site.store))
        return {f.key for v in verdicts for f in v.findings} | {v.set for v in verdicts if v.unread}

    def differs(self) -> bool:
        """Return whether some number that can be read is not what was stored."""
        return any(value != self.numbers.get(name) for name, value in numbers(self.site.store).items())

    def run(self, faults: tuple[Fault, Fault]) -> Outcome:
        """Damage two objects, do what a user would, and give the store back."""
        rng = np.random.default_rng([SEED, *"".join(faults[0] + faults[1]).encode()])
        touched: set[str] = set()
        try:
            for fault in faults:
                touched |= damage(self.root, self.whole, fault, rng)
            # Held open, so that a reader that opens a pipe in place of a chunk is told that it is empty.
            pipes = [
                os.open(self.root / key, os.O_RDWR) for kind, key in faults if kind == "pipe" and self._is_pipe(key)
            ]
            try:
                return self._judge(faults, touched)
            finally:
                for pipe in pipes:
                    os.close(pipe)
        finally:
            restore(self.root, self.whole)
            # A store remembers the folders that it has seen, and refuses to work where one of them vanished.
            self.site = replace(self.site, store=Store(self.root))

    def _is_pipe(self, key: str) -> bool:
        return (self.root / key).is_fifo()

    def _judge(self, faults: tuple[Fault, Fault], touched: set[str]) -> Outcome:
        named, problem, believed = self.named(), "", False
        believed |= not named and self.differs()
        problem = _problem_of(self.repair)
        after = bytes_of(self.root)
        removed = tuple(sorted(self.whole.keys() - touched - after.keys()))
        repaired = {key: data for key, data in after.items() if not key.endswith(PARTIAL)} == self.whole
        left = self.named()
        believed |= not left and self.differs()
        completed = repaired
        if not repaired:
            problem = problem or _problem_of(self.extract)
            left = self.named()
            believed |= not left and self.differs()
            completed = not left and numbers(self.site.store) == self.numbers
        return Outcome(faults, bool(named), repaired, completed, removed, believed, problem)


def _problem_of(command: Callable[[], object]) -> str:
    """Return the error of a command that was not made for users, as text."""
    try:
        command()
    except PatchbankError:
        return ""
    except OSError as error:
        return "" if error.errno == errno.ENOSPC else repr(error)
    except Exception as error:
        return repr(error)
    return ""


def rows() -> list[dict[str, Any]]:
    """Return the shares of pairs that are named, repaired and completed, and those of which something wrong came."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("PATCHBANK_BENCH_DIR")) as name:
        work = TwoFaults(*small_store(Path(name), layers=(3,), norm="final", images=1))
        started = time.perf_counter()
        outcomes = [work.run(faults) for faults in work.pairs()]
        seconds = time.perf_counter() - started
    print_table(outcomes)
    peer = f"{len(outcomes)} pairs of damages"
    shares = {
        "named": sum(one.named for one in outcomes),
        "completed": sum(one.completed for one in outcomes),
        "without a good object removed": sum(not one.removed for one in outcomes),
        "without a wrong number believed": sum(not one.believed for one in outcomes),
        "without a traceback": sum(not one.problem for one in outcomes),
    }
    return [
        row(f"two damages {what}", count / len(outcomes), "at least", 1.0, seconds, 0, peer)
        for what, count in shares.items()
    ]


def print_table(outcomes: Sequence[Outcome]) -> None:
    """Print a line for every pair of kinds, and every case that is not as it should be."""
    table: dict[tuple[str, ...], Counter[str]] = {}
    for one in outcomes:
        counts = table.setdefault(tuple(sorted(kind for kind, _ in one.faults)), Counter())
        counts.update(
            {
                "cases": 1,
                "named": one.named,
                "repaired": one.repaired,
                "completed": one.completed,
                "lost": not one.completed,
                "removed": bool(one.removed),
                "believed": one.believed,
            }
        )
    heads = ("cases", "named", "repaired", "completed", "lost", "removed", "believed")
    print(f"| two damages | {' | '.join(heads)} |\n|---|{'---|' * len(heads)}")
    for kinds, counts in sorted(table.items()):
        print(f"| {', '.join(kinds)} | {' | '.join(str(counts[head]) for head in heads)} |")
    for one in outcomes:
        if one.removed or one.believed or one.problem or not one.named or not one.completed:
            text = ", ".join(f"{kind} {key}" for kind, key in one.faults)
            print(f"{text}: {one}", flush=True)
