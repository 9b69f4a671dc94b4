"""Paints one street scene and its labels."""

import numpy as np
from jaxtyping import UInt8

from demo.street.canvas import Canvas
from demo.street.placing import draw_street
from demo.street.scenery import sky_picture
from demo.street.street import paint_street
from demo.street.style import draw_style

EGO_VEHICLE = 1
"""labelId of the camera car's bonnet; it has no trainId, so it is void."""


def paint_scene(
    city: np.random.Generator, height: int, width: int, generator: np.random.Generator
) -> tuple[UInt8[np.ndarray, "height width 3"], UInt8[np.ndarray, "height width"]]:
    """Return a picture, RGB 0..255, and its Cityscapes labelIds; scenes of one city share their style.

    Args:
        city: Random numbers that all scenes of a city share.
        height: Height in pixels.
        width: Width in pixels.
        generator: Random numbers of the scene.
    """
    style = draw_style(city, generator)
    street = draw_street(style, height, width, generator)
    sky = sky_picture(height, width, street.camera.horizon, style, generator)
    canvas = Canvas(height, width, style.horizon, generator)
    paint_street(canvas, street, sky, time=0.0)
    _bonnet(canvas, generator)
    red, green, blue = style.light.tint
    exposure = generator.uniform(0.92, 1.12)
    return canvas.developed(generator, (red * exposure, green * exposure, blue * exposure)), canvas.labels


def _bonnet(canvas: Canvas, generator: np.random.Generator) -> None:
    """Paint the camera car's bonnet along the lower edge."""
    width, height = canvas.width, canvas.height
    rise = generator.uniform(0.05, 0.075)
    shares = [step / 21 - 0.05 for step in range(24)]
    top = [(x * width, height * (1 - rise * (1 - (2 * x - 1) ** 2 * (2 * x - 1) ** 2))) for x in shares]
    below = [(1.1 * width, 1.1 * height), (-0.1 * width, 1.1 * height)]
    canvas.polygon([*top, *below], (0.16, 0.17, 0.19), EGO_VEHICLE, 0)
