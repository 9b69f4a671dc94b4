"""Chooses colours for classes that have none."""

import colorsys

_GOLDEN_RATIO = 0.618033988749895


def spread_colour(index: int) -> tuple[int, int, int]:
    """Return a colour whose hue differs from its neighbours': steps of the golden ratio around the circle."""
    red, green, blue = colorsys.hsv_to_rgb(index * _GOLDEN_RATIO % 1.0, 0.65, 0.95 if index % 2 else 0.75)
    return round(red * 255), round(green * 255), round(blue * 255)
