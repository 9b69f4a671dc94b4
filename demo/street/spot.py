"""A position on the street, with methods that paint objects there."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from demo.painting.canvas import Colour, Number, Point
from demo.street.canvas import CORNERS, Camera, Canvas
from pipeline.datasets.cityscapes import LABEL_IDS

BLACK: Colour = (0.07, 0.07, 0.08)
GLASS: Colour = (0.20, 0.25, 0.29)
STEEL: Colour = (0.42, 0.44, 0.45)
TYRE: Colour = (0.10, 0.10, 0.11)


@dataclass(frozen=True)
class Spot:
    """A position on the ground, with methods that paint there."""

    canvas: Canvas
    camera: Camera
    x: Number
    """Metres to the right of the middle of the camera's lane."""
    z: Number
    """Metres ahead of the camera."""
    light: Number = 1.0
    lamps: Number = 0.0
    """Brightness of lamps against their surroundings; 0 by day."""
    instances: Mapping[str, int] = field(default_factory=dict)
    """Instance number by label name; other labels have no instance."""

    def at(self, across: Number, up: Number, ahead: Number = 0.0) -> Point:
        """Return the pixel of a point given in metres from the spot."""
        return self.camera.project(self.x + across, up, max(self.z + ahead, 0.8))

    def shape(self, points: list[tuple[Number, Number]], colour: Colour, name: str, texture: Number = 0.06) -> None:
        """Paint an upright polygon that faces the camera.

        Args:
            points: Corners (across, up) in metres.
            colour: RGB, 0..1.
            name: Label name.
            texture: Strength of the texture.
        """
        if self.z > 0.8:
            self.solid([(across, up, 0.0) for across, up in points], colour, name, texture)

    def solid(
        self, points: list[tuple[Number, Number, Number]], colour: Colour, name: str, texture: Number = 0.06
    ) -> None:
        """Paint a polygon in space.

        Args:
            points: Corners (across, up, ahead) in metres.
            colour: RGB, 0..1.
            name: Label name.
            texture: Strength of the texture.
        """
        pixels = [self.at(*point) for point in points]
        shade = lit(colour, self.light)
        self.canvas.polygon(pixels, shade, LABEL_IDS[name], self.z, texture, self.instances.get(name, 0))

    def disc(self, across: Number, up: Number, radius: Number, colour: Colour, name: str) -> None:
        """Paint a disc that faces the camera.

        Args:
            across: Centre across, in metres.
            up: Height of the centre in metres.
            radius: Radius in metres.
            colour: RGB, 0..1.
            name: Label name.
        """
        if self.z > 0.8:
            pixels = self.camera.focal * radius / self.z
            instance = self.instances.get(name, 0)
            self.canvas.ellipse(
                self.at(across, up), (pixels, pixels), lit(colour, self.light), LABEL_IDS[name], self.z, 0.08, instance
            )

    def lamp(self, points: list[tuple[Number, Number]], colour: Colour, name: str) -> None:
        """Paint a lamp, brighter than its surroundings when it is dark."""
        red, green, blue = (part * (1 + self.lamps) for part in colour)
        pixels = [self.at(across, up) for across, up in points]
        if self.z > 0.8:
            instance = self.instances.get(name, 0)
            self.canvas.polygon(pixels, (red, green, blue), LABEL_IDS[name], self.z, 0.02, instance)

    def shadow(self, radius: Number, factor: Number = 0.6, length: Number = 0.0) -> None:
        """Darken the ground around the spot, and ``length`` metres on."""
        if length:
            points = [(-radius, -0.15), (radius, -0.15), (radius, length), (-radius, length)]
            self.canvas.darken([self.at(across, 0, ahead) for across, ahead in points], factor)
        elif self.z > 0.8:
            (x, y), wide = self.at(0, 0), self.camera.focal * radius / self.z
            deep = max(1.0, 0.14 * wide)
            self.canvas.darken([(x + wide * across, y + deep * down) for across, down in CORNERS], factor)


def lit(colour: Colour, light: Number) -> Colour:
    """Return a colour in brighter or dimmer light."""
    red, green, blue = (min(1.0, part * light) for part in colour)
    return red, green, blue


def board(half: Number, low: Number, high: Number, across: Number = 0.0) -> list[tuple[Number, Number]]:
    """Return an upright rectangle.

    Args:
        half: Half of the width in metres.
        low: Lower edge in metres.
        high: Upper edge in metres.
        across: Centre across, in metres.
    """
    return [(across - half, low), (across + half, low), (across + half, high), (across - half, high)]
