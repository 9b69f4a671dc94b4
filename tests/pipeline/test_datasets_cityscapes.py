"""Cityscapes in its official layout."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets import DATASETS, open_dataset
from pipeline.datasets.cityscapes import CLASSES, Cityscapes
from pipeline.datasets.contract import Dataset
from stores.errors import MissingError, UserError


def add(root, split, city, number=0, label=None, size=(8, 16)):
    """Write an image and, unless ``label`` is None, its label file filled with one id or an array of ids."""
    stem = f"{city}_{number:06}_000019"
    image = root / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png"
    image.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((*size, 3), np.uint8)).save(image)
    if label is not None:
        path = root / "gtFine" / split / city / f"{stem}_gtFine_labelIds.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full(size, label, np.uint8) if np.isscalar(label) else label).save(path)
    return image


def test_every_table_entry_is_a_dataset(tmp_path):
    for name in DATASETS:
        dataset = open_dataset(name, tmp_path)
        assert isinstance(dataset, Dataset)
        assert (dataset.name, dataset.root) == (name, tmp_path)
        with pytest.raises(MissingError):
            dataset.sources()


def test_an_unknown_name_is_met_with_the_nearest(tmp_path):
    with pytest.raises(UserError, match="'cityscape' is not a data set; did you mean cityscapes"):
        open_dataset("cityscape", tmp_path)


def test_sources_are_sorted_grouped_by_city_and_unlabelled_in_the_test_split(tmp_path):
    add(tmp_path, "val", "lindau", label=7)
    add(tmp_path, "train", "ulm", 1, label=7)
    add(tmp_path, "train", "aachen", label=7)
    add(tmp_path, "train", "ulm", 0, label=7)
    add(tmp_path, "test", "bonn", label=0)
    add(tmp_path, "train_extra", "bayreuth")
    sources = Cityscapes(tmp_path).sources()
    assert [(source.split, source.group, source.label is not None) for source in sources] == [
        ("test", "bonn", False),
        ("train", "aachen", True),
        ("train", "ulm", True),
        ("train", "ulm", True),
        ("train_extra", "bayreuth", False),
        ("val", "lindau", True),
    ]
    assert [source.name for source in sources] == sorted(source.name for source in sources)
    assert sources[2].name == "leftImg8bit/train/ulm/ulm_000000_000019_leftImg8bit.png"
    np.testing.assert_array_equal(Cityscapes(tmp_path).pixel_classes(sources[0]), np.full((8, 16), 255))


def test_label_ids_become_train_ids(tmp_path):
    """The pairs are those of cityscapesScripts, typed here a second time."""
    ids = np.arange(48, dtype=np.uint8)
    ids[34:] = 255
    add(tmp_path, "val", "ulm", label=ids.reshape(6, 8), size=(6, 8))
    dataset = Cityscapes(tmp_path)
    made = dataset.pixel_classes(dataset.sources()[0]).ravel()
    known = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    np.testing.assert_array_equal(made[known], np.arange(19))
    assert set(made[[i for i in range(48) if i not in known]].tolist()) == {255}
    assert [entry.id for entry in CLASSES] == list(range(19))
    assert {entry.name for entry in CLASSES if entry.easy} == {"road", "vegetation", "sky", "car", "building"}


def test_unknown_ids_are_named(tmp_path):
    add(tmp_path, "val", "ulm", label=77)
    dataset = Cityscapes(tmp_path)
    with pytest.raises(UserError, match=r"labelIds\.png holds the unknown ids \[77\]"):
        dataset.pixel_classes(dataset.sources()[0])


def test_a_label_of_another_size_is_named(tmp_path):
    add(tmp_path, "val", "ulm", label=np.zeros((8, 15), np.uint8))
    dataset = Cityscapes(tmp_path)
    with pytest.raises(UserError, match=r"labelIds\.png is 15x8 pixels .* its image 16x8"):
        dataset.pixel_classes(dataset.sources()[0])


def test_a_missing_label_file_is_named_with_what_to_do(tmp_path):
    add(tmp_path, "val", "ulm", 0, label=7)
    add(tmp_path, "val", "ulm", 1)
    with pytest.raises(MissingError, match=r"ulm_000001_000019_gtFine_labelIds\.png is missing.*unpack gtFine"):
        Cityscapes(tmp_path).sources()


def test_without_gtfine_all_is_unlabelled_and_noted(tmp_path):
    add(tmp_path, "val", "ulm")
    dataset = Cityscapes(tmp_path)
    assert [source.label for source in dataset.sources()] == [None]
    assert "cityscapes: the split val has no folder in gtFine, so its images count as unlabelled." in dataset.notes()


def test_notes_compare_with_the_official_counts(tmp_path):
    add(tmp_path, "val", "ulm", label=7)
    add(tmp_path, "val", "ulm", 1, label=7).unlink()
    assert list(Cityscapes(tmp_path).notes()) == [
        "cityscapes: the split train has 0 images, officially 2975.",
        "cityscapes: the split val has 1 images, officially 500.",
        "cityscapes: the split test has 0 images, officially 1525.",
        "cityscapes: 1 label files have no image, the first is ulm_000001_000019_gtFine_labelIds.png.",
    ]


def test_files_that_lead_outside_the_root_are_refused_by_name(tmp_path):
    root = tmp_path / "data"
    image = add(root, "val", "ulm", label=7)
    outside = image.rename(tmp_path / "elsewhere.png")
    image.symlink_to(outside)
    with pytest.raises(UserError, match=r"ulm_000000_000019_leftImg8bit\.png leads to .*elsewhere\.png, outside"):
        Cityscapes(root).sources()


def test_a_linked_root_and_links_inside_it_are_fine(tmp_path):
    image = add(tmp_path / "real", "val", "ulm", label=7)
    image.symlink_to(image.rename(image.with_name("kept.png")))
    (tmp_path / "data").symlink_to(tmp_path / "real")
    assert [source.group for source in Cityscapes(tmp_path / "data").sources()] == ["ulm"]


def test_a_link_to_nothing_is_missing(tmp_path):
    image = add(tmp_path, "val", "ulm", label=7)
    image.unlink()
    image.symlink_to(tmp_path / "gone.png")
    with pytest.raises(MissingError, match="is a link to nothing"):
        Cityscapes(tmp_path).sources()


def test_golden_class_table_and_lookup(tmp_path):
    """When this fails, stored labels no longer match their specs: raise Cityscapes.revision with the new digest."""
    ids = np.arange(34, dtype=np.uint8).reshape(2, 17)
    add(tmp_path, "val", "ulm", label=ids, size=(2, 17))
    dataset = Cityscapes(tmp_path)
    made = hashlib.sha256(repr(CLASSES).encode() + dataset.pixel_classes(dataset.sources()[0]).tobytes())
    assert (dataset.revision, made.hexdigest()[:16]) == (1, "23c81186153b3525")
