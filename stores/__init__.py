"""What a feature set is and where it lives.

``stores.open(path_or_digest)`` returns a set; ``set["block.11"][rows]`` returns numpy. Importing this package
imports neither torch nor zarr.
"""

from pathlib import Path

from stores.sets import ZarrSet
from stores.store import Store

__all__ = ["Store", "ZarrSet", "open"]


def open(location: str | Path, store: str | Path | None = None) -> ZarrSet:
    """Return a set by the path or URL of its folder, or by (the beginning of) its digest in ``store``.

    Raises MissingError when there is none.
    """
    text = str(location).rstrip("/")
    root, _, name = text.rpartition("/")
    base, _, kind = root.rpartition("/")
    if kind in ("features", "labels"):
        return Store(base or ".").open(name)
    return Store(store).open(text)
