"""Image and label files as other programs write them are read with their own values, or refused in one sentence."""

import os
import struct
import zlib
from collections import Counter

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, TiffImagePlugin

from pipeline.datasets import open_dataset
from pipeline.datasets.reading.images import has_few_bits, image_size, read_image, read_label_map
from stores.errors import UserError
from stores.specs import Size
from tests.pipeline.layouts import write_image

GREY = np.random.default_rng(0).integers(0, 256, (24, 40)).astype(np.uint8)


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(rows, depth, size, extra=b""):
    """A greyscale PNG of so many bits a pixel; Pillow writes none."""
    header = struct.pack(">IIBBBBB", size[1], size[0], depth, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def few_bits(ids, depth):
    lines = ["".join(format(int(value), f"0{depth}b") for value in row) for row in ids]
    packed = [b"\0" + int(bits, 2).to_bytes(len(bits) // 8, "big") for bits in lines]
    return png(b"".join(packed), depth, ids.shape)


def test_32_bit_integers_of_a_tiff_are_grey_levels(tmp_path):
    path = tmp_path / "grey.tif"
    Image.fromarray(GREY.astype(np.int32)).save(path)
    np.testing.assert_array_equal(read_image(path), np.repeat(GREY[..., None], 3, 2))
    Image.fromarray(GREY.astype(np.int32) + 300).save(path)
    with pytest.raises(UserError, match=r"grey\.tif holds 32-bit values above 255"):
        read_image(path)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_ids_of_few_bits_come_out_as_stored(tmp_path, depth):
    ids = np.random.default_rng(1).integers(0, 2**depth, (8, 16))
    path = tmp_path / "ids.png"
    path.write_bytes(few_bits(ids, depth))
    np.testing.assert_array_equal(read_label_map(path), ids)
    assert has_few_bits(path) == (depth > 1)
    Image.fromarray(ids.astype(np.uint8)).save(path)
    assert not has_few_bits(path)


def test_ids_that_would_be_scaled_or_inverted_are_refused(tmp_path):
    ids = np.arange(12, dtype=np.uint8).reshape(3, 4)
    scaled = tmp_path / "ids.pgm"
    scaled.write_bytes(b"P5\n4 3\n33\n" + ids.tobytes())
    inverted = tmp_path / "ids.tif"
    Image.fromarray(ids).save(inverted, tiffinfo={262: 0})
    for path in (scaled, inverted):
        with pytest.raises(UserError, match="stores ids in another way than 8 bits"):
            read_label_map(path)


@pytest.mark.parametrize("kind", [TiffImagePlugin.ImageFileDirectory_v2, bytes])
def test_an_orientation_of_an_odd_type_counts(tmp_path, kind):
    """Some programs write a byte or a long where EXIF asks for a short."""
    size, value = (1, b"\x06\0\0\0") if kind is bytes else (4, struct.pack("<I", 6))
    exif = (
        b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHI", ExifTags.Base.Orientation, size, 1) + value + b"\0" * 4
    )
    path = tmp_path / "turned.jpg"
    Image.fromarray(GREY).save(path, exif=exif, quality=100)
    assert image_size(path) == Size(height=40, width=24)
    assert read_image(path).shape == (40, 24, 3)
    np.testing.assert_allclose(read_image(path)[..., 0], np.rot90(GREY, -1), atol=14)


def test_exif_data_that_cannot_be_read_turn_nothing(tmp_path):
    path = tmp_path / "upright.jpg"
    Image.fromarray(GREY).save(path, exif=b"Exif\0\0no tiff header at all")
    assert read_image(path).shape == (24, 40, 3)


def test_large_colour_profiles_are_no_reason_to_refuse(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = tmp_path / "profiled.png"
    Image.fromarray(GREY).save(path, icc_profile=profile + bytes(3 << 20))
    np.testing.assert_array_equal(read_image(path)[..., 0], GREY)


def pages(path, *kinds):
    """A TIFF whose pages have these NewSubfileTypes; every one shows another picture."""
    with TiffImagePlugin.AppendingTiffWriter(str(path), new=True) as writer:
        for number, kind in enumerate(kinds):
            Image.fromarray(GREY[:: number + 1, :: number + 1]).save(writer, "TIFF", tiffinfo={254: kind})
            writer.newFrame()
    return path


def test_overviews_and_masks_of_a_tiff_are_not_looked_at(tmp_path):
    path = pages(tmp_path / "cog.tif", 0, 4, 1, 5)
    np.testing.assert_array_equal(read_image(path)[..., 0], GREY)
    assert image_size(path) == Size(height=24, width=40)
    with pytest.raises(UserError, match="holds 2 pictures"):
        read_image(pages(tmp_path / "two.tif", 0, 1, 0))
    with pytest.raises(UserError, match="holds 2 pictures"):  # a thumbnail first
        read_image(pages(tmp_path / "preview.tif", 1, 0))


def test_pages_and_scans_without_end_are_refused_early(tmp_path):
    with pytest.raises(UserError, match="holds more than 64 pages"):
        image_size(pages(tmp_path / "many.tif", *[0] + [1] * 80))
    path = tmp_path / "scans.jpg"
    Image.fromarray(GREY).save(path, progressive=True)
    data = path.read_bytes()
    last = data.rindex(b"\xff\xda")
    path.write_bytes(data[:last] + data[last:-2] * 1500 + data[-2:])
    with pytest.raises(UserError, match="more than 100 scans"):
        read_image(path)
    np.testing.assert_allclose(read_image(data)[..., 0], GREY, atol=60)


def test_a_pipe_is_no_image_and_keeps_nobody_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for read in (read_image, image_size, read_label_map):
        with pytest.raises(UserError, match=r"pipe\.png cannot be read \(it is not a file\)"):
            read(tmp_path / "pipe.png")


def test_more_suffixes_are_read_and_others_counted(tmp_path):
    for name, kind in (
        ("a.png", "PNG"),
        ("b.jfif", "JPEG"),
        ("c.gif", "GIF"),
        ("d.jp2", "JPEG2000"),
        ("e.JPE", "JPEG"),
    ):
        Image.fromarray(GREY).save(tmp_path / name, kind)
    for name in ("f.heic", "g.HEIC", "Thumbs.db", ".DS_Store", "._a.png", "README"):
        (tmp_path / name).write_bytes(b"something else")
    dataset = open_dataset("folder", tmp_path)
    assert [source.name for source in dataset.sources()] == ["a.png", "b.jfif", "c.gif", "d.jp2", "e.JPE"]
    for source in dataset.sources():
        assert read_image(source.image).shape == (24, 40, 3)
    [note] = dataset.notes()
    assert note == ("folder: 4 files were not looked at, being no image that can be read: 2 .heic, 1 .db, 1 no suffix.")


@pytest.mark.parametrize("layout", ["image-folder", "ucmerced"])
def test_readers_of_class_folders_count_other_files(tmp_path, layout):
    folder = tmp_path / ("Images" if layout == "ucmerced" else "") / "beach"
    write_image(folder / "beach00.tif")
    (folder / ".DS_Store").write_bytes(b"\0")
    (folder / "beach01.heic").write_bytes(b"\0")
    dataset = open_dataset(layout, tmp_path)
    assert len(dataset.sources()) == 1
    assert Counter("1 .heic" in note for note in dataset.notes())[True] == 1


@pytest.mark.parametrize("space", ["\u202f", "\u3000", "\u00a0"])
def test_spaces_of_any_kind_are_plain_names(tmp_path, space):
    write_image(tmp_path / f"Screenshot{space}PM.png")
    [source] = open_dataset("folder", tmp_path).sources()
    assert source.name == f"Screenshot{space}PM.png"


def test_a_name_that_is_not_utf_8_is_refused_in_one_sentence(tmp_path):
    write_image(tmp_path / "a.png").rename(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    with pytest.raises(UserError, match=r"the file name 'caf\\udce9\.png' holds a backslash or unprintable"):
        open_dataset("folder", tmp_path).sources()


def test_objects_that_a_tile_of_dota_cuts_are_ignored(tmp_path):
    write_image(tmp_path / "images" / "P0001.png")
    (tmp_path / "labelTxt").mkdir()
    lines = [f"{x} 1 {x + 9} 1 {x + 9} 9 {x} 9 ship {flag}\n" for x, flag in ((1, 0), (11, 1), (21, 2))]
    (tmp_path / "labelTxt" / "P0001.txt").write_text("".join(lines))
    dataset = open_dataset("dota", tmp_path)
    found = [(entry.ignore, entry.flags) for entry in dataset.objects(dataset.sources()[0])]
    assert found == [(False, ()), (True, ("difficult",)), (True, ("truncated",))]
