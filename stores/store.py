"""A store: a folder or URL that holds feature sets and label sets."""

import os
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path

from stores.canonical import checksummed, read_checksummed
from stores.commits import SEALS
from stores.errors import MissingError, UserError
from stores.objects import Objects, open_objects
from stores.sets import KINDS, SPEC, ZarrSet
from stores.specs import FeatureSpec, LabelSpec

DEFAULT_LOCATION = "store"
"""Where a store is when neither ``--store`` nor ``PATCHBANK_STORE`` says otherwise."""

INDEX = "index"
"""Folder of notes that lead from a recipe to the sets that were made for it."""


class Store:
    """Finds, lists and opens the sets under one location."""

    def __init__(self, location: str | Path | None = None, executor: Executor | None = None) -> None:
        self.objects: Objects = open_objects(location or os.environ.get("PATCHBANK_STORE") or DEFAULT_LOCATION)
        self.executor = executor

    @property
    def location(self) -> str:
        """Path or URL."""
        return self.objects.url

    def set_folders(self) -> Iterator[tuple[str, str]]:
        """Yield ``(kind, digest)`` of everything that claims to be a set, without opening it."""
        for kind in KINDS:
            for name in self.objects.children(kind):
                yield kind, name

    def sets(self) -> Iterator[ZarrSet]:
        """Yield every set; raises DamageError at the first that cannot be opened."""
        for kind, name in self.set_folders():
            yield ZarrSet(self.objects, f"{kind}/{name}", self.executor)

    def has(self, spec: FeatureSpec | LabelSpec) -> bool:
        """Return whether the set of ``spec`` exists, sealed or not."""
        return self.objects.size(f"{spec.kind}/{spec.digest}/{SPEC}") is not None

    def open(self, spec_or_digest: FeatureSpec | LabelSpec | str) -> ZarrSet:
        """Return a set by its spec, its digest or the beginning of its digest.

        Raises MissingError when there is none and UserError when several digests begin so.
        """
        if not isinstance(spec_or_digest, str):
            return ZarrSet(self.objects, f"{spec_or_digest.kind}/{spec_or_digest.digest}", self.executor)
        wanted = spec_or_digest.rpartition("/")[2]
        found = [(kind, name) for kind, name in self.set_folders() if wanted and name.startswith(wanted)]
        if not found:
            raise MissingError(
                f"no set in {self.location} has a digest that begins with {spec_or_digest!r}: `patchbank ls` lists them"
            )
        if len(found) > 1:
            raise UserError(f"{len(found)} sets in {self.location} begin with {spec_or_digest!r}: give more characters")
        return ZarrSet(self.objects, "/".join(found[0]), self.executor)

    def remember(self, key: str, record: dict[str, str]) -> None:
        """Note which sets answer a recipe, so that they are found again without images or models."""
        self.objects.put(f"{INDEX}/{key}.json", [checksummed(record)])

    def recall(self, key: str) -> dict[str, str] | None:
        """Return what was remembered under a recipe's key, None when nothing was or the note is torn."""
        try:
            return read_checksummed(self.objects.read(f"{INDEX}/{key}.json"))
        except MissingError:
            return None

    def sealed_arrays(self, kind: str, digest: str) -> list[str]:
        """Return the file names of a set's seals without reading them."""
        return self.objects.children(f"{kind}/{digest}/{SEALS}")
