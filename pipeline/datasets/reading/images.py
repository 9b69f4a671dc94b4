"""Reads image files in one way for all data sets.

EXIF orientation is applied; grey and palette images become RGB, an alpha channel is dropped (as in torchvision's
ImageFolder), CMYK is converted, and of 16-bit samples the high byte is kept. 32-bit integers are taken as they are
where all lie in 0..255, as labelme and numpy write grey pictures; others are refused, and floating-point pixels always.
Overviews and masks beside a TIFF picture (cloud-optimised GeoTIFF) are not looked at. Animated and multi-page files,
truncated files, decompression bombs and JPEG files of more than 100 scans raise an error that names the file.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, PngImagePlugin, UnidentifiedImageError

from pipeline.datasets.reading.files import read_bytes, require_file
from stores.errors import MissingError, UserError
from stores.specs import Size
from stores.storage.regular_files import open_file

REVISION = 1
"""Increased when the same file is read as other pixels; `Header.revision` is higher for the few files concerned."""

EXTENSIONS = frozenset(
    (
        *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".webp", ".bmp", ".ppm", ".pgm"),
        *(".gif", ".jp2"),
    )
)
"""Suffixes of image files in lower case: those of torchvision's ImageFolder, and others that Pillow reads."""

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
_MOST_SCANS = 100  # of a JPEG file: encoders write about ten, and every scan passes over the whole picture again
_MOST_PAGES = 64  # looked at in one file
_MOST_BYTES = 2 << 30
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PngImagePlugin.MAX_TEXT_CHUNK = 16 << 20  # colour profiles of printers exceed Pillow's 1 MiB


class Header(NamedTuple):
    """What the header of an image file tells."""

    size: Size
    revision: int
    """Revision of reading that this file's pixels depend on."""


def read_image(source: Path | bytes, name: str | None = None) -> UInt8[np.ndarray, "height width 3"]:
    """Return an image file, or its bytes, as RGB 0..255; errors call it ``name``.

    Raises MissingError when there is no such file, UserError when it cannot be read as one RGB image.
    """
    data, called = (source, name) if isinstance(source, bytes) else (_bytes_of(source), name or str(source))
    with _opened(data, called) as (image, called):
        orientation, is_number = _orientation(image)
        image.load()
        # Pillow rotates TIFF files while it loads them, unless the orientation is stored as bytes or text.
        if orientation in _UPRIGHT and not (image.format == "TIFF" and is_number):
            upright = image.transpose(_UPRIGHT[orientation])
        else:
            upright = image
        return np.array(_rgb(upright, called))


def image_size(path: Path) -> Size:
    """Return the size of `read_image`'s result in pixels; raises as `read_header` does."""
    return read_header(path).size


def read_header(path: Path) -> Header:
    """Return what a file's header tells, without decoding pixels.

    Raises MissingError when there is no such file, UserError when it is no readable image.
    """
    with _opened(path, None) as (image, called):
        orientation, _ = _orientation(image)
        width, height = image.size
        if image.format == "TIFF":  # whether Pillow swaps these depends on its version
            tags = image.tag_v2  # type: ignore[attr-defined]
            width, height = int(tags[256]), int(tags[257])
        if orientation in _SIDEWAYS:
            width, height = height, width
        if max(width, height) > _LONGEST:
            raise UserError(f"{called} is {width}x{height} pixels, more than {_LONGEST} a side; cut it into tiles")
        is_whole_32_bit = image.mode == "I" and image.format == "TIFF"
        return Header(Size(height=height, width=width), REVISION + is_whole_32_bit)


def read_label_map(path: Path, sha256: str = "") -> UInt8[np.ndarray, "height width"]:
    """Return the ids in a label file as they are stored, whatever number of bits each has; palettes are ignored.

    Raises MissingError when there is no such file, UserError when it does not contain one id of up to 8 bits per
    pixel, ChangedFileError when its bytes have another ``sha256``, if one is given.
    """
    data = _bytes_of(path, sha256)
    with _opened(data, str(path)) as (image, called):
        if image.mode not in ("L", "P") and not (image.mode == "1" and image.format in ("PNG", "BMP")):
            raise UserError(
                f"{called} holds {image.mode} pixels where a label map has one 8-bit class id a pixel; "
                "use the data set's id maps, not its colour or instance maps"
            )
        _refuse_scaled_ids(image, called)
        image.load()
        ids = np.array(image, np.uint8)
        # Pillow spreads grey values of few bits over 0..255; for ids that is wrong.
        return ids // np.uint8(255 // (2 ** data[24] - 1)) if _has_few_bits(data) else ids


def has_few_bits(path: Path) -> bool:
    """Return whether a label file is a grey PNG of 2 or 4 bits a pixel, which revision 1 read as scaled ids."""
    try:
        with path.open("rb") as file:
            return _has_few_bits(file.read(32))
    except OSError:
        return False


def _has_few_bits(data: bytes) -> bool:
    # IHDR, the first chunk: bit depth in byte 24, colour type in byte 25 (0 is grey).
    return data.startswith(_PNG_SIGNATURE) and len(data) > 25 and data[24] in (2, 4) and data[25] == 0


