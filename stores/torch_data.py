"""A sealed array as a torch ``IterableDataset``; the only module of this package that needs torch.

Ranges are what is read, shuffled and divided between workers, so that every stored chunk is read once an epoch.
"""

import hashlib
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Int64
from torch.utils.data import IterableDataset, get_worker_info

from stores.arrays import StoredArray, StoredSet
from stores.errors import UserError
from stores.indexing import AxisIndex, row_numbers
from stores.notebook import html_table

Batch = tuple[torch.Tensor, torch.Tensor] | tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class RangeDataset(IterableDataset[Batch]):
    """Batches of rows of one sealed array, optionally with labels.

    Yields ``(row numbers, features)`` or ``(row numbers, features, labels)``: int64 (sample), the stored dtype
    (sample, patch, channel), the label array's dtype and axes. Pass it to ``DataLoader(data, batch_size=None,
    num_workers=...)``, which divides the ranges between the workers. A batch never crosses a range, so the last one of
    a range may be smaller than ``batch_rows``.

    The order depends on set, array, seed and epoch alone, so the rows of a range come in the same order with any number
    of workers. Call `set_epoch` before each epoch (without ``persistent_workers``, whose copies would keep the epoch
    they started with). Rows marked invalid are left out.

    Raises UserError when an array is not complete or the labels are of other samples.

    Args:
        features: The feature set.
        array: Name of its array.
        labels: Label set of the same samples and the name of its array.
        rows: Rows to yield, such as a split: their numbers, a slice or a mask; all by default.
        batch_rows: Rows of a batch.
        shuffle: Seed for the order of the ranges and of the rows in each; without one they come in stored order.
        shard: ``(i, N)`` takes every N-th range from the i-th on, for N processes that share an epoch.
    """

    def __init__(
        self,
        features: StoredSet,
        array: str,
        labels: tuple[StoredSet, str] | None = None,
        *,
        rows: AxisIndex | None = None,
        batch_rows: int = 32,
        shuffle: int | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        if batch_rows < 1 or not 0 <= shard[0] < shard[1]:
            raise UserError(
                f"batch_rows is {batch_rows} and shard {shard}: give at least 1, and (i, N) with i from 0 to N-1"
            )
        self.layout = features.layout
        self.features = _sealed(features, array)
        self.labels = None if labels is None else _sealed(*labels)
        if labels is not None and labels[0].spec.samples != features.spec.samples:
            raise UserError(
                f"label set {labels[0].digest[:12]} and feature set {features.digest[:12]} have other samples: make "
                "both from one experiment"
            )
        try:
            self.rows = None if rows is None else np.unique(row_numbers(rows, self.layout.n_rows))
        except IndexError as error:
            raise UserError(f"{error}: the set has rows 0 to {self.layout.n_rows - 1}, choose among these") from None
        valid = _valid(features) if labels is None else _valid(features) & _valid(labels[0])
        if not valid.all():
            self.rows = np.flatnonzero(valid) if self.rows is None else self.rows[valid[self.rows]]
        self.batch_rows = batch_rows
        self.shuffle = shuffle
        self.shard = shard
        self.identity = f"{features.digest} {self.features.spec.name}"
        self.epoch = 0

    def __repr__(self) -> str:
        n_rows = self.layout.n_rows if self.rows is None else len(self.rows)
        labels = "" if self.labels is None else f", labels {self.labels.spec.name}"
        order = "stored order" if self.shuffle is None else f"shuffled by {self.shuffle}"
        return f"<RangeDataset {self.identity[:12]} {self.features.spec.name}: {n_rows} rows{labels}, {order}>"

    def _repr_html_(self) -> str:
        batches = ("rows of a batch", self.batch_rows), ("epoch", self.epoch), ("shard", self.shard)
        return html_table(repr(self), ("setting", "value"), batches)

    def set_epoch(self, epoch: int) -> None:
        """Shuffle the next pass for this epoch; without ``shuffle`` nothing changes."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Batch]:
        for number in self._ranges():
            row_range = self.layout.range(int(number))
            rows = np.arange(row_range.start, row_range.stop, dtype=np.int64)
            if self.rows is not None:
                rows = rows[np.isin(rows, self.rows, assume_unique=True)]
            if not len(rows):
                continue
            # Read in stored order and permuted in memory, so that every chunk is read once.
            features = self.features[rows]
            labels = None if self.labels is None else self.labels[rows]
            order = np.arange(len(rows))
            if self.shuffle is not None:
                order = self._random(f"range {number}").permutation(order)
            for start in range(0, len(order), self.batch_rows):
                chosen = order[start : start + self.batch_rows]
                batch = (torch.from_numpy(rows[chosen]), torch.from_numpy(features[chosen]))
                yield batch if labels is None else (*batch, torch.from_numpy(labels[chosen]))

    def _ranges(self) -> Int64[np.ndarray, " range"]:
        numbers = np.arange(self.layout.n_ranges, dtype=np.int64)
        if self.shuffle is not None:
            numbers = self._random("ranges").permutation(numbers)
        numbers = numbers[self.shard[0] :: self.shard[1]]
        worker = get_worker_info()
        return numbers if worker is None else numbers[worker.id :: worker.num_workers]

    def _random(self, what: str) -> np.random.Generator:
        key = f"{self.identity} {self.shuffle} {self.epoch} {what}"
        return np.random.default_rng(int.from_bytes(hashlib.sha256(key.encode()).digest(), "little"))


def _valid(stored_set: StoredSet) -> np.ndarray:
    samples = stored_set.table("samples")
    return samples["valid"].to_numpy(dtype=bool) if "valid" in samples else np.ones(len(samples), dtype=bool)


def _sealed(stored_set: StoredSet, name: str) -> StoredArray:
    array = stored_set[name]
    if not stored_set.sealed(array.spec.name):
        raise UserError(
            f"array {array.spec.name} of set {stored_set.digest[:12]} is not complete: finish its extraction"
        )
    return array
