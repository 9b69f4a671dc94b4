"""Key map of BEiT after self-supervised pretraining alone (microsoft/unilm, folder beit).

In that stage all blocks share one relative position bias; only fine-tuning gives each block its own (such files are
read under timm's name, beit_base_patch16_224). The final norm precedes the head that predicts visual tokens.
Index tables of the bias are computed, not loaded.
"""

from pipeline.models.loading.position import without_index_tables
from pipeline.models.loading.weights import Weights, without_prefix

REVISION = 1
"""Increased when the same recipe gives another model."""


def rename(weights: Weights) -> Weights:
    """Return official weights under timm's names."""
    return without_index_tables(without_prefix(weights, "module."))
