"""Videos with tracked boxes: MOT17, any MOT folders, BDD100K."""

import math

import pytest

from pipeline.datasets.bdd100k_mot import Bdd100kMot
from pipeline.datasets.mot import Mot
from pipeline.datasets.mot17 import Mot17
from stores.errors import MissingError, UserError
from tests.pipeline.layouts import bdd, bdd_label, mot, mot17, write_image, write_json, write_text

TRUTH = (
    "2,7,3,4,10,20,1,1,0.5",
    "1,7,1,1,10,20,1,1,1",
    "1,8,5,5,2,2,0,1,0.25",
    "1,9,5,5,2,2,1,3,0.25",
    "1,10,-4,-4,8,8,0,12,0",
)


def test_one_of_three_detector_copies_is_read(tmp_path):
    mot17(tmp_path, *TRUTH)
    mot17(tmp_path, *TRUTH, video="MOT17-04", detectors=("SDP", "DPM"), rate=25)
    mot17(tmp_path, video="MOT17-01", split="test", detectors=("DPM",))
    dataset = Mot17(tmp_path)
    sources = dataset.sources()
    assert [source.name for source in sources[::3]] == [
        "test/MOT17-01-DPM/img1/000001.jpg",
        "train/MOT17-02-FRCNN/img1/000001.jpg",
        "train/MOT17-04-SDP/img1/000001.jpg",
    ]
    assert [(source.video, source.group, source.frame) for source in sources[3:6]] == [
        ("MOT17-02", "MOT17-02", frame) for frame in (1, 2, 3)
    ]
    assert [source.seconds for source in sources[6:]] == [1 / 25, 2 / 25, 3 / 25]
    assert dataset.objects(sources[0]) == (), "test videos have no truth"
    tracks = [
        {entry.track for source in part for entry in dataset.objects(source)} for part in (sources[3:6], sources[6:])
    ]
    assert not tracks[0] & tracks[1], "the same numbers in two videos are different objects"
    assert list(dataset.notes())[:4] == [
        "mot17: the split train has 2 videos, officially 7.",
        "mot17: the split test has 1 videos, officially 7.",
        "mot17: MOT17-02-FRCNN is read and its copies are not: MOT17-02-DPM and MOT17-02-SDP.",
        "mot17: MOT17-04-SDP is read and its copies are not: MOT17-04-DPM.",
    ]
    with pytest.raises(UserError, match="boxes and no pixel labels"):
        dataset.pixel_classes(sources[0])


def test_mot17_boxes_count_from_one_and_only_scored_pedestrians_count(tmp_path):
    mot17(tmp_path, *TRUTH, detectors=("FRCNN",), length=600)
    dataset = Mot17(tmp_path)
    first, second, third = dataset.sources()
    names = {entry.id: entry.name for entry in dataset.classes()}
    assert [(names[entry.category], entry.track, entry.ignore) for entry in dataset.objects(first)] == [
        ("pedestrian", "MOT17-02/7", False),
        ("pedestrian", "MOT17-02/8", True),
        ("car", "MOT17-02/9", True),
        ("reflection", "MOT17-02/10", True),
    ]
    assert [entry.box for entry in dataset.objects(first)][:2] == [(0, 0, 10, 20), (4, 4, 6, 6)]
    assert dataset.objects(first)[3].box == (-5, -5, 3, 3), "what reaches beyond the image is kept"
    assert [entry.visibility for entry in dataset.objects(first)] == [1, 0.25, 0.25, 0]
    assert dataset.objects(second)[0].box == (2, 3, 12, 23)
    assert dataset.objects(third) == ()
    assert "mot17: seqinfo.ini of MOT17-02-FRCNN promises 600 frames, 3 are here." in dataset.notes()
    assert "mot17: of 5 objects in the images, 1 reach beyond their image and 0 lie outside; they are kept." in (
        dataset.notes()
    )


