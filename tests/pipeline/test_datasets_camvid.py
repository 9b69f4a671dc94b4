"""CamVid in the SegNet layout."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets.camvid import CLASSES, CamVid
from stores.errors import MissingError, UserError


def add(root, split, stem, ids=0, prefix="/SegNet/CamVid"):
    """Write a pair and list it."""
    ids = np.full((6, 8), ids, np.uint8)
    for folder, pixels in ((split, np.zeros((6, 8, 3), np.uint8)), (f"{split}annot", ids)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / folder / f"{stem}.png")
    with (root / f"{split}.txt").open("a") as listing:
        listing.write(f"{prefix}/{split}/{stem}.png {prefix}/{split}annot/{stem}.png\n")


def test_lists_are_read_whatever_folder_their_author_had(tmp_path):
    add(tmp_path, "val", "0016E5_07959", prefix="/home/somebody/data/CamVid")
    add(tmp_path, "train", "Seq05VD_f00010", prefix=".")
    add(tmp_path, "train", "0001TP_006690")
    add(tmp_path, "test", "0006R0_f00930")
    sources = CamVid(tmp_path).sources()
    assert [(source.name, source.split, source.group) for source in sources] == [
        ("test/0006R0_f00930.png", "test", "0006R0"),
        ("train/0001TP_006690.png", "train", "0001TP"),
        ("train/Seq05VD_f00010.png", "train", "Seq05VD"),
        ("val/0016E5_07959.png", "val", "0016E5"),
    ]
    assert sources[0].label == tmp_path / "testannot/0006R0_f00930.png"


def test_id_11_is_void_and_12_unknown(tmp_path):
    add(tmp_path, "train", "a_1", ids=np.repeat(np.arange(12), 4).reshape(6, 8))
    add(tmp_path, "train", "b_1", ids=12)
    dataset = CamVid(tmp_path)
    known, unknown = dataset.sources()
    expected = np.repeat([*range(11), 255], 4).reshape(6, 8)
    np.testing.assert_array_equal(dataset.pixel_classes(known), expected)
    with pytest.raises(UserError, match=r"b_1\.png holds the unknown ids \[12\]"):
        dataset.pixel_classes(unknown)


@pytest.mark.parametrize("gone", ["train", "trainannot"])
def test_a_listed_file_that_is_missing_is_named_with_its_line(tmp_path, gone):
    add(tmp_path, "train", "a_1")
    add(tmp_path, "train", "a_2")
    (tmp_path / gone / "a_2.png").unlink()
    with pytest.raises(MissingError, match=rf"{gone}/a_2\.png is missing and listed in .*train\.txt, line 2"):
        CamVid(tmp_path).sources()


def test_without_lists_the_layout_is_missing(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(MissingError, match=r"holds none of train\.txt, val\.txt and test\.txt"):
        CamVid(tmp_path).sources()
    (tmp_path / "val.txt").write_text("\n\n")
    with pytest.raises(MissingError, match=r"val\.txt .* name no image"):
        CamVid(tmp_path).sources()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/SegNet/CamVid/train/a_1.png", "line 2, holds 1 paths"),
        ("train/a_1.png train/a_1.png more.png", "line 2, holds 3 paths"),
        ("../../etc/passwd ../x", "is missing"),
        ("/x/../passwd /x/y", "outside"),
        ("/etc /x/y", "outside"),
        ("train/a_1.png trainannot/a_1.png", "train/a_1.png is listed twice"),
    ],
)
def test_lines_that_make_no_sense_are_refused(tmp_path, line, message):
    add(tmp_path, "train", "a_1")
    with (tmp_path / "train.txt").open("a") as listing:
        listing.write(line)
    with pytest.raises(UserError, match=message):
        CamVid(tmp_path).sources()


def test_a_list_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "val.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"val\.txt is not a text file"):
        CamVid(tmp_path).sources()


def test_notes_count_and_name_unlisted_images(tmp_path):
    add(tmp_path, "train", "a_1")
    (tmp_path / "train/z_9.png").write_bytes((tmp_path / "train/a_1.png").read_bytes())
    assert list(CamVid(tmp_path).notes()) == [
        "camvid: the split train has 1 images, officially 367.",
        "camvid: the split val has 0 images, officially 101.",
        "camvid: the split test has 0 images, officially 233.",
        "camvid: 1 images in train are in no list, the first is z_9.png.",
    ]


def test_golden_class_table(tmp_path):
    """When this fails, stored labels no longer match their specs: raise CamVid.revision with the new digest."""
    assert (CamVid(tmp_path).revision, hashlib.sha256(repr(CLASSES).encode()).hexdigest()[:16]) == (
        1,
        "5ce0cb30e528f234",
    )
