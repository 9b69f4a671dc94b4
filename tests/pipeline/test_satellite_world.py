"""The satellite world: rectangles, masks and text files agree exactly."""

import hashlib
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from demo.painting.noise import generator_of, turned, wave
from demo.satellite import write_satellite_world
from demo.satellite.categories import LABEL_IDS, SUPERCATEGORIES
from demo.satellite.plot import patch_of, plot_at
from demo.satellite.site import PAINTERS
from demo.satellite.sites import SITES
from demo.satellite.sprite import sprite_of
from demo.satellite.world import LEAST_PIXELS, paint_place

SIZE = (192, 224)


@cache
def place(seed, number):
    return paint_place(SIZE, seed, "train", number)


places = st.tuples(st.integers(0, 1), st.integers(0, 4))


def read_dota(path):
    """An independent reader: gsd, and (corners, category, difficult) by line."""
    source, gsd, *lines = path.read_text().splitlines()
    assert source.startswith("imagesource:")
    assert gsd.startswith("gsd:")
    objects = []
    for line in lines:
        *numbers, category, difficult = line.split(" ")
        corners = [Fraction(number) for number in numbers]
        objects.append((list(zip(corners[::2], corners[1::2], strict=True)), category, int(difficult)))
    return float(gsd[4:]), objects


def centres_inside(corners, height, width):
    """Pixels whose centre lies in a polygon given clockwise, by cross products."""
    y, x = np.mgrid[:height, :width] + 0.5
    inside = np.ones((height, width), bool)
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        inside &= (float(x1 - x0)) * (y - float(y0)) - (float(y1 - y0)) * (x - float(x0)) >= 0
    return inside


@settings(max_examples=8, deadline=None)
@given(places)
def test_the_mask_of_an_object_lies_inside_its_rectangle(where):
    painted = place(*where)
    for item in painted.annotations:
        mask = painted.instances == item.instance
        assert mask.sum() == item.visible_pixels >= LEAST_PIXELS
        assert item.visible_pixels <= item.pixels
        assert not (mask & ~centres_inside(list(item.plot.corners), *SIZE)).any()
        assert set(np.unique(painted.labels[mask]).tolist()) == {LABEL_IDS[item.category]}


@settings(max_examples=8, deadline=None)
@given(places)
def test_labels_and_instances_mark_the_same_pixels(where):
    painted = place(*where)
    np.testing.assert_array_equal(painted.labels > 0, painted.instances > 0)
    numbers = [item.instance for item in painted.annotations]
    assert len(numbers) == len(set(numbers))
    areas = [item.plot.area for item in painted.annotations]
    assert areas == sorted(areas, reverse=True)
    assert painted.labels.max() <= len(SUPERCATEGORIES) == 15


@settings(max_examples=60, deadline=None)
@given(st.floats(-20, 120), st.floats(-20, 120), st.floats(0, 1), st.floats(2, 80), st.floats(0.05, 1.0))
def test_a_patch_holds_exactly_the_centres_inside_its_rectangle(x, y, share, length, ratio):
    plot = plot_at((x, y), turned(share), length, length * ratio)
    corners = [(Fraction(px), Fraction(py)) for px, py in plot.corners]
    edges = [(corners[(n + 1) % 4][0] - corners[n][0], corners[(n + 1) % 4][1] - corners[n][1]) for n in range(4)]
    assert all(edges[n][0] * edges[n - 1][0] + edges[n][1] * edges[n - 1][1] == 0 for n in range(4))  # right angles
    full = np.zeros((100, 100), bool)
    patch = patch_of(plot, 100, 100)
    if patch is not None:
        full[patch.rows, patch.columns] = patch.inside
    np.testing.assert_array_equal(full, centres_inside(corners, 100, 100))


@pytest.mark.parametrize("name", list(PAINTERS))
@pytest.mark.parametrize("seed", [0, 1])
def test_every_painter_fills_its_rectangle_to_the_edges(name, seed):
    """No shape leaves its rectangle, and each reaches near all four sides."""
    from demo.painting.canvas import Canvas

    plot = plot_at((100, 100), (1.0, 0.0), 120, 100)
    canvas = Canvas(200, 200, generator_of(0))
    sprite = sprite_of(plot, canvas, 0.5)
    PAINTERS[name][0](sprite, generator_of(seed))
    assert not (sprite.mask & ~sprite.patch.inside).any()
    assert (sprite.colour[sprite.mask] >= 0).all()
    rows, columns = np.flatnonzero(sprite.mask.any(1)), np.flatnonzero(sprite.mask.any(0))
    assert np.ptp(columns) > 0.85 * 120
    assert np.ptp(rows) > 0.5 * 100


def test_the_layout_is_that_of_dota(tmp_path):
    write_satellite_world(tmp_path, images={"train": 3, "val": 1}, size=SIZE)
    assert sorted(path.name for path in (tmp_path / "train/images").iterdir()) == [f"P000{n}.png" for n in (1, 2, 3)]
    for number in range(3):
        painted = place(0, number)
        gsd, objects = read_dota(tmp_path / f"train/labelTxt/P000{number + 1}.txt")
        assert gsd == pytest.approx(painted.metres_in_pixel, rel=1e-5)
        assert objects == [
            ([(Fraction(x), Fraction(y)) for x, y in item.plot.corners], item.category, int(item.difficult))
            for item in painted.annotations
        ]
        for corners, category, _ in objects:
            assert category in SUPERCATEGORIES
            assert all(0 <= x <= SIZE[1] and 0 <= y <= SIZE[0] for x, y in corners)
        with Image.open(tmp_path / f"train/images/P000{number + 1}.png") as image:
            np.testing.assert_array_equal(np.asarray(image), painted.picture)


def test_equal_seeds_give_equal_bytes_and_other_seeds_others(tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        write_satellite_world(tmp_path / name, images={"train": 2}, size=(96, 96), seed=seed)
    first, again, other = ({path.name: path.read_bytes() for path in (tmp_path / name).rglob("*.*")} for name in "abc")
    assert first == again
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first if name.endswith(".png"))


def test_all_categories_come_up():
    found = set()
    for number in range(10):
        found |= {item.category for item in paint_place((512, 512), 0, "train", number).annotations}
    assert len(found) >= 13
    assert len(SITES) == 5


def test_turns_are_unit_vectors_close_to_sine_and_cosine():
    for step in range(97):
        x, y = turned(step / 97)
        assert x * x + y * y == pytest.approx(1)
        assert np.hypot(x - np.cos(2 * np.pi * step / 97), y - np.sin(2 * np.pi * step / 97)) < 0.02
    turns = np.linspace(-2, 2, 201, dtype=np.float32)
    np.testing.assert_allclose(wave(turns), np.sin(2 * np.pi * turns), atol=0.06)


def test_masks_are_the_same_on_every_machine():
    """A golden digest of what is computed by numpy alone; change it knowingly, with the look of the world."""
    painted = paint_place((96, 128), 0, "golden", 2)
    digest = hashlib.sha256(painted.instances.astype("<u2").tobytes() + painted.labels.tobytes()).hexdigest()
    assert digest[:16] == "9d866fa3fff804b9"
