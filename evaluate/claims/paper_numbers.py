"""Numbers that paper A prints, shown beside ours where the protocol is the same; claims never use them.

These are Table 2 (patch classification on Cityscapes and ADE20K), the sweep of section 3.2, the class "bus" of section
4, and Table 6 (global context). Left out, since their protocol is not known: Table 4 (the images are not
named), the whole images of Table 5 (their size is not readable), overlaps of top features (the images are not named),
and all figures, which print no numbers.
The paper does not say whether its mIoU counts patches or pixels: ours counts patches, which are what is labelled. It
does not state the distance of 1-NN either: ours is Euclidean, on which its argument rests.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pandas as pd

from evaluate.claims.roles import ModelInfo
from evaluate.results.metrics import PATCH_IOU, PATCH_MIOU, R2
from stores.specs import FrameSpec, Size


class Protocol(NamedTuple):
    """On which images a number was measured."""

    data_set: str
    frame: FrameSpec
    n_train: int
    n_validation: int


class PaperNumber(NamedTuple):
    """One printed number and everything that must be equal for ours to stand beside it."""

    source: str
    protocol: Protocol
    models: tuple[str, ...]
    """Names of models whose weights are those of the paper."""
    analysis: str
    what: str
    where: dict[str, Any]
    """Columns of the long table; None is an empty cell."""
    parameters: dict[str, Any]
    """Parameters of the analysis."""
    value: float


class Compared(NamedTuple):
    """Our number and the paper's."""

    model: str
    what: str
    ours: float
    low: float | None
    high: float | None
    paper: float
    source: str


CITYSCAPES = Protocol(
    "cityscapes", FrameSpec(input=Size(height=224, width=224), tile=Size(height=256, width=256)), 72, 30
)
ADE20K = Protocol(
    "ade20k",
    FrameSpec(input=Size(height=224, width=224), tile=Size(height=224, width=224), resize=Size(height=448, width=672)),
    600,
    300,
)
LAST = 11.0
"""Block 12 of 12, counted from 0."""

MODELS = {
    "Supervised": ("supervised-base",),
    "DINO": ("dino-base", "vit_base_patch16_224.dino"),
    "DINOv2": ("dinov2-base", "vit_base_patch14_dinov2.lvd142m"),
    "MAE": ("mae-base", "vit_base_patch16_224.mae"),
    "SimMIM": ("simmim-base",),
}
TABLE_2 = {
    "Supervised": ((0.310, 0.33), (0.053, 0.067)),
    "DINO": ((0.345, 0.383), (0.055, 0.070)),
    "DINOv2": ((0.496, 0.590), (0.136, 0.161)),
    "MAE": ((0.058, 0.375), (0.006, 0.066)),
    "SimMIM": ((0.075, 0.156), (0.006, 0.032)),
}
"""(1-NN, linear) mIoU on Cityscapes and on ADE20K."""
TABLE_6 = {
    "all": (0.606, 0.698, 0.723, 0.6754),
    "without-top": (0.603, 0.711, 0.700, 0.671),
    "random-alone": (0.588, 0.678, 0.687, 0.651),
    "top-alone": (0.551, 0.509, 0.591, 0.550),
}
"""R² of road, building and vegetation and their mean, MAE. The text gives 0.666 for 200 random features, where the
table's mean is 0.651: the table is shown."""


def _patches(
    source: str, protocol: Protocol, model: str, classifier: str, m: int, value: float, layer: float = LAST
) -> PaperNumber:
    knn = classifier == "knn"
    # MAE's probe has BatchNorm in front and SimMIM's has none (section 3.1); of the others nothing is said.
    probe = {"MAE": {"batchnorm": True}, "SimMIM": {"batchnorm": False}}.get(model, {})
    what = f"{'1-NN' if knn else 'probe'} mIoU" + (f", {m} removed" if m else "")
    where: dict[str, Any] = {"metric": PATCH_MIOU, "class": None, "classifier": classifier, "m": m}
    where |= {"k": 1 if knn else None, "x_name": "layer", "x_value": layer}
    parameters = {"metric": "euclidean"} if knn else probe
    return PaperNumber(source, protocol, MODELS[model], "patch-classification", what, where, parameters, value)


def _all() -> Iterator[PaperNumber]:
    for model, pairs in TABLE_2.items():
        for protocol, pair in zip((CITYSCAPES, ADE20K), pairs, strict=True):
            for classifier, value in zip(("knn", "probe"), pair, strict=True):
                yield _patches("Table 2", protocol, model, classifier, 0, value)
    yield _patches("Table 2", CITYSCAPES, "MAE", "knn", 200, 0.295)
    yield _patches("Table 2", ADE20K, "MAE", "knn", 200, 0.043)
    yield _patches("Table 2", ADE20K, "MAE", "probe", 200, 0.056)
    yield _patches("section 3.2", CITYSCAPES, "MAE", "knn", 10, 0.170)
    for layer, value in ((8.0, 0.059), (LAST, 0.729)):
        bus = _patches("section 4", CITYSCAPES, "DINOv2", "knn", 0, value, layer)
        where = {**bus.where, "metric": PATCH_IOU, "class": "bus"}
        yield bus._replace(what=f"1-NN IoU of bus, layer {layer + 1:.0f}", where=where)
    for outcome, values in TABLE_6.items():
        for name, value in zip(("road", "building", "vegetation", None), values, strict=True):
            where = {"metric": R2, "outcome": outcome, "class": name, "m": 0 if outcome == "all" else 200}
            what = f"R² of {name or 'the mean'}, {outcome.replace('-', ' ')}"
            scope = {"scope": "tile"}
            yield PaperNumber("Table 6", CITYSCAPES, MODELS["MAE"], "global-context", what, where, scope, value)


PAPER_NUMBERS = tuple(_all())
"""Every number that can stand beside ours."""


def compare(table: pd.DataFrame, models_info: Sequence[ModelInfo]) -> list[Compared]:
    """Return the paper's numbers whose protocol is that of a row of the long table, with that row's."""
    compared: list[Compared] = []
    for info in (info for info in models_info if info.role != "random"):
        mine = table[(table["model"] == info.title) & (table["view"] == "clean")]
        for number in PAPER_NUMBERS:
            protocol = number.protocol
            if info.name not in number.models or (info.data_set, info.frame) != protocol[:2]:
                continue
            rows = mine[mine["analysis"] == number.analysis]
            for name, value in number.where.items():
                rows = rows[rows[name].isna() if value is None else (rows[name] == value).fillna(value=False)]
            for row in rows.to_dict("records"):
                if _same_protocol(row, number):
                    low, high = (None if pd.isna(row[name]) else float(row[name]) for name in ("low", "high"))
                    ours = float(row["value"])
                    compared.append(Compared(info.title, number.what, ours, low, high, number.value, number.source))
                    break
    return compared


def _same_protocol(row: dict[Any, Any], number: PaperNumber) -> bool:
    if pd.isna(row["params"]) or pd.isna(row["value"]):
        return False
    parameters = json.loads(row["params"])
    sizes = [len(parameters.get(name, ())) for name in ("train", "validation")]
    return sizes == [number.protocol.n_train, number.protocol.n_validation] and all(
        parameters.get(name) == value for name, value in number.parameters.items()
    )
