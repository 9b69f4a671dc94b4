"""Records of the HDF5 exchange format: the manifest inside a file, and what an export wrote."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from stores.specs import ArraySpec, Digest, Record

EXCHANGE_FORMAT = 1
"""Version of the layout inside the file."""
FORMAT_ATTRIBUTE = "patchbank_format"
RECORDS = "patchbank"
"""Group of the records and tables; their bytes are those of the files in a store."""
MANIFEST = "manifest.json"


class Original(Record):
    """What an array was in the store before an export changed its dtype."""

    dtype: str
    content: Digest


class ExportedArray(Record):
    """One array of the file."""

    spec: ArraySpec
    content: Digest
    """sha256 of all rows in this file as little-endian C-order bytes."""
    original: Original | None = None


class Manifest(Record):
    """What the file holds; the only part of it that is believed on its own checksum."""

    format: Literal[1] = 1
    kind: Literal["features", "labels"]
    set: Digest
    files: dict[str, Digest]
    """sha256 of every record and table, by file name."""
    arrays: dict[str, ExportedArray] = Field(default_factory=dict)
    notes: dict[Digest, dict[str, Digest]] = Field(default_factory=dict)
    """By the key of a recipe and model, which sets answer it: how `evaluate` finds sets without images."""


@dataclass(frozen=True)
class Exported:
    """What an export wrote."""

    path: Path
    card: Path
    arrays: dict[str, ExportedArray]
    n_bytes: int
    """Size of the file, in bytes."""

    @property
    def reading_only(self) -> bool:
        """Whether some array changed its dtype, so that `import` refuses the file."""
        return any(entry.original is not None for entry in self.arrays.values())