def test_copies_that_differ_and_frames_that_are_missing_are_noted(tmp_path):
    mot17(tmp_path, *TRUTH, "9,7,1,1,5,5,1,1,1")
    write_text(tmp_path / "train/MOT17-02-SDP/gt/gt.txt", TRUTH[0])
    notes = Mot17(tmp_path).notes()
    assert "mot17: gt.txt of MOT17-02-SDP differs from that of MOT17-02-FRCNN." in notes
    assert "mot17: gt.txt of MOT17-02-FRCNN annotates 1 frames that are missing, the first is 9." in notes


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,7,1,1,5,5,1,1", "line 6, has 8 columns; write 9"),
        ("1,11,1,1,5,x,1,1,1", "line 6, has 'x' where a number belongs"),
        ("1,11,1,1,5,,1,1,1", "line 6, has '' where a number belongs"),
        ("1,11,1,1,nan,5,1,1,1", "line 6, has a value that is no number"),
        ("1,11,1,inf,5,5,1,1,1", "line 6, has a value that is no number"),
        ("1.5,11,1,1,5,5,1,1,1", "line 6, has a fraction for its frame"),
        ("0,11,1,1,5,5,1,1,1", "line 6, has a frame below 1"),
        ("1,11,1,1,0,5,1,1,1", "line 6, has a box without area"),
        ("1,11,1,1,5,-5,1,1,1", "line 6, has a box without area"),
        ("1,11,1,1,5,5,1,1,2", "line 6, has a visibility above 1"),
        ("1,11,1,1,5,5,1,14,1", "line 6, has the class 14; known are 1, 2"),
        ("1,11,1e12,1,5,5,1,1,1", "line 6, has the corner"),
        ("1,7,2,2,5,5,1,1,1", "line 6, gives frame and id of line 2 again"),
    ],
)
def test_lines_of_the_truth_that_make_no_sense_are_named(tmp_path, line, message):
    mot17(tmp_path, *TRUTH, line, detectors=("SDP",))
    dataset = Mot17(tmp_path)
    with pytest.raises(UserError, match=rf"MOT17-02-SDP/gt/gt\.txt, {message}"):
        dataset.objects(dataset.sources()[0])


def test_lines_are_counted_with_the_blank_ones(tmp_path):
    mot17(tmp_path, "", TRUTH[1], "", "1,11,1,1,0,5,1,1,1", detectors=("SDP",))
    dataset = Mot17(tmp_path)
    with pytest.raises(UserError, match="line 4, has a box without area"):
        dataset.objects(dataset.sources()[0])
    write_text(tmp_path / "train/MOT17-02-SDP/gt/gt.txt", "")
    assert dataset.objects(dataset.sources()[0]) == ()


@pytest.mark.parametrize(
    ("ini", "message"),
    [
        ("frameRate=30", r"seqinfo\.ini cannot be read"),
        ("[Sequence]\nframeRate=fast", r"seqinfo\.ini cannot be read"),
        ("[Sequence]\nframeRate=0", "gives the frameRate 0"),
        ("[Sequence]\nimDir=../../../x", "leads to .*, outside"),
        ("[Sequence]\nimDir=other", "other is not a folder"),
    ],
)
def test_a_seqinfo_that_is_none_is_refused(tmp_path, ini, message):
    mot17(tmp_path / "root", *TRUTH, detectors=("SDP",))
    write_text(tmp_path / "root/train/MOT17-02-SDP/seqinfo.ini", ini)
    with pytest.raises(UserError, match=message):
        Mot17(tmp_path / "root").sources()


def test_frames_must_be_numbered_once(tmp_path):
    mot(tmp_path / "a", "1,1,1,1,2,2,1,1,1")
    write_image(tmp_path / "a/img1/1.png")
    with pytest.raises(UserError, match="are both frame 1"):
        Mot(tmp_path).sources()
    (tmp_path / "a/img1/1.png").rename(tmp_path / "a/img1/one.png")
    with pytest.raises(UserError, match=r"one\.png is not named by a frame number"):
        Mot(tmp_path).sources()


def test_any_mot_folders_with_names_for_their_classes(tmp_path):
    mot(tmp_path / "train/A", "1,1,1,1,2,2,1,5,-1", "2,1,1,1,2,2,0,2,1")
    mot(tmp_path / "B", "1,1,1,1,2,2,1")
    (tmp_path / "B/seqinfo.ini").unlink()
    write_text(tmp_path / "classes.txt", "1 Car", "5 Old tram", "2 Bus")
    dataset = Mot(tmp_path)
    sources = dataset.sources()
    assert [(source.video, source.split) for source in sources[::3]] == [("B", "all"), ("train/A", "train")]
    assert [(entry.id, entry.name) for entry in dataset.classes()] == [(0, "Car"), (1, "Bus"), (2, "Old tram")]
    found = [
        (entry.category, entry.ignore, entry.visibility) for source in sources for entry in dataset.objects(source)
    ]
    assert found == [(0, False, 1), (2, False, 1), (1, True, 1)], "class 1 and visibility 1 where lines end early"
    assert math.isnan(sources[0].seconds)
    assert dataset.notes() == ["mot: no seqinfo.ini tells the frame rate of B; its times are unknown."]
    (tmp_path / "classes.txt").unlink()
    assert [entry.name for entry in Mot(tmp_path).classes()] == ["class 1", "class 2", "class 5"]


