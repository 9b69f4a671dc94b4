"""Every experiment file is loaded, expanded and planned, on miniatures of the official layouts.

What a plan must say is worked out here a second time: rows from the frame and the images that the selection leaves,
models, views and arrays from the file itself. No model has values: a plan without time needs none.
"""

import json
import math
import shutil
import tomllib
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from commands.experiment.reading import load_experiment
from pipeline.models import build_model, build_on_meta
from pipeline.models.known import KNOWN
from tests.pipeline import layouts

EXPERIMENTS = sorted((Path(__file__).parent.parent / "experiments").glob("*.toml"))
BDD_VIDEOS = ("b1c66a42-6f7d68ca", "b1c81faa-3df17267", "b1c81faa-c80764c5", "b1c9c847-3bda4659")
OF_MINIATURES = ("there are no weights at", "neighbours are more than the")
"""Why a miniature cannot be evaluated: a decoder's file is not there, and images are few."""
NOISE = {"noise", "frequency-noise"}
"""Views that tell two numbers of every row."""


@dataclass(frozen=True)
class Here:
    """What a miniature leaves to be planned."""

    images: int | None = None
    """After the selection."""
    size: tuple[int, int] | None = None
    """Width and height, where the frame does not resize."""
    rows: int | None = None
    """Where a choice takes tiles."""


def without_values(workspace, recipe, size):
    """Draw no weights."""
    is_drawn = recipe.weights == "random"
    return (build_on_meta if is_drawn or workspace.on_meta_device else build_model)(recipe, size, workspace.folder)


