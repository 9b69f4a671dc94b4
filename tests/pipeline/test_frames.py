"""Frames: tiles cover, own and resize what they say."""

import hashlib
import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.rows import frames
from pipeline.rows.frames import coverage, cut, cut_labels, owned_in_input, shown_pixels, tiles
from stores.errors import UserError
from stores.specs import VOID, FrameSpec, Size


def noise(height, width, seed=0):
    return np.random.Generator(np.random.PCG64(seed)).integers(0, 256, (height, width, 3), np.uint8)


@st.composite
def framed_sources(draw):
    """A frame whose tiles fit, and a source size."""
    edge = draw(st.sampled_from(["drop", "pad", "shift-last"]))
    tile = Size(height=draw(st.integers(1, 24)), width=draw(st.integers(1, 24)))
    smallest = (1, 1) if edge == "pad" else (tile.height, tile.width)
    plane = Size(height=draw(st.integers(smallest[0], 80)), width=draw(st.integers(smallest[1], 80)))
    frame_input = Size(height=draw(st.integers(1, 40)), width=draw(st.integers(1, 40)))
    if draw(st.booleans()):
        source = Size(height=draw(st.integers(1, 80)), width=draw(st.integers(1, 80)))
        return FrameSpec(input=frame_input, tile=tile, resize=plane, edge=edge), source, plane
    return FrameSpec(input=frame_input, tile=tile, edge=edge), plane, plane


@given(framed_sources())
@settings(max_examples=150, deadline=None)
def test_every_pixel_is_owned_at_most_once(case):
    frame, source, plane = case
    cells = tiles(frame, source)
    owners = np.zeros((plane.height, plane.width), int)
    shown = np.zeros_like(owners)
    for tile in cells:
        left, top, right, bottom = tile.box
        assert (bottom - top, right - left) == (frame.tile.height, frame.tile.width)
        assert min(left, top) >= 0
        if frame.edge != "pad":
            assert right <= plane.width
            assert bottom <= plane.height
        shown[top:bottom, left:right] += 1
        own_left, own_top, own_right, own_bottom = tile.owned
        assert left <= own_left < own_right <= min(right, plane.width)
        assert top <= own_top < own_bottom <= min(bottom, plane.height)
        owners[own_top:own_bottom, own_left:own_right] += 1
    np.testing.assert_array_equal(owners, shown > 0)
    assert coverage(frame, source) == pytest.approx(owners.mean(), abs=1e-12)
    if frame.edge != "drop":
        assert coverage(frame, source) == 1
    order = [(tile.row, tile.column) for tile in cells]
    assert order == sorted(order) == [(r, c) for r in range(order[-1][0] + 1) for c in range(order[-1][1] + 1)]


@given(framed_sources())
@settings(max_examples=150, deadline=None)
def test_shared_pixels_belong_to_the_first_tile(case):
    frame, source, plane = case
    first = np.full((plane.height, plane.width), -1)
    for index, tile in reversed(list(enumerate(tiles(frame, source)))):
        left, top, right, bottom = tile.box
        first[top:bottom, left:right] = index
    for index, tile in enumerate(tiles(frame, source)):
        left, top, right, bottom = tile.owned
        owned = np.zeros(first.shape, bool)
        owned[top:bottom, left:right] = True
        np.testing.assert_array_equal(owned, first == index)


def test_256_tiles_without_a_rule_cover_38_percent_of_camvid():
    frame = FrameSpec(input=224, tile=256)
    assert len(tiles(frame, Size(height=360, width=480))) == 1
    assert coverage(frame, Size(height=360, width=480)) == pytest.approx(0.379, abs=5e-4)


def test_the_papers_frame_gives_32_tiles_of_a_cityscapes_image():
    cells = tiles(FrameSpec(input=224, tile=256), Size(height=1024, width=2048))
    assert len(cells) == 32
    assert cells[9].box == cells[9].owned == (256, 256, 512, 512)


