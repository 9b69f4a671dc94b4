"""The kinds of sites: each paints its ground and plans its objects, in metres around its centre."""

from collections.abc import Callable, Mapping

from demo.painting.canvas import Colour
from demo.satellite.ground import CONCRETE, GRASS, cover, field, heights, strip, water
from demo.satellite.site import BuildingSite
from demo.satellite.streets import furnish_road, grow, lay_road, park_cars

_SAND: Colour = (0.66, 0.60, 0.46)
_YARD: Colour = (0.52, 0.51, 0.48)


def harbour(site: BuildingSite) -> None:
    """Make a quay with piers and ships, and a yard with tanks and trucks behind it."""
    generator, reach = site.generator, site.reach
    cover(site.canvas, _YARD, generator)
    quay = generator.uniform(-0.25, 0.15) * reach
    shore = site.plot(0, quay + reach, 2 * reach, 2 * reach)
    mask = heights(site.canvas, shore, generator, 0.0) > -1
    water(site.canvas, mask, generator)
    strip(site.canvas, site.plot(0, quay - 4, 2 * reach, 8), CONCRETE)
    site.keep_free(site.plot(0, quay - 4, 2 * reach, 8))
    lay_road(site, 0, quay - 18, 2 * reach, 0.0)
    x = -reach + generator.uniform(0, 30)
    while x < reach:
        length, berth = generator.uniform(45, 110), generator.uniform(26, 44)
        pier = site.plot(x, quay + length / 2, length, generator.uniform(5, 10), 0.25)
        if site.put("harbor", pier, upon=True, margin=0):
            for side in (-1, 1):
                y = quay + 6
                while y < quay + length - 8:
                    long = generator.uniform(12, 24) if berth < 34 else generator.uniform(24, 42)
                    ship = site.plot(
                        x + side * (8 + long * 0.15),
                        y + long / 2,
                        long,
                        long * 0.27,
                        (0.25, 0.75)[generator.integers(2)],
                    )
                    if generator.random() < 0.8:
                        site.put("ship", ship, margin=0.3)
                    y += long + 3
        x += berth * 1.9
    for _ in range(int(reach / 16)):
        long = generator.uniform(18, 95)
        place = generator.uniform(-reach, reach), quay + site.between(20, 2 * reach)
        site.put("ship", site.plot(*place, long, long * generator.uniform(0.17, 0.26), generator.random()), margin=3)
    for _ in range(int(reach / 20)):
        across, down = generator.uniform(-reach, reach), quay - site.between(40, 1.0 * reach)
        radius = generator.uniform(8, 22)
        for step in range(6):
            tank = site.plot(across + (step % 3) * radius * 1.35, down - (step // 3) * radius * 1.35, radius, radius)
            site.put("storage-tank", tank, margin=1)
    for _ in range(int(reach / 18)):
        place = generator.uniform(-reach, reach), quay - site.between(35, 1.5 * reach)
        site.put("house", site.plot(*place, generator.uniform(18, 50), generator.uniform(14, 26)), margin=3)
        park_cars(site, generator.uniform(-reach, reach), quay - site.between(28, reach), 6, "large-vehicle")
    grow(site, int(reach / 10), quay - reach, quay - 30)


def airport(site: BuildingSite) -> None:
    """Make a runway, an apron with planes at a terminal, and pads for helicopters."""
    generator, reach = site.generator, site.reach
    cover(site.canvas, GRASS, generator)
    runway = generator.uniform(0.45, 0.65) * reach
    asphalt: Colour = (0.30, 0.30, 0.32)
    strip(site.canvas, site.plot(0, runway, 2.2 * reach, 45), asphalt, 0.12)
    strip(site.canvas, site.plot(0, runway, 2.2 * reach, 0.9 + site.pixel), (0.85, 0.85, 0.82))
    for step in range(int(-reach // 30), int(reach // 30)):
        strip(site.canvas, site.plot(30 * step, runway, 14, 2 + site.pixel), asphalt, 0.12)
    apron = -0.15 * reach
    strip(site.canvas, site.plot(0, apron, 2.2 * reach, 0.72 * reach), CONCRETE)
    strip(site.canvas, site.plot(0, (apron + runway) / 2, 20, runway - apron, 0.0), CONCRETE)
    taxi: Colour = (0.80, 0.66, 0.22)
    strip(site.canvas, site.plot(0, apron + 0.24 * reach, 2.2 * reach, 0.6 + site.pixel), taxi)
    site.keep_free(site.plot(0, runway, 2.2 * reach, 50))
    site.put("plane", site.plot(generator.uniform(-0.3, 0.3) * reach, runway, 38, 35), upon=True)
    x = -reach
    while x < reach:
        long = (generator.uniform(16, 26), generator.uniform(34, 46), generator.uniform(52, 64))[generator.integers(3)]
        plane = site.plot(x + long / 2, apron - 0.30 * reach + long / 2, long, long * 0.94, 0.75)
        if site.put("plane", plane, margin=1) and generator.random() < 0.6:
            park_cars(site, x + long / 2, apron - 0.33 * reach + long + 10, 2, "large-vehicle")
        x += long + generator.uniform(4, 18)
    for _ in range(int(reach / 14)):
        long = generator.uniform(11, 40)
        name, width = ("helicopter", 0.75) if long < 18 else ("plane", 0.94)
        place = generator.uniform(-reach, reach), apron + generator.uniform(-0.05, 0.30) * reach
        site.put(name, site.plot(*place, long, long * width, generator.random()), margin=3)
    building = apron - 0.36 * reach
    for step in range(-3, 4):
        site.put("house", site.plot(step * 62, building - 12, 54, 22), margin=1)
    lay_road(site, 0, building - 34, 2.2 * reach, 0.0)
    for step in range(-4, 5):
        park_cars(site, step * 40, building - 52, 12, "small-vehicle")
    furnish_road(site, 0, building - 34, 2 * reach, 0.0)
    grow(site, int(reach / 6), -reach, building - 46)


def town(site: BuildingSite) -> None:
    """Make streets around a roundabout, with houses, gardens, pools and courts between them."""
    generator, reach = site.generator, site.reach
    cover(site.canvas, GRASS, generator)
    block = generator.uniform(75, 105)
    lines = [step * block for step in range(int(-reach // block), int(reach // block) + 2)]
    for line in lines:
        lay_road(site, 0, line, 2.2 * reach, 0.0)
        lay_road(site, line, 0, 2.2 * reach, 0.25)
    for x in lines:
        for y in lines:
            strip(site.canvas, site.plot(x, y, 7.4, 7.4), (0.33, 0.33, 0.34))
            if generator.random() < 0.3 or (x == 0 and y == 0):
                radius = generator.uniform(30, 44)
                site.put("roundabout", site.plot(x, y, radius, radius), upon=True)
    for x in lines:
        for y in lines:
            _block(site, x + block / 2, y + block / 2, block - 12)
    for line in lines:
        furnish_road(site, 0, line, 2 * reach, 0.0)
        furnish_road(site, line, 0, 2 * reach, 0.25)
    grow(site, int(reach * reach / 260), -reach, reach)


def _block(site: BuildingSite, x: float, y: float, side: float) -> None:
    """Plan one block of a town: houses with gardens, a car park, or a court."""
    generator = site.generator
    kind = generator.random()
    if kind < 0.12:
        strip(site.canvas, site.plot(x, y, side, side), (0.36, 0.36, 0.37))
        for row in range(-2, 3):
            park_cars(site, x, y + row * side / 6, 16, "small-vehicle")
        return
    if kind < 0.3:
        name, length, width = (("tennis-court", 36.0, 18.0), ("basketball-court", 32.0, 19.0))[generator.integers(2)]
        for column in (-1, 1):
            site.put(name, site.plot(x + column * 12, y + 4, length, width, 0.25), margin=1)
    for row in (-1, 1):
        across = -side / 2 + 10
        while across < side / 2 - 8:
            wide = generator.uniform(12, 19)
            house = site.plot(x + across, y + row * (side / 2 - 12), wide, generator.uniform(9, 13))
            site.put("house", house, margin=1)
            if generator.random() < 0.35:
                pool = site.plot(
                    x + across, y + row * (side / 2 - 27), generator.uniform(7, 12), generator.uniform(4, 6)
                )
                site.put("swimming-pool", pool, margin=1)
            if generator.random() < 0.5:
                car = site.plot(x + across + wide / 2 + 2.5, y + row * (side / 2 - 8), 4.5, 2.0, 0.25)
                site.put("small-vehicle", car, margin=0.2)
            across += wide + generator.uniform(5, 9)


def sports(site: BuildingSite) -> None:
    """Make a sports park: a track around a pitch, courts in rows, baseball fields, car parks."""
    generator, reach = site.generator, site.reach
    cover(site.canvas, GRASS, generator)
    lay_road(site, 0, -0.72 * reach, 2.2 * reach, 0.0)
    furnish_road(site, 0, -0.72 * reach, 2 * reach, 0.0)
    x, y = generator.uniform(-0.25, 0.25) * reach, generator.uniform(-0.1, 0.2) * reach
    share = (0.0, 0.25)[generator.integers(2)]
    if site.put("ground-track-field", site.plot(x, y, 178, 94, share), margin=4):
        site.put("soccer-ball-field", site.plot(x, y, 100, 62, share), upon=True)
    for _ in range(int(reach / 6)):
        x, y = generator.uniform(-reach, reach), generator.uniform(-reach, reach)
        share, kind = (0.0, 0.25)[generator.integers(2)], int(generator.integers(6))
        if kind < 2:
            for step in range(int(generator.integers(2, 6))):
                name = "tennis-court" if kind == 0 else "basketball-court"
                site.put(name, site.plot(x + 20 * step, y, 36 - 4 * kind, 18 + kind, 0.25), margin=0.5)
        elif kind == 2:
            wide = generator.uniform(62, 95)
            site.put("baseball-diamond", site.plot(x, y, wide, wide, int(generator.integers(4)) / 4), margin=3)
        elif kind == 3:
            size = generator.uniform(70, 105)
            site.put("soccer-ball-field", site.plot(x, y, size, size * 0.62, share), margin=3)
        elif kind == 4:
            park = site.plot(x, y, 62, 36)
            if site.is_free(park):
                site.keep_free(park)
                strip(site.canvas, park, (0.36, 0.36, 0.37))
                for row in (-1, 0, 1):
                    park_cars(site, x, y + 11 * row, 18, "small-vehicle", on_road=True)
        else:
            site.put("swimming-pool", site.plot(x, y, 50, 21, share), margin=2)
            site.put("house", site.plot(x + 45, y, 30, 18, share), margin=2)
    grow(site, int(reach * reach / 320), -reach, reach)


def river(site: BuildingSite) -> None:
    """Make fields on both sides of a river with ships on it and bridges across."""
    generator, reach = site.generator, site.reach
    cover(site.canvas, (0.44, 0.46, 0.26), generator)
    step = generator.uniform(70, 130)
    for row in range(int(-reach // step), int(reach // step) + 2):
        x = -reach - generator.uniform(0, 60)
        while x < reach:
            wide = generator.uniform(60, 190)
            share = (0.0, 0.0, 0.5, 0.25)[generator.integers(4)]
            length, width = (wide - 3, step - 3) if share != 0.25 else (step - 3, wide - 3)
            field(site.canvas, site.plot(x + wide / 2, (row + 0.5) * step, length, width, share), site.pixel, generator)
            x += wide
    half = generator.uniform(28, 48)
    bed = site.plot(0, generator.uniform(-0.2, 0.2) * reach, 2.4 * reach, 2 * half)
    flow = heights(site.canvas, bed, generator, 0.30)
    bank = abs(flow) < 1.14
    shape = slice(0, site.canvas.height), slice(0, site.canvas.width)
    site.canvas.picture[shape][bank] = _SAND
    water(site.canvas, abs(flow) < 1, generator)
    middle = (bed.y - site.canvas.height / 2) * site.pixel, (bed.x - site.canvas.width / 2) * site.pixel
    y = middle[0] * site.turn[0] - middle[1] * site.turn[1]
    for x in (generator.uniform(-0.6, -0.15) * reach, generator.uniform(0.15, 0.6) * reach):
        bridge = site.plot(x, y, 2 * half + 60, 13, 0.25)
        if not bridge.is_inside(site.canvas.height, site.canvas.width):
            continue  # a road that ends in the water, or a bridge that is not listed
        for side in (-1, 1):
            lay_road(site, x, y + side * (reach + half), 2 * reach + 30, 0.25)
        if site.put("bridge", bridge, upon=True):
            for lane in (-1, 1):
                name, size = (("small-vehicle", (4.6, 2.0)), ("large-vehicle", (11.0, 2.7)))[generator.integers(2)]
                car = site.plot(x + lane * 2.2, y + generator.uniform(-20, 20), *size, 0.25 if lane < 0 else 0.75)
                site.put(name, car, upon=True)
        furnish_road(site, x, y, 2 * reach, 0.25)
    for _ in range(int(reach / 14)):
        long = generator.uniform(14, 60)
        place = generator.uniform(-reach, reach), y + generator.uniform(-0.45, 0.45) * half
        ship = site.plot(*place, long, long * generator.uniform(0.18, 0.26), generator.uniform(-0.03, 0.03) + 0.5)
        site.put("ship", ship, margin=2)
    site.keep_free(site.plot(0, y, 2.2 * reach, 2.8 * half))
    for _ in range(int(reach / 12)):
        x, down = generator.uniform(-reach, reach), generator.uniform(-reach, reach)
        site.put("house", site.plot(x, down, generator.uniform(12, 30), generator.uniform(9, 14)), margin=2)
        park_cars(site, x, down + 14, 2, "large-vehicle")
    grow(site, int(reach * reach / 700), -reach, reach)


SITES: Mapping[str, tuple[Callable[[BuildingSite], None], float]] = {
    "harbour": (harbour, 0.42),
    "airport": (airport, 0.45),
    "town": (town, 0.35),
    "sports": (sports, 0.50),
    "river": (river, 0.45),
}
"""Function that makes the site, and metres in a pixel, by kind."""
