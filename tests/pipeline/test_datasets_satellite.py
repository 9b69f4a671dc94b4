"""Aerial and satellite images with outlines: DOTA, NWPU VHR-10, FAIR1M."""

import sys
from collections import Counter

import numpy as np
import pytest

from pipeline.datasets.dota import Dota
from pipeline.datasets.fair1m import CLASSES as FAIR1M_CLASSES
from pipeline.datasets.fair1m import Fair1m
from pipeline.datasets.nwpu_vhr10 import NwpuVhr10
from stores.errors import MissingError, UserError
from tests.pipeline.layouts import dota, fair1m, fair1m_object, nwpu, write_image, write_json, write_text

SQUARE = [(10, 5), (20, 5), (20, 15), (10, 15), (10, 5)]


def test_dota_outlines_are_read_and_painted(tmp_path):
    dota(tmp_path / "train", "P0001", "10 5 20 5 20 15 10 15 ship 1", "12.0 7.0 14.0 7.0 14.0 9.0 12.0 9.0 plane 0")
    dota(tmp_path / "val", "P0002", labels="labelTxt-v1.0/labelTxt")
    write_image(tmp_path / "test/images/P0003.png")
    dataset = Dota(tmp_path)
    test, train, val = dataset.sources()
    assert [(source.name, source.split) for source in (test, train, val)] == [
        ("test/images/P0003.png", "test"),
        ("train/images/P0001.png", "train"),
        ("val/images/P0002.png", "val"),
    ]
    ship, plane = dataset.objects(train)
    assert (ship.polygon, ship.ignore, ship.flags) == (((10, 5), (20, 5), (20, 15), (10, 15)), True, ("difficult",))
    assert [dataset.classes()[entry.category].name for entry in (ship, plane)] == ["ship", "plane"]
    expected = np.zeros((30, 40), np.uint8)
    expected[5:15, 10:20] = ship.category
    expected[7:9, 12:14] = plane.category
    np.testing.assert_array_equal(dataset.pixel_classes(train), expected)
    assert (dataset.pixel_classes(val) == 0).all(), "a label file without objects is all background"
    assert (dataset.pixel_classes(test) == 255).all(), "no label file is all void"


def test_dota_without_splits_is_one_split(tmp_path):
    dota(tmp_path, "P0001", "-5 5 20 5 20 15 -5 15 ship 0", "90 90 95 90 95 95 90 95 ship 0")
    dataset = Dota(tmp_path)
    (source,) = dataset.sources()
    assert source.split == "all"
    assert dataset.objects(source)[0].box == (-5, 5, 20, 15), "what reaches beyond the image is kept"
    assert (dataset.pixel_classes(source)[5:15, :20] == 7).all()
    assert dataset.notes()[-1] == (
        "dota: of 2 objects in the images, 2 reach beyond their image and 1 lie outside; "
        "they are kept, and only what lies inside is painted."
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 2 3 4 5 6 7 8 ship", "line 3, holds 9 words"),
        ("1 2 3 4 5 6 7 x ship 0", "line 3, has 'x' where a number belongs"),
        ("1 2 3 4 5 6 7 8 container-crane 0", "line 3, names the class 'container-crane'"),
        ("1 2 3 4 5 6 7 8 ship 3", "line 3, ends in '3'"),
        ("nan 2 3 4 5 6 7 8 ship 0", r"line 3, has the corner \(nan, 2.0\), which is no point"),
        ("1e9 2 3 4 5 6 7 8 ship 0", r"line 3, has the corner .* outside of any image"),
        ("1 1 5 5 1 1 5 5 ship 0", "line 3, has no area"),
        ("1 1 1 1 1 1 1 1 ship 0", "line 3, has no area"),
    ],
)
def test_dota_lines_that_make_no_sense_are_named(tmp_path, line, message):
    dota(tmp_path, "P0001", line)
    dataset = Dota(tmp_path)
    with pytest.raises(UserError, match=rf"labelTxt/P0001\.txt, {message}"):
        dataset.objects(dataset.sources()[0])


def test_missing_label_files_and_folders_are_named(tmp_path):
    for make, folder, image in ((dota, "labelTxt", "2.png"), (fair1m, "labelXml", "2.tif")):
        root = tmp_path / folder
        part = root / "train" / ("" if make is dota else "part1")
        make(part, "1")
        write_image(part / "images" / image)
        dataset = (Dota if make is dota else Fair1m)(root)
        with pytest.raises(MissingError, match=rf"{folder}/2\.\w+ is missing, the labels of train/.*images/2"):
            dataset.sources()
    (tmp_path / "empty").mkdir()
    for reader in (Dota, Fair1m, NwpuVhr10):
        with pytest.raises(MissingError, match="empty"):
            reader(tmp_path / "empty").sources()
        with pytest.raises(MissingError, match="is not a folder"):
            reader(tmp_path / "none").sources()


