"""Paints cars, buses, trucks, bicycles and motorcycles at a spot on the street."""

import numpy as np

from demo.painting.canvas import Colour, Number
from demo.street.canvas import CORNERS
from demo.street.spot import BLACK, GLASS, STEEL, TYRE, Spot, board, lit


def paint_car(spot: Spot, colour: Colour, oncoming: bool, generator: np.random.Generator) -> None:
    """Paint a car, 1.8 m wide and 4.2 m long: the side towards the camera, the roof, then its rear or front.

    Args:
        spot: Where to paint.
        colour: RGB, 0..1.
        oncoming: Whether it faces the camera.
        generator: Source of random numbers.
    """
    tall, name = generator.uniform(1.4, 1.75), "car"
    half, roof, belt, length, rake = 0.9, 0.68, 0.92, 4.2, 0.4
    spot.shadow(1.12, 0.5, length=4.4)
    inner = -1 if spot.x > spot.camera.x else 1
    hull = [(0.0, 0.28), (0.0, belt), (3.4, belt), (length, 0.8), (length, 0.28)]
    spot.solid([(inner * half, up, ahead) for ahead, up in hull], lit(colour, 0.72), name)
    for low, high, start, end, shade in ((belt, tall, 0.0, 3.4, 0.72), (belt + 0.05, tall - 0.08, 0.25, 3.05, 0)):
        flank = [(half, low, start), (roof, high, start + rake), (roof, high, end - 0.75), (half, low, end)]
        tone = lit(colour, shade) if shade else GLASS
        spot.solid([(inner * across, up, ahead) for across, up, ahead in flank], tone, name)
    for axle in (0.8, 3.4):
        spot.solid(_wheel(inner * half, axle, 0.33), TYRE, name)
    lid = [(-roof, rake), (roof, rake), (roof, 2.65), (-roof, 2.65)]
    spot.solid([(across, tall, ahead) for across, ahead in lid], lit(colour, 1.1), name)
    for wheel in (-0.68, 0.68):
        spot.shape(board(0.13, 0.0, 0.4, wheel), TYRE, name)
    rear = [(-half, belt, 0.0), (half, belt, 0.0), (roof, tall, rake), (-roof, tall, rake)]
    spot.solid(rear, lit(colour, 0.95), name)
    pane = [(-0.75, belt + 0.04, 0.0), (0.75, belt + 0.04, 0.0), (0.58, tall - 0.09, rake), (-0.58, tall - 0.09, rake)]
    spot.solid(pane, GLASS, name)
    spot.shape(board(half, 0.28, belt), colour, name)
    lamp: Colour = (0.98, 0.96, 0.85) if oncoming else (0.75, 0.08, 0.06)
    for across in (-0.7, 0.7):
        spot.lamp(board(0.15, 0.66, 0.82, across), lamp, name)
    spot.shape(board(half - 0.05, 0.28, 0.42), BLACK, name)
    spot.shape(board(0.26, 0.46, 0.58), (0.9, 0.9, 0.86), name)


def _wheel(across: Number, axle: Number, radius: Number) -> list[tuple[Number, Number, Number]]:
    """Return a wheel of a flank."""
    return [(across, radius + radius * up, axle + radius * ahead) for ahead, up in CORNERS]


def paint_heavy(spot: Spot, name: str, colour: Colour) -> None:
    """Paint a bus or a truck, 2.5 m wide and 3.2 m tall."""
    half, low, tall, length = 1.25, 0.4, 3.2, 10.0 if name == "bus" else 7.5
    spot.shadow(1.4, 0.5, length=length)
    inner = -half if spot.x > spot.camera.x else half
    flank = [(0.0, low), (length, low), (length, tall), (0.0, tall)]
    spot.solid([(inner, up, ahead) for ahead, up in flank], lit(colour, 0.75), name)
    for axle in (1.6, length - 1.8):
        spot.solid(_wheel(inner, axle, 0.48), TYRE, name)
    if name == "bus":
        for first in np.arange(0.5, length - 1.5, 1.6).tolist():
            pane = [(first, 1.5), (first + 1.35, 1.5), (first + 1.35, 2.6), (first, 2.6)]
            spot.solid([(inner, up, ahead) for ahead, up in pane], GLASS, name)
    for wheel in (-0.95, 0.95):
        spot.shape(board(0.17, 0.0, 0.6, wheel), TYRE, name)
    spot.shape(board(half, low, tall), colour, name)
    if name == "bus":
        spot.shape(board(half - 0.15, 1.5, 2.6), GLASS, name)
        spot.shape(board(0.8, 2.75, 3.05), (0.95, 0.75, 0.2), name)
    else:
        spot.shape(board(half - 0.1, 0.9, tall - 0.12), lit(colour, 0.88), name)
        spot.shape(board(0.03, 0.9, tall - 0.12), BLACK, name)
    for across in (-1.05, 1.05):
        spot.lamp(board(0.13, 0.55, 0.8, across), (0.75, 0.08, 0.06), name)


def paint_cycle(spot: Spot, name: str, colour: Colour, along: bool = False) -> None:
    """Paint a bicycle or a motorcycle from the side, or from behind.

    Args:
        spot: Where to paint.
        name: Label name, bicycle or motorcycle.
        colour: RGB, 0..1.
        along: Whether it points along the street.
    """
    if along:
        half, tall = (0.03, 0.68) if name == "bicycle" else (0.09, 0.64)
        spot.shadow(0.35, 0.65)
        spot.shape(board(half, 0.0, tall), TYRE, name)
        spot.shape(board(half + 0.03, 0.5, 0.95), colour, name)
        spot.shape(board(0.33, 0.98, 1.04), BLACK, name)
        spot.lamp(board(half + 0.02, 0.6, 0.68), (0.75, 0.08, 0.06), name)
        return
    spot.shadow(0.85, 0.65)
    radius, base = (0.34, 0.55) if name == "bicycle" else (0.32, 0.68)
    for across in (-base, base):
        spot.disc(across, radius, radius, TYRE, name)
        spot.disc(across, radius, radius * (0.78 if name == "bicycle" else 0.5), STEEL, name)
    if name == "bicycle":
        spot.shape([(-base, 0.34), (-0.15, 0.8), (0.4, 0.8), (base, 0.34), (0.45, 0.7), (-0.08, 0.4)], colour, name)
        spot.shape([(0.35, 0.95), (0.6, 1.02), (0.62, 0.96), (0.42, 0.8)], BLACK, name)
        spot.shape([(-0.32, 0.9), (-0.05, 0.9), (-0.08, 0.84), (-0.28, 0.84)], BLACK, name)
    else:
        spot.shape([(-0.6, 0.35), (-0.75, 0.85), (0.2, 0.95), (0.55, 0.75), (0.45, 0.3)], colour, name)
        spot.shape([(-0.7, 0.82), (0.05, 0.82), (0.05, 0.92), (-0.75, 0.98)], BLACK, name)
        spot.shape([(0.35, 0.9), (0.5, 1.15), (0.58, 1.1), (0.65, 0.4), (0.55, 0.4)], STEEL, name)
