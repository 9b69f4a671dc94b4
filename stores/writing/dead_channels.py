"""Dead features: channels that have one and the same value in every position of every valid row.

They are found in the bytes that sealing reads anyway. A channel is no longer compared after the first value that
differs, so in most layers only the first few positions are compared, and all positions of dead channels alone.
"""

import contextlib

import numpy as np
from jaxtyping import Bool, Float, Shaped

from stores.errors import DamageError
from stores.format.paths import DEVIATIONS, MEANS
from stores.format.records import record_bytes
from stores.format.tables import read_table
from stores.specs import ArraySpec
from stores.storage.base import Objects

_FIRST = 16
"""Positions that are compared at first; then twice as many, each time over the channels that are left."""


def has_channels(array: ArraySpec) -> bool:
    """Return whether an array holds patch tokens, with channels on its last axis.

    Prefix tokens are left out, because in the first layers a class token can be the same in all samples, means and
    deviations, because those of alike inputs can be equal after rounding, and what is inside a block, where dead
    channels are no fault.
    """
    others = ("prefix", MEANS, DEVIATIONS, "sublayers")
    is_tokens = array.dimension_names[-1].startswith("channel") and array.group not in others
    return array.dtype.startswith("float") and is_tokens


class DeadFeatures:
    """Dead channels of one array, from rows that are added block by block."""

    def __init__(self, array: ArraySpec, valid: Bool[np.ndarray, " sample"]) -> None:
        self.valid = valid
        self.value: Float[np.ndarray, " channel"] | None = None
        """The features of the first position of the first valid row."""
        # With fewer than two rows every channel is constant, which says nothing.
        channels = array.row_shape[-1] if has_channels(array) and int(valid.sum()) > 1 else 0
        self.left = np.arange(channels)
        """The channels that had one and the same value so far."""

    def take(self, start: int, rows: Shaped[np.ndarray, "..."]) -> None:
        """Add rows ``start`` onwards, channels last; blocks may come in any order."""
        if not len(self.left):
            return
        flat = rows[self.valid[start : start + len(rows)]].reshape(-1, rows.shape[-1])
        if self.value is None and len(flat):
            self.value = flat[0].copy()
        done, count = 0, _FIRST
        while done < len(flat) and len(self.left):
            assert self.value is not None
            changed = (flat[done : done + count, self.left] != self.value[self.left]).any(axis=0)
            self.left = self.left[~changed]
            done, count = done + count, 2 * count

    @property
    def summary(self) -> tuple[list[int], list[float] | None]:
        """The channels that are left with their values, None before the first valid row, for another process."""
        return self.left.tolist(), None if self.value is None else self.value[self.left].tolist()

    def merge(self, summary: tuple[list[int], list[float] | None]) -> None:
        """Add what another process found in other rows."""
        channels, values = summary
        if values is None or not len(self.left):
            return
        left = np.array(channels, dtype=np.int64)
        if self.value is None:
            self.value = np.zeros(self.left[-1] + 1)
            self.value[left] = values
            self.left = left
            return
        here = np.isin(left, self.left)
        left, theirs = left[here], np.array(values)[here]
        self.left = left[self.value[left] == theirs]

    @property
    def channels(self) -> tuple[int, ...]:
        """The dead channels, once all rows were added."""
        return tuple(self.left.tolist())


def valid_rows(objects: Objects, prefix: str, n_rows: int) -> Bool[np.ndarray, " sample"]:
    """Return which rows of the set in folder ``prefix`` are not marked invalid; all where its table is damaged."""
    with contextlib.suppress(DamageError):  # `verify` names a damaged table
        key = f"{prefix}/samples.parquet"
        table = read_table(record_bytes(objects, key) or b"", key, n_rows)
        if "valid" in table:
            return table["valid"].to_numpy(dtype=bool)
    return np.ones(n_rows, dtype=bool)


def describe_channels(channels: tuple[int, ...], n_channels: int) -> str:
    """Return how many channels are dead and the numbers of the first ten, as text."""
    listed = ", ".join(map(str, channels[:10])) + (", ..." if len(channels) > 10 else "")
    return f"{len(channels)} of {n_channels} features dead (channels {listed})"
