"""Roles: which model of the paper a model stands for, by known name or as the experiment says."""

import re
from typing import Any

from pydantic import Field

from evaluate.inputs.model_sets import ModelSets
from evaluate.selection import SelectionRule, select_sources
from evaluate.settings import Selection
from stores.canonical import digest, sources_digest
from stores.format.paths import OF_LAYERS
from stores.specs import FrameSpec, Record

ROLES: dict[str, str] = {
    "mae": "MAE",
    "simmim": "SimMIM",
    "dino": "DINO",
    "dinov2": "DINOv2",
    "ibot": "iBOT",
    "mocov3": "MoCo v3",
    "mae-finetuned": "fine-tuned MAE",
    "supervised": "Supervised",
    "scale-mae": "Scale-MAE",
    "random": "random weights",
    "none": "no role",
}
"""Every role by the word an experiment file uses, with the name it has in sentences."""

_NAMES = {
    "mae": (
        "demo-mae",
        *("mae-base", "mae-large", "mae-huge"),
        *("vit_base_patch16_224.mae", "vit_large_patch16_224.mae", "vit_huge_patch14_224.mae"),
    ),
    "simmim": ("demo-simmim", "simmim-base"),
    "dino": (
        "demo-dino",
        *("dino-base", "dino-base-8", "dino-small", "dino-small-8"),
        *("vit_base_patch16_224.dino", "vit_base_patch8_224.dino"),
        *("vit_small_patch16_224.dino", "vit_small_patch8_224.dino"),
    ),
    "dinov2": (
        *("dinov2-base", "dinov2-small", "dinov2-large"),
        *("dinov2-base-reg", "dinov2-small-reg", "dinov2-large-reg"),
        *("vit_base_patch14_dinov2.lvd142m", "vit_small_patch14_dinov2.lvd142m", "vit_large_patch14_dinov2.lvd142m"),
        *("vit_base_patch14_reg4_dinov2.lvd142m", "vit_small_patch14_reg4_dinov2.lvd142m"),
        "vit_large_patch14_reg4_dinov2.lvd142m",
    ),
    "ibot": ("ibot-base", "ibot-small", "demo-ibot"),
    "mocov3": ("mocov3-base", "mocov3-small", "demo-moco"),
    "mae-finetuned": ("mae-finetuned-base",),
    "supervised": ("supervised-base", "demo-supervised", "demo-supervised-image"),
    "scale-mae": ("scalemae-large",),
}
BY_NAME: dict[str, str] = {name: role for role, names in _NAMES.items() for name in names}
"""The role of models that are known by name; any other has none unless the experiment says so."""

_FACTS = ("group", "split", "image_class", "video", "frame", "seconds", "valid")
"""Columns of the sample table that say something of whole images."""

_DIGEST = re.compile("[0-9a-f]{64}")

PARTS_KNOWN = "images"
"""Key of `ModelInfo.data` for the number of images; notes of earlier versions have neither it nor parts."""

PAPER_WIDTH = 768
"""Channels of the ViT-B that the paper's numbers of features, such as the 200 it removes, are about."""


class ModelInfo(Record):
    """Facts about one model that claims need beside its rows; stored with the results."""

    title: str
    """Name in the long table."""
    name: str
    """Name of the model."""
    weights: str = ""
    """sha256 of the file of its weights; empty where none was read (random weights, modules of one's own)."""
    role: str
    """One of `ROLES`."""
    data_set: str
    frame: FrameSpec
    width: int
    """Features of a patch token of the last layer stored."""
    sets: dict[str, str] = Field(default_factory=dict)
    """Digests of the stored sets it was measured on: ``features``, ``labels``, and of views ``features noise 10``."""

    data: dict[str, str] = Field(default_factory=dict)
    """Digests of what was measured, which models must share to be compared: ``image files``, ``label files``,
    ``label classes`` and ``facts of images``; ``images`` is their number, and with ``train`` or ``validation`` before
    the name each is of the images that train or validate alone. Notes of earlier versions have fewer, or none."""

    def is_same_model(self, other: "ModelInfo") -> bool:
        """Return whether another experiment measured the same model: equal name and, where both are known, weights."""
        known = self.weights and other.weights
        return self.name == other.name and (not known or self.weights == other.weights)

    def scaled(self, m: int) -> int:
        """Return a number of features of the paper for this width: the same from 768 on, in proportion below."""
        return m if self.width >= PAPER_WIDTH else max(1, round(m * self.width / PAPER_WIDTH))


