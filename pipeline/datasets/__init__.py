"""Reads data sets: one file per layout, listed in one table."""

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from pathlib import Path

from pipeline.dataset_recipe import DatasetRecipe
from pipeline.datasets import (
    ade20k,
    bdd100k_mot,
    camvid,
    cityscapes,
    dota,
    fair1m,
    image_folder,
    imagenet,
    manifest,
    mot,
    mot17,
    nwpu_vhr10,
    plain_folder,
    resisc45,
    ucmerced,
)
from pipeline.datasets.contract import Dataset
from stores.errors import UserError


@dataclasses.dataclass(frozen=True)
class Layout:
    """A reader with the usual folders of its data and the counts of the official release."""

    open: Callable[[Path], Dataset]
    folders: tuple[str, ...]
    """Folder names below the data root, tried in this order: ours and those of the official archives."""
    files: str
    """Paths of images and labels below that folder, for people."""
    official: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Number in each split of the official release; empty if there is none, or it does not say."""
    counted: str = "images"
    """Unit of these numbers."""


DATASETS: dict[str, Layout] = {
    "cityscapes": Layout(
        cityscapes.Cityscapes,
        ("cityscapes",),
        "leftImg8bit/{split}/{city}/*.png, gtFine/{split}/{city}/*_labelIds.png",
        cityscapes.OFFICIAL_COUNTS,
    ),
    "camvid": Layout(
        camvid.CamVid,
        ("camvid", "CamVid"),
        "train.txt, train/*.png, trainannot/*.png",
        camvid.OFFICIAL_COUNTS,
    ),
    "ade20k": Layout(
        ade20k.Ade20k,
        ("ade20k", "ADEChallengeData2016"),
        "images/{training,validation}/*.jpg, annotations/{training,validation}/*.png",
        ade20k.OFFICIAL_COUNTS,
    ),
    "dota": Layout(
        dota.Dota,
        ("dota", "DOTA"),
        "{train,val,test}/images/*.png, {train,val}/labelTxt/*.txt",
        dota.OFFICIAL_COUNTS,
    ),
    "nwpu-vhr10": Layout(
        nwpu_vhr10.NwpuVhr10,
        ("nwpu_vhr10", "nwpu-vhr10"),
        "NWPU VHR-10 dataset/{positive image set/*.jpg, annotations.json}",
        nwpu_vhr10.OFFICIAL_COUNTS,
    ),
    "fair1m": Layout(
        fair1m.Fair1m,
        ("fair1m", "FAIR1M"),
        "train/{part1,part2}/{images/*.tif, labelXml/*.xml}, validation likewise",
    ),
    "mot17": Layout(
        mot17.Mot17,
        ("mot17", "MOT17"),
        "{train,test}/MOT17-02-FRCNN/{img1/*.jpg, gt/gt.txt, seqinfo.ini}",
        mot17.OFFICIAL_COUNTS,
        "videos",
    ),
    "mot": Layout(
        mot.Mot,
        ("mot", "traffic_mot"),
        "{video}/{img1/000001.jpg, gt/gt.txt, seqinfo.ini}, classes.txt",
    ),
    "bdd100k-mot": Layout(
        bdd100k_mot.Bdd100kMot,
        ("bdd100k", "bdd100k-mot"),
        "images/track/{split}/{video}/*.jpg, labels/box_track_20/{split}/{video}.json",
        bdd100k_mot.OFFICIAL_COUNTS,
        "videos",
    ),
    "ucmerced": Layout(
        ucmerced.UcMerced,
        ("ucmerced", "UCMerced_LandUse"),
        "Images/{class}/*.tif",
        ucmerced.OFFICIAL_COUNTS,
    ),
    "resisc45": Layout(
        resisc45.Resisc45,
        ("resisc45", "NWPU-RESISC45"),
        "{class}/*.jpg, optional resisc45-{train,val,test}.txt",
        resisc45.OFFICIAL_COUNTS,
    ),
    "imagenet": Layout(
        imagenet.ImageNet,
        ("imagenet",),
        "{train,val}/n01440764/*.JPEG",
        imagenet.OFFICIAL_COUNTS,
    ),
    "image-folder": Layout(
        image_folder.ImageFolder,
        ("image-folder",),
        "{class}/*, or {train,val,test}/{class}/*",
    ),
    "folder": Layout(
        plain_folder.PlainFolder,
        ("folder",),
        "any images",
    ),
    "manifest": Layout(
        manifest.Manifest,
        (".",),
        "the CSV or Parquet file that `file` in [dataset] names",
    ),
}
"""Every supported layout, by the name used in experiments."""


def open_dataset(name: str, root: Path, recipe: DatasetRecipe | None = None) -> Dataset:
    """Return the reader of this name for the data below ``root``; raises UserError when the name is unknown.

    ``recipe`` is the experiment's [dataset] table, which describes a manifest and says how to treat bad samples.
    """
    if name not in DATASETS:
        nearest = difflib.get_close_matches(name, DATASETS, n=2, cutoff=0.4) or sorted(DATASETS)
        raise UserError(f"{name!r} is not a data set; did you mean {' or '.join(nearest)}?")
    dataset = DATASETS[name].open(root)
    if isinstance(dataset, manifest.Manifest) and recipe is not None and recipe.file is not None:
        dataset = dataclasses.replace(
            dataset,
            file=recipe.file,
            class_rules=recipe.classes,
            mask_ids=recipe.mask_ids,
            void_ids=recipe.void_ids,
        )
    if recipe is not None and recipe.bad_samples == "keep-invalid":
        dataset = dataclasses.replace(dataset, missing_labels="keep")
    return dataset
