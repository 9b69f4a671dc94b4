"""Speeds up building modules on torch's meta device, where tensors have shapes and no values."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_CHANGE_VALUES = frozenset(
    (
        *(torch.Tensor.uniform_, torch.Tensor.normal_, torch.Tensor.erfinv_, torch.Tensor.clamp_),
        *(torch.Tensor.mul_, torch.Tensor.add_, torch.Tensor.fill_, torch.Tensor.zero_),
    )
)
"""In-place operations of initialisers; on the meta device their argument checks would take most of the time."""


class SkipInitialisation(TorchFunctionMode):
    """Skip operations that only change values, while a module is built on the meta device."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Return the tensor unchanged for a skipped operation, otherwise the function's result."""
        return args[0] if function in _CHANGE_VALUES else function(*args, **(kwargs or {}))
