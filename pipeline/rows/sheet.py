"""Lays out pictures and text on one sheet."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

CELL = 224
"""Longest side of one picture in pixels; inputs of the usual size are not resized."""
GAP, LINE, HEAD = 8, 18, 26
BACK, INK, FAINT = (255, 255, 255), (24, 24, 24), (110, 110, 110)

Picture = UInt8[np.ndarray, "height width 3"]


def cell(title: str, pictures: Sequence[Image.Image]) -> Image.Image:
    """Return pictures one below the other under a title."""
    return below([text(title, size=13, ink=FAINT), *pictures], margin=0, gap=3)


def fit(pixels: Picture, longest: int = CELL) -> Image.Image:
    """Return pixels as a picture of the cell's size; enlarged with nearest."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    factor = longest / max(image.size)
    size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    kernel = Image.Resampling.NEAREST if factor > 1 else Image.Resampling.LANCZOS
    return image.resize(size, kernel)


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's built-in font, so that sheets are the same on every machine."""
    return ImageFont.load_default(size=size)


def text(words: str, size: int, ink: tuple[int, int, int]) -> Image.Image:
    """Return one line of text as a picture."""
    face = font(size)
    box = face.getbbox(words)
    image = Image.new("RGB", (round(box[2]) + 2, HEAD if size > 14 else LINE), BACK)
    ImageDraw.Draw(image).text((0, image.height - 4), words, fill=ink, font=face, anchor="ls")
    return image


def beside(pictures: Sequence[Image.Image], gap: int = GAP) -> Image.Image:
    """Return pictures side by side, aligned at the top."""
    sheet = Image.new(
        "RGB", (sum(one.width + gap for one in pictures) - gap, max(one.height for one in pictures)), BACK
    )
    x = 0
    for one in pictures:
        sheet.paste(one, (x, 0))
        x += one.width + gap
    return sheet


def below(pictures: Sequence[Image.Image], margin: int = 12, gap: int = GAP) -> Image.Image:
    """Return pictures one below the other, aligned at the left."""
    width = max((one.width for one in pictures), default=1)
    height = sum(one.height + gap for one in pictures)
    sheet = Image.new("RGB", (width + 2 * margin, height - gap + 2 * margin), BACK)
    y = margin
    for one in pictures:
        sheet.paste(one, (margin, y))
        y += one.height + gap
    return sheet