def copies(first, paths):
    """Copy one file: images of one colour are all the same."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(first, path)


def write_cityscapes(root, cities, size):
    """So many images of each city, all of them road."""
    image = layouts.write_image(root / "image.png", *size)
    label = root / "label.png"
    Image.fromarray(np.full(size[::-1], 7, np.uint8)).save(label)
    stems = [f"{split}/{city}/{city}_{n:06}_000019" for split, city, count in cities for n in range(count)]
    copies(image, [root / "leftImg8bit" / f"{stem}_leftImg8bit.png" for stem in stems])
    copies(label, [root / "gtFine" / f"{stem}_gtFine_labelIds.png" for stem in stems])


@cache
def cityscapes_of(train):
    """One image a city more than the longest rule takes, which is ``train`` to train on and 10 to validate on."""

    def write(data):
        cities = [("train", "aachen", 9), ("train", "ulm", 9), ("val", "lindau", 11), ("val", "munster", 11)]
        write_cityscapes(data / "cityscapes", cities, (520, 260))
        return Here(images=2 * train + 2 * 10, size=(520, 260))

    return write


def street_world(data):
    for folder in ("street-world", "street-nuisances"):
        write_cityscapes(data / folder, [("train", "ada", 12), ("val", "bob", 5)], (512, 300))
    return Here(images=12 + 5, size=(512, 300))


@cache
def imagenet_of(kept):
    """Two classes of 41 images, of which ``kept`` of each are selected."""

    def write(data):
        image = layouts.write_image(data / "image.JPEG", 300, 260)
        folder = data / "imagenet" / "val"
        names = [f"n0144076{scene}/ILSVRC2012_val_{number:08}.JPEG" for scene in (4, 5) for number in range(41)]
        copies(image, [folder / name for name in names])
        return Here(images=2 * kept)

    return write


@cache
def camvid_of(kept):
    """One sequence with 9 images to train on and 13 to validate on, of which ``kept`` are selected."""

    def write(data):
        root = data / "camvid"
        image = layouts.write_image(root / "image.png", 490, 250)
        label = root / "label.png"
        Image.fromarray(np.zeros((250, 490), np.uint8)).save(label)
        for split, count in (("train", 9), ("val", 13)):
            names = [f"0001TP_{split}{n:03}.png" for n in range(count)]
            copies(image, [root / split / name for name in names])
            copies(label, [root / f"{split}annot" / name for name in names])
            layouts.write_text(root / f"{split}.txt", *(f"/{split}/{name} /{split}annot/{name}" for name in names))
        return Here(images=kept, size=(490, 250))

    return write


def ade20k(data):
    """Of wall more training images than are taken, of building more validation images, and one of nothing."""
    root = data / "ade20k"
    for split, ids in (("train", [1, 1, 1, 1, 1, 2, 0]), ("val", [1, 2, 2, 2])):
        for number, one in enumerate(ids):
            layouts.ade20k(root, split, f"ADE_{split}_{number:08}", np.full((30, 40), one))
    return Here(images=(4 + 1) + (1 + 2))


def dota(data):
    for stem in ("P0001", "P0002"):
        layouts.dota(data / "dota", stem, "10 5 20 5 20 15 10 15 ship 0", width=460, height=230)
    return Here(images=2, size=(460, 230))


def fair1m(data):
    """Four tiles in two images, two of which show an object; validation is left out."""
    corners = [(10, 5), (90, 5), (90, 60), (10, 60), (10, 5)]
    moved = [(x + 224, y) for x, y in corners]
    train = data / "fair1m" / "train" / "part1"
    layouts.fair1m(train, 1, layouts.fair1m_object("Boeing737", corners), width=450, height=224)
    layouts.fair1m(train, 2, layouts.fair1m_object("Bridge", moved), width=450, height=224)
    layouts.fair1m(data / "fair1m" / "validation", 3, layouts.fair1m_object("Bridge", corners), width=224, height=224)
    return Here(images=2, rows=2)


def nwpu(data):
    """Five tiles in five images show a ship, three of which are taken, and one a bridge."""
    names = [f"{number:03}.jpg" for number in range(1, 6)]
    square = [10, 5, 90, 5, 90, 60, 10, 60]
    bridge = [value + (224 if place % 2 == 0 else 0) for place, value in enumerate(square)]
    root = data / "nwpu_vhr10"
    objects = [*((image, 2, square) for image in range(5)), (0, 9, bridge)]
    layouts.nwpu(root, objects, images=names)
    folder = root / "NWPU VHR-10 dataset" / "positive image set"
    copies(layouts.write_image(root / "image.jpg", 450, 230), [folder / name for name in names])
    copies(root / "image.jpg", [root / "NWPU VHR-10 dataset" / "negative image set" / "001.jpg"])
    return Here(rows=3 + 1)


def nwpu_images(data):
    """A ship in each of 100 images that are taken, and one image without any."""
    names = [f"{number:03}.jpg" for number in range(1, 102)]
    root = data / "nwpu_vhr10"
    layouts.nwpu(root, [(image, 2, [10, 5, 90, 5, 90, 60, 10, 60]) for image in range(101)], images=names)
    folder = root / "NWPU VHR-10 dataset"
    copies(layouts.write_image(root / "image.jpg", 450, 230), [folder / "positive image set" / name for name in names])
    copies(root / "image.jpg", [folder / "negative image set" / "001.jpg"])
    return Here(images=100)


def mot17(data):
    truth = "1,7,1,1,10,20,1,1,1"
    for video in ("MOT17-02", "MOT17-04"):
        layouts.mot17(data / "mot17", truth, video=video, frames=2)
    layouts.mot17(data / "mot17", video="MOT17-01", split="test", frames=1)
    return Here(images=2 * 2)


def painted_videos(data):
    for video in ("MOT17-01", "MOT17-02"):
        layouts.mot17(data / "street-videos", "1,7,1,1,10,20,1,1,1", video=video, frames=2)
    return Here(images=2 * 2)


def painted_kinds(data):
    image = layouts.write_image(data / "image.png", 512, 256)
    folder = data / "street-kinds"
    paths = [
        folder / split / kind / f"{n:04}.png"
        for split, count in (("train", 6), ("val", 5))
        for kind in ("buses", "cars")
        for n in range(count)
    ]
    copies(image, paths)
    return Here(images=2 * (6 + 5), size=(512, 256))


def painted_objects(data):
    for split, count in (("train", 12), ("val", 11)):
        for n in range(count):
            layouts.mot(data / "street-objects" / split / f"cars-{n:04}", "1,1,1,1,2,2,1,1,1", frames=1)
    layouts.write_text(data / "street-objects" / "classes.txt", "1 person")
    return Here(images=12 + 11)


def traffic(data):
    for video, split in (("A", "train"), ("B", "train"), ("C", "val")):
        layouts.mot(data / "traffic_mot" / split / video, "1,1,1,1,2,2,1,1,1", frames=3)
    layouts.write_text(data / "traffic_mot" / "classes.txt", "1 Car")
    return Here(images=2 * 3)


def bdd(data):
    """The four videos of the paper, one more of their split and one of another."""
    label = layouts.bdd_label("1", "car", (1, 2, 11, 12))
    for video in (*BDD_VIDEOS, "b1ca2e5d-84cf9134"):
        layouts.bdd(data / "bdd100k", video, [label], [label])
    layouts.bdd(data / "bdd100k", "0000f77c-6257be58", [label], split="train")
    return Here(images=4 * 2)


def bdd_videos(data):
    """One video more than are taken."""
    label = layouts.bdd_label("1", "car", (1, 2, 11, 12))
    for number in range(21):
        layouts.bdd(data / "bdd100k", f"b1c6{number:04}-6f7d68ca", [label], [label])
    return Here(images=20 * 2)


def ucmerced(data):
    """Of each class two images more than the longest of the rules passes over."""
    image = layouts.write_image(data / "image.tif", 256, 256)
    folder = data / "ucmerced" / "Images"
    copies(image, [folder / scene / f"{scene}{number:02}.tif" for scene in ("river", "forest") for number in range(92)])
    return Here(images=2 * 92)


def ucmerced_small(data):
    ucmerced(data)
    return Here(images=2 * 10)


def resisc45(data):
    """Sixteen images of two classes; the lists, where there are any, name nine of each."""
    image = layouts.write_image(data / "image.jpg", 256, 256)
    scenes = ("lake", "stadium")
    copies(image, [data / "resisc45" / one / f"{one}_{number:03}.jpg" for one in scenes for number in range(1, 17)])
    return Here(images=2 * 16)


def resisc45_with_lists(data):
    resisc45(data)
    for split, numbers in (("train", range(1, 6)), ("val", range(6, 10)), ("test", range(10, 17))):
        lines = [f"{scene}_{number:03}.jpg" for scene in ("lake", "stadium") for number in numbers]
        layouts.write_text(data / "resisc45" / f"resisc45-{split}.txt", *lines)
    return Here(images=2 * 5 + 2 * 4)


WRITERS = {
    "attention": imagenet_of(11),
    "frequency": imagenet_of(4),
    "geometry": camvid_of(9),
    "segmentation-small": camvid_of(6 + 6),
    "objectives-cka": imagenet_of(4),
    "objectives-small": ucmerced_small,
    "objectives-transfer": imagenet_of(40),
    "objects-small": nwpu_images,
    "tokens-small": camvid_of(6 + 6),
    "treatments-small": camvid_of(8 + 13),
    "ade20k": ade20k,
    "ade20k-rankings": ade20k,
    "bdd100k-tracking": bdd,
    "bdd100k-tracking-videos": bdd_videos,
    "bdd100k-tracking-whole": bdd,
    "camvid": camvid_of(8 + 13),
    "camvid-rankings": camvid_of(4 + 12),
    "camvid-robustness": camvid_of(4 + 12),
    "camvid-whole": camvid_of(8 + 13),
    "cityscapes": cityscapes_of(8),
    "cityscapes-robustness": cityscapes_of(4),
    "cityscapes-whole": cityscapes_of(4),
    "demo": street_world,
    "objectives": street_world,
    "objectives-plain": street_world,
    "objectives-whole": street_world,
    "objectives-videos": painted_videos,
    "objectives-images": painted_kinds,
    "objectives-objects": painted_objects,
    "objectives-videos-whole": painted_videos,
    "objectives-camvid": camvid_of(8 + 13),
    "camvid-dinov2": camvid_of(8 + 13),
    "dota-retrieval": dota,
    "fair1m-retrieval": fair1m,
    "mot17-pieces": mot17,
    "mot17-tracking": mot17,
    "nwpu-retrieval": nwpu,
    "reconstruction": cityscapes_of(4),
    "reconstruction-small": camvid_of(8 + 13),
    "resisc45": resisc45_with_lists,
    "resisc45-small": resisc45,
    "traffic-tracking": traffic,
    "ucmerced": ucmerced,
    "ucmerced-small": ucmerced,
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Write what an experiment reads, once for all that read the same; returns the data root and what is there."""

    @cache
    def write(name):
        data = tmp_path_factory.mktemp("data")
        return data, WRITERS[name](data)

    return lambda stem: write(next(name for name, writer in WRITERS.items() if writer is WRITERS[stem]))


