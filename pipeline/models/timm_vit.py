"""Any timm vision transformer by name: no code for a new one."""

import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from pipeline.models.contract import FrozenModel
from pipeline.models.weights import draw_weights, load_strictly, read_checkpoint, weights_digest
from pipeline.recipe import ModelRecipe
from stores.errors import UserError
from stores.specs import ModelRecord, Size

REVISION = 1
"""Raised when the same recipe gives another model."""


def build(recipe: ModelRecipe, size: Size, folder: Path) -> FrozenModel:
    """Return the frozen model of a recipe for inputs of ``size``; ``folder`` is where relative weights lie.

    Raises UserError for names timm does not know (the nearest are offered), models that are no vision transformer,
    input sizes that are no multiple of the patch size, and weights that do not fit or are not to be had.
    """
    architecture = recipe.name.partition(".")[0]
    if not timm.is_model(architecture):
        nearest = difflib.get_close_matches(recipe.name, timm.list_models(), n=3, cutoff=0.5)
        raise UserError(
            f"timm {timm.__version__} knows no model {recipe.name!r}"
            + (f": did you mean {' or '.join(nearest)}?" if nearest else ": `patchbank models vit` lists some")
        )
    module = _create(recipe, size)
    for part in ("blocks", "num_prefix_tokens", "patch_embed"):
        if not hasattr(module, part):
            raise UserError(
                f"{recipe.name} is no plain vision transformer (it has no {part}): choose a model whose blocks keep "
                "one token a patch"
            )
    if recipe.weights == "random":
        draw_weights(module, recipe.seed)
    elif recipe.weights != "pretrained":
        path = folder / Path(recipe.weights).expanduser()
        load_strictly(module, _converted(read_checkpoint(path), module, path), path, recipe.name)
    module.eval().requires_grad_(False)
    native = module.pretrained_cfg.get("input_size", (3, 0, 0))[1:] == (size.height, size.width)
    configuration = module.pretrained_cfg
    record = ModelRecord(
        name=recipe.name,
        family="timm",
        revision=REVISION,
        arguments=recipe.arguments,
        weights=weights_digest(module),
        position_embedding="native" if native or recipe.weights == "random" else "timm-resample",
        mean=_three(configuration["mean"]),
        std=_three(configuration["std"]),
        interpolation=configuration["interpolation"],
    )
    return FrozenModel(
        record=record,
        module=module,
        forward=module.forward_features,
        blocks=list(module.blocks),
        norm=final_norm(module),
        n_prefix=int(module.num_prefix_tokens),
        grid=(int(module.patch_embed.grid_size[0]), int(module.patch_embed.grid_size[1])),
        width=int(module.embed_dim),
        licence=str(configuration.get("license") or "not stated"),
    )


def final_norm(module: Any) -> nn.Module | None:
    """Return the model's last norm over tokens, None when it has none.

    With average pooling timm replaces ``norm`` by an identity and norms the pooled vector with ``fc_norm``; that
    norm holds the checkpoint's weights, so it is the one meant.
    """
    for name in ("norm", "fc_norm"):
        norm = getattr(module, name, None)
        if isinstance(norm, nn.Module) and not isinstance(norm, nn.Identity):
            return norm
    return None


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _create(recipe: ModelRecipe, size: Size) -> Any:
    pretrained = recipe.weights == "pretrained"
    # cache_dir stays timm's own; checkpoint_path is never used, because it would load pickles.
    arguments = {"num_classes": 0, "img_size": (size.height, size.width), **recipe.arguments}
    try:
        return timm.create_model(recipe.name, pretrained=pretrained, **arguments)
    except TypeError as error:
        raise UserError(f"{recipe.name} cannot be built with {arguments} ({error}): choose another model") from error
    except (AssertionError, ValueError) as error:
        raise UserError(f"{recipe.name} cannot take inputs of {size} pixels ({error}): change `input`") from error
    except RuntimeError as error:
        if not pretrained:
            raise
        raise UserError(f"timm has no pretrained weights for {recipe.name} ({error}): name a tag that has") from error
    except OSError as error:
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
        raise UserError(
            f"the pretrained weights of {recipe.name} are neither in the local cache nor could they be downloaded"
            f"{offline}: run once where the network is, or set `weights` to a file"
        ) from error


def _converted(weights: dict[str, torch.Tensor], module: Any, path: Path) -> dict[str, torch.Tensor]:
    """Bring an official checkpoint to timm's names and this grid, as timm does with its own downloads."""
    from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn

    if not isinstance(module, VisionTransformer):
        return weights
    try:
        converted: dict[str, torch.Tensor] = checkpoint_filter_fn(weights, module)
    except (KeyError, RuntimeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} cannot be brought to timm's key names ({error})") from error
    return converted
