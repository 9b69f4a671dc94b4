"""Long tables with planted numbers: the paper's findings hold, and single numbers can be changed."""

import numpy as np

from evaluate.claims.evidence import Evidence
from evaluate.claims.roles import ROLES, ModelInfo
from evaluate.results.draws import DRAWS, BootstrapDraws, with_draws
from evaluate.results.table import long_table
from stores.specs import FrameSpec, Size

KNN = {"mae": 0.058, "simmim": 0.075, "supervised": 0.310, "dino": 0.345, "dinov2": 0.496, "ibot": 0.35, "random": 0.05}
PROBE = {"mae": 0.375, "simmim": 0.156, "supervised": 0.33, "dino": 0.383, "dinov2": 0.590, "ibot": 0.4, "random": 0.08}
SPREAD = {"mae": 900.0, "simmim": 700.0, "dino": 4.0, "supervised": 5.0}
SAME = {"dino": 0.95, "ibot": 0.96, "dinov2": 0.85, "supervised": 0.84, "mae": 0.45, "random": 0.2}
OTHER_EXPERIMENTS = {"dinov2": 0.6, "dino": 0.5, "supervised": 0.49, "mae": 0.2}
TRACKED = {"dino": 0.9, "dinov2": 0.89, "supervised": 0.6, "mae": 0.5, "random": 0.3}
TILES = FrameSpec(input=Size(height=224, width=224), tile=Size(height=256, width=256))
WHOLE = FrameSpec(input=Size(height=896, width=1792))
GSD = (0.25, 0.5, 1.0)
KEPT = {
    "retrieval": ("share", "upper_bound"),
    "tracking": ("instance_accuracy",),
    "image-knn": ("image_accuracy",),
    "robustness": ("patch_miou",),
}
"""Metrics whose draws are stored."""


class World:
    """Rows by a key that says what they are, so that one of them can be given another value."""

    def __init__(self, frame=TILES, noise=0.005):
        self.frame, self.noise, self.found = frame, noise, {}
        self.width, self.rename = 768, ""

    def put(self, role, analysis, metric, value, **where):
        self.found[role, analysis, metric, *sorted(where.items())] = value

    def change(self, role, analysis, metric, value, **where):
        """Give every row that agrees with ``where`` another value, or what a function makes of it."""
        touched = 0
        for key, old in self.found.items():
            if key[:3] == (role, analysis, metric) and where.items() <= dict(key[3:]).items():
                self.found[key] = value(old) if callable(value) else value
                touched += 1
        assert touched, (role, analysis, metric, where)

    def without(self, role):
        self.found = {key: value for key, value in self.found.items() if key[0] != role}

    def table(self):
        rows = []
        for (role, analysis, metric, *where), value in self.found.items():
            row = {
                "model": ROLES[role],
                "analysis": analysis,
                "metric": metric,
                "value": value,
                "array": "block.11.norm",
                "normed": True,
            }
            if metric not in ("majority_miou",):
                row |= {"low": value - self.noise, "high": value + self.noise, "unit": "image", "n_units": 30}
            rows.append({"n_train": 72, **row, **dict(where)})
        return long_table(rows)

    def models_info(self):
        facts = {"data_set": "cityscapes", "frame": self.frame, "width": self.width}
        return [
            ModelInfo(title=ROLES[role], name=role + self.rename, role=role, **facts)
            for role in dict.fromkeys(key[0] for key in self.found)
        ]

    def evidence(self, *beside, low=None, high=None):
        """Return the rows as evidence, all intervals replaced where ``low`` and ``high`` are given."""
        table = self.table()
        if low is not None:
            table.loc[table["low"].notna(), ["low", "high"]] = [low, high]
        others = [other.evidence(low=low, high=high) for other in beside]
        return Evidence(table, self.models_info(), beside=others)

    def with_common_draws(self, spread):
        """Return the rows as evidence when some images are harder for everyone, without and with its draws.

        All that `KEPT` lists moves as one, and every row's interval is as wide; only the draws say that they move
        together.
        """
        moved = np.random.default_rng(0).normal(0.0, spread, 400)
        table = self.table()
        table["result"] = table["model"] + table["analysis"]
        table["row"] = table.groupby("result", sort=False).cumcount()
        arrays, bounds = {}, {}
        for (result, analysis), part in table.groupby(["result", "analysis"], sort=False):
            rows = []
            for place, metric, value in zip(part.index, part["metric"], part["value"], strict=True):
                drawn = None
                if metric in KEPT.get(analysis, ()):
                    drawn = BootstrapDraws(value + moved, "the same images")
                    bounds[place] = np.quantile(drawn.values, [0.025, 0.975])
                rows.append({"metric": metric, DRAWS: drawn})
            arrays[result] = with_draws(rows, KEPT.get(analysis, ()), {}).arrays
        table.loc[list(bounds), ["low", "high"]] = np.array(list(bounds.values()))
        return [Evidence(table, self.models_info(), kept) for kept in ({}, arrays)]


