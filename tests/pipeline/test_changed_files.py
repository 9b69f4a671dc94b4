"""Content decides: what changed with equal size and time is noticed when it is read, and never stored as it was."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.extraction import run
from pipeline.extraction.compute import Compute
from pipeline.rows.sources import FileDigests
from stores import Store
from stores.errors import UserError
from tests.pipeline import layouts, tiny

CPU = Compute("cpu", batch_size=4, threads=1)


@pytest.fixture
def frozen_status(monkeypatch):
    """Every file keeps its size and times whatever happens to it, as in layers of containers."""
    monkeypatch.setattr("pipeline.rows.sources.file_status", lambda path, most: (Path(path).stat().st_size, 0, 0, 0))


def bmp(path, seed, classes=None):
    """An image or a label map whose size does not depend on its content."""
    pixels = np.random.default_rng(seed).integers(0, classes or 256, (32, 32, *(() if classes else (3,))))
    Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.fixture
def where(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    lines = ["image,mask"]
    for number in range(3):
        bmp(data / f"{number}.bmp", number)
        bmp(data / f"{number}_mask.bmp", number, classes=2)
        lines.append(f"{number}.bmp,{number}_mask.bmp")
    (data / "m.csv").write_text("\n".join(lines))
    return run.Workspace(Store(tmp_path / "store"), data, tmp_path)


def recipe(seed=0, **changes):
    dataset = {"name": "manifest", "file": "m.csv", "classes": [{"name": "a"}, {"name": "b"}]} | changes
    wanted = tiny.recipe(tiny.TINY.model_copy(update={"seed": seed}))
    return wanted.model_validate({**wanted.model_dump(), "dataset": dataset})


def extract(where, seed=0, **changes):
    return run.extract_recipe(recipe(seed, **changes), where, CPU)


def test_an_image_with_equal_status_is_read_again_by_the_next_run(where, frozen_status):
    first = extract(where)
    bmp(where.data / "0.bmp", 77)
    with pytest.raises(UserError, match=r"0\.bmp changed while it was being read: run the same command again"):
        extract(where, seed=1)
    second = extract(where, seed=1)  # not the same sentence for ever
    assert extract(where).outcomes[0].set.digest != first.outcomes[0].set.digest
    assert second.labels.digest != first.labels.digest  # of other images


def test_a_label_with_equal_status_is_never_stored_under_the_old_digest(where, frozen_status):
    first = extract(where)
    bmp(where.data / "0_mask.bmp", 77, classes=2)
    for key in list(where.store.objects.keys(first.labels.prefix)):
        where.store.objects.delete(key)
    with pytest.raises(UserError, match=r"0_mask\.bmp changed while it was being read"):
        extract(where)
    assert not any(one.digest == first.labels.digest for one in where.store.sets())
    second = extract(where)
    assert second.labels.digest != first.labels.digest


def test_an_unchanged_size_and_time_is_not_enough(where):
    """Inode and time of the last change of the status tell, where the file system keeps them."""
    first = extract(where)
    for name, classes in (("0.bmp", None), ("1_mask.bmp", 2)):
        path = where.data / name
        status = path.stat()
        bmp(path, 77, classes)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    second = extract(where)
    assert second.outcomes[0].set.digest != first.outcomes[0].set.digest
    assert second.labels.digest != first.labels.digest


@pytest.mark.parametrize("bad_samples", ["stop", "keep-invalid"])
def test_a_mask_saved_between_hashing_and_reading_stops_the_run(where, monkeypatch, bad_samples):
    """What an annotator does while `extract` runs; under keep-invalid it is no finding on the mask either."""
    hashed = FileDigests.of

    def of(self, paths):
        found = hashed(self, paths)
        bmp(where.data / "0_mask.bmp", 77, classes=2)
        return found

    with monkeypatch.context() as annotated:
        annotated.setattr(FileDigests, "of", of)
        with pytest.raises(UserError, match=r"0_mask\.bmp changed while it was being read"):
            extract(where, bad_samples=bad_samples)
    assert list(where.store.sets()) == []
    report = extract(where, bad_samples=bad_samples)
    assert report.labels.samples["valid"].all()


def fair1m(root, x):
    box = [(x, 2), (x + 9, 2), (x + 9, 9), (x, 9), (x, 2)]
    layouts.fair1m(root / "fair1m/train/part1", 0, layouts.fair1m_object("Boeing737", box), width=32, height=32)


def dota(root, x):
    layouts.dota(root / "dota", "P1", f"{x} 2 {x + 9} 2 {x + 9} 9 {x} 9 ship 0", width=32, height=32)


def nwpu(root, x):
    layouts.nwpu(root / "nwpu_vhr10", [(0, 2, [x, 2, x + 9, 2, x + 9, 9, x, 9])], images=("001.jpg",))


def mot(root, x):
    layouts.mot(root / "mot" / "one", f"1,1,{x},2,9,9,1,1,1", frames=1)


def bdd(root, x):
    layouts.bdd(root / "bdd100k", "b1", [layouts.bdd_label("7", "car", (x, 2, x + 9, 9))])


@pytest.mark.parametrize(
    ("name", "write"), [("fair1m", fair1m), ("dota", dota), ("nwpu-vhr10", nwpu), ("mot", mot), ("bdd100k-mot", bdd)]
)
def test_annotations_of_every_reader_are_hashed_when_they_are_read(tmp_path, frozen_status, name, write):
    data = tmp_path / "data"
    write(data, 11)
    where = run.Workspace(Store(tmp_path / "store"), data, tmp_path)
    wanted = tiny.recipe(dataset={"name": name}, frame={"input": 32})
    run.read_samples(wanted, where)
    write(data, 12)
    with pytest.raises(UserError, match="changed while it was being read"):
        run.extract_recipe(wanted, where, CPU)
    assert list(where.store.sets()) == []
    report = run.extract_recipe(wanted, where, CPU)
    assert float(report.labels.table("objects")["left"].iloc[0]) in (11.0, 12.0)


def test_what_one_run_hashed_and_noted_is_forgotten_by_the_same_run(where, frozen_status, monkeypatch):
    """The first run of a store notes the hash before it reads the label that was edited in between."""
    saved = FileDigests.save

    def save(self):
        saved(self)
        monkeypatch.setattr(FileDigests, "save", saved)
        bmp(where.data / "0_mask.bmp", 77, classes=2)

    monkeypatch.setattr(FileDigests, "save", save)
    with pytest.raises(UserError, match=r"0_mask\.bmp changed while it was being read"):
        extract(where)
    assert extract(where).labels is not None


def test_extract_says_which_files_were_not_looked_at(tmp_path):
    data = tmp_path / "data"
    layouts.write_image(data / "folder" / "a.png", width=32, height=32)
    (data / "folder" / "b.heic").write_bytes(b"\0")
    where = run.Workspace(Store(tmp_path / "store"), data, tmp_path)
    report = run.extract_recipe(tiny.recipe(dataset={"name": "folder"}, frame={"input": 32}), where, CPU)
    assert report.notes == ["folder: 1 file was not looked at, being no image that can be read: 1 .heic."]
