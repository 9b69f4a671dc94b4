"""Annotation files of strangers: DOTA, FAIR1M, MOT, BDD100K, COCO, manifests, and images."""

import functools
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.dataset_recipe import ManifestClass
from pipeline.datasets import bdd100k_mot, manifest, mot, nwpu_vhr10
from pipeline.datasets.contract import Source
from pipeline.datasets.dota import Dota
from pipeline.datasets.fair1m import Fair1m
from pipeline.datasets.reading import mot_files
from pipeline.datasets.reading.images import image_size, read_image, read_label_map
from tests.fuzz.targets import Target, one_sentence, scratch

PIXELS = 1 << 20
"""Images of more pixels are bombs here, so that one run stays short."""


@functools.cache
def picture(kind="PNG", mode="RGB"):
    buffer = io.BytesIO()
    pixels = np.arange(300).astype(np.uint8).reshape(10, 10, 3)
    whole = (
        Image.fromarray(pixels[..., 0].astype(np.uint16)) if mode == "I;16" else Image.fromarray(pixels).convert(mode)
    )
    whole.save(buffer, kind)
    return buffer.getvalue()


def _file(name, data):
    path = scratch() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _lone(folder, name, data):
    """Return an image and the label file beside it."""
    image = _file(f"{folder}/a.png", picture())
    return Source("a.png", image.parent, _file(f"{folder}/{name}", data), "all", "all")


def dota(data):
    with one_sentence():
        Dota(scratch()).objects(_lone("dota", "a.txt", data))


def fair1m(data):
    with one_sentence():
        Fair1m(scratch()).objects(_lone("fair1m", "a.xml", data))


def _video():
    _file("mot/v/img1/000001.png", picture())
    return mot.Mot(scratch() / "mot")


def _every_mot_file(videos):
    mot_files._read_boxes.cache_clear()
    with one_sentence():
        videos.classes()
        for source in videos.sources():
            videos.objects(source)
        videos.notes()


def mot_truth(data):
    videos = _video()
    path = _file("mot/v/gt/gt.txt", data)
    _every_mot_file(videos)
    path.unlink()


def mot_sequence(data):
    videos = _video()
    path = _file("mot/v/seqinfo.ini", data)
    _every_mot_file(videos)
    path.unlink()


def mot_classes(data):
    videos = _video()
    path = _file("mot/classes.txt", data)
    _every_mot_file(videos)
    path.unlink()


def bdd(data):
    root = scratch() / "bdd"
    _file("bdd/images/track/train/v/v-0000001.jpg", picture("JPEG"))
    _file("bdd/labels/box_track_20/train/v.json", data)
    bdd100k_mot._read.cache_clear()
    with one_sentence():
        dataset = bdd100k_mot.Bdd100kMot(root)
        for source in dataset.sources():
            dataset.objects(source)
        dataset.notes()


def coco(data):
    _file("nwpu/positive image set/001.jpg", picture("JPEG"))
    _file("nwpu/annotations.json", data)
    nwpu_vhr10._read.cache_clear()
    with one_sentence():
        dataset = nwpu_vhr10.NwpuVhr10(scratch() / "nwpu")
        for source in dataset.sources():
            dataset.pixel_classes(source)
        dataset.notes()


def _listed(name, data):
    _file("list/a.png", picture())
    _file("list/m.png", picture(mode="L"))
    _file(f"list/{name}", data)
    with one_sentence():
        listed = manifest.Manifest(
            scratch() / "list", name, (ManifestClass(name="cat"), ManifestClass(name="dog")), ((0,), (1,))
        )
        assert isinstance(listed.labels, frozenset)
        listed.classes()
        root = (scratch() / "list").resolve()
        for source in listed.sources():
            assert Path(source.image).resolve().is_relative_to(root)
            assert source.label is None or Path(source.label).resolve().is_relative_to(root)


def manifest_csv(data):
    _listed("photos.csv", data)


def manifest_parquet(data):
    _listed("photos.parquet", data)


def image(data):
    path = _file("image.png", data)
    Image.MAX_IMAGE_PIXELS, before = PIXELS, Image.MAX_IMAGE_PIXELS
    try:
        for read in (read_image, image_size, read_label_map):
            with one_sentence():
                read(path)
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _parquet():
    import pyarrow
    import pyarrow.parquet

    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"image": ["a.png"], "frame": [1.0], "mask": [None]}), sink)
    return sink.getvalue()


_DOTA = b"imagesource:GoogleEarth\ngsd:0.1\n1 1 9 1 9 9 1 9 plane 0\n1.5 1 9 1 9 9 1 9 ship 1\n"
_FAIR1M = (
    b"<?xml version='1.0' encoding='utf-8'?><annotation><objects><object><possibleresult><name>Boeing737</name>"
    b"</possibleresult><points><point>1,1</point><point>9,1</point><point>9,9</point><point>1,9</point>"
    b"<point>1,1</point></points></object></objects></annotation>"
)
_MOT = b"1,1,1,1,5,5,1,1,0.5\n1,2,2,2,4,4,0,1,1\n2,1,1,1,5,5,1,2,-1\n"
_BDD = json.dumps(
    [
        {
            "name": "v-0000001.jpg",
            "videoName": "v",
            "frameIndex": 0,
            "labels": [
                {
                    "id": "1",
                    "category": "car",
                    "attributes": {"crowd": False, "occluded": True},
                    "box2d": {"x1": 1.0, "y1": 1.0, "x2": 8.0, "y2": 8.5},
                }
            ],
        }
    ]
).encode()
_COCO = json.dumps(
    {
        "images": [{"id": 1, "file_name": "001.jpg", "width": 10, "height": 10}],
        "categories": [{"id": 1, "name": "airplane"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[1, 1, 8, 1, 8, 8]], "iscrowd": 0},
            {"id": 2, "image_id": 1, "category_id": 1, "segmentation": [[1, 1, 8, 1, 8, 8], [2, 2, 4, 2, 4, 4]]},
        ],
    }
).encode()
_CSV = b"image,mask,class,group,split,video,frame\na.png,m.png,cat,g,train,v,1\n"

TARGETS = {
    "dota": Target(dota, (_DOTA, b"\xef\xbb\xbf" + _DOTA.replace(b"\n", b"\r\n"))),
    "fair1m": Target(fair1m, (_FAIR1M,)),
    "mot-gt": Target(mot_truth, (_MOT,), (b"11\x1c,1,0,1,1,1,41,1,1\n",)),
    "mot-seqinfo": Target(
        mot_sequence, (b"[Sequence]\nname=v\nimDir=img1\nframeRate=30\nseqLength=1\n",), (b"[Sequence]\nimDir=i\0\0\n",)
    ),
    "mot-classes": Target(mot_classes, (b"1 Car\n2 Person\n",)),
    "bdd": Target(bdd, (_BDD, b'{"frames": ' + _BDD + b"}")),
    "coco": Target(coco, (_COCO,)),
    "manifest-csv": Target(manifest_csv, (_CSV, _CSV.replace(b",", b";"))),
    "manifest-parquet": Target(manifest_parquet, (_parquet(),)),
    "image": Target(
        image,
        (
            *(picture(kind) for kind in ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "PPM")),
            *(picture("PNG", mode) for mode in ("P", "L", "LA", "RGBA", "I;16")),
        ),
    ),
}
"""By the name that the runner prints."""
