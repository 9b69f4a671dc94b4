"""Builds any timm vision transformer by name."""

import difflib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
import torch
from timm.layers import to_2tuple
from timm.models.beit import Beit
from torch import nn

from pipeline.models.contract import FrozenModel
from pipeline.models.known import KNOWN
from pipeline.models.known_model import KnownModel
from pipeline.models.loading.arguments import check_arguments
from pipeline.models.loading.block_tokens import prefix_of_blocks
from pipeline.models.loading.position import (
    absolute_embedding,
    fit_embedding,
    fit_positions,
    grid_of,
    n_embedded,
    without_index_tables,
)
from pipeline.models.loading.presence import is_offline_and_uncached
from pipeline.models.loading.weights import (
    Weights,
    check_finite,
    load_strictly,
    random_weights,
    weights_digest,
)
from pipeline.models.loading.wrappings import choose_weights, read_checkpoint
from pipeline.recipe import ModelRecipe
from pipeline.shipped_weights import weights_path
from stores.errors import UserError
from stores.specs import ModelRecord, Size

REVISION = 1
"""Increased when the same recipe gives another model."""


def build(recipe: ModelRecipe, size: Size, folder: Path) -> FrozenModel:
    """Return the frozen model of a recipe for inputs of ``size`` pixels; paths of weights are relative to ``folder``.

    Raises UserError for names timm does not know (with the nearest ones), models that are no vision transformers,
    input sizes that are no multiple of the patch size, and weights that do not fit or cannot be obtained.
    """
    if recipe.name in KNOWN:  # a short name of a timm tag
        return _build(recipe, KNOWN[recipe.name].tag or recipe.name, size, folder, KNOWN[recipe.name])
    if not timm.is_model(recipe.name.partition(".")[0]):
        nearest = difflib.get_close_matches(recipe.name, [*KNOWN, *timm.list_models()], n=3, cutoff=0.5)
        raise UserError(
            f"neither Patchbank nor timm {timm.__version__} knows a model {recipe.name!r}"
            + (f": did you mean {' or '.join(nearest)}?" if nearest else ": `patchbank models vit` lists some")
        )
    return _build(recipe, recipe.name, size, folder, None)


def _build(recipe: ModelRecipe, name: str, size: Size, folder: Path, known: KnownModel | None) -> FrozenModel:
    check_arguments(name, recipe.arguments, recipe.name)
    if recipe.weights == "pretrained":
        module, position = download(name, recipe, recipe.arguments, size, recipe.position_embedding == "hub")
        return freeze(recipe, module, "timm", REVISION, position, known)
    position = "native"
    origin: Mapping[str, str] = {}
    if recipe.weights == "random":
        module = create(name, recipe.name, recipe.arguments, size)
        random_weights(module, recipe.seed)
    else:
        path = weights_path(recipe, folder)
        given = read_checkpoint(path)  # before the module is allocated
        module = create(name, recipe.name, recipe.arguments, size)
        chosen = choose_weights(given, recipe, module.state_dict().keys())
        weights, position = _converted(chosen.weights, module, path, recipe)
        load_strictly(module, weights, path, recipe.name)
        origin = chosen.origin
    return replace(freeze(recipe, module, "timm", REVISION, position, known), origin=origin)


