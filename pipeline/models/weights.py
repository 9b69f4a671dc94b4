"""Weights: from a file that is not trusted, or drawn from a seed; and the digest that names them."""

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from stores.errors import MissingError, UserError

_WRAPPERS = ("model", "state_dict", "teacher", "module")
"""Keys under which training codes put the weights, in the order they are looked for."""
_PREFIXES = ("module.", "backbone.", "encoder.")
"""Prefixes that wrappers put before every key."""


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors or torch file, wrappers and their prefixes removed.

    Torch files are read with ``weights_only=True``: nothing in them is executed. Raises MissingError or UserError.
    """
    if not path.is_file():
        raise MissingError(f"there are no weights at {path}: check `weights` of the model in the experiment file")
    loaded: Any
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            loaded = load_file(path)
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path} holds Python objects that are not loaded because they could run code ({reason}): "
            "save its state dict as safetensors"
        ) from error
    except Exception as error:
        raise UserError(f"{path} is not a readable safetensors or torch file ({error}): get it again") from error
    while isinstance(loaded, dict) and not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        inner = next((loaded[key] for key in _WRAPPERS if isinstance(loaded.get(key), dict)), None)
        if inner is None:
            loaded = {key: value for key, value in loaded.items() if isinstance(value, torch.Tensor)}
            break
        loaded = inner
    if not isinstance(loaded, dict) or not loaded:
        raise UserError(f"{path} holds no weights: expected a dictionary of tensors")
    weights: dict[str, torch.Tensor] = loaded
    for prefix in _PREFIXES:
        kept = {key[len(prefix) :]: value for key, value in weights.items() if key.startswith(prefix)}
        weights = kept or weights
    return weights


def load_strictly(module: nn.Module, weights: dict[str, torch.Tensor], path: Path, name: str) -> None:
    """Load weights into a module; raises UserError that names missing, surplus and misshapen keys.

    Classifier heads and decoders are not part of an encoder and are left out without a word.
    """
    heads = ("head.", "heads.", "fc.", "decoder", "mask_token", "head_dist.")
    weights = {key: value for key, value in weights.items() if not key.startswith(heads)}
    own = module.state_dict()
    missing = sorted(own.keys() - weights.keys())
    surplus = sorted(weights.keys() - own.keys())
    shapes = sorted(key for key in own.keys() & weights.keys() if own[key].shape != weights[key].shape)
    if missing or surplus or shapes:
        parts = [
            f"{len(keys)} {word} (such as {keys[0]})"
            for keys, word in ((missing, "missing"), (surplus, "surplus"), (shapes, "of another shape"))
            if keys
        ]
        raise UserError(f"{path} does not fit {name}: keys {', '.join(parts)}; name the architecture it was made for")
    module.load_state_dict(weights)


def draw_weights(module: nn.Module, seed: int) -> None:
    """Fill a module with weights that depend on the seed and the parameter names alone.

    Uniform numbers from the raw bits of PCG64, whose stream numpy guarantees, with no transcendental function in
    between: the same bytes on every platform and under every torch. Matrices get variance 1 / fan-in, norms and
    layer scales 1 +- 0.1, biases +- 0.02, tokens and position embeddings variance 0.04.
    """
    with torch.no_grad():
        for name, parameter in sorted(module.state_dict().items()):
            if not parameter.is_floating_point():
                continue
            key = int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:16], "little")
            bits = np.random.PCG64(key).random_raw(parameter.numel())
            uniform = (bits >> np.uint64(40)).astype(np.float64) / 2.0**23 - 1.0  # -1..1, 24 bits
            leaf = name.rpartition(".")[2]
            if leaf in ("cls_token", "reg_token", "pos_embed", "mask_token"):
                values = uniform * np.sqrt(3.0) * 0.2
            elif parameter.ndim >= 2:
                values = uniform * np.sqrt(3.0 / parameter[0].numel())
            elif leaf == "bias":
                values = uniform * 0.02
            else:
                values = 1.0 + uniform * 0.1
            parameter.copy_(torch.from_numpy(values.astype(np.float32)).reshape(parameter.shape))


def weights_digest(module: nn.Module) -> str:
    """Return the sha256 over the module's state dict in the order of its sorted keys.

    Each entry counts with its name, dtype, shape and little-endian bytes.
    """
    total = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        array = value.detach().cpu().contiguous()
        total.update(f"{name}:{array.dtype}:{tuple(array.shape)};".encode())
        total.update(array.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()
