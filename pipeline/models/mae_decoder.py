"""Builds MAE's decoder from official checkpoints that contain one: ``decoder(tokens, ids) -> patches``.

An encoder and its decoder come from one file. ``mae_visualize_vit_*.pth`` predicts pixels; ``mae_pretrain_vit_*_full
.pth`` predicts pixels normalised patch by patch and needs ``target = "normalised"``; the file does not tell which.
The plain ``mae_pretrain_vit_*.pth`` has no decoder, and its encoder differs from that of the visualize file.

**Tokens** are the encoder's last tokens *after its final norm*, class token first, as the store keeps them under
``prefix/block.<l>.norm`` and ``tokens/block.<l>.norm`` (nothing masked) or ``visible/mask<p>.seed<s>.block.<l>.norm``.

**Ids** are the grid numbers of the visible patches. MAE's own code passes ``ids_restore`` instead: it appends
``n_patches - n_visible`` equal mask tokens to the visible ones and takes, for patch ``j``, entry ``ids_restore[j]`` of
that sequence. Since mask tokens are equal, placing visible token ``i`` at ``ids[i]`` and a mask token everywhere else
is the same (`pipeline.rows.masking.ids_restore` converts one into the other).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, Integer, UInt8

from pipeline.models import build_model
from pipeline.models.contract import FrozenModel
from pipeline.models.loading.meta_device import SkipInitialisation
from pipeline.models.loading.patch_pixels import PatchPixels
from pipeline.models.loading.weights import check_shapes, load_strictly, random_weights, weights_digest
from pipeline.models.loading.wrappings import choose_weights, read_checkpoint
from pipeline.models.mae_decoder_module import DecoderModule
from pipeline.recipe import OWN, DecoderRecipe, ModelRecipe
from pipeline.shipped_weights import weights_path
from stores.canonical import digest
from stores.errors import UserError
from stores.specs import Size

REVISION = 1
"""Increased when the same tokens give other patches."""

_DECODER_KEYS = ("decoder_embed.weight", "decoder_pos_embed", "decoder_pred.weight", "decoder_norm.weight")

WEIGHTS = "https://dl.fbaipublicfiles.com/mae/visualize/mae_visualize_vit_base.pth"


@dataclass(frozen=True)
class MaeDecoder:
    """A decoder whose predictions can be converted to pixels; an ``evaluate.decoder.PatchDecoder``."""

    module: DecoderModule
    encoder: str
    """Weights digest of its encoder."""
    weights: str
    """Weights digest of the decoder."""
    heads: int
    layer: int
    """The encoder's last block, counted from 0, whose normed tokens are its inputs."""
    pixels: PatchPixels
    """Conversion of its predictions to pixels."""
    device: str

    @property
    def digest(self) -> str:
        """Digest of everything that changes a prediction."""
        return digest(
            {
                "revision": REVISION,
                "weights": self.weights,
                "heads": self.heads,
                "target": self.pixels.target,
                "mean": list(self.pixels.mean),
                "std": list(self.pixels.std),
            }
        )

    def __call__(
        self,
        tokens: Float[np.ndarray, "sample token channel"],
        ids: Integer[np.ndarray, "sample visible"] | None = None,
    ) -> Float32[np.ndarray, "sample patch value"]:
        """Return the prediction for every patch, in the space of the targets; computed in float32.

        Raises UserError when tokens or ids do not fit this grid.
        """
        inputs, visible = self._checked(tokens, ids)
        with torch.inference_mode():
            predicted: np.ndarray = self.module(inputs, visible).cpu().numpy()
        return predicted

    @torch.inference_mode()
    def block_tokens(
        self, tokens: Float[np.ndarray, "sample token channel"]
    ) -> Iterator[Float32[np.ndarray, "sample patch width"]]:
        """Yield the patches' tokens that enter the first block, then those that every block leaves, nothing masked.

        Raises UserError when the tokens do not fit this grid.
        """
        inputs, visible = self._checked(tokens, None)
        for left in self.module.block_tokens(inputs, visible):
            yield left[:, 1:].cpu().numpy()

    def _checked(
        self, tokens: Float[np.ndarray, "sample token channel"], ids: Integer[np.ndarray, "sample visible"] | None
    ) -> tuple[Float[torch.Tensor, "sample token channel"], Int64[torch.Tensor, "sample visible"] | None]:
        n_patches = self.module.pos_embed.shape[1] - 1
        n_tokens = 1 + (n_patches if ids is None else ids.shape[1])
        if tokens.shape[1:] != (n_tokens, self.module.embed.in_features):
            raise UserError(
                f"the decoder takes {n_tokens} tokens of {self.module.embed.in_features} channels, class token "
                f"included, not {tokens.shape[1]} of {tokens.shape[2]}: use the set of its own encoder"
            )
        if ids is not None and ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < n_patches:
            raise UserError(f"visible patches outside of 0..{n_patches - 1}: use the set of the decoder's own encoder")
        inputs = torch.tensor(tokens, dtype=torch.float32, device=self.device)
        return inputs, None if ids is None else torch.tensor(ids, dtype=torch.int64, device=self.device)

    def targets(self, pixels: UInt8[np.ndarray, "sample height width 3"]) -> Float32[np.ndarray, "sample patch value"]:
        """Return the values to predict; raises UserError for pixels of another size."""
        return self.pixels.targets(pixels)

    def images(
        self,
        patches: Float32[np.ndarray, "sample patch value"],
        pixels: UInt8[np.ndarray, "sample height width 3"],
    ) -> Float32[np.ndarray, "sample height width 3"]:
        """Return predictions as RGB in the scale of 0..1, not clipped; raises UserError for pixels of another size."""
        return self.pixels.images(patches, pixels)


