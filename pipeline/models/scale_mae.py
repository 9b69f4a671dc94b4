"""Builds Scale-MAE, a ViT whose position embedding is computed from the ground length of a pixel.

Architecture and key names are those of bair-climate-initiative/scale-mae (arXiv 2212.14532); its only published
weights are a ViT-L/16. ``arguments`` of the recipe:

* ``input_res``: the ground length a pixel of the *model input* stands for, relative to what the weights were trained
  with, for the whole set. The default is that of Scale-MAE's own k-NN protocol, 224 over the input's shorter side
  (its eval/knn.py, base resolution 1): at half the size, a pixel is twice as long.
* ``patch_size``, ``embed_dim``, ``depth``, ``num_heads``: for weights of another size.

Its evaluation normalises RESISC45 and UC Merced with their own statistics: set those as the model's ``mean`` and
``std``. The position embedding is not a weight: it is not part of the weights digest, and the one in a checkpoint is
ignored.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from pipeline.models.contract import FrozenModel, Pixels
from pipeline.models.loading.sin_cos import sin_cos_table
from pipeline.models.loading.weights import load_strictly, random_weights, weights_digest
from pipeline.models.loading.wrappings import choose_weights, read_checkpoint
from pipeline.recipe import ModelRecipe
from pipeline.shipped_weights import weights_path
from stores.errors import UserError
from stores.specs import ModelRecord, Size

REVISION = 1
"""Increased when the same recipe gives another model."""

SIZES = {"scalemae-large": {"patch_size": 16, "embed_dim": 1024, "depth": 24, "num_heads": 16}}
"""Dimensions by name."""

WEIGHTS = "https://github.com/bair-climate-initiative/scale-mae/releases/download/base-800/scalemae-vitlarge-800.pth"

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_NOT_ENCODER = ("pos_embed", "decoder_", "fpn", "fcn", "mask_token", "pos_emb_projection")


class ScaleMae(VisionTransformer):  # type: ignore[misc]
    """A timm vision transformer without a learned position embedding, for inputs of any multiple of the patch size."""

    def __init__(self, input_res: float, patch_size: int, embed_dim: int, depth: int, num_heads: int) -> None:
        super().__init__(
            patch_size=patch_size,
            embed_dim=embed_dim,
            depth=depth,
            num_heads=num_heads,
            pos_embed="none",
            dynamic_img_size=True,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            num_classes=0,
        )
        self.input_res = input_res

    def forward_features(
        self, x: Pixels, resolution: Float[torch.Tensor, " sample"] | None = None
    ) -> Float[torch.Tensor, "sample token channel"]:
        """Return the normed last tokens; ``resolution`` has a value per sample, by default ``input_res`` for all.

        Patches are not shuffled, unlike in Scale-MAE's own encoder, which permutes them even when it masks none.
        """
        patches = self.patch_embed(x)
        rows, columns = int(patches.shape[1]), int(patches.shape[2])
        if resolution is None:
            resolution = torch.full((1,), self.input_res, dtype=torch.float64)
        table = sin_cos_table(self.embed_dim, (rows, columns), resolution)
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), patches.flatten(1, 2)], dim=1)
        tokens = tokens + table.to(device=tokens.device, dtype=tokens.dtype)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)


def build(recipe: ModelRecipe, size: Size, folder: Path) -> FrozenModel:
    """Return the frozen model of a recipe for inputs of ``size`` pixels; paths of weights are relative to ``folder``.

    Raises UserError for unknown names and arguments, input sizes that are no multiple of the patch size, and weights
    that do not fit.
    """
    if recipe.name not in SIZES:
        raise UserError(f"there is no Scale-MAE called {recipe.name!r}: use {', '.join(SIZES)}")
    if recipe.weights == "pretrained":
        raise UserError(f"{recipe.name} has no automatic download: download {WEIGHTS} and set `weights` to the file")
    numbers, input_res = _arguments(recipe, size)
    patch = numbers["patch_size"]
    if size.height % patch or size.width % patch:
        raise UserError(f"{recipe.name} cannot take inputs of {size} pixels: make `input` a multiple of {patch}")
    origin: Mapping[str, str] = {}
    if recipe.weights == "random":
        module = ScaleMae(input_res, **numbers)
        random_weights(module, recipe.seed)
    else:
        path = weights_path(recipe, folder)
        given = read_checkpoint(path)  # before the module is allocated
        module = ScaleMae(input_res, **numbers)
        chosen = choose_weights(given, recipe, module.state_dict().keys())
        origin = chosen.origin
        weights = {key: value for key, value in chosen.weights.items() if not key.startswith(_NOT_ENCODER)}
        load_strictly(module, weights, path, recipe.name)
    module.eval().requires_grad_(False)
    record = ModelRecord(
        name=recipe.name,
        family="scale_mae",
        revision=REVISION,
        # Defaults are written out, so that setting them explicitly gives the same digest.
        arguments={**numbers, "input_res": input_res},
        weights=weights_digest(module),
        position_embedding="ground-resolution",
        mean=recipe.mean or MEAN,
        std=recipe.std or STD,
        interpolation="box",  # scale-mae's evaluation resizes by area
    )
    return FrozenModel(
        record=record,
        module=module,
        forward=module.forward_features,
        blocks=list(module.blocks),
        norm=module.norm,
        n_prefix=1,
        grid=(size.height // patch, size.width // patch),
        width=numbers["embed_dim"],
        licence="not stated",
        origin=origin,
    )


def _arguments(recipe: ModelRecipe, size: Size) -> tuple[dict[str, int], float]:
    """Return the dimensions, and the resolution."""
    known = {**SIZES[recipe.name], "input_res": 224.0 / min(size.height, size.width)}
    unknown = sorted(recipe.arguments.keys() - known.keys())
    if unknown:
        raise UserError(f"{recipe.name} has no argument {unknown[0]!r}, only {', '.join(known)}")
    given: dict[str, Any] = {**known, **recipe.arguments}
    numbers = {key: given[key] for key in SIZES[recipe.name]}
    input_res = given["input_res"]
    if any(type(number) is not int or number < 1 for number in numbers.values()):
        raise UserError(f"{recipe.name} needs whole numbers above 0 for {', '.join(numbers)}: change `arguments`")
    if type(input_res) not in (int, float) or not 0 < input_res < float("inf"):
        raise UserError(f"{recipe.name} needs an input_res above 0, not {input_res!r}: change `arguments`")
    if numbers["embed_dim"] % 4 or numbers["embed_dim"] % numbers["num_heads"]:
        raise UserError(f"{recipe.name} needs an embed_dim that 4 and num_heads divide: change `arguments`")
    return numbers, float(input_res)
