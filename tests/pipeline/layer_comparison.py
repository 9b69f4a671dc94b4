"""Captured layers beside those of a reference model."""

import numpy as np
import torch

from pipeline.captures.table import wanted_arrays
from pipeline.extraction.model_pass.running import ModelPass
from pipeline.recipe import FeatureRecipe

SMALL = {"embed_dim": 48, "depth": 3, "patch_size": 8}
"""Arguments that make any ViT of timm as small as the reference models are by default, heads apart."""


def pixels(height, width, count=2):
    values = np.random.default_rng(0).integers(0, 256, (count, height, width, 3))
    return torch.from_numpy(values.astype(np.float32))


def compare(model, reference, images, atol=1e-6):
    """All layers, patches and prefix, raw and through the final norm; makes float64 modules of both.

    In float32 the order of sums hides whatever is smaller than 1e-5, such as another epsilon in a norm. What is left
    in float64 comes from tables of positions, which timm and the hub keep and resample in float32.
    """
    model.module.double()
    reference.double()
    wanted = wanted_arrays(model, FeatureRecipe(norm="both", store_dtype="float32"))
    stored, _ = ModelPass(model, [array.model_copy(update={"dtype": "float64"}) for array in wanted], "float64")(images)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (model.record.mean, model.record.std))
    with torch.inference_mode():
        layers = reference.layers(((images.permute(0, 3, 1, 2) / 255 - mean) / std).double())
        assert len(layers) == len(model.blocks)
        assert len(stored) == 4 * len(layers)
        split = model.n_prefix
        for layer, tokens in enumerate(layers):
            norm = getattr(reference, "fc_norm", None) or reference.final
            for suffix, expected in (("", tokens), (".norm", norm(tokens))):
                for kind, part in (("tokens", expected[:, split:]), ("prefix", expected[:, :split])):
                    name = f"{kind}/block.{layer}{suffix}"
                    np.testing.assert_allclose(stored[name], part, rtol=1e-6, atol=atol, err_msg=name)
