"""Reads checkpoint files without executing their code, and checks the sizes they claim."""

import pickle
import re
import stat
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

from stores.errors import MissingError, UserError

_MOST_EXPANDED = 256 << 20
"""Bytes of the largest tensor that repeats the values of a smaller storage."""


class _LeftOut:
    """Placeholder for an object beside the weights: accepts any arguments and stores nothing."""

    def __new__(cls, *arguments: Any, **named: Any) -> "_LeftOut":
        return super().__new__(cls)

    def __init__(self, *arguments: Any, **named: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _LeftOutMapping:
    """Placeholder for subclasses of dict, whose items the unpickler adds to plain mappings only."""

    def __new__(cls, *arguments: Any) -> Any:
        return OrderedDict()


HARMLESS: dict[str, type] = {
    "argparse.Namespace": _LeftOut,  # MAE, DINO, iBOT, BEiT: the command line
    "yacs.config.CfgNode": _LeftOutMapping,  # SimMIM: its configuration
    "numpy.core.multiarray.scalar": _LeftOut,  # best scores and losses, numpy 1
    "numpy._core.multiarray.scalar": _LeftOut,  # the same, numpy 2
    "numpy.dtype": _LeftOut,
    "numpy.dtypes.Float64DType": _LeftOut,
    "numpy.dtypes.Float32DType": _LeftOut,
    "numpy.dtypes.Int64DType": _LeftOut,
    "pathlib.Path": _LeftOut,
    "pathlib.PosixPath": _LeftOut,
    "pathlib._local.PosixPath": _LeftOut,
    "pathlib.WindowsPath": _LeftOut,
}
"""Types that training codes save beside the weights, each with the placeholder that replaces it; none is imported."""


def read_file(path: Path, *, shapes_only: bool = False) -> Any:
    """Return the content of a safetensors or torch file, whatever it is called; tensors are on the CPU.

    With ``shapes_only`` they are on torch's meta device: names and shapes are read, and no values.

    Torch files are read with ``weights_only=True``: nothing in them is executed. Types in HARMLESS are replaced by
    placeholders. Raises MissingError when there is no such file; UserError for any other type (named), for files that
    claim more bytes than they have (before memory is allocated), and for files that cannot be read.
    """
    kind = _kind(path)
    try:
        if kind == "safetensors":
            from safetensors.torch import load_file

            if shapes_only:
                return _shapes(path)
            # The library itself checks every offset and shape of the header against the file's size.
            return load_file(path)
        placeholders: list[Any] = [(placeholder, name) for name, placeholder in HARMLESS.items()]
        with torch.serialization.safe_globals(placeholders):
            if zipfile.is_zipfile(path):
                _check_sizes(path)
            return _load(path, "meta" if shapes_only else "cpu")
    except UserError:
        raise
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        named = re.search(r"GLOBAL (\S+)", str(error))
        what = f"an object of type {named.group(1)}" if named else "Python objects"
        raise UserError(
            f"{path} holds {what}, not loaded because it could run code"
            + ("" if named else f" ({reason})")
            + ": save its state dict as safetensors"
        ) from error
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} is not a readable safetensors or torch file ({reason}): download it again") from error


def _load(path: Path, device: str) -> Any:
    with path.open("rb") as file:  # torch would choose the format by the suffix of a path
        return torch.load(file, map_location=device, weights_only=True)


def _shapes(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file on the meta device, from its header alone."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return {key: torch.empty(file.get_slice(key).get_shape(), device="meta") for key in file.keys()}  # noqa: SIM118


def _kind(path: Path) -> str:
    """Return ``safetensors`` or ``torch`` from a file's first bytes; raises for what is no file of weights."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise FileNotFoundError
        with path.open("rb") as file:
            start = file.read(512)
    except FileNotFoundError:
        raise MissingError(
            f"there are no weights at {path}: check `weights` of the model in the experiment file"
        ) from None
    except (OSError, ValueError) as error:  # no permission, a name that is too long, a NUL
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"the weights {str(path)[:300]!r} cannot be read ({reason}): check `weights`") from error
    if start.startswith(b"version https://git-lfs"):
        raise UserError(f"{path} is a pointer of git-lfs and not the weights themselves: run `git lfs pull`")
    if start.lstrip()[:15].lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise UserError(f"{path} is a web page and not weights: download it again, by the address of the file itself")
    if path.suffix == ".safetensors" and not start.startswith(b"PK"):
        return "safetensors"
    # A safetensors file begins with the length of its header, which is a JSON object.
    length = int.from_bytes(start[:8], "little")
    is_header = start[8:9] == b"{" and 2 <= length <= path.stat().st_size - 8
    return "safetensors" if is_header else "torch"


def _check_sizes(path: Path) -> None:
    """Raise UserError when a zipped torch file claims more bytes than it has; no tensor is read."""
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    packed = [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
    claimed = sum(entry.file_size for entry in entries)
    if packed or claimed > size:
        what = f"its entry {packed[0]} is compressed" if packed else f"its entries claim {claimed:,} bytes"
        raise UserError(
            f"{path} is a zip file of {size:,} bytes that torch never writes ({what}): download it again, or save its "
            "state dict as safetensors"
        )
    storages: dict[int, int] = {}
    for name, tensor in named_tensors(_load(path, "meta")):
        held = tensor.untyped_storage().nbytes()
        storages[tensor.untyped_storage()._cdata] = held
        needed = tensor.numel() * tensor.element_size()
        # A tensor that was saved expanded repeats values of its storage, by a stride of 0.
        is_expanded = needed <= _MOST_EXPANDED and 0 in tensor.stride()
        if (needed > held and not is_expanded) or sum(storages.values()) > size:
            raise UserError(
                f"{path} has {size:,} bytes, but its tensor {name} claims {max(needed, held):,} bytes: download it"
            )


def named_tensors(value: Any) -> list[tuple[str, torch.Tensor]]:
    """Return every dense tensor in nested dictionaries, lists and tuples, with its path of keys joined by dots.

    A dictionary or list that stands in several places, or in itself, is looked at once.
    """
    found: list[tuple[str, torch.Tensor]] = []
    waiting: list[tuple[str, Any]] = [("", value)]
    seen: set[int] = set()
    while waiting:
        name, one = waiting.pop()
        if isinstance(one, torch.Tensor):
            if one.layout == torch.strided:
                found.append((name, one))
            continue
        if not isinstance(one, dict | list | tuple) or id(one) in seen:
            continue
        seen.add(id(one))
        items = list(one.items() if isinstance(one, dict) else enumerate(one))
        waiting += [(f"{name}.{key}" if name else str(key), item) for key, item in reversed(items)]
    return found
