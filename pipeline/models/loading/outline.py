"""Building modules for their shapes alone."""

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
"""What initialisers do to a tensor, in place. The meta device would spend most of its time on the checks of some."""


class WithoutValues(TorchFunctionMode):
    """Leave out what only changes values, while a module is built on the meta device."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Return the tensor as it is, or what the function returns."""
        return args[0] if function in _CHANGE_VALUES else function(*args, **(kwargs or {}))
