"""The street world: reproducible, readable by the real reader, and labelled as it is painted."""

import numpy as np
import pytest
from PIL import Image

from demo.street import write_street_world
from demo.street.canvas import Camera, Canvas
from demo.street.furniture import paint_pole, paint_sign, paint_traffic_light, paint_tree
from demo.street.people import paint_cyclist, paint_person
from demo.street.scene import EGO_VEHICLE
from demo.street.spot import Spot
from demo.street.vehicles import paint_car, paint_cycle, paint_heavy
from pipeline.datasets.cityscapes import CLASSES, LABEL_IDS, Cityscapes
from pipeline.datasets.reading.images import image_size, read_image
from stores.specs import Size

SMALL = {"size": (64, 128), "images_per_city": {"train": {"alpha": 2}, "val": {"beta": 1}}}


def generator(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


def files(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.png")}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The default world."""
    root = tmp_path_factory.mktemp("street")
    write_street_world(root)
    return Cityscapes(root)


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    write_street_world(tmp_path / "a", seed=3, **SMALL)
    write_street_world(tmp_path / "b", seed=3, **SMALL)
    write_street_world(tmp_path / "c", seed=4, **SMALL)
    first, again, other = (files(tmp_path / name) for name in "abc")
    assert first == again
    assert first.keys() == other.keys()
    assert len(first) == 6
    assert all(first[name] != other[name] for name in first)
    assert len(set(first.values())) == 6


def test_a_larger_world_holds_the_smaller_one(tmp_path):
    write_street_world(tmp_path / "a", **SMALL)
    more = {"train": {"gamma": 1, "alpha": 3}, "val": {"beta": 2}}
    write_street_world(tmp_path / "b", **{**SMALL, "images_per_city": more})
    assert files(tmp_path / "a").items() <= files(tmp_path / "b").items()


def test_the_real_reader_reads_it(world):
    sources = world.sources()
    assert {source.split for source in sources} == {"train", "val"}
    assert sum(source.split == "val" for source in sources) >= 12
    train, val = ({source.group for source in sources if source.split == split} for split in ("train", "val"))
    assert len(train) == 3
    assert train.isdisjoint(val)
    for source in sources:
        assert source.label is not None
        assert image_size(source.image) == Size(height=256, width=512)
        assert world.pixel_classes(source).shape == (256, 512)


@pytest.mark.parametrize("split", ["train", "val"])
def test_most_classes_are_frequent_in_both_splits(world, split):
    shares = np.stack(
        [
            np.bincount(world.pixel_classes(source).ravel(), minlength=256) / (256 * 512)
            for source in world.sources()
            if source.split == split
        ]
    )
    in_half = {entry.name for entry in CLASSES if (shares[:, entry.id] > 0.0005).mean() >= 0.5}
    assert len(in_half) >= 12
    assert {"road", "building", "sky", "vegetation", "car", "person", "pole"} <= in_half
    assert 0.01 < shares[:, 255].mean() < 0.1  # the bonnet is void
    assert shares.mean(0).max() < 0.5


def test_pictures_are_neither_flat_nor_blown_out(world):
    for source in world.sources()[::6]:
        picture = read_image(source.image)
        assert 60 < picture.mean() < 190
        assert picture.std() > 30
        assert ((picture == 0) | (picture == 255)).mean() < 0.15


def test_only_the_bonnet_is_unevaluated(world):
    for source in world.sources():
        with Image.open(source.label) as image:
            ids = np.asarray(image)
        assert set(np.unique(ids).tolist()) <= {EGO_VEHICLE, *LABEL_IDS.values()}
        np.testing.assert_array_equal(ids[-1, 16:-16], EGO_VEHICLE)
        assert (ids[:200] != EGO_VEHICLE).all()


@pytest.mark.parametrize(
    ("paint", "names"),
    [
        (lambda spot: paint_car(spot, (0.6, 0.1, 0.1), True, generator()), {"car"}),
        (lambda spot: paint_heavy(spot, "bus", (0.2, 0.2, 0.6)), {"bus"}),
        (lambda spot: paint_heavy(spot, "truck", (0.2, 0.2, 0.6)), {"truck"}),
        (lambda spot: paint_person(spot, "person", generator()), {"person"}),
        (lambda spot: paint_cycle(spot, "bicycle", (0.2, 0.2, 0.6)), {"bicycle"}),
        (lambda spot: paint_cycle(spot, "motorcycle", (0.2, 0.2, 0.6)), {"motorcycle"}),
        (lambda spot: paint_cyclist(spot, (0.2, 0.2, 0.6), generator()), {"bicycle", "rider"}),
        (lambda spot: paint_pole(spot, 5.0, 1.2), {"pole"}),
        (lambda spot: paint_sign(spot, generator()), {"pole", "traffic sign"}),
        (lambda spot: paint_traffic_light(spot, generator()), {"pole", "traffic light"}),
        (lambda spot: paint_tree(spot, (0.2, 0.4, 0.2), generator()), {"vegetation"}),
    ],
)
@pytest.mark.parametrize("x", [-3.0, 2.0])
def test_labels_mark_exactly_the_painted_pixels(paint, names, x):
    """On a canvas no stroke can leave as it was, changed pixels and labelled pixels are the same pixels."""
    canvas = Canvas(128, 256, (0.8, 0.8, 0.8), generator())
    canvas.picture[:] = -1  # a colour nothing is painted in; shadows only scale it
    paint(Spot(canvas, Camera(focal=200, vanishing_x=128, horizon=55), x, 9.0))
    np.testing.assert_array_equal((canvas.picture >= 0).all(-1), canvas.labels > 0)
    assert set(canvas.labels[canvas.labels > 0].tolist()) == {LABEL_IDS[name] for name in names}


def test_objects_shrink_with_distance():
    """Twice as far is a quarter of the pixels, by the pinhole camera."""
    areas = []
    for z in (6.0, 12.0):
        canvas = Canvas(512, 1024, (0.8, 0.8, 0.8), generator())
        paint_heavy(Spot(canvas, Camera(focal=800, vanishing_x=512, horizon=220), 0.0, z), "bus", (0.2, 0.2, 0.6))
        areas.append((canvas.labels == LABEL_IDS["bus"]).sum())
    assert areas[0] / areas[1] == pytest.approx(4, rel=0.1)
