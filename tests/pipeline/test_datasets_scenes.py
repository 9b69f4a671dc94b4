"""Data sets with one class an image or 150 classes a scene: ADE20K, UC Merced, RESISC45, ImageNet."""

import numpy as np
import pytest

from pipeline.datasets.ade20k import Ade20k
from pipeline.datasets.imagenet import ImageNet
from pipeline.datasets.resisc45 import Resisc45
from pipeline.datasets.ucmerced import UcMerced
from stores.errors import MissingError, UserError
from tests.pipeline.layouts import ade20k, write_image, write_text

NAMES = ["wall", "building, edifice", "screen, silver screen", "screen, CRT", *(f"thing {n}" for n in range(146))]


def test_ade20k_ids_are_one_less_and_zero_is_void(tmp_path):
    ids = np.arange(151, dtype=np.uint8)[None].repeat(2, 0)
    ade20k(tmp_path, "train", "ADE_train_00000001", ids, NAMES)
    ade20k(tmp_path, "val", "ADE_val_00000001", ids + 1)
    dataset = Ade20k(tmp_path)
    train, val = dataset.sources()
    assert [(source.name, source.split) for source in (train, val)] == [
        ("images/training/ADE_train_00000001.jpg", "train"),
        ("images/validation/ADE_val_00000001.jpg", "val"),
    ]
    np.testing.assert_array_equal(dataset.pixel_classes(train)[1], [255, *range(150)])
    with pytest.raises(UserError, match=r"ADE_val_00000001\.png holds the unknown ids \[151\]"):
        dataset.pixel_classes(val)
    names = [entry.name for entry in dataset.classes()]
    assert names[:4] == ["wall", "building", "screen, silver screen", "screen, CRT"], "short where that is unique"
    assert [entry.id for entry in dataset.classes()] == list(range(150))


def test_ade20k_without_names_or_labels(tmp_path):
    ade20k(tmp_path, "train", "a", [[1]])
    (tmp_path / "images/validation").mkdir()
    write_image(tmp_path / "images/validation/b.jpg")
    dataset = Ade20k(tmp_path)
    assert dataset.classes()[149].name == "class 150"
    assert (dataset.pixel_classes(dataset.sources()[1]) == 255).all()
    assert list(dataset.notes()) == [
        "ade20k: the split train has 1 images, officially 20210.",
        "ade20k: the split val has 1 images, officially 2000.",
        "ade20k: the split val has no folder in annotations, so its images count as unlabelled.",
        "ade20k: objectInfo150.txt is missing, so classes are called by their numbers.",
    ]
    write_image(tmp_path / "images/training/c.jpg")
    with pytest.raises(MissingError, match=r"training/c\.png is missing"):
        dataset.sources()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (NAMES[:149], "describes 149 classes and not 150"),
        ([*NAMES, "more"], "describes 151 classes and not 150"),
        ([NAMES[0], "", *NAMES[2:]], "line 3, does not describe class 2"),
        ([NAMES[0], "a\tb", *NAMES[2:]], "line 3, does not describe class 2"),
    ],
)
def test_ade20k_names_that_make_no_sense_are_refused(tmp_path, names, message):
    ade20k(tmp_path, "train", "a", [[1]], names)
    with pytest.raises(UserError, match=rf"objectInfo150\.txt.* {message}"):
        Ade20k(tmp_path).classes()


def test_ucmerced_ids_do_not_depend_on_what_is_here(tmp_path):
    write_image(tmp_path / "Images/river/river00.tif", 256, 256)
    write_image(tmp_path / "Images/airplane/airplane00.tif", 256, 250)
    dataset = UcMerced(tmp_path)
    assert [(source.group, source.image_class, source.split) for source in dataset.sources()] == [
        ("airplane", 1, "all"),
        ("river", 16, "all"),
    ]
    assert len(dataset.classes()) == 21
    assert list(dataset.notes()) == [
        "ucmerced: there are 2 images, officially 2,100.",
        "ucmerced: 1 images are not 256x256 pixels, the first is Images/airplane/airplane00.tif; resize in "
        "[frame] brings all to one size.",
    ]