@pytest.mark.parametrize("edge", ["drop", "shift-last"])
def test_a_source_smaller_than_a_tile_is_refused_with_both_sizes_and_both_ways_out(edge):
    with pytest.raises(UserError, match=r'300x200 pixels.*tile of 256x256.*smaller tile.*edge = "pad"'):
        tiles(FrameSpec(input=224, tile=256, edge=edge), Size(height=200, width=300))


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "lanczos", "nearest", "box"])
def test_equal_sizes_leave_the_bytes_alone(interpolation):
    image = noise(48, 80)
    frame = FrameSpec(input=16, tile=16, resize=Size(height=48, width=80))
    cells = tiles(frame, Size(height=48, width=80))
    expected = image.reshape(3, 16, 5, 16, 3).transpose(0, 2, 1, 3, 4).reshape(15, 16, 16, 3)
    np.testing.assert_array_equal(cut(image, frame, cells, interpolation), expected)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "lanczos", "nearest", "box"])
def test_tiles_are_what_pillow_crops_and_resizes(interpolation):
    image = noise(90, 120)
    frame = FrameSpec(input=Size(height=21, width=28), tile=32, resize=Size(height=80, width=100), edge="pad")
    cells = tiles(frame, Size(height=90, width=120))
    method = Image.Resampling[interpolation.upper()]
    plane = Image.fromarray(image).resize((100, 80), method)
    expected = [np.asarray(plane.crop(tile.box).resize((28, 21), method)) for tile in cells]
    np.testing.assert_array_equal(cut(image, frame, cells, interpolation), np.stack(expected))


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "lanczos", "nearest", "box"])
@pytest.mark.parametrize(
    "size", [(375, 500), (500, 375), (48, 48), (33, 77), (101, 64), (31, 99), (64, 97), (20, 21)], ids=str
)
def test_the_centre_of_an_image_resized_by_its_shorter_side_is_torchvisions(size, interpolation):
    height, width = size
    image = noise(height, width)
    frame = FrameSpec(input=33, tile=33, resize={"shorter": 48}, edge="centre")
    method = Image.Resampling[interpolation.upper()]
    short, long = min(size), max(size)
    extents = (48, int(48 * long / short)) if height <= width else (int(48 * long / short), 48)
    plane = Image.fromarray(image).resize(extents[::-1], method)
    top, left = (round((extent - 33) / 2.0) for extent in extents)
    (tile,) = cells = tiles(frame, Size(height=height, width=width))
    assert tile.box == tile.owned == (left, top, left + 33, top + 33)
    by_hand = np.asarray(plane.crop((left, top, left + 33, top + 33)))
    np.testing.assert_array_equal(cut(image, frame, cells, interpolation)[0], by_hand)
    assert owned_in_input(frame, tile) == (0, 0, 33, 33)
    assert coverage(frame, Size(height=height, width=width)) == pytest.approx(33 * 33 / (extents[0] * extents[1]))


def test_the_centre_crop_is_what_torchvision_itself_makes():
    transforms = pytest.importorskip("torchvision.transforms")
    for height, width in ((375, 500), (101, 64), (64, 97), (333, 1000)):
        image = noise(height, width)
        frame = FrameSpec(input=33, tile=33, resize={"shorter": 48}, edge="centre")
        resize = transforms.Resize(48, interpolation=transforms.InterpolationMode.BICUBIC)
        expected = transforms.CenterCrop(33)(resize(Image.fromarray(image)))
        made = cut(image, frame, tiles(frame, Size(height=height, width=width)), "bicubic")
        np.testing.assert_array_equal(made[0], np.asarray(expected))


