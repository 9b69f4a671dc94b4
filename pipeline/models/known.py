"""The table of known models by short name; defaults are 16-pixel patches, 12 blocks and ImageNet-1k.

Facts about official files come from the repositories named in ``source``. Augmentations are those of the pretraining
code, without masking; what could not be checked in the code is marked "not verified".
"""

from collections.abc import Mapping
from typing import Any

from pipeline.models.known_model import HALF, KnownModel

_CROP_FLIP = "crop, flip"
_DISTORTIONS = "flip, colour jitter, greyscale, blur, solarise"
_VIEWS = f"multi-crop, {_DISTORTIONS}"
_CC_BY_NC = "CC BY-NC 4.0"
_APACHE = "Apache-2.0"
_MIT_CODE = "MIT (code; weights not stated)"


def _mae(name: str, size: str, patch: int, width: int, depth: int, heads: int) -> KnownModel:
    return KnownModel(
        name=name,
        family="mae",
        architecture=f"vit_{size}_patch{patch}_224",
        patch=patch,
        width=width,
        depth=depth,
        heads=heads,
        augmentations=_CROP_FLIP,
        licence=_CC_BY_NC,
        file=f"mae_pretrain_vit_{size}.pth",
        source="facebookresearch/mae",
        tag=f"vit_{size}_patch{patch}_224.mae",
    )


def _dino(name: str, size: str, patch: int, width: int, heads: int) -> KnownModel:
    file = {"small": "deitsmall", "base": "vitbase"}[size]
    return KnownModel(
        name=name,
        family="dino",
        architecture=f"vit_{size}_patch{patch}_224",
        patch=patch,
        width=width,
        heads=heads,
        augmentations=_VIEWS,
        licence=_APACHE,
        file=f"dino_{file}{patch}_pretrain.pth",
        source="facebookresearch/dino",
        tag=f"vit_{size}_patch{patch}_224.dino",
        position_embedding="hub",
    )


def _dinov2(size: str, width: int, depth: int, heads: int, registers: int = 0) -> KnownModel:
    middle = f"_reg{registers}" if registers else ""
    return KnownModel(
        name=f"dinov2-{size}" + ("-reg" if registers else ""),
        family="dinov2",
        architecture=f"vit_{size}_patch14{middle}_dinov2",
        patch=14,
        width=width,
        depth=depth,
        heads=heads,
        n_prefix=1 + registers,
        trained_on="LVD-142M",
        augmentations=_VIEWS,
        licence=_APACHE,
        file=f"dinov2_vit{size[0]}14{middle}_pretrain.pth",
        source="facebookresearch/dinov2",
        tag=f"vit_{size}_patch14{middle}_dinov2.lvd142m",
        # For models with registers the hub resamples with antialiasing and no offset, as timm does.
        position_embedding="timm" if registers else "hub",
    )


def _dinov3(size: str, width: int, depth: int, heads: int) -> KnownModel:
    return KnownModel(
        name=f"dinov3-{size}",
        family="dinov3",
        architecture=f"vit_{size}_patch16_dinov3",
        width=width,
        depth=depth,
        heads=heads,
        n_prefix=5,
        trained_on="LVD-1689M",
        augmentations=f"{_VIEWS} (not verified)",
        licence="DINOv3 License",
        file=f"dinov3_vit{size[0]}16_pretrain_lvd1689m-*.pth",  # the star stands for a hash
        source="facebookresearch/dinov3",
        tag=f"vit_{size}_patch16_dinov3.lvd1689m",
    )


def _mocov3(size: str, width: int, arguments: Mapping[str, Any]) -> KnownModel:
    return KnownModel(
        name=f"mocov3-{size}",
        family="mocov3",
        architecture=f"vit_{size}_patch16_224",
        width=width,
        heads=12,
        augmentations=f"crop, {_DISTORTIONS}",
        licence=_CC_BY_NC,
        file=f"vit-{size[0]}-300ep.pth.tar",
        source="facebookresearch/moco-v3",
        arguments=arguments,
    )


def _ibot(size: str, width: int, heads: int) -> KnownModel:
    return KnownModel(
        name=f"ibot-{size}",
        family="ibot",
        architecture=f"vit_{size}_patch16_224",
        width=width,
        heads=heads,
        augmentations=_VIEWS,
        licence=_APACHE,
        file="checkpoint_teacher.pth",
        source="bytedance/ibot",
        position_embedding="hub",
    )


def _demonstration(objective: str, augmentations: str, shipped: bool = True) -> KnownModel:
    return KnownModel(
        name=f"demo-{objective}",
        family="demonstration",
        architecture="vit_tiny_patch16_224",
        patch=8,
        width=128,
        depth=6,
        heads=4,
        trained_on="800 painted street scenes with nuisances, 112 px",
        augmentations=augmentations,
        licence="MIT",
        file=f"demo-{objective}.safetensors",
        source="this project (demo/backbones)",
        arguments={"patch_size": 8, "embed_dim": 128, "num_heads": 4, "depth": 6},
        mean=HALF,
        std=HALF,
        interpolation="bilinear",
        shipped=shipped,
    )


