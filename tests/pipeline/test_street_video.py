"""The street videos: boxes, tracks and masks agree exactly, and any frame can be painted alone."""

import configparser
import csv
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from demo.street import write_street_video
from demo.street.video import CLASS_IDS, LEAST_PIXELS, STATIC_PERSON, StreetVideo
from pipeline.datasets.cityscapes import LABEL_IDS

SIZE = (72, 128)


@cache
def video(seed, name="street-01", frames=30):
    return StreetVideo(name, frames, SIZE, seed)


@cache
def frame_of(seed, number):
    return video(seed).frame(number)


frames = st.tuples(st.integers(0, 2), st.sampled_from([0, 7, 14, 29]))


def files(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def around(mask):
    """The smallest box around a mask, by search: left, top, right and bottom exclusive."""
    places = np.argwhere(mask)
    (top, left), (bottom, right) = places.min(0), places.max(0) + 1
    return int(left), int(top), int(right), int(bottom)


@settings(max_examples=5, deadline=None)
@given(frames)
def test_boxes_are_those_of_the_instance_painted_alone(where):
    """With nothing else on the street, the visible mask of an instance is its amodal mask."""
    seed, number = where
    frame = frame_of(seed, number)
    for box in frame.boxes[:: max(1, len(frame.boxes) // 2)]:
        lonely = StreetVideo("street-01", 30, SIZE, seed)
        kept = [thing for thing in lonely.street.things if box.track in thing.instances.values()]
        names = {name: track for name, track in kept[0].instances.items() if track == box.track}
        lonely.street.things[:] = kept
        alone = lonely.frame(number)
        mask = alone.instances == box.track
        if len(kept[0].instances) == 1:  # a rider covers the bicycle, even alone
            extent = box.extent
            assert around(mask) == (extent.left, extent.top, extent.right, extent.bottom)
            assert mask.sum() == extent.pixels
        assert (frame.instances == box.track).sum() == box.visible_pixels
        assert not ((frame.instances == box.track) & (alone.instances != box.track)).any()
        assert set(np.unique(frame.labels[frame.instances == box.track]).tolist()) == {
            LABEL_IDS[name] for name in names
        }


@settings(max_examples=5, deadline=None)
@given(frames)
def test_every_listed_object_shows_and_every_object_that_shows_is_listed(where):
    frame = frame_of(*where)
    numbers, counts = np.unique(frame.instances, return_counts=True)
    shown = {int(number) for number, count in zip(numbers, counts, strict=True) if number and count >= LEAST_PIXELS}
    assert [box.track for box in frame.boxes] == sorted(shown)
    for box in frame.boxes:
        assert 0 < box.visibility <= 1
        assert 0 <= box.extent.left < box.extent.right <= SIZE[1]
        assert 0 <= box.extent.top < box.extent.bottom <= SIZE[0]
        left, top, right, bottom = around(frame.instances == box.track)
        assert box.extent.left <= left
        assert box.extent.top <= top
        assert right <= box.extent.right
        assert bottom <= box.extent.bottom


@settings(max_examples=5, deadline=None)
@given(frames)
def test_nearer_things_cover_farther_ones(where):
    """Without the nearest instance every other instance shows at least as much as before."""
    seed, number = where
    full = frame_of(seed, number)
    if not full.boxes:
        return
    fewer = StreetVideo("street-01", 30, SIZE, seed)
    time = number / 15
    shown = {box.track for box in full.boxes}
    things = [thing for thing in fewer.street.things if shown & set(thing.instances.values())]
    nearest = min(things, key=lambda thing: (thing.place(time)[1], -thing.place(time)[0]))
    fewer.street.things.remove(nearest)
    rest = fewer.frame(number)
    gone = list(nearest.instances.values())
    kept = ~np.isin(full.instances, gone)
    np.testing.assert_array_equal(full.instances[kept], rest.instances[kept])
    np.testing.assert_array_equal(full.labels[kept], rest.labels[kept])


def test_tracks_keep_their_class_and_move_smoothly():
    street = video(1)
    before = {}
    for number in range(8):
        for box in street.frame(number).boxes:
            extent = box.extent
            middle = (extent.left + extent.right) / 2
            if box.track in before:
                class_id, previous = before[box.track]
                assert box.class_id == class_id
                assert abs(middle - previous) < 25
            before[box.track] = (box.class_id, middle)
    assert len(before) > 5
    numbers = [number for thing in street.street.things for number in thing.instances.values()]
    assert len(numbers) == len(set(numbers))


def test_a_frame_alone_equals_the_frame_in_its_sequence(tmp_path):
    write_street_video(tmp_path, sequences={"street-01": 5}, size=SIZE, suffix=".png")
    alone = StreetVideo("street-01", 5, SIZE).frame(3)
    with Image.open(tmp_path / "street-01/img1/000004.png") as image:
        np.testing.assert_array_equal(np.asarray(image), alone.picture)


def test_equal_seeds_give_equal_bytes_and_other_seeds_others(tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        write_street_video(tmp_path / name, sequences={"x": 2, "y": 1}, size=SIZE, seed=seed, suffix=".png")
    first, again, other = (files(tmp_path / name) for name in "abc")
    assert first == again
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first if name.endswith((".png", "gt.txt")))


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_the_layout_is_that_of_mot17(tmp_path, suffix):
    write_street_video(tmp_path, sequences={"street-02": 2}, size=SIZE, suffix=suffix)
    root = tmp_path / "street-02"
    card = configparser.ConfigParser()
    card.read(root / "seqinfo.ini")
    assert dict(card["Sequence"]) == {
        "name": "street-02", "imdir": "img1", "framerate": "15", "seqlength": "2",
        "imwidth": "128", "imheight": "72", "imext": suffix,
    }  # fmt: skip
    assert sorted(path.name for path in (root / "img1").iterdir()) == [f"{n:06}{suffix}" for n in range(1, 3)]
    street = StreetVideo("street-02", 2, SIZE)
    with (root / "gt/gt.txt").open() as file:
        rows = [[float(cell) for cell in row] for row in csv.reader(file)]
    assert {len(row) for row in rows} == {9}
    assert len({(row[0], row[1]) for row in rows}) == len(rows)
    expected = [
        [number + 1, box.track, box.extent.left + 1, box.extent.top + 1, box.extent.right - box.extent.left,
         box.extent.bottom - box.extent.top, 1, box.class_id, pytest.approx(box.visibility, rel=1e-5)]
        for number in range(2) for box in street.frame(number).boxes
    ]  # fmt: skip
    assert rows == expected
    assert {row[7] for row in rows} <= {*CLASS_IDS.values(), STATIC_PERSON}


def test_frames_change_where_things_move():
    street = video(2)
    assert (street.frame(0).instances != street.frame(10).instances).any()