def test_links_that_leave_the_root_are_refused(tmp_path):
    write_text(tmp_path / "secret.txt", "secret")
    dota(tmp_path / "dota", "P0001")
    (tmp_path / "dota/labelTxt/P0001.txt").unlink()
    (tmp_path / "dota/labelTxt/P0001.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(UserError, match=r"P0001\.txt leads to .*secret\.txt, outside"):
        Dota(tmp_path / "dota").sources()


def test_the_work_grows_with_the_number_of_boxes_and_not_with_its_square(tmp_path):
    calls = {}
    for count in (500, 4000):
        root = tmp_path / str(count)
        dota(root, "P0001", *(f"{x} 0 {x + 2} 0 {x + 2} 2 {x} 2 ship 0" for x in range(count)))
        dataset = Dota(root)
        (source,) = dataset.sources()
        events = Counter()
        before = sys.getprofile()
        sys.setprofile(lambda frame, event, argument, events=events: events.update([event]))
        try:
            found = dataset.objects(source)
        finally:
            sys.setprofile(before)
        assert len(found) == count
        calls[count] = events.total()
    assert calls[4000] < 9 * calls[500], "eight times as many boxes are eight times as many calls"


def test_fair1m_parts_and_splits(tmp_path):
    fair1m(tmp_path / "train/part1", 1, fair1m_object("Boeing737", SQUARE))
    fair1m(tmp_path / "train/part2", 1, fair1m_object("other-ship", SQUARE[:4]), labels="labelXmls")
    fair1m(tmp_path / "validation", 7)
    write_image(tmp_path / "test/images/3.tif")
    dataset = Fair1m(tmp_path)
    sources = dataset.sources()
    assert [(source.name, source.split, source.group) for source in sources] == [
        ("test/images/3.tif", "test", "test"),
        ("train/part1/images/1.tif", "train", "part1"),
        ("train/part2/images/1.tif", "train", "part2"),
        ("validation/images/7.tif", "val", "validation"),
    ]
    names = [dataset.classes()[entry.category].name for source in sources for entry in dataset.objects(source)]
    assert names == ["Boeing737", "other-ship"]
    assert dataset.objects(sources[1])[0].polygon == tuple(SQUARE[:4]), "the repeated first corner is left out"
    assert (dataset.pixel_classes(sources[1])[5:15, 10:20] == dataset.objects(sources[1])[0].category).all()
    assert dataset.notes() == []


def test_fair1m_has_37_fine_classes_in_five_supercategories():
    counts = {}
    for entry in FAIR1M_CLASSES[1:]:
        counts[entry.supercategory] = counts.get(entry.supercategory, 0) + 1
    assert counts == {"Ship": 9, "Vehicle": 10, "Airplane": 11, "Court": 4, "Road": 3}
    assert FAIR1M_CLASSES[0].supercategory == "background"


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        (fair1m_object("Zeppelin", SQUARE), "object 1, has the class 'Zeppelin'"),
        (fair1m_object("Bus", SQUARE) + fair1m_object("", SQUARE), "object 2, has the class ''"),
        (fair1m_object("Bus", [*SQUARE[:4], (11, 5)]), "object 1, has five points and is not closed"),
        (fair1m_object("Bus", [*SQUARE[:3], (10, 5)]), "object 1, has 3 corners where a rotated box has four"),
        (fair1m_object("Bus", []), "object 1, has 0 corners"),
        (fair1m_object("Bus", [(1, 1)] * 5), "object 1, has no area"),
        (fair1m_object("Bus", [("nan", 1), *SQUARE[1:4]]), "object 1, has the corner"),
        (fair1m_object("Bus", [("1,2", 1), *SQUARE[1:4]]), "object 1, has a point that is no pair"),
        (fair1m_object("Bus", [("a", 1), *SQUARE[1:4]]), "object 1, has 'a' where a number belongs"),
        ("<object>", "cannot be read as XML"),
    ],
)
def test_fair1m_objects_that_make_no_sense_are_named(tmp_path, objects, message):
    fair1m(tmp_path / "validation", 1, objects)
    dataset = Fair1m(tmp_path)
    with pytest.raises(UserError, match=rf"labelXml/1\.xml.*{message}"):
        dataset.objects(dataset.sources()[0])


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE a [<!ENTITY b "c"><!ENTITY d "&b;&b;&b;">]><annotation>&d;</annotation>',
        '<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>',
        '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><annotation>&b;</annotation>',
        '<?xml version="1.0" encoding="no-such"?><annotation/>',
        "",
        "<annotations/>",
        "\0",
    ],
)
def test_xml_that_is_none_or_a_trap_is_refused(tmp_path, text):
    fair1m(tmp_path / "validation", 1)
    (tmp_path / "validation/labelXml/1.xml").write_text(text)
    dataset = Fair1m(tmp_path)
    with pytest.raises(UserError, match=r"1\.xml (cannot be read as XML|holds <annotations>)"):
        dataset.objects(dataset.sources()[0])