def patches(world, role, classifier, value, m=0, layer=11.0, n_train=72):
    k = 1 if classifier == "knn" else None
    where = {"classifier": classifier, "m": m, "k": k, "x_name": "layer", "x_value": layer, "n_train": n_train}
    world.put(role, "patch-classification", "patch_miou", value, **where)


def paper_world():
    """Return a world in which every claim but that about tiles holds by itself."""
    world = World()
    for role in KNN:
        patches(world, role, "knn", KNN[role])
        patches(world, role, "probe", PROBE[role])
        majority = {"classifier": "probe", "x_name": "layer", "x_value": 11.0, "reference": "majority"}
        world.put(role, "patch-classification", "majority_miou", 0.02, **majority)
    _removal(world)
    _variance(world)
    _sizes_and_layers(world)
    _retrieval(world)
    _tracking(world)
    _images(world)
    _rest(world)
    return world


def _removal(world):
    for m, value in ((10, 0.17), (50, 0.24), (200, 0.295), (600, 0.1)):
        patches(world, "mae", "knn", value, m)
    patches(world, "mae", "probe", 0.37, 200)
    for role in ("dino", "dinov2", "supervised"):
        patches(world, role, "knn", KNN[role] - 0.002, 200)
    for role, classifier, outcome, gain in (
        ("mae", "knn", "batchnorm", 0.2),
        ("simmim", "knn", "batchnorm", 0.1),
        ("simmim", "probe", "batchnorm", -0.1),
    ):
        where = {"classifier": classifier, "outcome": outcome, "reference": "none"}
        world.put(role, "feature-treatments", "patch_miou_difference", gain, **where)


def _variance(world):
    for role, share in (("mae", 0.97), ("dino", 0.4)):
        world.put(role, "variance-spectrum", "share_of_variance", share, m=200)
    for role, value in SPREAD.items():
        world.put(role, "variance-spectrum", "max_to_median_variance", value)
    for reference, kind, share in (
        ("ade20k.toml", "experiment", 0.98),
        ("fair1m.toml", "experiment", 0.96),
        ("DINO", "model", 0.25),
    ):
        world.put("mae", "ranking-overlap", "overlap_share", share, m=200, reference=reference, outcome=kind)


def _sizes_and_layers(world):
    for role in ("mae", "simmim", "dino", "dinov2", "supervised"):
        patches(world, role, "probe", PROBE[role] - 0.08, n_train=36)
        patches(world, role, "knn", KNN[role] - 0.02, n_train=36)
    profiles = {
        "dino": [0.08 + 0.26 * min(layer, 7) / 7 for layer in range(11)],
        "supervised": [0.08 + 0.24 * min(layer, 7) / 7 for layer in range(11)],
        "dinov2": [0.1] * 8 + [0.12, 0.2, 0.3],
        "simmim": [0.05] * 4 + [0.15] * 4 + [0.08] * 3,
    }
    for role, values in profiles.items():
        for layer, value in enumerate(values):
            patches(world, role, "knn", value, layer=float(layer))


def _retrieval(world):
    def put(role, view, level, outcome, value, m=0, left_out="nothing"):
        where = {"view": view, "level": level, "outcome": outcome, "m": m, "k": 1, "reference": f"{left_out} left out"}
        world.put(role, "retrieval", "share", value, **where)

    for role, value in SAME.items():
        for view, levels in (("noise", (10.0, 40.0)), ("blur", (10.0, 40.0)), ("shift", (1.0, 4.0))):
            for level in levels:
                put(role, view, level, "same-patch", value)
        for view, level in (("rotation", 5.0), ("rotation", 20.0), ("scale", 0.9), ("scale", 1.2)):
            put(role, view, level, "same-patch", 0.3 * value)
        for view, level in (("rotation", 5.0), ("scale", 0.9), ("noise", 40.0), ("blur", 40.0)):
            bound = {"view": view, "level": level, "m": 0, "k": 1, "reference": "nothing left out"}
            world.put(role, "retrieval", "upper_bound", 0.97 if view in ("rotation", "scale") else 1.0, **bound)
    put("mae", "noise", 10.0, "background", 0.45)
    put("mae", "noise", 10.0, "same-patch", 0.92, m=200)
    for role, value in OTHER_EXPERIMENTS.items():
        put(role, "clean", None, "same-category", value, left_out="tile")