def role_of(name: str, said: str | None) -> str:
    """Return the role that the experiment says, else that of a known name, else ``none``."""
    return said if said is not None else BY_NAME.get(name, "none")


def model_info(model: ModelSets, selection: Selection | None = None) -> ModelInfo:
    """Return the facts about a model's sets that claims and comparisons need; ``selection`` says its parts."""
    arrays = [array for array in model.features.arrays.values() if array.group in OF_LAYERS]
    sets = {"features": model.features.digest, "labels": model.labels.digest}
    for (name, level), viewed in model.views.items():
        sets[f"features {name} {level:g}"] = viewed.features.digest
        sets[f"labels {name} {level:g}"] = viewed.labels.digest
    data = {
        "image files": model.spec.dataset.sources,
        "label files": model.label_spec.label_files or "none",
        "label classes": model.label_spec.classes,
        "facts of images": model.label_spec.facts,
        PARTS_KNOWN: str(model.spec.dataset.n_sources),
    }
    if selection is not None:
        data |= _part_data(model, "train", selection.train)
        data |= _part_data(model, "validation", selection.validation)
    return ModelInfo(
        title=model.title,
        name=model.spec.model.name,
        weights=_weights_file(model),
        role=role_of(model.spec.model.name, model.role),
        data_set=model.spec.dataset.name,
        frame=model.spec.frame,
        width=max(((array.layer or 0, int(array.row_shape[-1])) for array in arrays), default=(0, 0))[1],
        sets=sets,
        data=data,
    )


def _weights_file(model: ModelSets) -> str:
    """Return the sha256 of the file of weights; that of the weights themselves depends on the size of the input."""
    recorded = model.features.provenance.get("weights")
    return str(recorded.get("sha256", "")) if isinstance(recorded, dict) else ""


def _part_data(model: ModelSets, part: str, rule: SelectionRule | None) -> dict[str, str]:
    """Return number, files and facts of the images that a rule selects, from the sample table."""
    if rule is None:
        return {}
    samples = model.samples
    images = samples[samples["source"].isin(select_sources(samples, rule))].drop_duplicates("source")
    facts = images.reindex(columns=["source", *_FACTS]).astype(object)
    labels = images.reindex(columns=["source", "label_sha256"], fill_value="")
    labels = labels[labels["label_sha256"] != ""]
    said = {
        PARTS_KNOWN: str(len(images)),
        "image files": sources_digest(zip(images["source"], images["source_sha256"], strict=True)),
        "label files": sources_digest(labels.itertuples(index=False, name=None)) if len(labels) else "none",
        "facts of images": digest([[str(cell) for cell in line] for line in facts.itertuples(index=False, name=None)]),
    }
    return {f"{part} {name}": value for name, value in said.items()}


def read_model_infos(entries: Any) -> tuple[ModelInfo, ...]:
    """Return models' infos from plain JSON values; raises ValueError for what is none."""
    models_info = tuple(ModelInfo.model_validate(entry, strict=False) for entry in entries)
    unknown = sorted({info.role for info in models_info} - ROLES.keys())
    if unknown:
        raise ValueError(f"there is no role {unknown[0]!r}")
    kinds = {name.partition(" ")[0] for info in models_info for name in info.sets}
    digests = [digest for info in models_info for digest in info.sets.values()]
    if kinds - {"features", "labels"} or not all(map(_DIGEST.fullmatch, digests)):
        raise ValueError("the sets of a model are no digests of features and labels")
    return models_info
