"""The painted worlds through the real readers: what was painted is what is read, to the last box and pixel."""

import numpy as np
import pytest

from demo.satellite import write_satellite_world
from demo.satellite.world import paint_place
from demo.street import write_street_video
from demo.street.video import StreetVideo
from pipeline.datasets import open_dataset

SIZE = (192, 320)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_street_video(folder, sequences={"walk": 3, "drive": 4}, size=SIZE, seed=2, suffix=".png")
    return folder


def test_videos_are_read_as_mot_folders(videos):
    dataset = open_dataset("mot", videos)
    sources = dataset.sources()
    assert [(source.video, source.frame) for source in sources] == [
        *(("drive", number) for number in range(1, 5)),
        *(("walk", number) for number in range(1, 4)),
    ]
    assert sources[1].seconds - sources[0].seconds == pytest.approx(1 / 15)
    n_objects = 0
    for source in sources:
        painted = StreetVideo(source.video, {"walk": 3, "drive": 4}[source.video], SIZE, 2).frame(source.frame - 1)
        boxes = {(box.extent.left, box.extent.top, box.extent.right, box.extent.bottom) for box in painted.boxes}
        read = dataset.objects(source)
        assert {entry.box for entry in read} == boxes
        assert all(entry.track.startswith(f"{source.video}/") for entry in read)
        n_objects += len(read)
    assert n_objects > 20


def test_places_are_read_as_dota(tmp_path):
    write_satellite_world(tmp_path, images={"train": 2, "val": 1}, size=(256, 256), seed=1)
    dataset = open_dataset("dota", tmp_path)
    sources = dataset.sources()
    assert len(sources) == 3
    names = [entry.name for entry in dataset.classes()]
    n_objects = 0
    for source in sources:
        place = paint_place((256, 256), 1, source.split, int(source.image.stem[1:]) - 1)
        expected = [(annotation.plot.corners, annotation.category) for annotation in place.annotations]
        read = [(entry.polygon, names[entry.category]) for entry in dataset.objects(source)]
        assert read == expected
        painted = dataset.pixel_classes(source)
        assert set(np.unique(painted)) <= {0, *(entry.category for entry in dataset.objects(source))}
        assert (painted > 0).any() == bool(read)
        n_objects += len(read)
    assert n_objects > 5
