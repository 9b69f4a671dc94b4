"""Checks outlines of annotated objects, and reports those that reach beyond their images."""

import math
from collections.abc import Sequence

from pipeline.datasets.contract import ClassEntry, Dataset, ObjectEntry
from pipeline.datasets.reading.images import image_size
from pipeline.datasets.reading.polygons import Polygon, area
from stores.errors import UserError

BACKGROUND = ClassEntry(0, "background", "background", (0, 0, 0))
"""Class of all pixels without an object, in data sets whose pixel labels are rasterised outlines."""

MOST_CORNERS = 100_000
"""Largest number of corners of an outline."""

_FARTHEST = 1e6  # pixels from the image's corner: far beyond any image, and far within float64
_SOURCES_READ = 200


def checked_outline(corners: Sequence[tuple[float, float]], where: str) -> Polygon:
    """Return an outline without its closing corner.

    Raises UserError, beginning with ``where``, for fewer than three or more than 100,000 corners, coordinates that are
    not finite or exceed a million pixels, and outlines without area.
    """
    if len(corners) > MOST_CORNERS:
        raise UserError(f"{where} has {len(corners):,} corners, more than {MOST_CORNERS:,}; simplify the outline")
    for x, y in corners:
        if not (math.isfinite(x) and math.isfinite(y)):
            raise UserError(f"{where} has the corner ({x}, {y}), which is no point; correct or remove the object")
        if max(abs(x), abs(y)) > _FARTHEST:
            raise UserError(f"{where} has the corner ({x}, {y}), outside of any image; correct or remove the object")
    polygon = tuple((float(x), float(y)) for x, y in corners)
    if len(polygon) > 1 and polygon[0] == polygon[-1]:
        polygon = polygon[:-1]
    if len(polygon) < 3:
        raise UserError(f"{where} has {len(polygon)} corners, an outline needs three; correct or remove the object")
    if area(polygon) == 0:
        raise UserError(f"{where} has no area; correct or remove the object")
    return polygon


def checked_box(left: float, top: float, right: float, bottom: float, where: str) -> Polygon:
    """Return a box as an outline; raises UserError, beginning with ``where``, when it has no area.

    Args:
        left: Left edge in pixels.
        top: Upper edge in pixels.
        right: Right edge in pixels.
        bottom: Lower edge in pixels.
        where: Name of the object in errors.
    """
    if right < left or bottom < top:
        raise UserError(
            f"{where} has a box of {right - left:g} x {bottom - top:g} pixels (width x height); "
            "correct or remove the object"
        )
    return checked_outline(((left, top), (right, top), (right, bottom), (left, bottom)), where)


def outline_notes(dataset: Dataset) -> list[str]:
    """Return one sentence if objects reach beyond their images, from up to 200 labelled images.

    Such objects are common where images were cut from larger ones, so they are kept; only the part inside the image is
    rasterised. Another sentence counts images and labels that cannot be used.
    """
    labelled = [source for source in dataset.sources() if source.label is not None]
    looked_at = labelled[:: max(1, len(labelled) // _SOURCES_READ)][:_SOURCES_READ]
    n_objects = beyond = outside = 0
    unusable: list[str] = []
    for source in looked_at:
        try:
            objects = dataset.objects(source)
            size = image_size(source.image)
        except UserError as error:
            unusable.append(str(error))
            continue
        n_objects += len(objects)
        if objects:
            beyond += sum(_beyond(entry, size.width, size.height) for entry in objects)
            outside += sum(_outside(entry, size.width, size.height) for entry in objects)
    notes = []
    if unusable:
        notes = [f"{dataset.name}: of {len(looked_at)} images looked at {len(unusable)} cannot be used: {unusable[0]}."]
    if not beyond:
        return notes
    where = "the images" if len(looked_at) == len(labelled) else f"{len(looked_at)} images looked at"
    kept = "they are kept, and only what lies inside is painted" if "pixels" in dataset.labels else "they are kept"
    return [
        *notes,
        f"{dataset.name}: of {n_objects} objects in {where}, {beyond} reach beyond their image and {outside} lie "
        f"outside; {kept}.",
    ]


def _beyond(entry: ObjectEntry, width: int, height: int) -> bool:
    left, top, right, bottom = entry.box
    return left < 0 or top < 0 or right > width or bottom > height


def _outside(entry: ObjectEntry, width: int, height: int) -> bool:
    left, top, right, bottom = entry.box
    return right <= 0 or bottom <= 0 or left >= width or top >= height
