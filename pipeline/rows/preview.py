"""Draws samples of an experiment under every view, with labels and patch borders, on one sheet.

Nothing is stored and no model is built; pixels and labels come from the same code as in an extraction.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from pipeline.datasets.contract import ObjectEntry
from pipeline.datasets.reading.images import read_image
from pipeline.frame_recipe import Interpolation
from pipeline.rows import frames, under_view
from pipeline.rows.frames import Tile
from pipeline.rows.samples import Samples
from pipeline.rows.sheet import BACK, CELL, FAINT, GAP, INK, LINE, Picture, below, beside, cell, fit, font, text
from pipeline.views import View
from pipeline.views.frequency_noise import band
from stores.specs import VOID

_SHOWN_LEGEND = 40
_NAMED_WIDTH = 24  # pixels of the sheet; smaller objects are not named
_SHOWN, _SCORED = (255, 220, 0), (0, 255, 255)


def choose_rows(samples: Samples, count: int, seed: int) -> list[int]:
    """Return the rows to draw, from different sources while there are enough.

    Sources are chosen at random without replacement and without bad ones; of each the tile with the largest objects is
    taken, or a random one.
    """
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(samples.tiles)).tolist()
    by_source: dict[str, list[int]] = {}
    for row in order:
        name = samples.tiles[row][0]
        if name not in samples.bad:
            by_source.setdefault(name, []).append(row)
    chosen: list[int] = []
    rest: list[int] = []
    for name, rows in by_source.items():
        if len(chosen) < count:
            shown = _objects_shown(samples, name, rows)
            chosen.append(rows[int(np.argmax(shown))])
        rest += [row for row in rows if row not in chosen]
    return sorted((chosen + rest)[:count])


def _objects_shown(samples: Samples, name: str, rows: Sequence[int]) -> list[float]:
    """Return the area, in source pixels, of the objects whose centre is in each of a source's tiles."""
    if "objects" not in samples.dataset.labels:
        return [0.0] * len(rows)
    plane, size = frames.resized_size(samples.frame, samples.sizes[name]), samples.sizes[name]
    shown = [0.0] * len(rows)
    for entry in samples.dataset.objects(samples.sources[name]):
        left, top, right, bottom = entry.box
        x = (left + right) / 2 * plane.width / size.width
        y = (top + bottom) / 2 * plane.height / size.height
        for index, row in enumerate(rows):
            box = samples.tiles[row][1].box
            if not entry.ignore and box[0] <= x < box[2] and box[1] <= y < box[3]:
                shown[index] += (right - left) * (bottom - top)
    return shown


def contact_sheet(
    samples: Samples,
    shown: Sequence[View],
    rows: Sequence[int],
    patch: int,
    interpolation: Interpolation = "bicubic",
) -> Image.Image:
    """Return the sheet: a block for each row, with a line for each view and a column for each of its levels.

    Every view shows the model input and, below, the same with class colours, outlines of objects and borders of
    patches. Noise of a frequency band also shows the noise and the mask.

    Args:
        samples: The rows in the clean view.
        shown: Views to draw.
        rows: Numbers of the rows to draw.
        patch: Side of a patch in pixels.
        interpolation: How sources and tiles are resized.
    """
    legend = _legend(samples)
    parts: list[Image.Image] = [legend] if legend is not None else []
    for row in rows:
        name, tile = samples.tiles[row]
        image = read_image(samples.sources[name].image)
        parts.append(text(str(samples.table["sample"].iloc[row]), size=16, ink=INK))
        by_name: dict[str, list[View]] = {}
        for view in shown:
            by_name.setdefault(view.name, []).append(view)
        strips = [_strip(samples, views, name, tile, image, patch, interpolation) for views in by_name.values()]
        strips.insert(
            1 if "clean" in by_name else 0, cell("the source and its tiles", [_source(samples, name, tile, image)])
        )
        parts += _lines(strips)
    return below(parts)


def _lines(strips: Sequence[Image.Image]) -> list[Image.Image]:
    """Arrange strips side by side, in lines of up to nine pictures."""
    lines: list[list[Image.Image]] = []
    for strip in strips:
        if not lines or sum(one.width + 2 * GAP for one in lines[-1]) + strip.width > 9 * CELL:
            lines.append([])
        lines[-1].append(strip)
    return [beside(line, gap=2 * GAP) for line in lines]


def _strip(
    samples: Samples,
    views: Sequence[View],
    name: str,
    tile: Tile,
    image: Picture,
    patch: int,
    interpolation: Interpolation,
) -> Image.Image:
    cells = []
    for view in views:
        frame = under_view.under_frame(samples.frame, view)
        pixels = under_view.pixels(view, frame, name, [tile], image, interpolation)[0][0]
        drawn = _overlaid(samples, view, name, tile, pixels, patch)
        pictures = [fit(pixels), drawn]
        if view.name == "frequency-noise":
            pictures = [*pictures, *_band_pictures(samples, view, name, tile, image, interpolation)]
        cells.append(cell(view.title, pictures))
    return beside(cells)


