"""Selections of source images that an evaluation trains and scores on.

A selection is a rule, a seed and the list of selected sources, which is part of every result made from it. Selections
of different size with the same seed are nested, so that a train-size sweep only ever adds images (paper A, A-2).
"""

import hashlib
import itertools
from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int64, Integer
from pydantic import Field

from stores.canonical import canonical_json
from stores.errors import UserError
from stores.specs import Record


class SelectionRule(Record):
    """Which sources of a samples table to take."""

    split: str
    """Split of the data set, as its reader names it."""
    per_group: int | None = Field(default=None, ge=1)
    """Sources taken from every group (a city, a video, a class); None takes all."""
    groups: tuple[str, ...] | None = None
    """Groups to take from; None takes every group of the split."""
    seed: int = Field(default=0, ge=0)
    """Decides which sources of a group come first; smaller selections are part of larger ones."""
    skip: int = Field(default=0, ge=0)
    """Sources of every group that are left out first: where a data set has one split, validation skips as many as
    training takes, with the same seed."""

    n_groups: int | None = Field(default=None, ge=1)
    """Groups to take, chosen by the seed: some videos of a large data set, for example. None takes all of them."""

    def canonical(self) -> dict[str, Any]:
        """Return the rule as plain JSON values, without ``skip`` and ``n_groups`` where they change nothing."""
        unused = {name for name, value in (("skip", self.skip), ("n_groups", self.n_groups)) if not value}
        return self.model_dump(mode="json", exclude=unused)

    def contains(self, other: "SelectionRule") -> bool:
        """Return whether this rule, with what it skips, takes every source that ``other`` takes, of any data set."""
        whole, part = self.with_skipped(), other.with_skipped()
        alike = whole.seed == part.seed
        if whole.n_groups is None:
            groups = whole.groups is None or (part.groups is not None and set(part.groups) <= set(whole.groups))
        else:
            fewer = part.n_groups is not None and part.n_groups <= whole.n_groups
            groups = alike and fewer and part.groups == whole.groups
        fewer = whole.per_group is None or (part.per_group is not None and part.per_group <= whole.per_group)
        images = fewer and (alike or whole.per_group is None)
        return whole.split == part.split and groups and images

    def with_skipped(self) -> "SelectionRule":
        """Return the rule that takes the skipped sources too: extracted together, they can be skipped again."""
        per_group = None if self.per_group is None else self.per_group + self.skip
        return self.model_copy(update={"per_group": per_group, "skip": 0})


def select_sources(samples: pd.DataFrame, rule: SelectionRule) -> tuple[str, ...]:
    """Return the sorted names of the sources that ``rule`` selects from a samples table.

    ``samples`` has one row a tile, with at least the columns source, group and split. Which sources are selected
    depends on the names in the table and not on the order of its rows; with equal seeds a smaller ``per_group`` gives
    a subset of a larger one. Raises UserError when a column, the split or a group is missing, a source is in two
    groups, or a group has too few sources: a silently smaller selection would be another protocol.
    """
    missing = [name for name in ("source", "group", "split") if name not in samples.columns]
    if missing:
        raise UserError(f"the samples table has no column {missing[0]!r}; make the label set again")
    in_split = samples[samples["split"] == rule.split]
    if in_split.empty:
        splits = ", ".join(sorted(map(str, samples["split"].unique()))) or "none"
        raise UserError(
            f"there is no sample of split {rule.split!r}; the samples table has the splits: {splits} (change `split` "
            "in [selection])"
        )
    names_of = _names_by_group(in_split, rule)
    if rule.groups is None and rule.n_groups is None and rule.per_group is None and not rule.skip:
        return tuple(sorted(itertools.chain.from_iterable(names_of.values())))
    selected: list[str] = []
    groups = sorted(names_of) if rule.groups is None else sorted(set(rule.groups))
    for group in groups:
        if group not in names_of:
            raise UserError(
                f"split {rule.split!r} has no group {group!r}; its groups are: {', '.join(sorted(names_of))}"
            )
    if rule.n_groups is not None:
        if rule.n_groups > len(groups):
            raise UserError(f"split {rule.split!r} has {len(groups)} groups, fewer than n_groups = {rule.n_groups}")
        groups = sorted(groups, key=lambda group: _rank(rule.seed, group))[: rule.n_groups]
    for group in groups:
        selected += _first_of(sorted(names_of[group]), group, rule)
    if not selected:
        raise UserError(f"the selection of split {rule.split!r} names no group; leave groups out to take all of them")
    return tuple(sorted(selected))