@pytest.mark.parametrize("size", [(75, 100), (100, 75), (33, 77)], ids=str)
def test_labels_of_a_centre_crop_follow_the_pixels(size):
    height, width = size
    frame = FrameSpec(input=33, tile=33, resize={"shorter": 48}, edge="centre")
    cells = tiles(frame, Size(height=height, width=width))
    classes = noise(height, width)[..., 0]
    left, top, right, bottom = cells[0].box
    plane = (48, int(48 * width / height)) if height <= width else (int(48 * height / width), 48)
    rows, columns = (
        [math.floor(Fraction(2 * pixel + 1, 2) * source / extent) for pixel in pixels]
        for pixels, source, extent in (
            (range(top, bottom), height, plane[0]),
            (range(left, right), width, plane[1]),
        )
    )
    np.testing.assert_array_equal(cut_labels(classes, frame, cells)[0], classes[np.ix_(rows, columns)])


def test_what_a_centre_crop_cannot_be_taken_of_is_refused():
    crop = {"input": 32, "tile": 32, "edge": "centre"}
    with pytest.raises(UserError, match=r"40x30 pixels.*tile of 32x32; choose a smaller tile, or set a larger resize"):
        tiles(FrameSpec(**crop), Size(height=30, width=40))
    with pytest.raises(UserError, match=r"becomes 128000x32 .* 65536 is the longest side"):
        tiles(FrameSpec(**crop, resize={"shorter": 32}), Size(height=1, width=4000))


def test_shrinking_is_antialiased():
    """Half-size box filtering is the block mean; a one-pixel checkerboard becomes grey under every wide filter."""
    image = noise(64, 64)
    frame = FrameSpec(input=32)
    whole = tiles(frame, Size(height=64, width=64))
    mean = image.reshape(32, 2, 32, 2, 3).astype(float).mean(axis=(1, 3))
    np.testing.assert_allclose(cut(image, frame, whole, "box")[0], mean, atol=1.01)
    checks = np.broadcast_to(255 * (np.indices((64, 64)).sum(0) % 2)[..., None], (64, 64, 3)).astype(np.uint8)
    for interpolation in ("bicubic", "bilinear", "lanczos"):
        inner = cut(checks, frame, whole, interpolation)[0, 4:-4, 4:-4]
        np.testing.assert_allclose(inner, 127.5, atol=2)


def test_a_tile_sees_nothing_of_its_neighbours():
    image = noise(64, 96)
    changed = image.copy()
    changed[:, 32:] = 0
    frame = FrameSpec(input=28, tile=32)
    cells = tiles(frame, Size(height=64, width=96))
    before, after = (cut(pixels, frame, cells, "bicubic") for pixels in (image, changed))
    first_column = [index for index, tile in enumerate(cells) if tile.column == 0]
    np.testing.assert_array_equal(before[first_column], after[first_column])
    assert (before != after).any()


@given(st.integers(1, 300), st.integers(1, 300))
@example(256, 224)
@settings(max_examples=100, deadline=None)
def test_labels_are_pillows_nearest_wherever_no_centre_meets_a_border(extent, target):
    classes = np.arange(extent, dtype=np.int64)
    row = (classes % 251).astype(np.uint8)[None]
    frame = FrameSpec(input=Size(height=1, width=target))
    labels = cut_labels(row, frame, tiles(frame, Size(height=1, width=extent)))[0]
    pillow = np.asarray(Image.fromarray(row).resize((target, 1), Image.Resampling.NEAREST))
    centres = [Fraction((2 * index + 1) * extent, 2 * target) for index in range(target)]
    clear = [index for index, centre in enumerate(centres) if centre.denominator > 1]
    np.testing.assert_array_equal(labels[:, clear], pillow[:, clear])
    np.testing.assert_array_equal(labels[0], [row[0, math.floor(centre)] for centre in centres])


@given(framed_sources())
@settings(max_examples=100, deadline=None)
def test_owned_input_pixels_are_those_whose_label_lies_in_the_owned_part(case):
    frame, _, plane = case
    unresized = FrameSpec(input=frame.input, tile=frame.tile, edge=frame.edge)
    for tile in tiles(unresized, plane)[-4:]:
        marked = np.zeros((plane.height, plane.width), np.uint8)
        left, top, right, bottom = tile.owned
        marked[top:bottom, left:right] = 1
        labels = cut_labels(marked, unresized, [tile])[0]
        rectangle = np.zeros_like(labels, dtype=bool)
        left, top, right, bottom = owned_in_input(unresized, tile)
        rectangle[top:bottom, left:right] = True
        np.testing.assert_array_equal(labels == 1, rectangle)


