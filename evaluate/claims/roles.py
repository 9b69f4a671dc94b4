"""Which model plays which part of the paper: by known name, or as the experiment says."""

import re
from typing import Any

from pydantic import Field

from evaluate.inputs.model_sets import ModelSets
from stores.specs import FrameSpec, Record

ROLES: dict[str, str] = {
    "mae": "MAE",
    "simmim": "SimMIM",
    "dino": "DINO",
    "dinov2": "DINOv2",
    "ibot": "iBOT",
    "supervised": "Supervised",
    "scale-mae": "Scale-MAE",
    "random": "random weights",
    "none": "no role",
}
"""Every role by the word an experiment file uses, with the name it has in sentences."""

BY_NAME: dict[str, str] = {
    "mae-base": "mae",
    "mae-large": "mae",
    "mae-huge": "mae",
    "vit_base_patch16_224.mae": "mae",
    "vit_large_patch16_224.mae": "mae",
    "vit_huge_patch14_224.mae": "mae",
    "simmim-base": "simmim",
    "dino-base": "dino",
    "dino-base-8": "dino",
    "dino-small": "dino",
    "dino-small-8": "dino",
    "vit_base_patch16_224.dino": "dino",
    "vit_base_patch8_224.dino": "dino",
    "vit_small_patch16_224.dino": "dino",
    "vit_small_patch8_224.dino": "dino",
    "dinov2-base": "dinov2",
    "dinov2-small": "dinov2",
    "dinov2-large": "dinov2",
    "dinov2-base-reg": "dinov2",
    "dinov2-small-reg": "dinov2",
    "dinov2-large-reg": "dinov2",
    "vit_base_patch14_dinov2.lvd142m": "dinov2",
    "vit_small_patch14_dinov2.lvd142m": "dinov2",
    "vit_large_patch14_dinov2.lvd142m": "dinov2",
    "vit_base_patch14_reg4_dinov2.lvd142m": "dinov2",
    "vit_small_patch14_reg4_dinov2.lvd142m": "dinov2",
    "vit_large_patch14_reg4_dinov2.lvd142m": "dinov2",
    "ibot-base": "ibot",
    "ibot-small": "ibot",
    "supervised-base": "supervised",
    "scalemae-large": "scale-mae",
}
"""The role of models that are known by name; any other plays none unless the experiment says so."""

_DIGEST = re.compile("[0-9a-f]{64}")

PAPER_WIDTH = 768
"""Channels of the ViT-B that the paper's numbers of features, such as the 200 it removes, are about."""


class ModelInfo(Record):
    """What claims need to know about one model beside its rows; the report keeps it with the results."""

    title: str
    """Name in the long table."""
    name: str
    """Name of the model."""
    role: str
    """One of `ROLES`."""
    data_set: str
    frame: FrameSpec
    width: int
    """Features of a patch token of the last layer stored."""
    sets: dict[str, str] = Field(default_factory=dict)
    """Digests of the stored sets it was measured on: ``features``, ``labels``, and of views ``features noise 10``."""

    def scaled(self, m: int) -> int:
        """Return a number of features of the paper for this width: the same from 768 on, in proportion below."""
        return m if self.width >= PAPER_WIDTH else max(1, round(m * self.width / PAPER_WIDTH))


def role_of(name: str, said: str | None) -> str:
    """Return the role that the experiment says, else that of a known name, else ``none``."""
    return said if said is not None else BY_NAME.get(name, "none")


def model_info(model: ModelSets) -> ModelInfo:
    """Return what claims need to know about a model's sets."""
    widths = [
        (int(array.attributes.get("layer") or 0), int(array.row_shape[-1]))
        for name, array in model.features.arrays.items()
        if name.startswith("tokens/")
    ]
    sets = {"features": model.features.digest, "labels": model.labels.digest}
    for (name, level), viewed in model.views.items():
        sets[f"features {name} {level:g}"] = viewed.features.digest
        sets[f"labels {name} {level:g}"] = viewed.labels.digest
    return ModelInfo(
        title=model.title,
        name=model.spec.model.name,
        role=role_of(model.spec.model.name, model.role),
        data_set=model.spec.dataset.name,
        frame=model.spec.frame,
        width=max(widths)[1] if widths else 0,
        sets=sets,
    )


def read_model_infos(entries: Any) -> tuple[ModelInfo, ...]:
    """Return subjects from plain JSON values; raises ValueError for what is none."""
    models_info = tuple(ModelInfo.model_validate(entry, strict=False) for entry in entries)
    unknown = sorted({info.role for info in models_info} - ROLES.keys())
    if unknown:
        raise ValueError(f"there is no role {unknown[0]!r}")
    kinds = {name.partition(" ")[0] for info in models_info for name in info.sets}
    digests = [digest for info in models_info for digest in info.sets.values()]
    if kinds - {"features", "labels"} or not all(map(_DIGEST.fullmatch, digests)):
        raise ValueError("the sets of a model are no digests of features and labels")
    return models_info