def test_lines_of_ten_columns_are_those_of_2d_mot_2015(tmp_path):
    mot(tmp_path / "A", "1,1,1,1,2,2,1,-1,-1,-1", "1,2,1,1,2,2,0,4.2,-3.5,0")
    dataset = Mot(tmp_path)
    found = [(entry.category, entry.ignore, entry.visibility) for entry in dataset.objects(dataset.sources()[0])]
    assert found == [(0, False, 1), (0, True, 1)], "world coordinates are no class and no visibility"
    assert [entry.name for entry in dataset.classes()] == ["class 1"]
    mot(tmp_path / "A", "1,1,1,1,2,2,1,1,1,1,1")
    with pytest.raises(UserError, match="has 11 columns; write 7 to 9"):
        dataset.objects(dataset.sources()[0])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["1 Car", "Bus"], "line 2, is no number and name"),
        (["1 Car", "1 Bus"], "line 2, gives a number or name again"),
        (["1 Car", "2 Car"], "line 2, gives a number or name again"),
        (["2 Car"], r"gt\.txt, line 1, has the class 1; known are 2"),
    ],
)
def test_class_lists_that_make_no_sense_are_refused(tmp_path, names, message):
    mot(tmp_path / "A", "1,1,1,1,2,2,1,1,1")
    write_text(tmp_path / "classes.txt", *names)
    dataset = Mot(tmp_path)
    with pytest.raises(UserError, match=message):
        dataset.objects(dataset.sources()[0])


def test_a_million_boxes_are_read(tmp_path):
    """Work that grows with their square would meet the time limit that every test has."""
    mot(tmp_path / "A", *(f"{box % 1000 + 1},{box},1,1,5,5,1,1,1" for box in range(1_000_000)))
    dataset = Mot(tmp_path)
    assert len(dataset.objects(dataset.sources()[0])) == 1000


@pytest.mark.parametrize("reader", [Mot17, Mot, Bdd100kMot])
def test_missing_folders_are_named(tmp_path, reader):
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "none"):
        with pytest.raises(MissingError, match=folder):
            reader(tmp_path / folder).sources()


CAR = bdd_label("17", "car", (0, 0, 9, 4))


@pytest.mark.parametrize("form", [{"newer": True}, {"newer": False}, {"newer": False, "older_names": True}])
def test_bdd_boxes_in_every_generation_of_its_files(tmp_path, form):
    crowd = bdd_label("18", "pedestrian", (3, 3, 3, 3), Crowd=True, occluded=True)
    bdd(tmp_path, "b1-c2", [CAR, crowd, bdd_label(19, "trailer", (0.5, 0.5, 9, 9))], [CAR], None, **form)
    bdd(tmp_path, "b1-c3", [CAR, bdd_label("20", "motor", (0, 0, 1, 1))], **form)
    write_image(tmp_path / "images/track/test/b9/b9-0000001.jpg")
    dataset = Bdd100kMot(tmp_path)
    test, *sources = dataset.sources()
    assert [(source.video, source.frame, source.seconds, source.split) for source in sources] == [
        ("b1-c2", 0, 0.0, "val"),
        ("b1-c2", 1, 0.2, "val"),
        ("b1-c2", 2, 0.4, "val"),
        ("b1-c3", 0, 0.0, "val"),
    ]
    names = {entry.id: entry.name for entry in dataset.classes()}
    first = dataset.objects(sources[0])
    assert [(names[entry.category], entry.track, entry.ignore) for entry in first] == [
        ("car", "b1-c2/17", False),
        ("pedestrian", "b1-c2/18", True),
        ("trailer", "b1-c2/19", True),
    ]
    assert [entry.box for entry in first] == [(0, 0, 10, 5), (3, 3, 4, 4), (0.5, 0.5, 10, 10)], "edges are inclusive"
    assert first[1].flags == ("crowd", "occluded")
    assert dataset.objects(sources[2]) == dataset.objects(test) == ()
    assert [entry.track for entry in dataset.objects(sources[3])] == ["b1-c3/17", "b1-c3/20"]
    assert names[dataset.objects(sources[3])[1].category] == "motorcycle"
    assert list(dataset.notes()) == [
        "bdd100k-mot: the split train has 0 videos, officially 1400.",
        "bdd100k-mot: the split val has 2 videos, officially 200.",
        "bdd100k-mot: the split test has 1 videos, officially 400.",
    ]