@given(framed_sources(), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_owned_labels_put_the_source_together_again(case, seed):
    frame, _, plane = case
    frame = FrameSpec(input=frame.tile, tile=frame.tile, edge=frame.edge)
    classes = np.random.Generator(np.random.PCG64(seed)).integers(0, 19, (plane.height, plane.width), np.uint8)
    cells = tiles(frame, plane)
    again = np.full_like(classes, VOID)
    for tile, labels in zip(cells, cut_labels(classes, frame, cells), strict=True):
        left, top, right, bottom = tile.owned
        own_left, own_top, own_right, own_bottom = owned_in_input(frame, tile)
        again[top:bottom, left:right] = labels[own_top:own_bottom, own_left:own_right]
    covered = again != VOID
    np.testing.assert_array_equal(again[covered], classes[covered])
    assert covered.mean() == pytest.approx(coverage(frame, plane), abs=1e-12)


def test_padding_is_black_in_pictures_and_void_in_labels():
    frame = FrameSpec(input=32, tile=32, edge="pad")
    size = Size(height=40, width=20)
    cells = tiles(frame, size)
    assert [tile.box for tile in cells] == [(0, 0, 32, 32), (0, 32, 32, 64)]
    inputs = cut(np.full((40, 20, 3), 200, np.uint8), frame, cells, "bicubic")
    labels = cut_labels(np.full((40, 20), 7, np.uint8), frame, cells)
    inside = np.zeros((2, 32, 32), bool)
    inside[0, :, :20] = inside[1, :8, :20] = True
    np.testing.assert_array_equal(inputs, np.where(inside[..., None], [200, 200, 200], 0))
    np.testing.assert_array_equal(labels, np.where(inside, 7, VOID))


def test_golden_bytes():
    """When this fails, stored features no longer match their specs: raise frames.REVISION with the new digests."""
    image = noise(90, 130, seed=5)
    frame = FrameSpec(input=28, tile=40, resize=Size(height=84, width=120), edge="shift-last")
    cells = tiles(frame, Size(height=90, width=130))
    made = hashlib.sha256()
    for interpolation in ("bicubic", "bilinear", "lanczos", "nearest", "box"):
        made.update(cut(image, frame, cells, interpolation).tobytes())
    made.update(cut_labels(image[..., 0] % 19, frame, cells).tobytes())
    assert (frames.REVISION, made.hexdigest()[:16]) == (1, "12d52f5e05a45bb4")


def test_the_shown_share_of_a_table_is_that_of_its_frame():
    """`patchbank show` has the table of the rows and no images."""
    crop = FrameSpec(input=Size(height=8, width=8), tile=Size(height=32, width=32), edge="centre", resize=None)
    sizes = {"a": Size(height=40, width=53), "b": Size(height=40, width=53), "c": Size(height=64, width=64)}
    rows = [
        {"source": name, "source_width": size.width, "source_height": size.height, "valid": name != "bad"}
        | dict(zip(("owned_left", "owned_top", "owned_right", "owned_bottom"), tile.owned, strict=True))
        for name, size in {**sizes, "bad": Size(height=32, width=32)}.items()
        for tile in tiles(crop, size)
    ]
    pixels = {name: size.height * size.width for name, size in sizes.items()}
    expected = sum(coverage(crop, size) * pixels[name] for name, size in sizes.items()) / sum(pixels.values())
    assert shown_pixels(crop, pd.DataFrame(rows)) == pytest.approx(expected)
    assert shown_pixels(crop, pd.DataFrame(rows[-1:])) is None