def freeze(
    recipe: ModelRecipe, module: Any, family: str, revision: int, position: str, known: KnownModel | None = None
) -> FrozenModel:
    """Return a loaded timm module as a frozen model.

    Args:
        recipe: The model's recipe; its mean and std come before those of ``known`` and timm's.
        module: The timm module with its weights.
        family: Name of the family, part of the model's digest.
        revision: Revision of the family's code.
        position: How the position embedding was made; see `fit_embedding`.
        known: The row of a known model, for its normalisation, interpolation and licence.
    """
    module.eval().requires_grad_(False)
    configuration = module.pretrained_cfg
    licence = configuration.get("license")
    mean, std = configuration["mean"], configuration["std"]
    interpolation = configuration["interpolation"]
    if known is not None:
        mean, std, interpolation, licence = known.mean, known.std, known.interpolation, known.licence
    norm_name = final_norm_name(module)
    n_prefix, notes = prefix_of_blocks(module, recipe.name)
    if norm_name == "fc_norm":
        notes += (
            "the final norm is fc_norm: in the model itself it follows the mean of the patch tokens, here it is "
            "applied to every token",
        )
    record = ModelRecord(
        name=recipe.name,
        family=family,
        revision=revision,
        arguments=recipe.arguments,
        weights=weights_digest(module),
        position_embedding=position,
        mean=recipe.mean or _three(mean),
        std=recipe.std or _three(std),
        interpolation=interpolation,
    )
    return FrozenModel(
        record=record,
        module=module,
        forward=module.forward_features,
        blocks=list(module.blocks),
        norm=final_norm(module),
        n_prefix=n_prefix,
        grid=grid_of(module),
        width=int(module.embed_dim),
        licence=str(licence or "not stated"),
        notes=notes,
    )


def final_norm(module: Any) -> nn.Module | None:
    """Return the model's last norm over tokens, None when it has none.

    With average pooling timm replaces ``norm`` by an identity and applies ``fc_norm``, which has the checkpoint's
    weights, to the pooled vector; then it is ``fc_norm``.
    """
    name = final_norm_name(module)
    norm: nn.Module | None = None if name is None else getattr(module, name)
    return norm


def final_norm_name(module: Any) -> str | None:
    """Return the name of a module's final norm, None when it has none."""
    for name in ("norm", "fc_norm"):
        norm = getattr(module, name, None)
        if isinstance(norm, nn.Module) and not isinstance(norm, nn.Identity):
            return name
    return None


def create(
    name: str, display: str, arguments: Mapping[str, Any], size: Size | None, *, pretrained: bool = False
) -> Any:
    """Return a timm module without its classifier.

    Raises UserError when it cannot be built that way or is no plain vision transformer.

    Args:
        name: timm's name of the architecture, with a tag for pretrained weights.
        display: Name of the model in errors.
        arguments: Passed to the architecture.
        size: Size of inputs in pixels; None for the architecture's own size.
        pretrained: Load timm's pretrained weights.
    """
    arguments = {
        "num_classes": 0,
        **({} if size is None else {"img_size": (size.height, size.width)}),
        **arguments,
    }
    if pretrained and is_offline_and_uncached(name):  # before the module is allocated
        raise weights_unavailable(display)
    try:
        # cache_dir stays timm's own.
        module = timm.create_model(name, pretrained=pretrained, **arguments)
    except (TypeError, LookupError, AttributeError) as error:
        raise UserError(f"{display} cannot be built with {arguments} ({error}): choose another model") from error
    except (AssertionError, ValueError, ArithmeticError) as error:
        raise UserError(
            f"{display} cannot take inputs of {size} pixels ({error}): change `input` or `arguments`"
        ) from error
    except RuntimeError as error:
        if not pretrained:
            raise
        raise UserError(f"timm has no pretrained weights for {display} ({error}): name a tag that has") from error
    except OSError as error:
        raise weights_unavailable(display) from error
    for part in ("blocks", "num_prefix_tokens", "patch_embed"):
        if not hasattr(module, part):
            raise UserError(
                f"{display} is no plain vision transformer (it has no {part}): choose a model whose blocks keep "
                "one token a patch"
            )
    patch = to_2tuple(module.patch_embed.patch_size)
    if size is not None and (size.height % patch[0] or size.width % patch[1]):
        multiple = patch[0] if patch[0] == patch[1] else f"{patch[1]}x{patch[0]} (width x height)"
        raise UserError(f"{display} cannot take inputs of {size} pixels: make `input` a multiple of {multiple}")
    return module


def weights_unavailable(display: str) -> UserError:
    """Return the error for pretrained weights that are neither cached nor can be downloaded."""
    offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
    return UserError(
        f"the pretrained weights of {display} are not in the local cache and could not be downloaded"
        f"{offline}: run once with network access, or set `weights` to a file"
    )


