"""Whether the weights of a model are on this machine; nothing is downloaded or loaded."""

import os
from pathlib import Path

from pipeline.models.known_model import KnownModel

_ANYONES = ("checkpoint_teacher.pth", "model.safetensors")
"""Official names that say nothing of the model: looked for only in a folder called like the model."""
_CACHED_FILES = ("model.safetensors", "pytorch_model.bin")
"""Names under which timm's weights lie in the local Hugging Face cache."""


def find_weights(known: KnownModel, folder: Path) -> Path | None:
    """Return where a model's weights lie, None when they are not here.

    Looked for are its official file in ``folder`` or in the folder below it that is called like the model, then
    timm's file in the local cache.
    """
    places = [folder / known.name] if known.file in _ANYONES else [folder / known.name, folder]
    for place in places:
        for path in sorted(place.glob(known.file)) if place.is_dir() else []:
            return path
    if known.tag is None:
        return None
    import timm
    from huggingface_hub import try_to_load_from_cache

    configuration = timm.get_pretrained_cfg(known.tag)
    if configuration is None or not configuration.hf_hub_id:
        return None
    for name in _CACHED_FILES:
        cached = try_to_load_from_cache(configuration.hf_hub_id, name)
        if isinstance(cached, str):
            return Path(cached)
    return None


def is_out_of_reach(name: str) -> bool:
    """Return whether HF_HUB_OFFLINE is set and the local cache knows nothing of timm's weights of this name."""
    import timm
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.file_download import repo_folder_name

    if not os.environ.get("HF_HUB_OFFLINE") or not timm.models.is_model_pretrained(name):
        return False
    configuration = timm.get_pretrained_cfg(name)
    if configuration is None or not configuration.hf_hub_id:
        return False
    return not (Path(HF_HUB_CACHE) / repo_folder_name(repo_id=configuration.hf_hub_id, repo_type="model")).is_dir()
