"""Paints one street scene and its labels."""

import numpy as np
from jaxtyping import UInt8

from demo.street.canvas import Canvas
from demo.street.nuisances import OFF, Conditions, Nuisances
from demo.street.placing import draw_street
from demo.street.scenery import sky_picture
from demo.street.seasons import style_under
from demo.street.street import Street, paint_street
from demo.street.style import draw_style
from demo.street.weather import colour_factors, paint_weather

EGO_VEHICLE = 1
"""labelId of the camera car's bonnet; it has no trainId, so it is void."""
_NO_CONDITIONS = Conditions()


def paint_scene(
    city: np.random.Generator,
    height: int,
    width: int,
    generator: np.random.Generator,
    nuisances: Nuisances = OFF,
    conditions: Conditions = _NO_CONDITIONS,
) -> tuple[UInt8[np.ndarray, "height width 3"], UInt8[np.ndarray, "height width"]]:
    """Return a picture, RGB 0..255, and its Cityscapes labelIds; scenes of one city share their style.

    Args:
        city: Random numbers that all scenes of a city share.
        height: Height in pixels.
        width: Width in pixels.
        generator: Random numbers of the scene.
        nuisances: Which nuisances are on; they change the picture and no label.
        conditions: The nuisances drawn for this scene, by `demo.street.nuisances.draw_conditions`.
    """
    style = style_under(draw_style(city, generator), nuisances, conditions)
    street = draw_street(style, height, width, generator)
    picture, canvas = paint_canvas(street, height, width, generator, nuisances, conditions)
    return picture, canvas.labels


def paint_canvas(
    street: Street,
    height: int,
    width: int,
    generator: np.random.Generator,
    nuisances: Nuisances,
    conditions: Conditions,
) -> tuple[UInt8[np.ndarray, "height width 3"], Canvas]:
    """Return the picture of a street, RGB 0..255, and the canvas with its labels and instances.

    Args:
        street: What stands where, in a style under the conditions.
        height: Height in pixels.
        width: Width in pixels.
        generator: Random numbers of the scene.
        nuisances: Which nuisances are on.
        conditions: The nuisances drawn for this scene.
    """
    style = street.style
    sky = sky_picture(height, width, street.camera.horizon, style, generator)
    canvas = Canvas(height, width, style.horizon, generator)
    paint_street(canvas, street, sky, time=0.0)
    _bonnet(canvas, generator)
    paint_weather(canvas, street, conditions)
    exposure = generator.uniform(0.92, 1.12)
    if nuisances.exposure or nuisances.plain_light:
        exposure = 1.0  # the nuisance's own stands in its place
    factors = zip(style.light.tint, colour_factors(conditions), strict=True)
    red, green, blue = (part * exposure * factor for part, factor in factors)
    return canvas.developed(generator, (red, green, blue), conditions.noise), canvas


def _bonnet(canvas: Canvas, generator: np.random.Generator) -> None:
    """Paint the camera car's bonnet along the lower edge."""
    width, height = canvas.width, canvas.height
    rise = generator.uniform(0.05, 0.075)
    shares = [step / 21 - 0.05 for step in range(24)]
    top = [(x * width, height * (1 - rise * (1 - (2 * x - 1) ** 2 * (2 * x - 1) ** 2))) for x in shares]
    below = [(1.1 * width, 1.1 * height), (-0.1 * width, 1.1 * height)]
    canvas.polygon([*top, *below], (0.16, 0.17, 0.19), EGO_VEHICLE, 0)