def _overlaid(samples: Samples, view: View, name: str, tile: Tile, pixels: Picture, patch: int) -> Image.Image:
    source, height, width = samples.sources[name], *pixels.shape[:2]
    blended = pixels
    if "pixels" in samples.dataset.labels and name in samples.label_digests:
        frame = under_view.under_frame(samples.frame, view)
        labels = under_view.labels(view, frame, name, [tile], samples.dataset.pixel_classes(source))[0]
        colours = np.full((256, 3), 255, np.uint8)
        for entry in samples.dataset.classes():
            if entry.id < VOID:
                colours[entry.id] = entry.colour
        mixed = (pixels.astype(np.uint16) * 9 + colours[labels].astype(np.uint16) * 11) // 20
        hatch = (np.add.outer(np.arange(height), np.arange(width)) // max(2, width // 32)) % 2 == 0
        mixed[(labels == VOID) & hatch] //= 2
        blended = mixed.astype(np.uint8)
    picture = fit(blended)
    canvas = ImageDraw.Draw(picture, "RGBA")
    scale = picture.width / width
    for offset in range(patch, max(height, width), patch):
        if offset < width:
            canvas.line([(offset * scale, 0), (offset * scale, picture.height)], fill=(255, 255, 255, 90))
        if offset < height:
            canvas.line([(0, offset * scale), (picture.width, offset * scale)], fill=(255, 255, 255, 90))
    scored = under_view.owned(view, under_view.under_frame(samples.frame, view), name, tile)
    if scored != (0, 0, width, height) and scored[2] > scored[0]:
        box = [edge * scale for edge in scored]
        canvas.rectangle([box[0], box[1], box[2] - 1, box[3] - 1], outline=_SCORED, width=2)
    if "objects" in samples.dataset.labels:
        for one in samples.dataset.objects(source):
            _draw_object(canvas, samples, view, name, tile, one, (scale * width, scale * height))
    return picture


def _draw_object(
    canvas: ImageDraw.ImageDraw,
    samples: Samples,
    view: View,
    name: str,
    tile: Tile,
    entry: ObjectEntry,
    shown: tuple[float, float],
) -> None:
    """Draw an object's outline where the view shows it, with category and track if it is tracked.

    ``shown`` is the width and height of the picture.
    """
    plane, size = frames.resized_size(samples.frame, samples.sizes[name]), samples.sizes[name]
    left, top, right, _ = tile.box
    place = under_view.placement(view, name, tile)
    scale = shown[0] / (right - left)
    corners = []
    for x, y in entry.polygon:
        moved = place.moved(x * plane.width / size.width - left, y * plane.height / size.height - top)
        corners.append((moved[0] * scale, moved[1] * scale))
    xs, ys = zip(*corners, strict=True)
    x, y = max(0.0, min(xs)), max(0.0, min(ys))
    if max(xs) < 0 or max(ys) < 0 or x > shown[0] or y > shown[1]:
        return
    canvas.polygon(corners, outline=(128, 128, 128, 255) if entry.ignore else (255, 220, 0, 255))
    if entry.track and min(max(xs), shown[0]) - x >= _NAMED_WIDTH:
        names = {one.id: one.name for one in samples.dataset.classes()}
        words = f"{names.get(entry.category, entry.category)} {entry.track.rpartition('/')[2]}".strip()
        canvas.text((x + 2, y + 1), words, fill=(255, 255, 255, 255), font=font(11), stroke_width=1, stroke_fill=0)


def _band_pictures(
    samples: Samples, view: View, name: str, tile: Tile, image: Picture, interpolation: Interpolation
) -> list[Image.Image]:
    """Return pictures of a band's doubled noise (grey is none) and mask (white is passed), as in paper A, Fig. 10."""
    assert view.change is not None
    changed = view.change(frames.resized(image, samples.frame, interpolation), view.generator(name))
    assert changed.noise is not None
    left, top, right, bottom = tile.box
    # Cropped instead of resized, because shrinking would remove the high bands.
    x, y = max(left, (left + right - CELL) // 2), max(top, (top + bottom - CELL) // 2)
    middle = (x, y, min(right, x + CELL), min(bottom, y + CELL))
    noise = np.rint(128 + 2 * changed.noise).clip(0, 255).astype(np.uint8)
    parameters = view.spec.parameters
    mask = np.fft.fftshift(band(bottom - top, right - left, float(parameters["level"]), float(parameters["width"])))
    ring = np.repeat(mask[..., None], 3, axis=2).astype(np.uint8) * 255
    return [fit(frames.crop(noise, middle, fill=128)), fit(ring)]


def _source(samples: Samples, name: str, tile: Tile, image: Picture) -> Image.Image:
    plane = frames.resized_size(samples.frame, samples.sizes[name])
    picture = fit(image, longest=2 * CELL)
    canvas = ImageDraw.Draw(picture)
    scale = (picture.width / plane.width, picture.height / plane.height) * 2
    for other, one in sorted(samples.tiles, key=lambda pair: pair[1] == tile):
        if other == name:
            is_shown = one == tile
            box = [edge * factor for edge, factor in zip(one.box, scale, strict=True)]
            box = [box[0], box[1], min(box[2], picture.width) - 1, min(box[3], picture.height) - 1]
            canvas.rectangle(box, outline=_SHOWN if is_shown else (255, 255, 255), width=3 if is_shown else 1)
    return picture


def _legend(samples: Samples) -> Image.Image | None:
    entries = list(samples.dataset.classes())[:_SHOWN_LEGEND]
    if "pixels" not in samples.dataset.labels or not entries:
        return None
    keys = []
    words_of = [("hatched: void", FAINT), ("framed: what the tile is scored on", _SCORED)]
    for words, colour in [*((one.name, one.colour) for one in entries), *words_of]:
        named = text(words, size=12, ink=INK)
        key = Image.new("RGB", (named.width + 22, LINE), BACK)
        ImageDraw.Draw(key).rectangle([0, 3, 14, 14], fill=colour, outline=INK)
        key.paste(named, (20, 0))
        keys.append(key)
    lines: list[Image.Image] = []
    line: list[Image.Image] = []
    width = 0
    for key in keys:
        if line and width + key.width > 8 * CELL:
            lines.append(beside(line))
            line, width = [], 0
        line.append(key)
        width += key.width + GAP
    return below([*lines, beside(line)], margin=0)
