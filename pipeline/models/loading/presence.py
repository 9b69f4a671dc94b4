"""Finds a model's weights on this machine, without downloading or loading anything."""

import os
from pathlib import Path

from pipeline.models.known import KNOWN
from pipeline.models.known_model import KnownModel
from pipeline.shipped_weights import SHIPPED

_UNSPECIFIC = ("checkpoint_teacher.pth", "model.safetensors")
"""Official file names that do not identify a model; searched for only in a folder named after the model."""
_CACHED_FILES = ("model.safetensors", "pytorch_model.bin")
"""File names of timm's weights in the local Hugging Face cache."""


def find_weights(known: KnownModel, folder: Path) -> Path | None:
    """Return the path of a model's weights, or None when they are not found.

    Shipped ones are always found. Of others, searched for are the official file in ``folder`` or in the subfolder named
    after the model, then timm's file in the local cache.
    """
    if known.shipped:
        return SHIPPED / known.file
    folders = [folder / known.name] if known.file in _UNSPECIFIC else [folder / known.name, folder]
    for below in folders:
        for path in sorted(below.glob(known.file)) if below.is_dir() else []:
            return path
    if known.tag is None:
        return None
    found = _cached(known.tag)
    return None if found is None else found[1]


def cached_file(name: str) -> tuple[str, ...]:
    """Return repository and file name of timm's weights of a model in the local cache; empty when there are none."""
    found = _cached(KNOWN[name].tag or name if name in KNOWN else name)
    return () if found is None else found[0]


def _cached(tag: str) -> tuple[tuple[str, str], Path] | None:
    """Return repository and file name, and the path, of timm's weights in the local Hugging Face cache."""
    import timm
    from huggingface_hub import try_to_load_from_cache

    configuration = timm.get_pretrained_cfg(tag)
    if configuration is None or not configuration.hf_hub_id:
        return None
    for name in _CACHED_FILES:
        cached = try_to_load_from_cache(configuration.hf_hub_id, name)
        if isinstance(cached, str):
            return (configuration.hf_hub_id, name), Path(cached)
    return None


def is_offline_and_uncached(name: str) -> bool:
    """Return whether HF_HUB_OFFLINE is set and timm's weights of this name are not in the local cache."""
    import timm
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.file_download import repo_folder_name

    if not os.environ.get("HF_HUB_OFFLINE") or not timm.models.is_model_pretrained(name):
        return False
    configuration = timm.get_pretrained_cfg(name)
    if configuration is None or not configuration.hf_hub_id:
        return False
    return not (Path(HF_HUB_CACHE) / repo_folder_name(repo_id=configuration.hf_hub_id, repo_type="model")).is_dir()
