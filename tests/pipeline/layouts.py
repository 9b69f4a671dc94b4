"""Miniatures of official layouts, written by hand from their descriptions."""

import json

import numpy as np
from PIL import Image


def write_image(path, width=40, height=30):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(path)
    return path


def write_text(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def dota(folder, stem, *lines, labels="labelTxt", **size):
    """An image with its label file; without lines, the two header lines alone."""
    write_image(folder / "images" / f"{stem}.png", **size)
    write_text(folder / labels / f"{stem}.txt", "imagesource:GoogleEarth", "gsd:0.146", *lines)


def fair1m_object(name, points):
    corners = "".join(f"<point>{x},{y}</point>" for x, y in points)
    return (
        "<object><coordinate>pixel</coordinate><type>rectangle</type><description>None</description>"
        f"<possibleresult><name>{name}</name></possibleresult><points>{corners}</points></object>"
    )


def fair1m(folder, number, *objects, labels="labelXml", **size):
    """An image with its XML file."""
    write_image(folder / "images" / f"{number}.tif", **size)
    write_text(
        folder / labels / f"{number}.xml",
        '<?xml version="1.0" encoding="utf-8"?>',
        f"<annotation><source><filename>{number}.tif</filename></source>",
        f"<objects>{''.join(objects)}</objects></annotation>",
    )


def nwpu(root, annotations=(), images=("001.jpg", "002.jpg"), folder="NWPU VHR-10 dataset"):
    """Positive images of the ids 0, 1 ... and one negative image; annotations are (image id, class id, polygon)."""
    names = [
        "airplane",
        "ship",
        "storage_tank",
        "baseball_diamond",
        "tennis_court",
        "basketball_court",
        "ground_track_field",
    ]
    names += ["harbor", "bridge", "vehicle"]
    for name in images:
        write_image(root / folder / "positive image set" / name)
    write_image(root / folder / "negative image set" / "001.jpg")
    found = {
        "images": [{"id": index, "file_name": name} for index, name in enumerate(images)],
        "categories": [{"id": index, "name": name} for index, name in enumerate(names, start=1)],
        "annotations": [
            {"id": index, "image_id": image, "category_id": category, "segmentation": [polygon], "iscrowd": 0}
            for index, (image, category, polygon) in enumerate(annotations)
        ],
    }
    return write_json(root / folder / "annotations.json", found), found


def mot(folder, *lines, frames=3, length=None, rate=30, **size):
    """One video: so many frames, a gt.txt unless there are no lines, a seqinfo.ini that promises ``length``."""
    for frame in range(1, frames + 1):
        write_image(folder / "img1" / f"{frame:06}.jpg", **size)
    if lines:
        write_text(folder / "gt/gt.txt", *lines)
    promised = ("imDir=img1", f"frameRate={rate}", f"seqLength={length or frames}", "imExt=.jpg")
    write_text(folder / "seqinfo.ini", "[Sequence]", f"name={folder.name}", *promised)


def mot17(root, *lines, detectors=("DPM", "FRCNN", "SDP"), video="MOT17-02", split="train", **rest):
    """One video in its copies, which share images and truth and differ in det/det.txt."""
    for number, detector in enumerate(detectors):
        folder = root / split / f"{video}-{detector}"
        mot(folder, *lines, **rest)
        write_text(folder / "det/det.txt", f"1,-1,{number}.5,2,3,4,0.9")


def bdd_label(identity, category, box, **attributes):
    x1, y1, x2, y2 = box
    return {
        "id": identity,
        "category": category,
        "attributes": {"occluded": False, "truncated": False, "crowd": False, **attributes},
        "box2d": {"x1": x1, "y1": y1, "x2": x2, "y2": y2},
    }


def bdd(root, video, *frames, split="val", newer=True, older_names=False):
    """One video: each of ``frames`` is the list of labels of one frame, in the older or the newer form."""
    index = "index" if older_names else "frameIndex"
    listed = []
    for number, labels in enumerate(frames):
        name = f"{video}-{number + 1:07}.jpg"
        write_image(root / "images/track" / split / video / name)
        listed.append({"name": name, "videoName": video, index: number, "labels": labels})
    found = {"frames": listed, "config": {"categories": []}} if newer else listed
    folder = "labels-20/box-track" if older_names else "labels/box_track_20"
    return write_json(root / folder / split / f"{video}.json", found), found


def ade20k(root, split, stem, ids, names=None):
    """An image with its label map; ``names`` writes objectInfo150.txt."""
    folder = {"train": "training", "val": "validation"}[split]
    ids = np.asarray(ids, np.uint8)
    write_image(root / "images" / folder / f"{stem}.jpg", width=ids.shape[1], height=ids.shape[0])
    path = root / "annotations" / folder / f"{stem}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ids).save(path)
    if names is not None:
        rows = [f"{number}\t0.1\t10\t1\t{name}" for number, name in enumerate(names, start=1)]
        write_text(root / "objectInfo150.txt", "Idx\tRatio\tTrain\tVal\tName", *rows)
