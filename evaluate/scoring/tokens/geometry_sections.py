"""The pass over a token array that its geometry needs, in sections of a fixed number of rows.

Sums over rows are added up within each section, and then section after section: the order, and with it the last bits
of second moments, follows from the number of rows and of patches alone.
"""

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.rows import RowSelection, image_numbers
from evaluate.kernels.geometry.position import FoldMoments
from evaluate.kernels.geometry.sums import BlockSums, Plan, RowNumbers
from evaluate.results.sections import Arrays, LongPass, SectionFiles
from evaluate.results.table import ResultKey, ResultStore
from evaluate.scoring.tokens.geometry import ArrayGeometry, n_sections, plan_of, read_geometry, section_rows

REVISION = 1
"""Raised when the same key would have other arrays."""
_SUMS = ("positions", "counts", "largest", "cubic")
_FOLD = ("total", "second", "cross", "places")


@dataclass(frozen=True, eq=False)
class GeometryPass(LongPass):
    """The pass over the selected rows of a token array."""

    model: ModelSets
    array: str
    """Address of the token array."""
    selection: RowSelection
    pair_images: int
    """Most images whose patches are compared with each other, spread evenly."""
    seed: int
    """Seed of the choice of tokens that are kept."""
    inputs: dict[str, str]
    """Content digests of what is read."""

    @property
    def title(self) -> str:
        """What is computed, for a line on the terminal."""
        return f"geometry of {self.array}"

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """What names the files."""
        settings = {"pair_images": self.pair_images, "seed": self.seed, "section_rows": self._section_rows}
        parameters = {"sources": list(self.selection.sources), **settings}
        return (ResultKey("geometry of sections", REVISION, parameters, self.inputs).digest,)

    @property
    def parameters(self) -> dict[str, int]:
        """What enters the key of a result: where there are several sections their rows, on which last bits depend."""
        return {"section_rows": self._section_rows} if self.n_sections > 1 else {}

    @property
    def n_sections(self) -> int:
        """Number of sections."""
        return n_sections(self.model, self.array, self.selection)

    @cached_property
    def plan(self) -> Plan:
        """What is computed of each row."""
        return plan_of(self.model, self.array, self.selection, self.pair_images, self.seed)

    def compute(self, number: int) -> dict[str, Arrays]:
        """Return the numbers of the rows of a section, and sums over them."""
        rows, sums = self._read(number, None)
        arrays = {f"rows.{one.name}": getattr(rows, one.name) for one in fields(RowNumbers)}
        arrays |= {f"sums.{name}": np.asarray(getattr(sums, name)) for name in (*_SUMS, "fourth")}
        for fold, moments in sums.folds.items():
            arrays |= {f"fold.{fold}.{name}": np.asarray(getattr(moments, name)) for name in (*_FOLD, "count")}
        return {self.digests[0]: arrays}

    def merged(self, files: SectionFiles | None) -> tuple[RowNumbers, BlockSums]:
        """Return the numbers of all rows and their sums; sections that no worker has computed are computed here.

        Args:
            files: where workers keep sections; None looks nowhere.
        """
        rows, sums = RowNumbers.empty(self.plan, self.model.n_channels(self.array)), BlockSums()
        for number in range(self.n_sections):
            here = self._rows(number)
            into = RowNumbers(*(getattr(rows, one.name)[here] for one in fields(RowNumbers)))
            arrays = None if files is None or self.n_sections == 1 else files.read(self.digests[0], number)
            found = None if arrays is None else _unpacked(arrays, into)
            sums.add(self._read(number, into)[1] if found is None else found)
        return rows, sums

    @property
    def _section_rows(self) -> int:
        return section_rows(self.model, self.array)

    def _rows(self, number: int) -> slice:
        n = self._section_rows
        return slice(number * n, min((number + 1) * n, len(self.selection.rows)))

    def _read(self, number: int, into: RowNumbers | None) -> tuple[RowNumbers, BlockSums]:
        here, plan = self._rows(number), self.plan
        labels = None if plan.labels is None else plan.labels[here]
        part = Plan(plan.grid, plan.folds[here], plan.compared[here], plan.sampled[here], labels)
        return read_geometry(self.model.features[self.array], self.selection.rows[here], part, into)


def _unpacked(arrays: dict[str, np.ndarray], into: RowNumbers) -> BlockSums | None:
    """Write the numbers of a section's rows to their place and return its sums; None where they are not of its rows."""
    own = {one.name: getattr(into, one.name) for one in fields(RowNumbers)}
    if any(np.shape(arrays.get(f"rows.{name}", 0.0)) != values.shape for name, values in own.items()):
        return None
    for name, values in own.items():
        values[...] = arrays[f"rows.{name}"]
    sums = BlockSums(fourth=float(arrays["sums.fourth"]))
    sums.positions, sums.counts, sums.largest, sums.cubic = (arrays[f"sums.{name}"] for name in _SUMS)
    for fold in sorted({int(name.split(".")[1]) for name in arrays if name.startswith("fold.")}):
        total, second, cross, places = (arrays[f"fold.{fold}.{name}"] for name in _FOLD)
        sums.folds[fold] = FoldMoments(int(arrays[f"fold.{fold}.count"]), total, second, cross, places)
    return sums


def array_geometry(one: GeometryPass, results: ResultStore | None) -> ArrayGeometry:
    """Return the geometry of the selected rows of an array, each of its chunks read once.

    Args:
        one: the pass over the array.
        results: where workers keep sections that they have computed.
    """
    rows, sums = one.merged(None if results is None else SectionFiles(results.root))
    return ArrayGeometry(one.plan, rows, sums, image_numbers(one.model, one.selection), len(one.selection.sources))
