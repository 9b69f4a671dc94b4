"""Feature sets and label sets: their records, their files and where they are stored.

``patchbank.open(path_or_digest)`` returns a set; ``set["block.11"][rows]`` returns numpy. Importing this package
imports neither torch nor zarr, and nothing heavy before it is used.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stores.hdf5.reader import HDF5Set
    from stores.sets import ZarrSet
    from stores.store import Store

__all__ = ["HDF5Set", "Store", "ZarrSet", "open"]


def open(location: str | Path, store: str | Path | None = None, *, checked: bool = False) -> "ZarrSet":
    """Return a set by the path or URL of its folder, or by (the beginning of) its digest in ``store``.

    Raises MissingError when there is none.

    Args:
        location: Path or URL of the set's folder, or its digest or the beginning of that.
        store: Path or URL of the store, where a digest is given.
        checked: Compare every chunk that is read with its seal and every table with its record (`CheckedSet`), so that
            whatever was swapped or edited together with its checksum raises DamageError.
    """
    from stores.maintenance.checked import checked as as_checked
    from stores.store import Store

    text = str(location).rstrip("/")
    root, _, name = text.rpartition("/")
    base, _, kind = root.rpartition("/")
    found = Store(base or ".").open(name) if kind in ("features", "labels") else Store(store).open(text)
    return as_checked(found) if checked else found


def __getattr__(name: str) -> Any:
    # `patchbank --help` imports stores.errors; numpy and pandas come only with a set.
    if name == "Store":
        from stores.store import Store

        return Store
    if name == "ZarrSet":
        from stores.sets import ZarrSet

        return ZarrSet
    if name == "HDF5Set":
        from stores.hdf5.reader import HDF5Set

        return HDF5Set
    raise AttributeError(f"module 'stores' has no attribute {name!r}")
