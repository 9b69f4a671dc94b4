"""Image files of every kind become RGB, or are refused by name."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageFile

from pipeline.datasets.reading.images import image_size, read_image, read_label_map
from stores.errors import MissingError, UserError
from stores.specs import Size


def picture(height=24, width=40):
    """A smooth picture without symmetry, so that JPEG keeps it and every turn shows."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (height + width)], -1).astype(np.uint8)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize(
    ("orientation", "stored"),  # how a camera held this way stores the upright picture (EXIF 2.32, table 6)
    [
        (1, lambda p: p),
        (2, lambda p: p[:, ::-1]),
        (3, lambda p: p[::-1, ::-1]),
        (4, lambda p: p[::-1]),
        (5, lambda p: p.swapaxes(0, 1)),
        (6, lambda p: np.rot90(p, 1)),
        (7, lambda p: np.rot90(p, 2).swapaxes(0, 1)),
        (8, lambda p: np.rot90(p, -1)),
    ],
)
def test_exif_orientation_is_applied(tmp_path, suffix, orientation, stored):
    path = tmp_path / f"image.{suffix}"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    options = {"quality": 100} if suffix in ("jpg", "webp") else {}
    Image.fromarray(np.ascontiguousarray(stored(picture()))).save(path, exif=exif, **options)
    read = read_image(path)
    assert image_size(path) == Size(height=24, width=40)
    np.testing.assert_allclose(read.astype(int), picture().astype(int), atol=14 if options else 0)
    np.testing.assert_array_equal(read_image(path.read_bytes()), read)


