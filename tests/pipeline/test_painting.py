"""Painted outlines against a point-in-polygon test of every pixel centre, and clipping against known areas."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.datasets.reading.outlines import checked_box
from pipeline.datasets.reading.polygons import area, clip
from pipeline.datasets.reading.rasterise import paint
from stores.specs import Size

SIZE = Size(height=13, width=17)
quarters = st.integers(-20, 90).map(lambda value: value / 4)  # products of quarters are exact in float64
tenths = st.integers(-50, 220).map(lambda value: value / 10)
polygons = st.lists(st.tuples(quarters, quarters), min_size=3, max_size=7).map(tuple)


def inside(polygon, x, y, number=float):
    """Even-odd, by the sign of a cross product: does a ray to the left meet the edge?"""
    odd = False
    for (x0, y0), (x1, y1) in zip(polygon, (*polygon[1:], polygon[0]), strict=True):
        x0, y0, x1, y1 = (number(value) for value in (x0, y0, x1, y1))
        if (y0 <= y) != (y1 <= y):
            cross = (x - x0) * (y1 - y0) - (y - y0) * (x1 - x0)
            odd ^= cross >= 0 if y1 > y0 else cross <= 0
    return odd


def painted(polygon, number=float):
    half = number(1) / 2
    return np.array(
        [[inside(polygon, c + half, r + half, number) for c in range(SIZE.width)] for r in range(SIZE.height)]
    )


@given(polygons)
@settings(max_examples=60, deadline=None)
def test_a_pixel_is_painted_when_its_centre_is_inside(polygon):
    np.testing.assert_array_equal(paint(SIZE, [(polygon, 1)], 0) == 1, painted(polygon))


@given(st.lists(st.tuples(tenths, tenths), min_size=3, max_size=4).map(tuple))
@settings(max_examples=12, deadline=None)
def test_centres_on_an_edge_are_decided_in_fractions(polygon):
    """Tenths are no binary fractions: only exact numbers tell where a centre on such an edge belongs."""
    np.testing.assert_array_equal(paint(SIZE, [(polygon, 1)], 0) == 1, painted(polygon, Fraction))


@given(st.tuples(tenths, tenths), st.tuples(tenths, tenths))
@settings(max_examples=12, deadline=None)
def test_outlines_that_share_an_edge_leave_no_gap_and_overlap_nowhere(first, second):
    far = ((-100.0, -90.0), (130.0, -80.0))
    here = paint(SIZE, [((first, second, far[0]), 1)], 0)
    there = paint(SIZE, [((second, first, far[1]), 1)], 0)
    both = painted((first, far[1], second, far[0]), Fraction)
    np.testing.assert_array_equal((here + there) % 2 == 1, both)


def test_small_outlines_lie_on_large_ones_and_later_on_earlier_of_equal_size():
    def square(left, side):
        return checked_box(left, 0.0, left + side, side, "here")

    classes = paint(SIZE, [(square(4.0, 2.0), 1), (square(0.0, 10.0), 2), (square(5.0, 2.0), 3)], 9)
    assert classes[0].tolist() == [2, 2, 2, 2, 1, 3, 3, 2, 2, 2, *[9] * 7]
    assert (classes[10:] == 9).all()


def test_outlines_far_outside_paint_nothing_and_a_giant_one_everything():
    giant = checked_box(-1e6, -1e6, 1e6, 1e6, "here")
    assert (paint(SIZE, [(giant, 3)], 0) == 3).all()
    for dx, dy in ((-100.0, 0.0), (100.0, 0.0), (0.0, -100.0), (0.0, 100.0)):
        moved = checked_box(dx, dy, dx + 9, dy + 9, "here")
        assert (paint(SIZE, [(moved, 3)], 0) == 0).all()


@given(polygons)
@settings(max_examples=40, deadline=None)
def test_the_parts_of_an_outline_have_its_area_together(polygon):
    """Signed areas add up; parts of one sign do so for every outline that turns one way, such as triangles."""
    triangle = polygon[:3]
    tiles = [(x, y, x + 8.0, y + 8.0) for x in (-8.0, 0.0, 8.0, 16.0) for y in (-8.0, 0.0, 8.0, 16.0)]
    total = sum(area(clip(triangle, tile)) for tile in tiles)
    assert total == pytest.approx(area(triangle), abs=1e-9)


def test_areas_known_by_hand():
    assert area(checked_box(0.0, 0.0, 4.0, 3.0, "here")) == 12
    assert area(()) == 0
    u_shape = ((0.0, 0.0), (9.0, 0.0), (9.0, 9.0), (6.0, 9.0), (6.0, 3.0), (3.0, 3.0), (3.0, 9.0), (0.0, 9.0))
    assert area(u_shape) == 63
    assert area(clip(u_shape, (0.0, 6.0, 9.0, 20.0))) == 18, "two parts, joined by an edge of no area"
    assert area(clip(u_shape, (20.0, 20.0, 30.0, 30.0))) == 0