def _tracking(world):
    for role, value in TRACKED.items():
        for gap, share in ((1.0, 1.0), (10.0, 0.8), (30.0, 0.75)):
            where = {"m": 0, "k": 1, "x_name": "gap", "x_value": gap, "n_train": None}
            world.put(role, "tracking", "instance_accuracy", value * share, **where)
            world.put(role, "tracking", "chance", 0.1, **where)
            world.put(role, "tracking", "category_accuracy_on_failure", 0.95, **where)
    where = {"m": 200, "k": 1, "x_name": "gap", "x_value": 10.0, "n_train": None}
    world.put("mae", "tracking", "instance_accuracy", 0.6, **where)


def _images(world):
    for role, offset in (("scale-mae", 0.0), ("random", -0.4)):
        for size in GSD:
            for token, m, value in (
                ("class-token", 0, 0.7),
                ("class-token", 200, 0.7),
                ("mean-patch", 0, 0.6),
                ("mean-patch", 200, 0.8),
            ):
                view = {"view": "clean"} if size == 1.0 else {"view": "size", "level": size * 256}
                where = {"token": token, "m": m, "k": 20, "x_name": "relative_gsd", "x_value": size, **view}
                world.put(role, "image-knn", "image_accuracy", value + offset, **where)
        world.put(role, "image-knn", "majority_accuracy", 0.05, reference="majority")


def _rest(world):
    for masking, value in ((0.0, 1.22), (0.75, 1.14)):
        where = {"outcome": "top", "m": 200, "x_name": "mask_ratio", "x_value": masking, "reference": "none"}
        world.put("mae", "reconstruction", "mse_normalised_ratio", value, **where)
        untouched = {"outcome": "none", "m": 0, "x_name": "mask_ratio", "x_value": masking, "reference": "mean patch"}
        world.put("mae", "reconstruction", "mse_normalised_over_mean_patch", 0.3, **untouched)
    for outcome, reference, value in (
        ("without-top", "all", -0.004),
        ("random-alone", "without-top", -0.02),
        ("top-alone", "random-alone", -0.1),
    ):
        where = {"classifier": "ridge", "outcome": outcome, "reference": reference, "m": 200}
        world.put("mae", "global-context", "r2_difference", value, **where)
    for role, kept in (("mae", 0.4), ("supervised", 0.8), ("dino", 0.8), ("dinov2", 0.9)):
        where = {"classifier": "probe", "m": 0}
        world.put(role, "robustness", "patch_miou", PROBE[role], view="clean", **where)
        for band in (0.125, 0.875):
            here = {**where, "view": "frequency-noise", "level": band}
            world.put(role, "robustness", "patch_miou", kept * PROBE[role], **here)
            if role == "supervised":
                world.put(role, "robustness", "patch_miou_difference", -0.001, reference="clean", **here)
    for view, levels in (("clean", (None,)), ("blur", (10.0, 40.0)), ("noise", (10.0,))):
        for level in levels:
            where = {"classifier": "knn", "m": 0, "view": view, "level": level}
            world.put("mae", "robustness", "largest_predicted_share", 0.5 if view == "clean" else 0.97, **where)


def whole_world():
    """Return the same models on whole images, by themselves worse, but better at tracking."""
    world = World(WHOLE)
    for role, probe, knn in (("dino", 0.340, 0.308), ("mae", 0.176, 0.02)):
        patches(world, role, "probe", probe)
        patches(world, role, "knn", knn)
    for gap in (1.0, 10.0, 30.0):
        where = {"m": 0, "k": 1, "x_name": "gap", "x_value": gap, "n_train": None}
        world.put("mae", "tracking", "instance_accuracy", 0.5, **where)
    return world