def build_decoder(
    recipe: ModelRecipe,
    model: FrozenModel,
    folder: Path,
    *,
    target: Literal["pixels", "normalised"] = "pixels",
    heads: int = 16,
    width: int = 512,
    depth: int = 8,
    device: str = "cpu",
) -> MaeDecoder:
    """Return the decoder of an encoder, from the file or the seed of the encoder's recipe.

    Raises UserError for weights that contain no decoder, or one for another encoder.

    Args:
        recipe: The encoder's recipe.
        model: The encoder, built for the experiment's input size.
        folder: Folder to which a relative path of weights refers.
        target: What the decoder was trained to predict.
        heads: Attention heads, which no file tells; 16 in all official decoders.
        width: Channels of a token, for random weights; a file tells its own (512 in all official ones).
        depth: Number of blocks, for random weights; a file tells its own (8 in all official ones).
        device: Device to run on.
    """
    path = weights_path(recipe, folder)
    weights = _weights(recipe, path)
    module, side = _empty(recipe, model, weights, heads, width, depth)
    if weights:
        load_strictly(module, weights, path, _title(recipe, model))
    else:
        table = module.pos_embed.detach().clone()
        random_weights(module, recipe.seed)
        module.pos_embed.data = table  # the official one is fixed, not random
    module.eval().requires_grad_(False).to(device)
    return MaeDecoder(
        module=module,
        encoder=model.record.weights,
        weights=weights_digest(module),
        heads=heads,
        layer=len(model.layers) - 1,
        pixels=PatchPixels(model.grid, side, target, model.record.mean, model.record.std),
        device=device,
    )


def check_decoder(recipe: ModelRecipe, model: FrozenModel, folder: Path) -> None:
    """Raise what `decoder_of` would about a decoder, from the names and shapes in its file; no values are read.

    Args:
        recipe: The encoder's recipe.
        model: The encoder; it may be on the meta device.
        folder: Folder to which a relative path of weights refers.
    """
    path = weights_path(recipe, folder)
    weights = _weights(recipe, path, shapes_only=True)
    settings = recipe.decoder or DecoderRecipe()
    with torch.device("meta"), SkipInitialisation():
        module, _ = _empty(recipe, model, weights, settings.heads, settings.width, settings.depth)
    if weights:
        check_shapes(module, weights, path, _title(recipe, model))


