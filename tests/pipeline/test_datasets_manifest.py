"""A user's own images, listed in CSV or Parquet."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydantic import ValidationError

from pipeline.dataset_recipe import DatasetRecipe, ManifestClass
from pipeline.datasets import open_dataset
from pipeline.extraction.run import Workspace, read_samples
from pipeline.labels.label_set import label_spec
from pipeline.recipe import Recipe
from stores import Store
from stores.errors import MissingError, UserError
from stores.specs import FrameSpec
from tests.pipeline.layouts import write_image, write_text
from tests.pipeline.tiny import TINY

CLASSES = ({"name": "soil", "ids": [0, 3]}, {"name": "crop", "ids": [7], "colour": [0, 128, 0]}, {"name": "weed"})


def recipe(file="photos.csv", classes=CLASSES, **settings):
    return DatasetRecipe(name="manifest", file=file, classes=[ManifestClass(**one) for one in classes], **settings)


def manifest(root, *lines, **settings):
    """Two photos, a mask, a manifest of these lines."""
    for name in ("a.png", "sub/b.png"):
        write_image(root / name)
    mask = np.zeros((30, 40), np.uint8)
    mask[0, :4] = [7, 2, 3, 255]
    Image.fromarray(mask).save(root / "mask.png")
    write_text(root / "photos.csv", *lines)
    return open_dataset("manifest", root, recipe(**settings))


def test_all_columns_are_read(tmp_path):
    dataset = manifest(
        tmp_path,
        "frame,image,class,mask,group,split,video,photographer",
        "3,sub/b.png,weed,,field 1,train,film,me",
        ",a.png,,mask.png,,,,you",
    )
    first, second = dataset.sources()
    assert (first.name, first.label, first.group, first.split, first.image_class, first.frame) == (
        *("a.png", tmp_path / "mask.png", "all", "all", None, -1),
    )
    assert (second.name, second.label, second.group, second.split, second.image_class, second.frame) == (
        *("sub/b.png", None, "field 1", "train", 2, 3),
    )
    assert second.video == "film"
    assert dataset.labels == {"pixels", "image"}
    assert dataset.pixel_classes(first)[0, :5].tolist() == [1, 2, 0, 255, 0]
    assert (dataset.pixel_classes(second) == 255).all()
    assert [(entry.name, entry.colour[1]) for entry in dataset.classes()][1] == ("crop", 128)
    assert dataset.notes() == [
        "manifest: the columns photographer of photos.csv are not read.",
        "manifest: 1 of 2 images have no mask.",
        "manifest: 1 of 2 images have no class.",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffimage;class\r\na.png;x\r\nsub/b.png;y\r\n",
        'image\tclass\n"a.png"\tx\n\nsub/b.png\ty',
    ],
)
def test_what_spreadsheets_write_is_read(tmp_path, text):
    """Byte order marks, CRLF, semicolons and tabs, quotes, blank lines, no newline at the end."""
    manifest(tmp_path)
    (tmp_path / "photos.csv").write_bytes(text.encode())
    dataset = open_dataset("manifest", tmp_path, recipe(classes=()))
    assert [(source.name, source.image_class) for source in dataset.sources()] == [("a.png", 0), ("sub/b.png", 1)]
    assert [entry.name for entry in dataset.classes()] == ["x", "y"], "without tables, sorted names"


def test_parquet_is_read_like_csv(tmp_path):
    manifest(tmp_path)
    table = pd.DataFrame({"image": ["a.png", "sub/b.png"], "frame": [1.0, float("nan")], "group": ["g", None]})
    table.to_parquet(tmp_path / "photos.parquet")
    dataset = open_dataset("manifest", tmp_path, recipe("photos.parquet", ()))
    assert [(source.frame, source.group) for source in dataset.sources()] == [(1, "g"), (-1, "all")]
    assert dataset.labels == frozenset()
    table.assign(image="a.png").to_parquet(tmp_path / "photos.parquet")
    with pytest.raises(UserError, match=r"photos\.parquet, row 2, lists a\.png again, as .*row 1 does"):
        open_dataset("manifest", tmp_path, recipe("photos.parquet", ())).sources()
    (tmp_path / "photos.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"photos\.parquet cannot be read as Parquet"):
        open_dataset("manifest", tmp_path, recipe("photos.parquet", ())).sources()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "has no column `image`"),
        (["photo,class", "a.png,x"], r"has no column `image` \(its columns: photo, class\)"),
        (["image,image", "a.png,x"], "has two columns 'image'"),
        (["image"], "lists no image"),
        (["image,class", "a.png"], "line 2, has 1 cells and the first line 2"),
        (["image", "", "a.png,b"], "line 3, has 2 cells and the first line 1"),
        (["image", '"a.png'], "is no CSV"),
        (["image,group", ",x"], "line 2, names no image"),
        (["image,splits", "a.png,val"], "has a column 'splits', which is not read, and no column 'split': call it"),
        (["image,Class", "a.png,crop"], "has a column 'Class', which is not read, and no column 'class'"),
        (["image", "c.png"], "line 2, names c.png, and there is no file"),
        (["image,mask", "a.png,b.png"], "line 2, names b.png, and there is no file"),
        (["image", "sub"], "line 2, names sub, and there is no file"),
        (["image", "../secret.png"], r"line 2, has the path '\.\./secret\.png', which leads outside"),
        (["image", "sub/../../secret.png"], "line 2, has the path .* which leads outside"),
        (["image", "/etc/passwd"], "line 2, has the path '/etc/passwd', which leads outside"),
        (["image", "link.png"], "line 2, has the path 'link.png', which leads outside"),
        (["image", "sub\\b.png"], "line 2, has the path .* write plain names with /"),
        (["image", "a" * 300 + ".png"], "line 2, has the path .* cannot be followed"),
        (["image,class", "a.png,tree"], "line 2, names the class 'tree', .* known are crop, soil, weed"),
        (["image,frame", "a.png,-1"], "line 2, has the frame '-1'"),
        (["image,frame", "a.png,1.5"], "line 2, has the frame '1.5'"),
        (["image", "a.png", "sub/../a.png"], r"line 3, lists a\.png again, as .*photos\.csv, line 2 does"),
    ],
)
def test_every_problem_names_file_and_line(tmp_path, lines, message):
    write_image(tmp_path / "secret.png")
    root = tmp_path / "root"
    dataset = manifest(root, *lines)
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(UserError, match=rf"photos\.csv.*{message}"):
        dataset.sources()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("image\na.png\n".encode("utf-16"), "is in UTF-16"),
        (b"image,group\na.png,x\nsub/b.png,caf\xe9\n", "line 3, is not in UTF-8"),
        (b"image\na\0.png\n", "line 2, has the path"),
    ],
)
def test_other_encodings_are_refused(tmp_path, raw, message):
    dataset = manifest(tmp_path)
    (tmp_path / "photos.csv").write_bytes(raw)
    with pytest.raises(UserError, match=message):
        dataset.sources()


def test_a_missing_manifest_and_masks_without_meaning_are_named(tmp_path):
    with pytest.raises(MissingError, match=r"nothing\.csv is missing, the manifest"):
        open_dataset("manifest", tmp_path, recipe("nothing.csv")).sources()
    with pytest.raises(UserError, match="outside"):
        open_dataset("manifest", tmp_path, recipe("../photos.csv")).sources()
    with pytest.raises(UserError, match=r"lists masks, and \[\[dataset\.classes\]\] tables"):
        manifest(tmp_path, "image,mask", "a.png,mask.png", classes=()).sources()
    dataset = manifest(tmp_path, "image,mask", "a.png,mask.png", classes=CLASSES[:2])
    with pytest.raises(UserError, match=r"mask\.png holds the unknown ids \[2\] \(0, 3, 7, 255 of"):
        dataset.pixel_classes(dataset.sources()[0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "manifest"}, "needs file"),
        ({"name": "camvid", "file": "photos.csv"}, 'belong to name = "manifest"'),
        ({"name": "manifest", "file": "a", "classes": [{"name": "a"}, {"name": "a"}]}, "the name 'a' is given twice"),
        ({"name": "manifest", "file": "a", "classes": [{"name": "a"}, {"name": "b", "ids": [0]}]}, "the mask id 0"),
        ({"name": "manifest", "file": "a", "classes": [{"name": "a", "ids": [255]}]}, "the mask id 255"),
        ({"name": "manifest", "file": "a", "classes": [{"name": "a", "ids": [256]}]}, "less than or equal to 255"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        DatasetRecipe.model_validate(settings)


def test_the_meaning_of_mask_ids_names_the_label_set(tmp_path):
    """Otherwise a corrected id would find the old labels again."""
    manifest(tmp_path, "image,mask", "a.png,mask.png")
    digests = set()
    for ids in ([7], [8]):
        classes = (CLASSES[0], {**CLASSES[1], "ids": ids}, CLASSES[2])
        wanted = Recipe(dataset=recipe(classes=classes), frame=FrameSpec(input=30), models=(TINY,))
        site = Workspace(Store(str(tmp_path / "store")), tmp_path, tmp_path)
        digests.add(label_spec(read_samples(wanted, site)).digest)
    assert len(digests) == 2