def tiles_of(frame, size):
    """Return the number of tiles of an image, by the words of docs/experiment.md."""
    if "tile" not in frame or frame.get("edge") == "centre":
        return 1
    resize = frame.get("resize", size)
    width, height = (resize["width"], resize["height"]) if isinstance(resize, dict) else resize
    whole = {"drop": math.floor, "shift-last": math.ceil}[frame.get("edge", "drop")]
    return whole(width / frame["tile"]) * whole(height / frame["tile"])


def arrays_of(asked, view, model):
    """Return the number of arrays of a model under a view (None: the clean one); all but the demo's have 12 blocks."""
    is_net, is_small = (model["name"].startswith(name) for name in ("resnet", "demo-"))
    layers = (
        {"all": 5 if is_net else 6 if is_small else 12}.get(str(asked["layers"]), len(asked["layers"]))
        if view is None
        else 1
    )
    norms = 2 if asked.get("norm") == "both" else 1
    prefix = int(asked.get("prefix", True) and not is_net)
    whole = {"all": layers, "none": 0}.get(str(asked.get("tokens", "all")))
    whole = min(layers, len(asked["tokens"])) if whole is None else whole
    more = (1 if view is None and asked.get("input_pixels") else 0) + (3 if view in NOISE else 0)
    if view is None and "masked" in asked:
        more += 2 + prefix  # which patches are visible, and their tokens
    if view is None:
        points = asked.get("capture_points", ["output"])
        taken = (layers * len([one for one in points if one != "embedding"])) + ("embedding" in points)
        each = {"frequency": taken, "covariances": taken, "grams": taken * (1 + prefix)}
        more += sum(each.get(name, layers) for name in asked.get("captures", ()))
    of_images = bool(asked.get("means")) + bool(asked.get("deviations"))
    return norms * (whole + layers * (prefix + of_images)) + more


