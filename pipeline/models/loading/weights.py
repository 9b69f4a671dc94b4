"""Loads weights strictly or fills them at random from a seed, and computes their digest."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from stores.errors import UserError

Weights = dict[str, torch.Tensor]

_BESIDE_THE_ENCODER = (
    *("head.", "heads.", "fc.", "lm_head.", "decoder", "mask_token", "masked_embed", "head_dist."),
    "position_ids",  # a table of numbers that some codes save
)
_NAMES_SHOWN = 3


def without_prefix(weights: Weights, prefix: str) -> Weights:
    """Return the weights below a prefix, without it; all weights as they are where none has it."""
    kept = {key[len(prefix) :]: value for key, value in weights.items() if key.startswith(prefix)}
    return kept or weights


def load_strictly(module: nn.Module, weights: Weights, path: Path, name: str) -> None:
    """Load weights into a module; classifier heads and decoders are ignored.

    Raises UserError naming missing and surplus tensors, and those with other shapes or values that are not finite.

    Args:
        module: The module to fill.
        weights: Tensors under the module's key names.
        path: File of the weights, named in errors.
        name: Name of the model, named in errors.
    """
    fitting = check_shapes(module, weights, path, name)
    check_finite(fitting.items(), str(path))
    module.load_state_dict(fitting)


def check_shapes(module: nn.Module, weights: Weights, path: Path, name: str) -> Weights:
    """Return the weights that a module takes; raises UserError where names or shapes are others, whatever the values.

    Args:
        module: The module to fill, which may be on the meta device.
        weights: Tensors under the module's key names.
        path: File of the weights, named in errors.
        name: Name of the model, named in errors.
    """
    weights = {key: value for key, value in weights.items() if not key.startswith(_BESIDE_THE_ENCODER)}
    own = module.state_dict()
    missing = sorted(own.keys() - weights.keys())
    surplus = sorted(weights.keys() - own.keys())
    shapes = sorted(key for key in own.keys() & weights.keys() if own[key].shape != weights[key].shape)
    if missing or surplus or shapes:
        parts = [
            f"{len(keys)} {'key' if len(keys) == 1 else 'keys'} {word} (such as {', '.join(keys[:_NAMES_SHOWN])})"
            for keys, word in ((missing, "missing"), (surplus, "too many"), (shapes, "of another shape"))
            if keys
        ]
        raise UserError(f"{path} does not fit {name}: {', '.join(parts)}: name the architecture it was made for")
    return weights


def check_finite(weights: Iterable[tuple[str, torch.Tensor]], where: str) -> None:
    """Raise UserError naming the first tensor with a NaN or infinite value."""
    for name, value in weights:
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            n_bad = int((~torch.isfinite(value)).sum())
            raise UserError(
                f"{n_bad:,} of {value.numel():,} values of {name} in {where} are NaN or infinite: get other weights"
            )


def random_weights(module: nn.Module, seed: int) -> None:
    """Fill a module with weights that depend on the seed and the parameter names alone.

    Numbers are uniform, made from the raw bits of PCG64, whose stream numpy guarantees, without transcendental
    functions: the same bytes on every platform and with every version of torch. Matrices get variance 1 / fan-in, norms
    and layer scales 1 +- 0.1, biases +- 0.02, tokens and position embeddings variance 0.04.
    """
    with torch.no_grad():
        for name, parameter in sorted(module.state_dict().items()):
            if not parameter.is_floating_point() or parameter.is_meta:  # on the meta device there are no values
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

    Each entry counts with its name, dtype, shape and little-endian bytes; on the meta device there are no bytes.
    """
    total = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        total.update(f"{name}:{value.dtype}:{tuple(value.shape)};".encode())
        if value.is_meta:
            continue
        array = value.detach().cpu().contiguous()
        total.update(array.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()