def _refuse_scaled_ids(image: Image.Image, called: str) -> None:
    """Raise UserError for grey values that Pillow scales or inverts, so that ids would not be those of the file."""
    scaled = image.format == "PPM" and image.tile[0][0] != "raw"  # type: ignore[attr-defined]
    if image.format == "TIFF" and image.mode == "L":
        tags: Any = image.tag_v2  # type: ignore[attr-defined]
        scaled = tuple(tags.get(258, (8,))) != (8,) or tags.get(262) == 0
    if scaled:
        raise UserError(f"{called} stores ids in another way than 8 bits with 0 for black; save it as an 8-bit PNG")


def _bytes_of(path: Path, sha256: str = "") -> bytes:
    try:
        return read_bytes(path, sha256, _MOST_BYTES)
    except MissingError as error:
        raise _missing(str(path)) from error


def _missing(called: str) -> MissingError:
    return MissingError(f"{called} does not exist; restore it or point to the right folder")


@contextmanager
def _opened(source: Path | bytes, name: str | None) -> Iterator[tuple[Image.Image, str]]:
    """Open an image file of one picture; convert Pillow's exceptions to a UserError."""
    called = name or (str(source) if isinstance(source, Path) else f"an image of {len(source)} bytes")
    Image.init()  # formats are known by name only after their plugins are loaded
    try:
        if isinstance(source, Path):
            require_file(source, _MOST_BYTES)
        # Within compressed pixels 0xFF is followed by another byte, so that this counts scans and few others.
        elif source.startswith(b"\xff\xd8") and source.count(b"\xff\xda") > _MOST_SCANS:
            raise UserError(f"{called} has more than {_MOST_SCANS} scans, which no camera writes; save it again")
        file = open_file(source) if isinstance(source, Path) else io.BytesIO(source)
        with file, Image.open(file, formats=FORMATS) as image:
            count = _n_pictures(image)
            if count > 1:
                several = f"{count} pictures" if count <= _MOST_PAGES else f"more than {_MOST_PAGES} pages"
                raise UserError(
                    f"{called} holds {several} (an animation or several pages); "
                    "save the one you want as a file of its own"
                )
            yield image, called
    except FileNotFoundError as error:  # also a MissingError
        raise _missing(called) from error
    except UserError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(f"{called} is refused as a decompression bomb ({error}); cut it into smaller files") from error
    except UnidentifiedImageError as error:  # its text names a Python object
        raise UserError(
            f"{called} cannot be read as an image (its first bytes are those of no image); fetch it again or remove it"
        ) from error
    except _BROKEN as error:
        raise UserError(f"{called} cannot be read as an image ({error}); fetch it again or remove it") from error


def _n_pictures(image: Image.Image) -> int:
    """Return the number of pictures, more than 64 for any larger number of pages; overviews and masks are none."""
    if image.format == "MPO":  # cameras write the photograph, followed by previews
        return 1
    if image.format not in ("TIFF", "GIF"):
        return int(getattr(image, "n_frames", 1))  # from the header
    pages = pictures = 1
    try:
        while pages <= _MOST_PAGES:
            image.seek(pages)
            pages += 1
            # NewSubfileType: bit 0 is a smaller version, bit 2 a mask (TIFF 6.0, page 36).
            pictures += not (image.format == "TIFF" and image.tag_v2.get(254, 0) & 0b101)  # type: ignore[attr-defined]
    except EOFError:
        pass
    if pages > 1:
        image.seek(0)
        if image.format == "TIFF" and image.tag_v2.get(254, 0) & 0b101:  # type: ignore[attr-defined]
            return pages  # which of them is the picture cannot be told
    return pages if pages > _MOST_PAGES else pictures


def _orientation(image: Image.Image) -> tuple[int, bool]:
    """Return the EXIF orientation, 1..8, without decoding pixels, and whether it is stored as a number.

    EXIF data after the pixels of a PNG file, which only decoding would find, is ignored; so is what cannot be read.
    """
    if image.format == "PNG" and "exif" not in image.info:
        return 1, True
    try:
        stored: Any = image.getexif().get(ExifTags.Base.Orientation, 1)
        is_number = not isinstance(stored, bytes | str | tuple)
        if isinstance(stored, bytes | tuple) and len(stored) == 1:
            stored = stored[0]
        return int(stored), is_number
    except _BROKEN:
        return 1, True


def _rgb(image: Image.Image, called: str) -> Image.Image:
    """Return the image as mode RGB."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65_535:
            raise UserError(f"{called} holds values outside 16 bits; save it with 8 or 16 bits a sample")
        if image.mode == "I" and image.format == "TIFF":
            if values.max() > 255:
                raise UserError(f"{called} holds 32-bit values above 255; save it with 8 or 16 bits a sample")
            return Image.fromarray(values.astype(np.uint8)).convert("RGB")
        return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise UserError(f"{called} holds floating-point pixels; save it with 8 or 16 bits a sample")
    if image.mode == "P":  # via RGBA, because Pillow warns about transparent palette entries
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")