def test_resisc45_splits_come_from_either_family_of_lists(tmp_path):
    for number in (1, 2, 3):
        write_image(tmp_path / f"lake/lake_{number:03}.jpg", 256, 256)
    assert [source.split for source in Resisc45(tmp_path).sources()] == ["all"] * 3
    write_text(tmp_path / "train-resisc.txt", "./lake/lake_001.jpg", "./lake/lake_009.jpg")
    write_text(tmp_path / "val-resisc.txt", "./lake/lake_002.jpg", "")
    dataset = Resisc45(tmp_path)
    assert [source.split for source in dataset.sources()] == ["train", "val", "unlisted"]
    assert {source.image_class for source in dataset.sources()} == {21}
    assert list(dataset.notes()) == [
        "resisc45: there are 3 images, officially 31,500.",
        "resisc45: 1 images are in no list, the first is lake/lake_003.jpg.",
        "resisc45: 1 listed images are missing, the first is lake_009.",
    ]
    write_text(tmp_path / "resisc45-test.txt", "lake_003.jpg")
    assert [source.split for source in Resisc45(tmp_path).sources()] == ["unlisted", "unlisted", "test"]
    write_text(tmp_path / "resisc45-train.txt", "lake_001.jpg", "lake_003.jpg")
    with pytest.raises(UserError, match=r"resisc45-test\.txt, line 1, lists lake_003\.jpg a second time"):
        Resisc45(tmp_path).sources()


def test_imagenet_ids_are_sorted_wordnet_ids_over_both_splits(tmp_path):
    for name in ("train/n02000000/a.JPEG", "train/n01440764/b.JPEG", "val/n01440764/c.JPEG", "val/n03000000/d.JPEG"):
        write_image(tmp_path / name)
    write_image(tmp_path / "val/ILSVRC2012_val_00000001.JPEG")
    dataset = ImageNet(tmp_path)
    assert [(source.name, source.image_class, source.split) for source in dataset.sources()] == [
        ("train/n01440764/b.JPEG", 0, "train"),
        ("train/n02000000/a.JPEG", 1, "train"),
        ("val/n01440764/c.JPEG", 0, "val"),
        ("val/n03000000/d.JPEG", 2, "val"),
    ]
    assert [entry.name for entry in dataset.classes()] == ["n01440764", "n02000000", "n03000000"]
    assert list(dataset.notes())[2:] == [
        "imagenet: 3 classes are here, officially 1000; ids are places among those here, not the official ones.",
        "imagenet: 1 images lie in no class folder, the first is ILSVRC2012_val_00000001.JPEG.",
    ]


def test_imagenet_validation_images_must_be_sorted_into_folders(tmp_path):
    write_image(tmp_path / "train/n01440764/b.JPEG")
    write_image(tmp_path / "val/ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(MissingError, match="val holds no class folders such as n01440764"):
        ImageNet(tmp_path).sources()
    (tmp_path / "train/fish").mkdir()
    with pytest.raises(UserError, match="fish is not named by a WordNet id"):
        ImageNet(tmp_path).sources()


@pytest.mark.parametrize("reader", [UcMerced, Resisc45])
def test_folders_that_are_no_class_are_named(tmp_path, reader):
    base = tmp_path / "Images" if reader is UcMerced else tmp_path
    write_image(base / "volcano/volcano01.tif")
    with pytest.raises(UserError, match="volcano is none of the"):
        reader(tmp_path).sources()


@pytest.mark.parametrize("reader", [Ade20k, UcMerced, Resisc45, ImageNet])
def test_missing_folders_and_images_are_named(tmp_path, reader):
    for folder in ("images/training", "Images/river", "lake", "train/n01440764"):
        (tmp_path / reader.name / folder).mkdir(parents=True)
    keep = {"ade20k": "images", "ucmerced": "Images", "resisc45": "lake", "imagenet": "train"}[reader.name]
    for folder in sorted((tmp_path / reader.name).iterdir()):
        if folder.name != keep:
            folder.rename(tmp_path / f"{reader.name}-{folder.name}")
    with pytest.raises(MissingError, match=reader.name):
        reader(tmp_path / reader.name).sources()
    with pytest.raises(MissingError, match="is not a folder"):
        reader(tmp_path / "none").sources()


@pytest.mark.parametrize("reader", [UcMerced, Resisc45, ImageNet])
def test_scenes_have_no_pixel_labels(tmp_path, reader):
    names = {"ucmerced": "Images/river/a.tif", "resisc45": "lake/a.jpg", "imagenet": "val/n01440764/a.JPEG"}
    write_image(tmp_path / names[reader.name])
    (source,) = reader(tmp_path).sources()
    assert reader(tmp_path).objects(source) == ()
    with pytest.raises(UserError, match="one class for the whole image"):
        reader(tmp_path).pixel_classes(source)