_SHARED_BIAS = {
    "use_abs_pos_emb": False,
    "use_rel_pos_bias": False,
    "use_shared_rel_pos_bias": True,
    "init_values": 0.1,
    "global_pool": "token",
}
"""BEiT's own pretraining shares one bias table among its blocks; fine-tuning gives every block a copy."""

_ROWS = (
    _mae("mae-base", "base", 16, 768, 12, 12),
    _mae("mae-large", "large", 16, 1024, 24, 16),
    _mae("mae-huge", "huge", 14, 1280, 32, 16),
    KnownModel(
        name="mae-finetuned-base",
        family="mae",
        architecture="vit_base_patch16_224",
        width=768,
        heads=12,
        trained_on="ImageNet-1k, then its labels",
        augmentations="crop, flip; fine-tuning: RandAugment, mixup, cutmix, erasing",
        licence=_CC_BY_NC,
        file="mae_finetuned_vit_base.pth",
        source="facebookresearch/mae (FINETUNE.md)",
        arguments={"global_pool": "avg"},
    ),
    _dino("dino-small", "small", 16, 384, 6),
    _dino("dino-small-8", "small", 8, 384, 6),
    _dino("dino-base", "base", 16, 768, 12),
    _dino("dino-base-8", "base", 8, 768, 12),
    _dinov2("small", 384, 12, 6),
    _dinov2("base", 768, 12, 12),
    _dinov2("large", 1024, 24, 16),
    _dinov2("small", 384, 12, 6, registers=4),
    _dinov2("base", 768, 12, 12, registers=4),
    _dinov2("large", 1024, 24, 16, registers=4),
    _dinov3("small", 384, 12, 6),
    _dinov3("base", 768, 12, 12),
    _dinov3("large", 1024, 24, 16),
    KnownModel(
        name="supervised-base",
        family="supervised",
        architecture="vit_base_patch16_224",
        width=768,
        heads=12,
        trained_on="ImageNet-1k with labels",
        augmentations="crop, flip, RandAugment, mixup, cutmix",
        licence="BSD-3-Clause (code; weights not stated)",
        file="vit_b_16-c867db91.pth",
        source="torchvision ViT_B_16_Weights.IMAGENET1K_V1",
        interpolation="bilinear",
    ),
    KnownModel(
        name="augreg-base",
        family="timm",
        architecture="vit_base_patch16_224",
        width=768,
        heads=12,
        trained_on="ImageNet-1k with labels",
        augmentations="crop, flip, RandAugment, mixup (strength not verified)",
        licence=_APACHE,
        file="model.safetensors",
        source="Hugging Face timm/vit_base_patch16_224.augreg_in1k",
        tag="vit_base_patch16_224.augreg_in1k",
        mean=HALF,
        std=HALF,
    ),
    KnownModel(
        name="simmim-base",
        family="simmim",
        architecture="beit_base_patch16_224",
        width=768,
        heads=12,
        augmentations=_CROP_FLIP,
        licence=_MIT_CODE,
        file="simmim_pretrain__vit_base__img224__800ep.pth",
        source="microsoft/SimMIM",
        arguments=_SHARED_BIAS,
    ),
    _ibot("small", 384, 6),
    _ibot("base", 768, 12),
    _mocov3("small", 384, {"num_heads": 12}),  # its authors split 384 channels among 12 heads, timm among 6
    _mocov3("base", 768, {}),
    KnownModel(
        name="beit-base",
        family="beit",
        architecture="beit_base_patch16_224",
        width=768,
        heads=12,
        trained_on="ImageNet-22k",
        augmentations="crop, flip, colour jitter",
        licence=_MIT_CODE,
        file="beit_base_patch16_224_pt22k.pth",
        source="microsoft/unilm (beit)",
        arguments=_SHARED_BIAS,
        mean=HALF,
        std=HALF,
    ),
    _demonstration("mae", _CROP_FLIP),
    _demonstration("mae-normalised", _CROP_FLIP),
    _demonstration("simmim", _CROP_FLIP),
    _demonstration("dino", _VIEWS),
    _demonstration("ibot", _VIEWS),
    _demonstration("supervised", "crop, flip, colour jitter"),
    _demonstration("moco", _VIEWS, shipped=False),
    _demonstration("supervised-image", "crop, flip, colour jitter", shipped=False),
)

KNOWN: dict[str, KnownModel] = {row.name: row for row in _ROWS}
"""Every known model by its short name."""
