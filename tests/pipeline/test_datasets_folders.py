"""Folders of images, sorted into classes or not."""

import contextlib
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.datasets.image_folder import ImageFolder
from pipeline.datasets.plain_folder import PlainFolder
from pipeline.datasets.reading.folders import image_files, image_names, is_plain
from pipeline.datasets.reading.images import EXTENSIONS
from stores.errors import MissingError, UserError


def add(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(path)


def test_a_plain_folder_is_read_recursively(tmp_path):
    add(tmp_path, "b.png", "x/a.JPG", "x/y/c d.tiff", "x/.hidden.png", ".cache/e.png")
    (tmp_path / "x/readme.txt").write_text("no image")
    sources = PlainFolder(tmp_path).sources()
    assert [(source.name, source.group) for source in sources] == [
        ("b.png", "all"),
        ("x/a.JPG", "x"),
        ("x/y/c d.tiff", "x/y"),
    ]
    assert {(source.split, source.label, source.image_class) for source in sources} == {("all", None, None)}
    assert PlainFolder(tmp_path).classes() == ()
    with pytest.raises(UserError, match=r"b\.png has no labels"):
        PlainFolder(tmp_path).pixel_classes(sources[0])


def test_folders_without_images_are_missing(tmp_path):
    (tmp_path / "class").mkdir()
    with pytest.raises(MissingError, match="hold no image file"):
        PlainFolder(tmp_path).sources()
    with pytest.raises(MissingError, match="holds no class/image file"):
        ImageFolder(tmp_path).sources()
    with pytest.raises(MissingError, match="is not a folder"):
        PlainFolder(tmp_path / "none").sources()


def test_linked_folders_are_noted_and_linked_files_stay_inside(tmp_path):
    root = tmp_path / "root"
    add(tmp_path, "root/a.png", "other/b.png")
    (root / "link").symlink_to(tmp_path / "other")
    assert [source.name for source in PlainFolder(root).sources()] == ["a.png"]
    assert PlainFolder(root).notes() == ["folder: link is a link and is not followed."]
    (root / "c.png").symlink_to(tmp_path / "other/b.png")
    with pytest.raises(UserError, match=r"c\.png leads to .*b\.png, outside"):
        PlainFolder(root).sources()
    with pytest.raises(UserError, match=r"link leads to .*other, outside"):
        ImageFolder(root).sources()


@pytest.mark.parametrize("name", ["a\\b.png", "a\nb.png", "a\udcffb.png"])
def test_names_that_no_digest_can_hold_are_refused(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(UserError, match="rename the file"):
        PlainFolder(tmp_path).sources()


def test_class_folders_give_ids_in_sorted_order(tmp_path):
    add(tmp_path, "zebra/1.png", "ant/2.png", "ant/deep/3.png")
    (tmp_path / "empty").mkdir()
    dataset = ImageFolder(tmp_path)
    assert [(entry.id, entry.name) for entry in dataset.classes()] == [(0, "ant"), (1, "zebra")]
    assert [(source.name, source.image_class, source.group, source.split) for source in dataset.sources()] == [
        ("ant/2.png", 0, "ant", "all"),
        ("ant/deep/3.png", 0, "ant", "all"),
        ("zebra/1.png", 1, "zebra", "all"),
    ]
    with pytest.raises(UserError, match="one class for the whole image"):
        dataset.pixel_classes(dataset.sources()[0])
    add(tmp_path, "stray.png")
    assert dataset.notes() == [
        "image-folder: empty holds no image and is no class.",
        "image-folder: 1 images outside of the class folders are left out, the first is stray.png.",
    ]


def test_split_folders_share_their_classes(tmp_path):
    add(tmp_path, "train/b/1.png", "train/c/2.png", "val/a/3.png", "val/c/4.png")
    dataset = ImageFolder(tmp_path)
    assert [entry.name for entry in dataset.classes()] == ["a", "b", "c"]
    assert [(source.split, source.image_class) for source in dataset.sources()] == [
        ("train", 1),
        ("train", 2),
        ("val", 0),
        ("val", 2),
    ]
    add(tmp_path, "d/5.png")
    with pytest.raises(UserError, match=r"/d stands beside the split folder train"):
        dataset.sources()


def test_a_class_may_be_called_like_a_split(tmp_path):
    """A folder with images of its own is a class, whatever its name."""
    add(tmp_path, "test/1.png", "exam/2.png")
    assert [entry.name for entry in ImageFolder(tmp_path).classes()] == ["exam", "test"]


def test_many_classes_have_colours_of_their_own(tmp_path):
    add(tmp_path, *(f"{number:02}/1.png" for number in range(60)))
    assert len({entry.colour for entry in ImageFolder(tmp_path).classes()}) == 60


NAME = st.text("aé .\\\n", min_size=1, max_size=3).filter(lambda name: name.strip(".") and "/" not in name)
FILES = st.lists(st.tuples(st.lists(NAME, max_size=2), NAME, st.sampled_from([".png", ".JPG", ".txt", ""])), max_size=6)


@given(FILES)
@settings(deadline=None, max_examples=50)
def test_names_of_images_are_those_of_a_walk(files):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for folders, stem, suffix in files:
            with contextlib.suppress(FileExistsError, NotADirectoryError, IsADirectoryError):
                root.joinpath(*folders).mkdir(parents=True, exist_ok=True)
                root.joinpath(*folders, stem + suffix).write_bytes(b"")
        found = [path.relative_to(root) for path in root.rglob("*") if path.is_file()]
        shown = [path for path in found if not any(part.startswith(".") for part in path.parts)]
        expected = sorted(path.as_posix() for path in shown if path.suffix.lower() in EXTENSIONS)
        if all(map(is_plain, expected)):
            assert image_names(root, root) == expected
            assert image_files(root, root) == [root / name for name in expected]
        else:
            with pytest.raises(UserError, match="holds a backslash or unprintable characters"):
                image_names(root, root)


def test_a_link_that_leads_to_itself_is_named(tmp_path):
    add(tmp_path, "ok.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    with pytest.raises(UserError, match=r"loop\.png"):
        PlainFolder(tmp_path).sources()