def save(tmp_path, image, name="image.png", **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


def test_grey_palette_alpha_and_cmyk_become_rgb(tmp_path):
    rgb = picture()
    grey = Image.fromarray(rgb[..., 0])
    expected_grey = np.repeat(rgb[..., :1], 3, axis=2)
    np.testing.assert_array_equal(read_image(save(tmp_path, grey)), expected_grey)
    np.testing.assert_array_equal(read_image(save(tmp_path, grey.convert("LA"))), expected_grey)
    black_white = Image.fromarray(rgb[..., 0] > 99)
    np.testing.assert_array_equal(
        read_image(save(tmp_path, black_white)), np.repeat((rgb[..., :1] > 99) * np.uint8(255), 3, axis=2)
    )
    palette = Image.fromarray(rgb).quantize(16)
    np.testing.assert_array_equal(read_image(save(tmp_path, palette)), np.asarray(palette.convert("RGB")))
    np.testing.assert_array_equal(
        read_image(save(tmp_path, palette, transparency=bytes(range(16)))), np.asarray(palette.convert("RGB"))
    )
    clear = Image.fromarray(np.dstack([rgb, np.zeros((24, 40), np.uint8)]))
    np.testing.assert_array_equal(read_image(save(tmp_path, clear)), rgb)
    cmyk = save(tmp_path, Image.fromarray(rgb).convert("CMYK"), "image.tif")
    np.testing.assert_allclose(read_image(cmyk).astype(int), rgb, atol=1)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_the_high_byte_of_16_bit_samples_is_kept(tmp_path, suffix):
    values = np.arange(0, 65_536, 41, dtype=np.uint16)[:1560].reshape(39, 40)
    path = save(tmp_path, Image.fromarray(values), f"image.{suffix}")
    np.testing.assert_array_equal(read_image(path), np.repeat((values // 256).astype(np.uint8)[..., None], 3, 2))


@pytest.mark.parametrize(
    ("pixels", "message"),
    [(np.full((4, 4), 1e6, np.int32), "outside 16 bits"), (np.ones((4, 4), np.float32), "floating-point")],
)
def test_other_samples_are_refused(tmp_path, pixels, message):
    with pytest.raises(UserError, match=rf"image\.tif.*{message}"):
        read_image(save(tmp_path, Image.fromarray(pixels), "image.tif"))


@pytest.mark.parametrize("suffix", ["gif", "tif", "webp", "png"])
def test_several_pictures_in_one_file_are_refused(tmp_path, suffix):
    first, second = (Image.fromarray(pixels) for pixels in (picture(), picture()[::-1]))
    path = save(tmp_path, first, f"image.{suffix}", save_all=True, append_images=[second])
    with pytest.raises(UserError, match=rf"image\.{suffix} holds 2 pictures"):
        read_image(path)


def test_a_camera_file_with_previews_gives_its_photograph(tmp_path):
    preview = Image.fromarray(picture()[::2, ::2])
    path = save(tmp_path, Image.fromarray(picture()), "image.mpo", save_all=True, append_images=[preview], quality=100)
    path = path.rename(tmp_path / "image.jpg")
    with Image.open(path) as opened:
        assert opened.format == "MPO"
    np.testing.assert_allclose(read_image(path).astype(int), picture(), atol=14)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "bmp"])
@pytest.mark.parametrize("kept", [0.6, 0.0])
def test_truncated_files_are_named(tmp_path, suffix, kept):
    noise = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (64, 64, 3), np.uint8)
    path = save(tmp_path, Image.fromarray(noise), f"image.{suffix}")
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(UserError, match=rf"image\.{suffix} cannot be read as an image"):
        read_image(path)


def test_bytes_are_called_by_the_name_they_are_given():
    with pytest.raises(UserError, match=r"^city/a\.png cannot be read"):
        read_image(b"nonsense", "city/a.png")
    with pytest.raises(UserError, match="an image of 8 bytes"):
        read_image(b"nonsense")


def test_a_missing_file_is_missing(tmp_path):
    for read in (read_image, image_size, read_label_map):
        with pytest.raises(MissingError, match=r"none\.png does not exist"):
            read(tmp_path / "none.png")


@pytest.mark.parametrize("limit", [400, 800])
def test_decompression_bombs_are_refused(tmp_path, monkeypatch, limit):
    """Pillow warns above its limit and raises above twice its limit; the picture has 960 pixels."""
    path = save(tmp_path, Image.fromarray(picture()))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(UserError, match=r"image\.png is refused as a decompression bomb"):
        read_image(path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_the_size_comes_from_the_header(tmp_path, monkeypatch, suffix):
    path = save(tmp_path, Image.fromarray(picture()), f"image.{suffix}")

    def load(self):
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    assert image_size(path) == Size(height=24, width=40)


def test_label_maps_are_read_as_stored(tmp_path):
    ids = (np.arange(960) % 34).astype(np.uint8).reshape(24, 40)
    np.testing.assert_array_equal(read_label_map(save(tmp_path, Image.fromarray(ids))), ids)
    coloured = Image.fromarray(ids)
    coloured.putpalette(bytes(range(255, -1, -1)) * 3)
    assert coloured.mode == "P"
    np.testing.assert_array_equal(read_label_map(save(tmp_path, coloured)), ids)


@pytest.mark.parametrize("pixels", [picture(), np.zeros((4, 4), np.uint16)])
def test_colour_and_instance_maps_are_no_label_maps(tmp_path, pixels):
    with pytest.raises(UserError, match=r"image\.png holds .* pixels where a label map has one 8-bit"):
        read_label_map(save(tmp_path, Image.fromarray(pixels)))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "BMP"])
@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's remarks on broken TIFF tags
def test_damaged_bytes_are_read_or_refused_and_nothing_else(kind, edits):
    buffer = io.BytesIO()
    Image.fromarray(picture()).save(buffer, kind)
    damaged = bytearray(buffer.getvalue())
    for place, value in edits:
        damaged[place % len(damaged)] = value
    with contextlib.suppress(UserError):
        assert read_image(bytes(damaged)).dtype == np.uint8


def test_a_text_called_a_picture_is_refused_without_names_of_python_objects(tmp_path):
    (tmp_path / "notes.jpg").write_text("# Notes")
    with pytest.raises(UserError, match=r"notes\.jpg cannot be read as an image \(its first bytes are those of no"):
        image_size(tmp_path / "notes.jpg")