def _names_by_group(samples: pd.DataFrame, rule: SelectionRule) -> dict[str, list[str]]:
    """Return the names of the sources of every group; raises UserError where a source is in two."""
    of_row, names = pd.factorize(samples["source"])
    group_of_row, groups = pd.factorize(samples["group"])
    group_of = np.empty(len(names), np.int64)
    group_of[of_row[::-1]] = group_of_row[::-1]  # that of a source's first row
    other = group_of[of_row] != group_of_row
    if other.any():
        name = str(names[of_row[int(other.argmax())]])
        raise UserError(f"source {name!r} is in two groups of split {rule.split!r}; fix the samples table")
    found: dict[str, list[str]] = {str(group): [] for group in groups}
    titles = list(found)
    for name, group in zip(names, group_of.tolist(), strict=True):
        found[titles[group]].append(str(name))
    return found


def _first_of(names: list[str], group: str, rule: SelectionRule) -> list[str]:
    if rule.per_group is None and rule.skip == 0:
        return names
    wanted = rule.skip + (rule.per_group or 1)
    if len(names) < wanted:
        asked = f"{rule.per_group or 'any'} asked for" + (f" after skipping {rule.skip}" if rule.skip else "")
        raise UserError(
            f"group {group!r} of split {rule.split!r} has {len(names)} images, fewer than the {asked}; lower "
            f"{'skip or ' if rule.skip else ''}per_group, or leave this group out of groups"
        )
    # Every name gets its own place in the draw, so that the choice among all images of a data set and the choice
    # among those that were extracted are the same.
    drawn = sorted(names, key=lambda name: _rank(rule.seed, group, name))
    return drawn[rule.skip :] if rule.per_group is None else drawn[rule.skip : wanted]


def _rank(*names: object) -> bytes:
    """Return what orders groups and sources: a hash of the seed and their names, independent of all others."""
    return hashlib.sha256(canonical_json(list(names))).digest()


def rows_of(samples: pd.DataFrame, sources: Collection[str]) -> Int64[np.ndarray, " row"]:
    """Return the positions, increasing, of all rows whose source is among ``sources``.

    Raises UserError when a source has no row.
    """
    wanted = set(sources)
    of_row, names = pd.factorize(samples["source"])
    is_wanted = np.array([name in wanted for name in names], bool)
    if is_wanted.sum() < len(wanted):
        absent = min(wanted.difference(names))
        raise UserError(f"source {absent!r} has no row in the samples table; choose among the names it lists")
    return np.flatnonzero(is_wanted[of_row]).astype(np.int64)


def hold_out_images(images: Integer[np.ndarray, " row"], share: float, seed: int) -> tuple[int, ...]:
    """Return the ids, increasing, of a seeded share of the images, at least one and never all.

    ``images`` is the source image of each row. Whole images are drawn, because patches of one image are nearly
    copies of each other. Raises UserError when there is only one image.
    """
    ids = np.unique(images)
    if len(ids) < 2:
        raise UserError(
            f"{len(ids)} training image has labels, but choosing a penalty holds out whole images; train on at least "
            "two images, or give one penalty"
        )
    count = min(max(1, round(share * len(ids))), len(ids) - 1)
    drawn = np.random.Generator(np.random.PCG64(seed)).permutation(ids)[:count]
    return tuple(sorted(drawn.tolist()))


def disjoint(train: Collection[str], validation: Collection[str]) -> None:
    """Raise UserError if any source is in both selections: its patches would be scored on themselves."""
    shared = sorted(set(train) & set(validation))
    if shared:
        raise UserError(
            f"{len(shared)} images, {shared[0]!r} among them, are in both the train and the validation selection; "
            "choose disjoint splits or groups"
        )
