"""Functions that build the decoders which analyses may need; nothing is built before one is called."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evaluate.decoder import PatchDecoder
    from pipeline.recipe import ModelRecipe, Recipe


def decoders(experiment: Path, recipe: "Recipe") -> dict[str, Callable[[], "PatchDecoder"]]:
    """Return a function that builds the decoder of each model, by title; a decoder is built once.

    Calling one raises UserError or MissingError for a model whose weights contain no decoder or are missing.
    """

    def maker(model: "ModelRecipe") -> Callable[[], "PatchDecoder"]:
        @functools.cache
        def make() -> "PatchDecoder":
            import torch

            from pipeline.models.mae_decoder import decoder_of

            device = "cuda" if torch.cuda.is_available() else "cpu"
            return decoder_of(model, recipe.frame.input, experiment.parent, device)

        return make

    return {model.display: maker(model) for model in recipe.models}