def test_bdd_images_and_frames_without_each_other_are_noted(tmp_path):
    bdd(tmp_path, "b1", [CAR], [CAR])
    write_image(tmp_path / "images/track/val/b1/b1-0000003.jpg")
    (tmp_path / "images/track/val/b1/b1-0000002.jpg").unlink()
    dataset = Bdd100kMot(tmp_path)
    assert dataset.objects(dataset.sources()[1]) == ()
    assert list(dataset.notes())[3:] == [
        "bdd100k-mot: b1.json annotates 1 frames that are missing, the first is b1-0000002.jpg.",
        "bdd100k-mot: b1.json lacks 1 images, the first is b1-0000003.jpg.",
    ]
    write_image(tmp_path / "images/track/val/b2/b2-0000001.jpg")
    with pytest.raises(MissingError, match=r"b2\.json is missing"):
        dataset.sources()
    (tmp_path / "images/track/val/b2/b2-0000001.jpg").rename(tmp_path / "images/track/val/b1/first.jpg")
    with pytest.raises(UserError, match=r"first\.jpg is not named b1-0000001\.jpg"):
        dataset.sources()


def with_label(**changes):
    return lambda found: found["frames"][0]["labels"][0].update(changes)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda found: found.update(frames={}), "holds neither a list of frames"),
        (lambda found: found["frames"].append({}), r"frame number 1 \(from 0\) has no name"),
        (lambda found: found["frames"].append(found["frames"][0]), "holds the frame b1-0000001.jpg twice"),
        (lambda found: found["frames"][0].update(videoName="b2"), "is of the video 'b2'"),
        (lambda found: found["frames"][0].update(frameIndex=5), "has the index 5 and its image 0"),
        (lambda found: found["frames"][0].update(labels=[1]), "labels that are no list of objects"),
        (lambda found: found["frames"][0]["labels"].append(CAR), "holds the id '17' twice"),
        (with_label(id=None), "label None, has no id"),
        (with_label(category="zeppelin"), "label '17', has the category 'zeppelin'"),
        (with_label(category=["car"]), r"label '17', has the category \['car'\]"),
        (with_label(box2d=None), "label '17', has no box2d"),
        (with_label(box2d={"x1": 0, "y1": 0, "x2": "x", "y2": 0}), "label '17', has 'x' where a number"),
        (with_label(box2d={"x1": 0, "y1": 0, "x2": float("nan"), "y2": 0}), "label '17', has the corner"),
        (with_label(box2d={"x1": 9, "y1": 0, "x2": 2, "y2": 5}), "label '17', has a box of -6 x 6 pixels"),
        (with_label(box2d={"x1": 9, "y1": 0, "x2": 8, "y2": 5}), "label '17', has no area"),
        (with_label(attributes=[]), None),
        (with_label(attributes=[1]), "label '17', has attributes that are no table"),
    ],
)
def test_bdd_labels_that_make_no_sense_are_named(tmp_path, edit, message):
    path, found = bdd(tmp_path, "b1", [dict(CAR)])
    edit(found)
    write_json(path, found)
    dataset = Bdd100kMot(tmp_path)
    (source,) = dataset.sources()
    if message is None:
        assert len(dataset.objects(source)) == 1
        return
    with pytest.raises(UserError, match=rf"b1\.json.*{message}"):
        dataset.objects(source)


def test_a_detection_file_of_the_first_generation_is_refused(tmp_path):
    """One image an entry, without a video: the labels of another task."""
    path, _ = bdd(tmp_path, "b1", [CAR])
    write_json(path, [{"name": "b1-0000001.jpg", "labels": [{"category": "car", "box2d": CAR["box2d"], "id": 1}]}])
    dataset = Bdd100kMot(tmp_path)
    with pytest.raises(UserError, match="has the index None and its image 0"):
        dataset.objects(dataset.sources()[0])
