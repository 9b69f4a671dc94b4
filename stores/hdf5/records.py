"""Records of the HDF5 exchange format: the manifest of a file and the result of an export."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from stores.specs import ArraySpec, Digest, Record

EXCHANGE_FORMAT = 2
"""Version of the layout inside the file."""
FORMAT_ATTRIBUTE = "patchbank_format"
RECORDS = "patchbank"
"""Group of the records and tables; their bytes are those of the files in a store."""
MANIFEST = "manifest.json"


class Original(Record):
    """Dtype and content digest of an array in the store, where an export changed its dtype."""

    dtype: str
    content: Digest


class ExportedArray(Record):
    """Record of one array of the file."""

    spec: ArraySpec
    content: Digest
    """sha256 of all rows in this file as little-endian C-order bytes."""
    original: Original | None = None


class Manifest(Record):
    """Contents of the file. It holds its own checksum; everything else is checked against it."""

    format: Literal[1] = 1
    kind: Literal["features", "labels"]
    set: Digest
    files: dict[str, Digest]
    """sha256 of every record and table, by file name."""
    arrays: dict[str, ExportedArray] = Field(default_factory=dict)
    notes: dict[Digest, dict[str, Digest]] = Field(default_factory=dict)
    """Notes that name the set, by the key of an experiment, model and view: `evaluate` finds sets by them."""


@dataclass(frozen=True)
class Exported:
    """Result of an export."""

    path: Path
    card: Path
    arrays: dict[str, ExportedArray]
    n_bytes: int
    """Size of the file, in bytes."""

    @property
    def reading_only(self) -> bool:
        """Whether some array changed its dtype, so that `import` refuses the file."""
        return any(entry.original is not None for entry in self.arrays.values())
