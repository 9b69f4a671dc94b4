"""Builds any timm backbone with stages by name: ResNet, ConvNeXt, RegNet, Swin and others.

Layer ``k`` is the ``k``-th feature map that timm's ``features_only`` gives, finest first: a ResNet's stem is stage 0,
a ConvNeXt's first stage is. Every position of a map is a patch token on the stage's own grid, row by row. There are
no prefix tokens, and no norm is applied: a norm of the pooled head, or of the last map only, does not suit the other
maps.
"""

import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from jaxtyping import Float, Int64
from torch import nn

from pipeline.models.contract import FrozenModel, Layer, Pixels
from pipeline.models.loading.arguments import check_arguments, skeleton
from pipeline.models.loading.presence import is_offline_and_uncached
from pipeline.models.loading.weights import load_strictly, random_weights, weights_digest
from pipeline.models.loading.wrappings import choose_weights, read_checkpoint
from pipeline.models.timm_vit import weights_unavailable
from pipeline.recipe import ModelRecipe
from pipeline.shipped_weights import weights_path
from stores.errors import UserError
from stores.specs import ModelRecord, Size

REVISION = 1
"""Increased when the same recipe gives another model."""


@dataclass(frozen=True, kw_only=True)
class StagedModel(FrozenModel):
    """A backbone whose layers differ in grid and width; ``grid`` and ``width`` are those of the last layer."""

    stages: tuple[Layer, ...]

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Every stage, finest first."""
        return self.stages

    @contextmanager
    def keeping(
        self,
        layers: Collection[int],
        visible: Int64[torch.Tensor, "sample visible"] | None = None,
        kept: dict[int, Any] | None = None,
    ) -> Iterator[Callable[[Pixels], dict[int, torch.Tensor]]]:
        """Yield a function that runs the model and returns the outputs of some stages; masks are not supported."""
        assert visible is None, "wanted_arrays refuses masks for models without blocks"
        yield partial(_tokens_of_stages, self.module, sorted(layers))


def _tokens_of_stages(
    module: nn.Module, stages: list[int], inputs: Pixels
) -> dict[int, Float[torch.Tensor, "sample token channel"]]:
    maps = _feature_maps(module, inputs, stages)
    return {stage: each.flatten(2).transpose(1, 2) for stage, each in zip(stages, maps, strict=True)}


def has_stages(name: str) -> bool:
    """Return whether timm knows this name as a backbone with stages; allocates and downloads nothing."""
    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        return False
    module = skeleton(architecture)
    is_transformer = hasattr(module, "blocks") and (
        hasattr(module, "patch_embed") or hasattr(module, "num_prefix_tokens")
    )
    return not is_transformer and hasattr(module, "forward_intermediates") and bool(getattr(module, "feature_info", ()))


def build(recipe: ModelRecipe, size: Size, folder: Path) -> StagedModel:
    """Return the frozen backbone of a recipe for inputs of ``size``; paths of weights are relative to ``folder``.

    Raises UserError for models that cannot be built, input sizes that the stages do not divide, and weights that do
    not fit or cannot be obtained.
    """
    path = weights_path(recipe, folder)
    given = None if recipe.weights in ("random", "pretrained") else read_checkpoint(path)  # before the module is built
    module = _create(recipe, size)
    configuration = module.pretrained_cfg
    # The pooled head is not part of the maps: its weights must not enter the digest, nor be required of a file.
    head = str(configuration.get("classifier") or "head").partition(".")[0]
    setattr(module, head, nn.Identity())
    origin: Mapping[str, str] = {}
    if recipe.weights == "random":
        random_weights(module, recipe.seed)
        for key, buffer in module.named_buffers():
            if key.endswith("running_mean"):
                buffer.sub_(1.0)  # vectors are drawn around 1; after a ReLU nothing would be left
    elif given is not None:
        chosen = choose_weights(given, recipe, module.state_dict().keys())
        weights, origin = _converted(chosen.weights, module, path), chosen.origin
        load_strictly(
            module, {key: value for key, value in weights.items() if not key.startswith(f"{head}.")}, path, recipe.name
        )
    module.eval().requires_grad_(False)
    stages = _stages(module, recipe.name, size)
    native = tuple(configuration.get("input_size", ()))[1:] == (size.height, size.width)
    position = ("native" if native else "timm-resample") if _is_sized(recipe.name) else "none"
    record = ModelRecord(
        name=recipe.name,
        family="stages",
        revision=REVISION,
        arguments=recipe.arguments,
        weights=weights_digest(module),
        position_embedding=position,
        mean=recipe.mean or _three(configuration["mean"]),
        std=recipe.std or _three(configuration["std"]),
        interpolation=configuration["interpolation"],
    )
    return StagedModel(
        record=record,
        module=module,
        forward=module.forward_features,
        blocks=(),
        norm=None,
        n_prefix=0,
        grid=stages[-1].grid,
        width=stages[-1].width,
        licence=str(configuration.get("license") or "not stated"),
        stages=stages,
        origin=origin,
    )


def _is_sized(name: str) -> bool:
    """Return whether the architecture is built for one input size, as Swin is with its windows."""
    module = skeleton(name.partition(".")[0])
    return any(getattr(getattr(module, part, None), "img_size", None) is not None for part in ("patch_embed", "stem"))


def _create(recipe: ModelRecipe, size: Size) -> Any:
    check_arguments(recipe.name, recipe.arguments, recipe.name)
    arguments: dict[str, Any] = {"num_classes": 0, **recipe.arguments}
    if _is_sized(recipe.name):
        arguments = {"img_size": (size.height, size.width), **arguments}
    pretrained = recipe.weights == "pretrained"
    if pretrained and is_offline_and_uncached(recipe.name):  # before the module is allocated
        raise weights_unavailable(recipe.name)
    try:
        return timm.create_model(recipe.name, pretrained=pretrained, **arguments)
    except (TypeError, AssertionError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        raise UserError(
            f"{recipe.name} cannot be built with {arguments} ({error}): change `arguments` or `input`"
        ) from error
    except RuntimeError as error:
        if not pretrained:
            raise
        raise UserError(f"timm has no pretrained weights for {recipe.name} ({error}): name a tag that has") from error
    except OSError as error:
        raise weights_unavailable(recipe.name) from error


def _converted(weights: dict[str, torch.Tensor], module: Any, path: Path) -> dict[str, torch.Tensor]:
    """Convert an official checkpoint to timm's names, as timm does with its own downloads."""
    convert = getattr(sys.modules[type(module).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return weights
    try:
        converted: dict[str, torch.Tensor] = convert(weights, module)
    except (KeyError, RuntimeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} cannot be converted to timm's key names ({error})") from error
    return converted


def _stages(module: Any, name: str, size: Size) -> tuple[Layer, ...]:
    """Return the shape of every stage, from one run on zeros."""
    try:
        with torch.inference_mode():
            maps = _feature_maps(module, torch.zeros(1, 3, size.height, size.width), None)
    except (AssertionError, RuntimeError, ValueError) as error:
        raise UserError(f"{name} cannot take inputs of {size} pixels ({error}): change `input`") from error
    stages = []
    for number, each in enumerate(maps):
        _, width, rows, columns = each.shape
        if size.height % rows or size.width % columns:
            coarsest = max(int(info["reduction"]) for info in module.feature_info)
            raise UserError(
                f"stage {number} of {name} has {columns}x{rows} positions, which do not divide inputs of {size} pixels "
                f"(width x height): make `input` a multiple of {coarsest}"
            )
        stages.append(Layer(f"stage.{number}", (rows, columns), width))
    return tuple(stages)


def _feature_maps(module: Any, inputs: Pixels, stages: list[int] | None) -> list[torch.Tensor]:
    """Return the maps of some stages, or of all, each (sample, channel, height, width)."""
    maps: list[torch.Tensor] = module.forward_intermediates(
        inputs, indices=stages, output_fmt="NCHW", intermediates_only=True
    )
    return maps


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