def _weights(recipe: ModelRecipe, path: Path, *, shapes_only: bool = False) -> dict[str, torch.Tensor]:
    """Return the weights of a recipe's decoder, none for random ones; raises UserError where the file has none."""
    if recipe.weights == "random":
        return {}
    if recipe.weights == "pretrained":  # before anything is downloaded
        raise _no_decoder(recipe)
    weights = _decoder_weights(path, recipe, shapes_only)
    if not {"embed.weight", "pos_embed", "pred.weight"} <= weights.keys():
        raise _no_decoder(recipe)
    return weights


def _empty(
    recipe: ModelRecipe, model: FrozenModel, weights: dict[str, torch.Tensor], heads: int, width: int, depth: int
) -> tuple[DecoderModule, int]:
    """Return the decoder that weights are loaded into, and the side of a patch; sizes are those of the weights.

    Without weights they are those given. Raises UserError for an encoder that has no such decoder.
    """
    if model.n_prefix != 1:
        raise UserError(f"{recipe.name} has {model.n_prefix} prefix tokens and MAE's decoder takes one: use an MAE")
    n_values = 3 * math.prod(_patch_size(model.module))
    if weights:
        width, n_values = int(weights["embed.weight"].shape[0]), int(weights["pred.weight"].shape[0])
        depth = len({key.split(".")[1] for key in weights if key.startswith("blocks.")})
    side = math.isqrt(n_values // 3)
    if 3 * side * side != n_values or width % 4 or width % heads:
        raise UserError(
            f"{recipe.name} cannot have a decoder of width {width} with {heads} heads that predicts {n_values} values "
            "a patch: it needs square patches, and a width that 4 and the heads divide"
        )
    return DecoderModule(model.width, model.grid, width, depth, heads, n_values), side


def _title(recipe: ModelRecipe, model: FrozenModel) -> str:
    return f"the decoder of {recipe.name} at {model.n_patches} patches"


def decoder_of(recipe: ModelRecipe, size: Size, folder: Path, device: str = "cpu") -> MaeDecoder:
    """Return the decoder of an experiment's model.

    The encoder is built too, without being run: its weights digest tells which tokens the decoder may be given. Raises
    UserError or MissingError for models that have no decoder or cannot be built.

    Args:
        recipe: The model's recipe.
        size: Size of the model's inputs, in pixels.
        folder: Folder to which a relative path of weights refers.
        device: Device to run on.
    """
    if recipe.weights == OWN:
        raise UserError(
            f"{recipe.name} is a module of your own, for which no decoder can be loaded: remove `reconstruction` from "
            "[[analyses]] or name other `models` there"
        )
    if recipe.weights == "pretrained":  # before anything is downloaded
        raise _no_decoder(recipe)
    settings = recipe.decoder or DecoderRecipe()
    return build_decoder(
        recipe,
        build_model(recipe, size, folder),
        folder,
        target=settings.target,
        heads=settings.heads,
        width=settings.width,
        depth=settings.depth,
        device=device,
    )


def _no_decoder(recipe: ModelRecipe) -> UserError:
    return UserError(
        f"the weights of {recipe.name} ({recipe.weights}) hold no decoder: set `weights` to a file that does, such as "
        f"{WEIGHTS} (a ViT-B/16), or leave this model out of the analysis"
    )


def _decoder_weights(path: Path, recipe: ModelRecipe, shapes_only: bool) -> dict[str, torch.Tensor]:
    """Return the decoder's entries of an official checkpoint under this module's names."""
    weights = choose_weights(read_checkpoint(path, shapes_only=shapes_only), recipe, _DECODER_KEYS).weights
    named = {key.removeprefix("decoder_"): value for key, value in weights.items() if key.startswith("decoder_")}
    return named | ({"masked": weights["mask_token"]} if "mask_token" in weights else {})


def _patch_size(module: Any) -> tuple[int, int]:
    """Return height and width of a patch in pixels."""
    height, width = module.patch_embed.patch_size
    return int(height), int(width)