def test_nwpu_outlines_negatives_and_the_official_folder_name(tmp_path):
    nwpu(tmp_path, [(1, 2, [10, 5, 20, 5, 20, 15, 10, 15]), (0, 10, [1, 1, 5, 1, 5, 5])])
    write_image(tmp_path / "NWPU VHR-10 dataset/positive image set/003.jpg")
    dataset = NwpuVhr10(tmp_path)
    negative, first, second, unknown = dataset.sources()
    assert [source.group for source in dataset.sources()] == ["negative", "positive", "positive", "positive"]
    assert dataset.objects(second)[0].polygon == ((10, 5), (20, 5), (20, 15), (10, 15))
    assert dataset.classes()[dataset.objects(first)[0].category].name == "vehicle"
    assert (dataset.pixel_classes(second)[5:15, 10:20] == 2).all()
    assert (dataset.pixel_classes(negative) == 0).all()
    assert (dataset.pixel_classes(unknown) == 255).all()
    assert list(dataset.notes()) == [
        "nwpu-vhr10: there are 3 positive images, officially 650.",
        "nwpu-vhr10: there are 1 negative images, officially 150.",
        "nwpu-vhr10: 1 positive images are not in annotations.json and count as unlabelled, the first is "
        "NWPU VHR-10 dataset/positive image set/003.jpg.",
    ]
    first.image.unlink()
    assert "1 annotated images are missing, the first is 001.jpg" in dataset.notes()[-1]


def test_several_parts_of_one_object_are_painted_without_what_joins_them(tmp_path):
    path, found = nwpu(tmp_path, [(0, 1, [])])
    parts = [[2, 2, 6, 2, 6, 6, 2, 6], [20, 10, 26, 10, 26, 16, 20, 16], [30, 2, 34, 2, 34, 6, 30, 6]]
    found["annotations"][0]["segmentation"] = parts
    write_json(path, found)
    dataset = NwpuVhr10(tmp_path)
    expected = np.zeros((30, 40), np.uint8)
    expected[2:6, 2:6] = expected[10:16, 20:26] = expected[2:6, 30:34] = 1
    np.testing.assert_array_equal(dataset.pixel_classes(dataset.sources()[1]), expected)


def edited(change):
    def edit(found):
        change(found)
        return found

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda found: [found], "is not in the COCO form"),
        (lambda found: {**found, "images": {}}, "holds no list of image entries"),
        (edited(lambda found: found["annotations"].append(found["annotations"][0])), "two annotation entries of .* 0"),
        (edited(lambda found: found["images"][1].update(file_name="001.jpg")), "lists the image 001.jpg twice"),
        (edited(lambda found: found["annotations"][0].pop("id")), r"annotation number 0 \(from 0\) has no integer id"),
        (edited(lambda found: found["annotations"][0].update(category_id=11)), "annotation 0, has the unknown categ"),
        (edited(lambda found: found["annotations"][0].update(image_id=9)), "annotation 0, has the unknown image_id 9"),
        (edited(lambda found: found["annotations"][0].update(image_id=[])), "annotation 0, has no image_id"),
        (edited(lambda found: found["annotations"][0].update(segmentation={"counts": ""})), "0, has no segmentation"),
        (edited(lambda found: found["annotations"][0].update(segmentation=[])), "annotation 0, has no outline"),
        (edited(lambda found: found["annotations"][0].update(segmentation=[[1, 2, 3]])), "has an odd number"),
        (edited(lambda found: found["annotations"][0].update(segmentation=[[1, 2, 3, 4]])), "has 2 corners"),
        (edited(lambda found: found["annotations"][0].update(segmentation=[[1, 2, 3, None]])), "has None where"),
        (edited(lambda found: found["annotations"][0].update(segmentation=[[1, 1, 2, 2, 3, 3]])), "has no area"),
        (edited(lambda found: found["annotations"][0]["segmentation"][0].append(float("nan"))), "odd number"),
        (edited(lambda found: found["categories"][0].update(name="zeppelin")), "0, has the class 'zeppelin'"),
    ],
)
def test_nwpu_annotations_that_make_no_sense_are_named(tmp_path, edit, message):
    path, found = nwpu(tmp_path, [(0, 1, [1, 1, 5, 1, 5, 5])])
    write_json(path, edit(found))
    dataset = NwpuVhr10(tmp_path)
    with pytest.raises(UserError, match=rf"annotations\.json.*{message}"):
        dataset.objects(dataset.sources()[1])


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "\udcff"])
def test_json_that_is_none_is_refused(tmp_path, text):
    path, _ = nwpu(tmp_path)
    path.write_text(text, errors="surrogateescape")
    with pytest.raises(UserError, match=r"annotations\.json (cannot be read as JSON|is not a text file)"):
        NwpuVhr10(tmp_path).sources()
