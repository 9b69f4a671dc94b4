"""The readers of objects and scenes on pieces of the official data, counted a second time without them."""

import collections
import json

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets import open_dataset
from tests.pipeline.test_datasets_real import data

pytestmark = pytest.mark.real_data


def counted(dataset):
    """Return the number of objects of every class."""
    names = {entry.id: entry.name for entry in dataset.classes()}
    objects = [entry for source in dataset.sources() for entry in dataset.objects(source)]
    return collections.Counter(names[entry.category] for entry in objects), objects


def test_dota_boxes_by_class_and_by_difficulty():
    root = data("dota")
    lines = [line.split() for path in root.glob("labelTxt/*.txt") for line in path.read_text().splitlines()[2:]]
    classes, objects = counted(open_dataset("dota", root))
    assert classes == collections.Counter(words[8] for words in lines)
    assert sum(entry.ignore for entry in objects) == sum(words[9] == "1" for words in lines)
    corners = {tuple(map(float, words[:8])) for words in lines}
    assert {tuple(value for corner in entry.polygon for value in corner) for entry in objects} == corners


def test_nwpu_outlines_by_class_and_within_their_boxes():
    root = data("nwpu_vhr10")
    (path,) = root.glob("*/annotations.json")
    found = json.loads(path.read_text())
    names = {category["id"]: category["name"].replace("_", " ") for category in found["categories"]}
    dataset = open_dataset("nwpu-vhr10", root)
    classes, objects = counted(dataset)
    assert classes == collections.Counter(names[one["category_id"]] for one in found["annotations"])
    boxes = sorted(tuple(one["bbox"]) for one in found["annotations"])
    for (left, top, width, height), entry in zip(boxes, sorted(objects, key=lambda entry: entry.box), strict=True):
        # The annotators' boxes count the last pixel, and hand-drawn ones differ from the outline by a pixel or two.
        np.testing.assert_allclose(entry.box, (left, top, left + width, top + height), atol=6)
    areas = [(one["area"], one["image_id"]) for one in found["annotations"]]
    painted = sum(int((dataset.pixel_classes(source) > 0).sum()) for source in dataset.sources())
    assert abs(painted / sum(area for area, _ in areas) - 1) < 0.05


@pytest.mark.parametrize(("name", "folder"), [("mot17", "mot17"), ("mot", "traffic_mot")])
def test_mot_boxes_by_class_and_flag(name, folder):
    root = data(folder)
    rows = [
        [path.parts[-3], *line.split(",")]
        for path in sorted(root.glob("train/*/gt/gt.txt"))
        for line in path.read_text().split()
    ]
    dataset = open_dataset(name, root)
    classes, objects = counted(dataset)
    assert len(dataset.sources()) == len(list(root.glob("train/*/img1/*.jpg")))
    assert sorted(classes.values()) == sorted(collections.Counter(row[8] for row in rows).values())
    assert sum(not entry.ignore for entry in objects) == sum(row[7] == "1" for row in rows)
    assert len({entry.track for entry in objects}) == len({(row[0], row[2]) for row in rows})
    widths = sorted(entry.box[2] - entry.box[0] for entry in objects)
    np.testing.assert_allclose(widths, sorted(float(row[5]) for row in rows))


def test_mot17_says_that_frames_are_missing():
    notes = open_dataset("mot17", data("mot17")).notes()
    assert "mot17: seqinfo.ini of MOT17-02-FRCNN promises 600 frames, 4 are here." in notes
    assert "mot17: seqinfo.ini of MOT17-04-FRCNN promises 1050 frames, 8 are here." in notes


def test_ade20k_histogram_and_names():
    root = data("ADEChallengeData2016")
    dataset = open_dataset("ade20k", root)
    read, expected = np.zeros(256, int), np.zeros(256, int)
    for source in dataset.sources():
        read += np.bincount(dataset.pixel_classes(source).ravel(), minlength=256)
        with Image.open(source.label) as image:
            for count, value in image.getcolors():
                expected[(value - 1) % 256] += count
    np.testing.assert_array_equal(read, expected)
    full = [line.split("\t")[4] for line in (root / "objectInfo150.txt").read_text().splitlines()[1:]]
    names = [entry.name for entry in dataset.classes()]
    assert len(set(names)) == 150
    assert all(long.startswith(short) for long, short in zip(full, names, strict=True))


@pytest.mark.parametrize(("name", "folder"), [("ucmerced", "UCMerced_LandUse"), ("resisc45", "NWPU-RESISC45")])
def test_scenes_by_class(name, folder):
    root = data(folder)
    dataset = open_dataset(name, root)
    names = [dataset.classes()[source.image_class].name for source in dataset.sources()]
    images = [path for path in root.rglob("*") if path.suffix in (".tif", ".jpg")]
    assert collections.Counter(names) == collections.Counter(path.parent.name for path in images)
