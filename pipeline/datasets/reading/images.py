"""Reads image files in one way for all data sets.

EXIF orientation is applied; grey and palette images become RGB, an alpha channel is dropped (as in torchvision's
ImageFolder), CMYK is converted, and of 16-bit samples the high byte is kept. Animated and multi-page files,
floating-point pixels, truncated files and decompression bombs raise an error that names the file.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image

from stores.errors import MissingError, UserError
from stores.specs import Size

REVISION = 1
"""Increased when the same file is read as other pixels."""

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".ppm", ".pgm"})
"""Suffixes of image files in lower case, those of torchvision's ImageFolder."""

FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "PPM", "GIF", "JPEG2000")
"""Pillow's names of the formats that are tried, for any suffix; others run programs (EPS) or read other files."""

# Pillow's operation that undoes each EXIF orientation (EXIF 2.32, table 6).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = frozenset({5, 6, 7, 8})
# Exceptions that Pillow's decoders raise on damaged bytes.
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    struct.error,
    zlib.error,
)
_LONGEST = 65_536  # pixels a side, the limit of stores.specs.Size


def read_image(source: Path | bytes, name: str | None = None) -> UInt8[np.ndarray, "height width 3"]:
    """Return an image file, or its bytes, as RGB 0..255; errors call it ``name``.

    Raises MissingError when there is no such file, UserError when it cannot be read as one RGB image.
    """
    with _opened(source, name) as (image, called):
        orientation = _orientation(image)
        image.load()
        # Pillow rotates TIFF files while it loads them.
        if image.format != "TIFF" and orientation in _UPRIGHT:
            upright = image.transpose(_UPRIGHT[orientation])
        else:
            upright = image
        return np.array(_rgb(upright, called))


def image_size(path: Path) -> Size:
    """Return the size of `read_image`'s result in pixels, from the file's header alone.

    Raises MissingError when there is no such file, UserError when it is no readable image.
    """
    with _opened(path, None) as (image, called):
        orientation = _orientation(image)
        width, height = image.size
        if image.format == "TIFF":  # whether Pillow swaps these depends on its version
            tags = image.tag_v2  # type: ignore[attr-defined]
            width, height = int(tags[256]), int(tags[257])
        if orientation in _SIDEWAYS:
            width, height = height, width
        if max(width, height) > _LONGEST:
            raise UserError(f"{called} is {width}x{height} pixels, more than {_LONGEST} a side; cut it into tiles")
        return Size(height=height, width=width)


def read_label_map(path: Path) -> UInt8[np.ndarray, "height width"]:
    """Return the ids in a label file; palettes are ignored.

    Raises MissingError when there is no such file, UserError when it does not contain one 8-bit id per pixel.
    """
    with _opened(path, None) as (image, called):
        if image.mode not in ("L", "P"):
            raise UserError(
                f"{called} holds {image.mode} pixels where a label map has one 8-bit class id a pixel; "
                "use the data set's id maps, not its colour or instance maps"
            )
        image.load()
        return np.array(image)


@contextmanager
def _opened(source: Path | bytes, name: str | None) -> Iterator[tuple[Image.Image, str]]:
    """Open a single-frame image; convert Pillow's exceptions to a UserError."""
    called = name or (str(source) if isinstance(source, Path) else f"an image of {len(source)} bytes")
    Image.init()  # formats are known by name only after their plugins are loaded
    try:
        with Image.open(source if isinstance(source, Path) else io.BytesIO(source), formats=FORMATS) as image:
            # Cameras write MPO files: the photograph, followed by previews.
            if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
                raise UserError(
                    f"{called} holds {getattr(image, 'n_frames', 1)} pictures (an animation or several pages); "
                    "save the one you want as a file of its own"
                )
            yield image, called
    except UserError:
        raise
    except FileNotFoundError as error:
        raise MissingError(f"{called} does not exist; restore it or point to the right folder") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(f"{called} is refused as a decompression bomb ({error}); cut it into smaller files") from error
    except _BROKEN as error:
        raise UserError(f"{called} cannot be read as an image ({error}); fetch it again or remove it") from error


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1..8, without decoding pixels.

    EXIF data after the pixels of a PNG file, which only decoding would find, is ignored.
    """
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    return int(image.getexif().get(ExifTags.Base.Orientation, 1))


def _rgb(image: Image.Image, called: str) -> Image.Image:
    """Return the image as mode RGB."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65_535:
            raise UserError(f"{called} holds values outside 16 bits; save it with 8 or 16 bits a sample")
        return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise UserError(f"{called} holds floating-point pixels; save it with 8 or 16 bits a sample")
    if image.mode == "P":  # via RGBA, because Pillow warns about transparent palette entries
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")
