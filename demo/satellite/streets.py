"""Roads, the traffic on them, rows of parked vehicles, and trees."""

from demo.painting.canvas import Number
from demo.painting.noise import turned
from demo.satellite.ground import road
from demo.satellite.site import Workspace

_WIDTH = 10.0  # metres, pavements included
_VEHICLES = {"small-vehicle": (4.6, 2.0), "large-vehicle": (11.5, 2.7)}


def lay_road(site: Workspace, x: Number, y: Number, length: Number, share: Number) -> None:
    """Lay a road through a point of the site; nothing else is built on it."""
    plot = site.plot(x, y, length, _WIDTH, share)
    road(site.canvas, plot, site.pixel)
    site.keep_free(plot)


def furnish_road(site: Workspace, x: Number, y: Number, length: Number, share: Number) -> None:
    """Send cars and trucks along a road, on the right."""
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


def park_cars(site: Workspace, x: Number, y: Number, count: int, name: str, *, on_road: bool = False) -> None:
    """Park vehicles side by side around a point, some places left empty."""
    generator = site.generator
    length, width = _VEHICLES[name]
    step = width + (0.9 if name == "small-vehicle" else 1.6)
    for number in range(count):
        if generator.random() < 0.7:
            share = (0.25, 0.75)[generator.integers(2)]
            plot = site.plot(x + (number - count / 2 + 0.5) * step, y, length, width, share)
            site.put(name, plot, on_road=on_road, margin=0.1)


def grow(site: Workspace, count: int, low: Number, high: Number) -> None:
    """Plant trees between two lines of the site, where nothing stands."""
    generator = site.generator
    for _ in range(count):
        x, y, wide = generator.uniform(-site.reach, site.reach), site.between(low, high), generator.uniform(4, 9)
        for _ in range(int(generator.integers(1, 4))):
            site.put("tree", site.plot(x, y, wide, wide, generator.random()), margin=-0.25 * wide)
            x, y = x + generator.uniform(-9, 9), y + generator.uniform(-9, 9)