def download(name: str, recipe: ModelRecipe, arguments: Mapping[str, Any], size: Size, by_hub: bool) -> tuple[Any, str]:
    """Return a module with timm's pretrained weights, and how its position embedding was resampled.

    Raises UserError as `create` does, and when ``by_hub`` is set for a model without absolute position embedding.

    Args:
        name: timm's name of the model, with its tag.
        recipe: The model's recipe.
        arguments: Passed to the architecture.
        size: Size of inputs in pixels.
        by_hub: Resample the position embedding as the DINO codes do, instead of timm's way.
    """
    if by_hub:
        weights: Weights = create(name, recipe.name, arguments, None, pretrained=True).state_dict()
        module = create(name, recipe.name, arguments, size)
        weights["pos_embed"], position = fit_embedding(
            absolute_embedding(weights, recipe), grid_of(module), n_embedded(module), "hub"
        )
        load_strictly(module, weights, Path(name), recipe.name)
        return module, position
    module = create(name, recipe.name, arguments, size, pretrained=True)
    check_finite(module.state_dict().items(), name)
    return module, "native" if _is_native(module) else "timm-resample"


def _is_native(module: Any) -> bool:
    """Whether timm has nothing to resample: inputs of the model's own size, or positions computed for any grid."""
    stored = [key for key in module.state_dict() if key == "pos_embed" or key.endswith("relative_position_bias_table")]
    own: bool = module.pretrained_cfg.get("input_size", (3, 0, 0))[1:] == tuple(module.patch_embed.img_size)
    return own or not stored


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _converted(weights: Weights, module: Any, path: Path, recipe: ModelRecipe) -> tuple[Weights, str]:
    """Convert an official checkpoint to timm's names and this grid, as timm does with its own downloads."""
    check_patch_size(weights, module, path, recipe.name)
    given = weights.get("pos_embed")
    if given is not None and "register_tokens" in weights:
        given = given[:, 1:]  # timm adds the class token's entry to the token itself
    if isinstance(module, Beit):
        # timm's own filter mistakes some tables of oblong grids for square ones, and warns about its indexing.
        return fit_positions(without_index_tables(weights), module, recipe.position_embedding or "timm", recipe)
    convert = getattr(sys.modules[type(module).__module__], "checkpoint_filter_fn", None)
    if convert is not None:
        try:
            weights = convert(dict(weights), module)
        except (KeyError, RuntimeError, ValueError, AttributeError) as error:
            raise UserError(f"{path} cannot be converted to timm's key names ({error})") from error
    if recipe.position_embedding == "hub":
        absolute_embedding(weights, recipe)
        assert given is not None
        weights["pos_embed"], position = fit_embedding(given, grid_of(module), n_embedded(module), "hub")
        return weights, position
    if given is not None and "pos_embed" in weights:
        is_native = given.shape == weights["pos_embed"].shape and torch.equal(given, weights["pos_embed"])
    else:
        is_native = _is_native(module)
    return weights, "native" if is_native else "timm-resample"


def check_patch_size(weights: Weights, module: Any, path: Path, name: str) -> None:
    """Raise UserError when the weights are for another patch size: timm would resample the kernel silently.

    Args:
        weights: Weights under timm's names.
        module: The module they are for.
        path: File of the weights, named in errors.
        name: Name of the model, named in errors.
    """
    kernel, own = weights.get("patch_embed.proj.weight"), getattr(module.patch_embed, "proj", None)
    if kernel is not None and own is not None and kernel.ndim == 4 and kernel.shape[2:] != own.weight.shape[2:]:
        given, expected = ("x".join(str(side) for side in one.shape[2:]) for one in (kernel, own.weight))
        raise UserError(
            f"{path} does not fit {name}: its patches have {given} pixels, those of {name} {expected}; "
            "name the architecture it was made for"
        )
