"""Dead features: channels that have one value in every position of every valid row.

Counted from the bytes that sealing reads anyway. A channel is settled by the first value that differs, so that of a
living layer only the first few positions are looked at, and of a dead channel all.
"""

import contextlib

import numpy as np
from jaxtyping import Bool, Float, Shaped

from stores.errors import DamageError, MissingError
from stores.format.tables import read_table
from stores.specs import ArraySpec
from stores.storage.base import Objects

_FIRST = 16
"""Positions that are compared over all channels at first; then twice as many over those that are left."""


def has_channels(array: ArraySpec) -> bool:
    """Return whether an array holds patch tokens, with channels on its last axis.

    Prefix tokens are left out: a class token that no patch has reached yet is the same in all samples, and rightly so.
    """
    is_tokens = array.dimension_names[-1].startswith("channel") and array.group != "prefix"
    return array.dtype.startswith("float") and is_tokens


class DeadFeatures:
    """Takes the rows of one array, block by block, and keeps the channels that did not change yet."""

    def __init__(self, array: ArraySpec, valid: Bool[np.ndarray, " sample"]) -> None:
        self.valid = valid
        self.value: Float[np.ndarray, " channel"] | None = None
        """The features of the first position of the first valid row."""
        # With less than two rows every channel is constant, and nothing is known.
        channels = array.row_shape[-1] if has_channels(array) and int(valid.sum()) > 1 else 0
        self.left = np.arange(channels)
        """The channels that had one value so far."""

    def take(self, start: int, rows: Shaped[np.ndarray, "..."]) -> None:
        """Look at rows ``start`` onwards, channels last; blocks may come in any order."""
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
    def channels(self) -> tuple[int, ...]:
        """The dead channels, once all rows were taken."""
        return tuple(self.left.tolist())


def valid_rows(objects: Objects, prefix: str, n_rows: int) -> Bool[np.ndarray, " sample"]:
    """Return which rows of the set in folder ``prefix`` are not marked invalid; all where its table cannot say."""
    with contextlib.suppress(MissingError, DamageError):  # `verify` names a damaged table; a number need not
        key = f"{prefix}/samples.parquet"
        table = read_table(objects.read(key), key, n_rows)
        if "valid" in table:
            return table["valid"].to_numpy(dtype=bool)
    return np.ones(n_rows, dtype=bool)


def in_words(channels: tuple[int, ...], n_channels: int) -> str:
    """Return which channels are dead, the first ten by number."""
    listed = ", ".join(map(str, channels[:10])) + (", ..." if len(channels) > 10 else "")
    return f"{len(channels)} of {n_channels} features dead (channels {listed})"
