"""Precision of a pass: the module's parameters, and the settings of PyTorch that round, as long as a job runs."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn


@contextlib.contextmanager
def converted(module: nn.Module, device: str, dtype: torch.dtype) -> Iterator[None]:
    """Move a module to a device and a precision, and give it its own values back at the end.

    A module of the user's own may be extracted again in another precision, where rounded weights would be others. In
    float32 convolutions (the patch embedding) do not use TF32, which has 10 bits and which cuDNN uses by default.

    Args:
        module: The module, changed in place.
        device: Device that it stays on.
        dtype: Precision of its floating-point parameters and buffers inside this block.
    """
    parameters = [
        (one, one.data.cpu()) for one in module.parameters() if one.is_floating_point() and one.dtype != dtype
    ]
    buffers = [
        (part, name, value)
        for part in module.modules()
        for name, value in part.named_buffers(recurse=False)
        if value.is_floating_point() and value.dtype != dtype
    ]
    module.to(device=device, dtype=dtype)
    tf32 = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = tf32 and dtype != torch.float32
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = tf32
        for parameter, values in parameters:
            parameter.data = values.to(device)
        for part, name, value in buffers:
            setattr(part, name, value.to(device))