def planned(path):
    """Variants of an experiment that is planned by default are slow tests."""
    is_variant = path.stem.endswith(
        ("-rankings", "-whole", "-robustness", "-videos", "-images", "-pieces", "-transfer")
    )
    # The same readers and nearly the same keys as others that are planned by default.
    is_variant |= path.stem in (
        *("camvid-dinov2", "objectives-objects", "objectives"),
        *("fair1m-retrieval", "treatments-small", "segmentation-small", "resisc45", "ucmerced", "attention"),
        *("objectives-cka", "reconstruction-small", "objectives-plain", "objectives-camvid", "objectives-videos"),
        *("objectives-small", "objects-small", "resisc45-small", "bdd100k-tracking"),
    )
    return pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * is_variant)


@pytest.mark.parametrize("path", [planned(path) for path in EXPERIMENTS])
def test_an_experiment_is_planned(path, here, written, run, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(here / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("pipeline.workspace.Workspace.model", without_values)
    (here / "experiments").mkdir()
    for other in EXPERIMENTS:  # some read others
        shutil.copy(other, here / "experiments")  # so that no weights lie beside it
    data, expected = written(path.stem)
    code, out, err = run("plan", f"experiments/{path.name}", "--no-time", "--json", "--data", data)
    assert out, err
    found = json.loads(out)
    problem = found["evaluate"]["problem"]
    assert code == (2 if problem else 0), err
    assert not problem or any(words in problem for words in OF_MINIATURES), problem
    asked = tomllib.loads(path.read_text())

    rows = expected.rows or expected.images * tiles_of(asked["frame"], expected.size)
    assert found["rows"] == rows
    if expected.images:
        assert found["sources"] == expected.images
    views = [(None, None), *((view["name"], level) for view in asked.get("views", []) for level in view["levels"])]
    models = asked["models"]
    assert [(one["view"], one["level"]) for one in found["models"]] == [
        (view or "clean", level) for _ in models for view, level in views
    ]
    for one, (model, (view, _)) in zip(found["models"], product(models, views), strict=True):
        assert one["title"].startswith(model.get("title", model["name"]))
        drawn = model.get("weights") in ("random", "shipped")
        assert one["state"] == ("missing" if drawn else "weights not found")
        assert (one["set"] is None) == (not drawn)
        assert one["rows"] == one["rows_missing"] == rows
        kept = asked["features"].get("input_pixels", False) and view is None and model is not models[0]
        assert one["arrays"] == arrays_of(asked["features"], view, model) - kept  # pixels are kept once for all models
        assert one["objects"] >= one["arrays"] - (view is None and asked["features"].get("input_pixels", False))
        assert 0 < one["bytes_missing"] == one["bytes"]
    assert not (here / "store").exists(), "plan wrote something"


def test_the_table_names_every_experiment():
    assert set(WRITERS) == {path.stem for path in EXPERIMENTS}


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_all_models_of_an_experiment_see_images_through_one_filter(path):
    """Nearest neighbours of whole images are the exception: Scale-MAE is evaluated there as its authors do."""
    recipe, settings = load_experiment(path)
    own = {name: known.interpolation for name, known in KNOWN.items()} | {"scalemae-large": "box"}
    filters = {model.interpolation or own.get(model.name, "bicubic") for model in recipe.models}
    assert len(filters) == 1 or {one.kind for one in settings.analyses} == {"image-knn"}
