"""Patchbank from Python: everything a script or a notebook needs under one name.

::

    import patchbank

    [features] = patchbank.extract("experiments/photos.toml", data="data", store="store")
    tokens = patchbank.open(features.digest[:12], "store")["block.11.norm"]
    results = patchbank.read_results("results", "photos").table

Importing it imports nothing else; every name is loaded from its own module when it is used first. docs/library.md and
docs/exchange.md show all of them.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluate import read as read_results
    from evaluate import run
    from pipeline.library import extract
    from pipeline.models.own_module import own_model
    from stores import HDF5Set, Store, ZarrSet, open
    from stores.errors import DamageError, MissingError, PatchbankError, UserError
    from stores.hdf5.exporting import export_set
    from stores.hdf5.importing import import_set
    from stores.torch_data import RangeDataset

    __version__: str

__all__ = [
    "DamageError",
    "HDF5Set",
    "MissingError",
    "PatchbankError",
    "RangeDataset",
    "Store",
    "UserError",
    "ZarrSet",
    "__version__",
    "export_set",
    "extract",
    "import_set",
    "open",
    "own_model",
    "read_results",
    "run",
]

_WHERE = {
    "DamageError": "stores.errors:DamageError",
    "HDF5Set": "stores.hdf5.reader:HDF5Set",
    "MissingError": "stores.errors:MissingError",
    "PatchbankError": "stores.errors:PatchbankError",
    "RangeDataset": "stores.torch_data:RangeDataset",
    "Store": "stores.store:Store",
    "UserError": "stores.errors:UserError",
    "ZarrSet": "stores.sets:ZarrSet",
    "export_set": "stores.hdf5.exporting:export_set",
    "extract": "pipeline.library:extract",
    "import_set": "stores.hdf5.importing:import_set",
    "open": "stores:open",
    "own_model": "pipeline.models.own_module:own_model",
    "read_results": "evaluate.report.reading:read",
    "run": "evaluate.custom:run",
}
"""Module and name behind every name."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("patchbank")
    if name not in _WHERE:
        raise AttributeError(f"module 'patchbank' has no attribute {name!r}: there are {', '.join(__all__)}")
    module, _, attribute = _WHERE[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
