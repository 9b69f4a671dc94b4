"""Checkpoints as the authors' codes save them, made from reference models with random weights."""

import sys
import types
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from tests.pipeline.reference_models.beit import BEiT
from tests.pipeline.reference_models.dinov2 import DINOv2
from tests.pipeline.reference_models.dinov3 import DINOv3
from tests.pipeline.reference_models.plain import PlainViT
from tests.pipeline.reference_models.supervised import Supervised

ARGUMENTS = Namespace(arch="vit_base", lr=1e-3, seed=0)
OPTIMIZER = {"state": {0: {"step": 7, "exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 1e-3, "params": [0]}]}


def drawn(model, seed=0):
    """Give every parameter, biases and scales too, a value of its own that matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.randn(parameter.shape, generator=generator)
            is_table = "token" in name or "pos_" in name or "bias_table" in name
            if parameter.ndim >= 2 and not is_table:
                parameter.copy_(values / parameter[0].numel() ** 0.5)
            elif is_table or "bias" in name:
                parameter.copy_(0.3 * values)
            else:
                parameter.copy_(1 + 0.2 * values)
            if "qkv.bias" in name and isinstance(model, DINOv3):
                parameter.zero_()  # the distilled models have none left
    return model.eval()


def below(prefix, weights):
    return {prefix + key: value for key, value in weights.items()}


def other(weights):
    """Weights of the same shapes that must not be taken."""
    return {key: value + 1 if value.is_floating_point() else value for key, value in weights.items()}


class CfgNode(dict):
    """Stands for SimMIM's configuration, whose package need not be here: pickled under its name."""


CfgNode.__module__ = "yacs.config"


def config_node():
    node = CfgNode(MODEL=CfgNode(TYPE="vit"))
    node.__dict__["__immutable__"] = True
    return node


def write(content, path):
    """Save as torch does, with the configuration's package in sight for that moment alone."""
    package, module = types.ModuleType("yacs"), types.ModuleType("yacs.config")
    module.CfgNode = CfgNode
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "yacs", package)
        patch.setitem(sys.modules, "yacs.config", module)
        torch.save(content, path)


def mae_full(weights):
    decoder = {"mask_token": torch.ones(1, 1, 8), "decoder_pos_embed": torch.ones(1, 17, 8)}
    decoder["decoder_blocks.0.norm1.weight"] = torch.ones(8)
    return {"model": {**weights, **decoder}, "optimizer": OPTIMIZER, "epoch": 399, "args": ARGUMENTS}


def self_distilled(weights):
    head = {"head.mlp.0.weight": torch.ones(4, 4), "head.last_layer.weight_g": torch.ones(4, 1)}
    return {
        "student": below("module.", {**below("backbone.", other(weights)), **head}),
        "teacher": {**below("backbone.", weights), **head},
        "optimizer": OPTIMIZER,
        "epoch": 400,
        "args": ARGUMENTS,
        "dino_loss": {"center": torch.zeros(1, 4)},
    }


def moco(weights):
    heads = {"head.0.weight": torch.ones(4, 4), "head.1.running_mean": torch.ones(4)}
    return {
        "epoch": 300,
        "arch": "vit_base",
        "state_dict": {
            **below("module.momentum_encoder.", other({**weights, **heads})),
            **below("module.base_encoder.", {**weights, **heads}),
            "module.predictor.0.weight": torch.ones(4, 4),
        },
        "optimizer": OPTIMIZER,
        "scaler": {"scale": 65536.0},
    }


def simmim(weights):
    return {
        "model": {**below("encoder.", weights), "decoder.0.weight": torch.ones(4, 4, 1, 1)},
        "optimizer": OPTIMIZER,
        "max_accuracy": np.float64(0.0),
        "epoch": 799,
        "config": config_node(),
    }


def chunked(weights):
    chunks = {key.replace("blocks.", "blocks.0.") if "blocks." in key else key: value for key, value in weights.items()}
    return {"teacher": {**below("backbone.", chunks), "dino_head.mlp.0.weight": torch.ones(4, 4)}}


def old_torchvision(weights):
    return {
        key.replace("mlp.0", "mlp.linear_1").replace("mlp.3", "mlp.linear_2"): value for key, value in weights.items()
    }


@dataclass(frozen=True)
class Case:
    """One kind of official file."""

    name: str
    reference: Callable[..., Any]
    save: Callable[[dict], Any]
    options: dict = field(default_factory=dict)


CASES = {
    "mae": Case("mae-base", PlainViT, lambda w: {"model": w}),
    "mae-with-decoder": Case("mae-base", PlainViT, mae_full),
    "mae-finetuned": Case(
        "mae-finetuned-base",
        PlainViT,
        lambda w: {"model": {**w, "head.weight": torch.ones(5, 48), "head.bias": torch.ones(5)}, "args": ARGUMENTS},
        {"pooled": True},
    ),
    "dino": Case("dino-base", PlainViT, dict),
    "dino-full": Case("dino-base", PlainViT, self_distilled),
    "ibot": Case("ibot-base", PlainViT, lambda w: {"state_dict": {**w, "masked_embed": torch.ones(1, 48)}}),
    "ibot-full": Case("ibot-base", PlainViT, lambda w: self_distilled({**w, "masked_embed": torch.ones(1, 48)})),
    "mocov3": Case("mocov3-base", PlainViT, moco),
    "mocov3-small": Case("mocov3-small", PlainViT, moco, {"heads": 12}),
    "dinov2": Case("dinov2-base", DINOv2, dict),
    "dinov2-chunked": Case("dinov2-base", DINOv2, chunked),
    "dinov2-registers": Case("dinov2-base-reg", DINOv2, dict, {"registers": 4}),
    "dinov3": Case("dinov3-base", DINOv3, dict),
    "simmim": Case("simmim-base", BEiT, simmim),
    "beit": Case(
        "beit-base",
        BEiT,
        lambda w: {"model": {**w, "lm_head.weight": torch.ones(9, 48), "lm_head.bias": torch.ones(9)}},
    ),
    "beit-deepspeed": Case("beit-base", BEiT, lambda w: {"module": below("module.", w), "args": ARGUMENTS}),
    "beit-finetuned": Case(
        "beit_base_patch16_224",
        BEiT,
        lambda w: {"model": {**w, "head.weight": torch.ones(9, 48), "head.bias": torch.ones(9)}},
        {"finetuned": True},
    ),
    "supervised": Case("supervised-base", Supervised, dict),
    "supervised-old": Case("supervised-base", Supervised, old_torchvision),
}
