"""Says which ``arguments`` of [[models]] a timm architecture takes; none of them may load a file."""

import inspect
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import timm
import torch

from stores.errors import UserError

_LOADS = re.compile(r"(^|_)(cfg|checkpoint|pretrained|file|url|cache|weights?_path|dir)(_|$)")
"""Words of arguments that lead to a file, a download or a configuration that names one."""


@cache
def skeleton(architecture: str) -> Any:
    """Return a timm module without values, on torch's meta device; it costs no memory and runs nothing."""
    with torch.device("meta"):
        return timm.create_model(architecture, num_classes=0)


def check_arguments(architecture: str, arguments: Mapping[str, Any], display: str) -> None:
    """Raise UserError for arguments that the architecture's class does not take, or that would load something.

    Everything else that `timm.create_model` accepts, such as ``checkpoint_path`` (which ran pickles before timm
    1.0.25), is refused: weights are named by ``weights`` alone.

    Args:
        architecture: timm's name, with or without a tag.
        arguments: The arguments of the experiment.
        display: Name of the model in errors.
    """
    if not arguments:
        return
    known = _parameters(type(skeleton(architecture.partition(".")[0])))
    for name, value in arguments.items():
        if name not in known:
            raise UserError(
                f"{display} cannot be built with {name} = {value!r}: `arguments` may be {', '.join(sorted(known))}; "
                "weights are named by `weights`"
            )


def _parameters(kind: type) -> set[str]:
    """Return the parameters of a class's constructor, and of those of its bases that it passes others on to."""
    names: set[str] = set()
    for base in kind.__mro__:
        if "__init__" not in vars(base) or base is torch.nn.Module:
            continue
        parameters = list(inspect.signature(base.__init__).parameters.values())[1:]  # type: ignore[misc]
        names |= {one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
        if all(one.kind is not one.VAR_KEYWORD for one in parameters):
            break
    return {name for name in names if not _LOADS.search(name)}
