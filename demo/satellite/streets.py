"""Makes roads, their traffic, rows of parked vehicles, and trees."""

from demo.painting.canvas import Number
from demo.painting.noise import turned
from demo.satellite.ground import road
from demo.satellite.site import BuildingSite

_WIDTH = 10.0  # metres, pavements included
_VEHICLES = {"small-vehicle": (4.6, 2.0), "large-vehicle": (11.5, 2.7)}


def lay_road(site: BuildingSite, x: Number, y: Number, length: Number, share: Number) -> None:
    """Paint a road through a point of the site, and keep other objects off it.

    Args:
        site: The site.
        x: X coordinate of the centre, in metres from the site's.
        y: Y coordinate of the centre, in metres from the site's.
        length: Length in metres.
        share: Direction, as a share of a full circle.
    """
    plot = site.plot(x, y, length, _WIDTH, share)
    road(site.canvas, plot, site.pixel)
    site.keep_free(plot)


def furnish_road(site: BuildingSite, x: Number, y: Number, length: Number, share: Number) -> None:
    """Place cars and trucks on a road, in right-hand traffic.

    Args:
        site: The site.
        x: X coordinate of the centre, in metres from the site's.
        y: Y coordinate of the centre, in metres from the site's.
        length: Length in metres.
        share: Direction, as a share of a full circle.
    """
    generator = site.generator
    right, down = turned(share)
    for lane in (-1, 1):
        along = -length / 2 + generator.uniform(0, 30)
        while along < length / 2:
            name = "small-vehicle" if generator.random() < 0.8 else "large-vehicle"
            size = _VEHICLES[name]
            across = 1.9 * lane
            place = x + along * right - across * down, y + along * down + across * right
            site.put(name, site.plot(*place, *size, share if lane > 0 else share + 0.5), on_road=True)
            along += generator.uniform(16, 70)


def park_cars(site: BuildingSite, x: Number, y: Number, count: int, name: str, *, on_road: bool = False) -> None:
    """Place vehicles side by side around a point, with some gaps.

    Args:
        site: The site.
        x: X coordinate of the centre, in metres from the site's.
        y: Y coordinate of the centre, in metres from the site's.
        count: Number of parking spaces.
        name: Category of the vehicles.
        on_road: Whether they may stand on ground that is kept free.
    """
    generator = site.generator
    length, width = _VEHICLES[name]
    step = width + (0.9 if name == "small-vehicle" else 1.6)
    for number in range(count):
        if generator.random() < 0.7:
            share = (0.25, 0.75)[generator.integers(2)]
            plot = site.plot(x + (number - count / 2 + 0.5) * step, y, length, width, share)
            site.put(name, plot, on_road=on_road, margin=0.1)


def grow(site: BuildingSite, count: int, low: Number, high: Number) -> None:
    """Place trees between two lines of the site, where there is space.

    Args:
        site: The site.
        count: Number of trees to try.
        low: Lower line in metres.
        high: Upper line in metres.
    """
    generator = site.generator
    for _ in range(count):
        x, y, wide = generator.uniform(-site.reach, site.reach), site.between(low, high), generator.uniform(4, 9)
        for _ in range(int(generator.integers(1, 4))):
            site.put("tree", site.plot(x, y, wide, wide, generator.random()), margin=-0.25 * wide)
            x, y = x + generator.uniform(-9, 9), y + generator.uniform(-9, 9)
