"""The readers on pieces of the official data, counted a second time without them."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets import open_dataset
from pipeline.datasets.reading.images import image_size, read_image
from stores.specs import Size

pytestmark = pytest.mark.real_data


def data(folder):
    """Return a folder of PATCHBANK_DATA, by default ../shared/data beside the repository, or skip."""
    beside = Path(__file__).parents[3] / "shared" / "data"
    path = Path(os.environ.get("PATCHBANK_DATA", beside)) / folder
    if not path.is_dir():
        pytest.skip(f"{path} is absent; set PATCHBANK_DATA to a folder that holds {folder}")
    return path


def test_all_camvid_pairs_and_their_class_histogram():
    root = data("camvid")
    dataset = open_dataset("camvid", root)
    sources = dataset.sources()
    assert len(sources) == sum(len((root / f"{s}.txt").read_text().split()) // 2 for s in ("train", "val"))
    assert {s: sum(source.split == s for source in sources) for s in ("train", "val")} == {"train": 72, "val": 30}
    assert {source.group for source in sources} == {"0001TP", "0006R0", "0016E5"}
    read = sum(np.bincount(dataset.pixel_classes(source).ravel(), minlength=256) for source in sources)
    counted = np.zeros(256, int)
    for path in sorted(root.glob("*annot/*.png")):
        with Image.open(path) as image:
            for count, value in image.getcolors():
                counted[255 if value == 11 else value] += count
    np.testing.assert_array_equal(read, counted)
    assert counted.sum() == 102 * 360 * 480
    for source in sources[::25]:
        with Image.open(source.image) as image:
            np.testing.assert_array_equal(read_image(source.image), np.asarray(image.convert("RGB")))
        assert image_size(source.image) == Size(height=360, width=480)


def test_cityscapes_ids_equal_the_official_train_ids():
    root = data("cityscapes")
    dataset = open_dataset("cityscapes", root)
    (source,) = dataset.sources()
    assert (source.split, source.group) == ("val", "frankfurt")
    official = source.label.with_name(source.label.name.replace("labelIds", "labelTrainIds"))
    with Image.open(official) as image:
        expected = np.asarray(image)
    made = dataset.pixel_classes(source)
    # The two label files of a shrunk copy may have been shrunk each on its own: then thin things and borders
    # differ by a pixel, while a wrong pair of ids would make a whole class differ.
    assert (made == expected).mean() > 0.995
    with Image.open(source.label) as image:
        ids = np.asarray(image)
    for label_id in np.unique(ids):
        assert (made == expected)[ids == label_id].mean() > 0.97, label_id


def test_scene_folders_are_image_folders():
    root = data("UCMerced_LandUse/Images")
    dataset = open_dataset("image-folder", root)
    sources = dataset.sources()
    assert (len(dataset.classes()), len(sources)) == (21, len(list(root.glob("*/*.tif"))))
    for source in sources[::30]:
        size = image_size(source.image)
        assert read_image(source.image).shape == (size.height, size.width, 3)
        assert dataset.classes()[source.image_class].name == source.image.parent.name
