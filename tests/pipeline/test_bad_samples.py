"""Bad samples: kept as invalid rows that are the same for every writer, or a stop with their names."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.dataset_recipe import DatasetRecipe
from pipeline.datasets.reading import images
from pipeline.extraction import run
from pipeline.extraction.compute import Compute
from pipeline.extraction.extract import extract
from pipeline.extraction.job import prepare
from pipeline.extraction.options import ExtractOptions
from pipeline.extraction.plan import labelled_coverage, plan_models, warnings
from pipeline.extraction.recomputing.fidelity import recompute_rows
from pipeline.extraction.recomputing.repair import repair_recipe
from pipeline.extraction.run import Recorded
from pipeline.labels.label_set import PIXELS
from pipeline.labels.making_labels import make_labels
from pipeline.models import build_model
from pipeline.recipe import FeatureRecipe, Recipe
from pipeline.rows import bad_samples, sources
from pipeline.rows.file_notes import UNKNOWN, FileNotes
from pipeline.rows.preview import choose_rows
from pipeline.views import CLEAN
from stores import Store
from stores.errors import MissingError, UserError
from stores.maintenance.describe import card
from stores.maintenance.listing import lines
from stores.maintenance.verify import verify
from stores.specs import FrameSpec
from tests.pipeline import layouts, tiny
from tests.pipeline.tiny import TINY, write_camvid

CPU = Compute("cpu", batch_size=4, threads=1)
KEEP = DatasetRecipe(name="camvid", bad_samples="keep-invalid")
BAD = "train/0001TP_train001.png"
"""The second of seven images, rows 4 to 7 of 28."""


@pytest.fixture
def data(tmp_path):
    write_camvid(tmp_path / "data" / "camvid")
    return tmp_path / "data"


def recipe(**changes):
    """Two layers, in ranges of four rows."""
    return tiny.recipe(features=FeatureRecipe(layers=(4, 5), prefix=False), **changes)


def site(tmp_path, data, name="store"):
    return run.Workspace(Store(tmp_path / name), data, tmp_path)


def extract_all(wanted, where, **options):
    return run.extract_recipe(wanted, where, CPU, ExtractOptions(**options))


def truncate(data, name=BAD):
    path = data / "camvid" / name
    path.write_bytes(path.read_bytes()[:-200])


def label_of(data, name=BAD):
    return data / "camvid" / name.replace("/", "annot/", 1)


def assert_whole(store):
    assert [finding for verdict in verify(store) for finding in verdict.findings] == []


def test_a_truncated_image_keeps_its_rows_as_invalid_and_changes_no_other(tmp_path, data):
    clean = extract_all(recipe(), site(tmp_path, data, "clean"))
    truncate(data)
    where = site(tmp_path, data)
    with pytest.raises(UserError, match=r"train001\.png cannot be read as an image"):
        extract_all(recipe(), where)
    report = extract_all(recipe(dataset=KEEP), where)
    made = report.outcomes[0].set
    assert_whole(where.store)
    bad = np.zeros(28, bool)
    bad[4:8] = True
    for stored_set in (made, report.labels):
        table = stored_set.samples
        np.testing.assert_array_equal(table["valid"], ~bad)
        assert set(table["reason"][~bad]) == {""}
        [reason] = set(table["reason"][bad])
        assert reason.startswith(f"{BAD} cannot be read as an image (")
        assert "/data/" not in reason
        assert card(stored_set)["invalid_because"] == {reason: 4}
    for name in made.arrays:
        values = made[name][:]
        assert np.isnan(values[bad]).all(), name
        np.testing.assert_array_equal(values[~bad], clean.outcomes[0].set[name][:][~bad], err_msg=name)
    for name in report.labels.arrays:
        values = report.labels[name][:]
        assert (values[bad] == 255).all(), name
        np.testing.assert_array_equal(values[~bad], clean.labels[name][:][~bad], err_msg=name)
    told = {one["digest"]: one["invalid_rows"] for one in lines(where.store.objects)}
    assert told[made.digest] == told[report.labels.digest] == 4
    assert report.outcomes[0].set.provenance["invalid_because"] == [reason]


def test_a_run_that_stopped_at_a_bad_image_leaves_nothing_that_the_policy_would_take_for_its_own(tmp_path, data):
    """The set that was begun calls every row valid, so the set with invalid rows is another one."""
    truncate(data, "val/0001TP_val002.png")
    where = site(tmp_path, data)
    with pytest.raises(UserError, match="cannot be read"):
        extract_all(recipe(), where)
    started = {one.digest for one in where.store.sets()}
    report = extract_all(recipe(dataset=KEEP), where)
    assert report.outcomes[0].set.digest not in started
    assert not report.outcomes[0].missing
    alone = extract_all(recipe(dataset=KEEP), site(tmp_path, data, "alone"))
    assert report.outcomes[0].set.stored_digest() == alone.outcomes[0].set.stored_digest()
    assert report.labels.stored_digest() == alone.labels.stored_digest()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: path.write_bytes(b"no picture"), "cannot be read as an image"),
        (lambda path: Image.new("RGB", (20, 40)).save(path), "an image of 20x40 pixels (width x height) is smaller"),
    ],
)
def test_an_image_without_known_tiles_is_one_row(tmp_path, data, spoil, says):
    clean = extract_all(recipe(), site(tmp_path, data, "clean")).outcomes[0].set
    spoil(data / "camvid" / BAD)
    where = site(tmp_path, data)
    report = extract_all(recipe(dataset=KEEP), where)
    assert_whole(where.store)
    made = report.outcomes[0].set
    table = made.samples
    assert list(np.flatnonzero(~table["valid"])) == [4]
    assert len(table) == 25
    assert says in table["reason"][4]
    assert list(table.loc[4, ["owned_left", "owned_top", "owned_right", "owned_bottom"]]) == [0, 0, 0, 0]
    rest = np.r_[0:4, 8:28]
    # Other batches than before: the last bits may differ, and nothing else.
    np.testing.assert_allclose(
        made["block.5.norm"][:][table["valid"]], clean["block.5.norm"][:][rest], rtol=2e-3, atol=2e-3
    )
    assert (report.labels[PIXELS][4] == 255).all()


def spoil_ids(path):
    ids = np.array(Image.open(path))
    ids[0, 0] = 77
    Image.fromarray(ids).save(path)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (spoil_ids, "trainannot/0001TP_train001.png holds the unknown ids [77]"),
        (lambda path: path.unlink(), "trainannot/0001TP_train001.png is missing, the labels of train/0001TP_train001"),
        (lambda path: path.write_bytes(b""), "cannot be read as an image"),
        (lambda path: Image.new("L", (8, 8)).save(path), "is 8x8 pixels (width x height) and its image 64x48"),
    ],
)
def test_a_bad_label_makes_label_rows_invalid_and_never_runs_a_model_again(tmp_path, data, monkeypatch, spoil, says):
    where = site(tmp_path, data)
    clean = extract_all(recipe(), where)
    spoil(label_of(data))
    with pytest.raises(UserError, match="train001"):
        extract_all(recipe(), where)
    monkeypatch.setattr("pipeline.extraction.computing.ModelPass", None)
    report = extract_all(recipe(dataset=KEEP), where)
    assert_whole(where.store)
    assert report.outcomes[0].set.digest == clean.outcomes[0].set.digest
    assert report.outcomes[0].set.samples["valid"].all()
    assert report.labels.digest != clean.labels.digest
    table = report.labels.samples
    assert list(np.flatnonzero(~table["valid"])) == [4, 5, 6, 7]
    assert says in table["reason"][4]
    assert str(tmp_path) not in table["reason"][4]
    for name in report.labels.arrays:
        assert (report.labels[name][4:8] == 255).all()
        np.testing.assert_array_equal(report.labels[name][8:], clean.labels[name][8:])


def test_more_than_one_per_cent_stops_the_run_before_anything_is_made(tmp_path, data):
    truncate(data)
    label_of(data, "val/0001TP_val000.png").unlink()
    where = site(tmp_path, data)
    with pytest.raises(UserError) as stop:
        extract_all(recipe(dataset=KEEP), where)
    sentence = str(stop.value)
    assert sentence.startswith("2 of 7 images are bad and at most 1 may be kept as invalid (1 %, and one in any set): ")
    assert f"(1) {BAD} cannot be read" in sentence
    assert "(2) valannot/0001TP_val000.png is missing" in sentence
    assert list(where.store.sets()) == []


def test_how_many_are_too_many():
    def allowed(n_sources):
        n_bad, refused = 0, None
        while refused is None:
            n_bad += 1
            try:
                bad_samples.check_bad_count({str(number): f"bad {number}" for number in range(n_bad)}, n_sources)
            except UserError as error:
                refused = str(error)
        return n_bad - 1, refused

    assert [allowed(n)[0] for n in (1, 2, 99, 100, 199, 200, 1000)] == [0, 1, 1, 1, 1, 2, 10]
    assert allowed(1000)[1].endswith("(1) bad 0; (2) bad 1; (3) bad 2; and 8 more")


def test_the_policy_changes_no_byte_where_every_sample_is_good(tmp_path, data):
    stopped = extract_all(recipe(), site(tmp_path, data))
    kept = extract_all(recipe(dataset=KEEP), site(tmp_path, data, "kept"))
    assert kept.outcomes[0].set.digest == stopped.outcomes[0].set.digest
    assert kept.outcomes[0].set.stored_digest() == stopped.outcomes[0].set.stored_digest()
    assert kept.labels.stored_digest() == stopped.labels.stored_digest()
    assert "invalid_rows" not in kept.labels.provenance
    assert (
        recipe().dataset.canonical()
        == recipe(dataset=DatasetRecipe(name="camvid", bad_samples="stop")).dataset.canonical()
    )
    assert "bad_samples" not in recipe().dataset.canonical()
    assert recipe(dataset=KEEP).model_key(TINY) != recipe().model_key(TINY)


class KilledError(Exception):
    """Stands for a kill."""


def test_shards_and_killed_runs_come_to_the_same_bytes(tmp_path, data):
    truncate(data)
    wanted = recipe(dataset=KEEP)
    alone = extract_all(wanted, site(tmp_path, data, "alone"))

    def kill(progress):
        if progress.rows_done >= 8:
            raise KilledError

    where = site(tmp_path, data)
    with pytest.raises(KilledError):
        extract_all(wanted, where, on_progress=kill)
    resumed = extract_all(wanted, site(tmp_path, data))
    assert 0 < resumed.outcomes[0].rows_made <= 28
    parts = [extract_all(wanted, site(tmp_path, data, "shards"), shard=(index, 2)) for index in (1, 0)]
    for one in (resumed, parts[-1]):
        assert not one.outcomes[0].missing
        assert one.outcomes[0].set.stored_digest() == alone.outcomes[0].set.stored_digest()
        assert one.labels.stored_digest() == alone.labels.stored_digest()


def test_images_are_judged_once(tmp_path, data, monkeypatch):
    truncate(data)
    where = site(tmp_path, data)
    samples = run.read_samples(recipe(dataset=KEEP), where)
    monkeypatch.setattr(images, "read_image", None)
    again = run.read_samples(recipe(dataset=KEEP), where)
    assert again.bad_images == samples.bad_images
    assert again.digest == samples.digest
    label = label_of(data)
    spoil_ids(label)  # another label file: this one source is judged again
    with pytest.raises(TypeError):
        run.read_samples(recipe(dataset=KEEP), where)


def test_a_file_that_cannot_be_opened_is_no_bad_sample(tmp_path, data, monkeypatch):
    """After the disk is repaired, a user must not find its files remembered as broken."""
    where = site(tmp_path, data)
    run.read_samples(recipe(dataset=KEEP), where)
    opened = Path.open

    def refuse(path, *arguments, **options):
        if path.name == Path(BAD).name:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return opened(path, *arguments, **options)

    with monkeypatch.context() as broken:
        broken.setattr(Path, "open", refuse)
        with pytest.raises(UserError, match=r"train001\.png cannot be opened \(Input/output error\)"):
            run.read_samples(recipe(dataset=KEEP), where)
    assert run.read_samples(recipe(dataset=KEEP), where).bad == {}


def test_reasons_do_not_depend_on_where_the_data_are_named_from(tmp_path, data, monkeypatch):
    label_of(data).write_bytes(b"")
    truncate(data, "val/0001TP_val000.png")
    monkeypatch.setattr(bad_samples, "IMAGES_PER_BAD_IMAGE", 3)
    monkeypatch.chdir(tmp_path)
    far = run.read_samples(recipe(dataset=KEEP), site(tmp_path, data))
    near = run.read_samples(recipe(dataset=KEEP), site(tmp_path, Path("data")))
    assert far.bad == near.bad
    assert list(far.bad) == [BAD, "val/0001TP_val000.png"]
    assert far.bad[BAD].startswith("trainannot/0001TP_train001.png cannot be read as an image (")


def test_a_model_that_gives_nan_is_refused_beside_an_invalid_row(tmp_path, data):
    """The bad image's rows would hide in the same batch; the message names a valid sample and counts by layer."""
    Image.new("RGB", (20, 40)).save(data / "camvid" / BAD)  # row 4, the first of a batch of four
    where = site(tmp_path, data)
    wanted = recipe(dataset=KEEP)
    samples = run.read_samples(wanted, where)
    model = build_model(TINY, wanted.frame.input, tmp_path)
    model.blocks[4].register_forward_hook(lambda module, inputs, output: output * float("nan"))
    with pytest.raises(UserError) as stop:
        extract(prepare(wanted, TINY, model, samples, where.store), where.store, CPU, ExtractOptions(shard=(1, 2)))
    sentence = str(stop.value)
    assert sentence.startswith(
        "768 values of test_vit, tokens/block.4.norm, row 5 (train/0001TP_train002.png[0,0]) are"
    )
    assert "infinite (768 NaN) (in the same 3 samples 768 of tokens/block.5.norm): check the weights" in sentence


def test_chunks_with_invalid_rows_are_mended(tmp_path, data):
    truncate(data)
    where = site(tmp_path, data)
    wanted = recipe(dataset=KEEP)
    report = extract_all(wanted, where)
    made, labels = report.outcomes[0].set, report.labels
    lost = [f"{made.prefix}/tokens/block.5.norm/c.1.0.0", f"{labels.prefix}/pixels/classes/c.0.0.0"]
    lost += [f"{labels.prefix}/samples.parquet", f"{made.prefix}/samples.parquet"]
    before = {key: where.store.objects.read(key) for key in lost}
    for key in lost:
        where.store.objects.put(key, [b"damage"])
    recorded = [Recorded(TINY, CLEAN, made.digest, labels.digest)]
    repair_recipe(wanted, where, recorded, lambda: CPU)
    assert {key: where.store.objects.read(key) for key in lost} == before
    assert_whole(where.store)


def test_views_keep_the_same_rows_invalid(tmp_path, data):
    truncate(data)
    shown = [{"name": "noise", "levels": [20.0]}, {"name": "shift", "levels": [16]}]
    wanted = Recipe.model_validate({**recipe(dataset=KEEP).model_dump(), "views": shown})
    where = site(tmp_path, data)
    report = extract_all(wanted, where)
    assert_whole(where.store)
    assert len(report.outcomes) == 3
    samples = {outcome.set.spec.samples for outcome in report.outcomes}
    assert len(samples) == 1
    for outcome in report.outcomes:
        for name, array in outcome.set.arrays.items():
            values = outcome.set[name][:]
            bad = np.isnan(values).reshape(28, -1)
            assert bad[4:8].all(), name
            assert not bad[np.r_[:4, 8:28]].any(), array
    [moved] = [one for one in where.store.sets() if one.spec.kind == "labels" and one.spec.view.name == "shift"]
    found = moved["correspondence/2x2"][:]
    assert (found[4:8] == -1).all()
    assert (found[:4] >= 0).any()


def test_plan_preview_and_fidelity_pass_over_invalid_rows(tmp_path, data):
    truncate(data, "train/0001TP_train000.png")
    where = site(tmp_path, data)
    wanted = recipe(dataset=KEEP)
    samples = run.read_samples(wanted, where)
    plans = list(plan_models(wanted, where, samples, CPU))
    assert plans[0].rows == 28
    assert labelled_coverage(samples) == 1
    [note] = [line for line in warnings(plans, samples, None, None) if "invalid" in line]
    assert note.startswith("1 of 7 images are bad and kept as invalid: train/0001TP_train000.png cannot be read")
    assert min(choose_rows(samples, 28, 0)) == 4
    extract_all(wanted, where)
    job = prepare(wanted, TINY, build_model(TINY, wanted.frame.input, tmp_path), samples, where.store)
    again = recompute_rows(job, CPU, 28, 0)
    assert list(again.rows) == list(range(4, 28))
    for name, values in again.arrays.items():
        np.testing.assert_array_equal(values, job.existing[name][again.rows])


def test_headers_of_unchanged_images_are_not_read_again(tmp_path, data, monkeypatch):
    where = site(tmp_path, data)
    first = run.read_samples(recipe(), where)
    read = []
    before = sources.read_header
    monkeypatch.setattr(sources, "read_header", lambda path: read.append(path) or before(path))
    again = run.read_samples(recipe(), where)
    assert not read
    assert (dict(again.sizes), again.digest) == (dict(first.sizes), first.digest)
    pd.testing.assert_frame_equal(again.table, first.table)
    changed = next(iter(first.sources.values())).image
    changed.write_bytes(changed.read_bytes() + b"\0")
    run.read_samples(recipe(), where)
    assert read == [changed]


def test_findings_on_samples_are_kept_beside_the_hashes_of_files(tmp_path, data):
    """Hashes and sizes are columns; findings, which few experiments ask for, are a record of their own."""
    where = site(tmp_path, data)
    run.read_samples(recipe(), where)
    [key] = where.store.objects.keys("sources")
    notes = FileNotes.from_bytes(where.store.objects.read(key))
    assert set(notes.headers[:, 0].tolist()) == {48, UNKNOWN}  # of images, and of labels
    run.read_samples(recipe(dataset=KEEP), where)
    keys = {Path(one).suffix: one for one in where.store.objects.keys("sources")}
    assert keys.keys() == {".notes", ".json"}
    assert len(json.loads(where.store.objects.read(keys[".json"]))["verdicts"]) == 7


def lay_out(root, name):
    """Write two labelled images of a layout, and another whose label file is not there; return the recipe."""
    options = {}
    if name == "dota":
        for stem in ("1", "2"):
            layouts.dota(root / "train", stem, "1 1 20 1 20 20 1 20 plane 0")
        layouts.write_image(root / "train" / "images" / "3.png")
    elif name == "fair1m":
        for number in ("1", "2"):
            layouts.fair1m(root / "train" / "part1", number)
        layouts.write_image(root / "train" / "part1" / "images" / "3.tif")
    elif name == "ade20k":
        for stem in ("a", "b"):
            layouts.ade20k(root, "train", stem, np.ones((30, 40), np.uint8))
        layouts.write_image(root / "images" / "training" / "c.jpg")
    elif name == "cityscapes":
        for number in range(3):
            stem = f"val/ulm/ulm_{number:06d}_000019"
            layouts.write_image(root / "leftImg8bit" / f"{stem}_leftImg8bit.png")
            if number < 2:
                layouts.write_image(root / "gtFine" / f"{stem}_gtFine_labelIds.png")
                Image.new("L", (40, 30), 7).save(root / "gtFine" / f"{stem}_gtFine_labelIds.png")
    elif name == "manifest":
        for stem in ("a", "b", "c"):
            layouts.write_image(root / f"{stem}.png")
            Image.new("L", (40, 30)).save(root / f"{stem}_mask.png")
        (root / "c_mask.png").unlink()
        layouts.write_text(root / "list.csv", "image,mask", *(f"{stem}.png,{stem}_mask.png" for stem in "abc"))
        options = {"file": "list.csv", "classes": ({"name": "road"},)}
    return {"name": name, "folder": "here", **options}


@pytest.mark.parametrize("name", ["dota", "fair1m", "ade20k", "cityscapes", "manifest"])
def test_readers_of_one_label_an_image_keep_an_image_without_its_own(tmp_path, name):
    where = run.Workspace(Store(tmp_path / "store"), tmp_path, tmp_path)
    asked = lay_out(tmp_path / "here", name)
    frame = FrameSpec(input=32)
    with pytest.raises(MissingError, match=r"is missing, the labels of|there is no file"):
        run.read_samples(recipe(dataset=DatasetRecipe.model_validate(asked), frame=frame), where)
    kept = DatasetRecipe.model_validate({**asked, "bad_samples": "keep-invalid"})
    samples = run.read_samples(recipe(dataset=kept, frame=frame), where)
    assert list(samples.table["valid"]) == [True] * 3
    assert list(samples.label_table["valid"]) == [True, True, False]
    [reason] = samples.bad_labels.values()
    assert " is missing, the labels of " in reason
    assert str(tmp_path) not in reason
    labels, _ = make_labels(samples, where.store, [(2, 2)], {})
    assert (labels[PIXELS][2] == 255).all()
    assert (labels[PIXELS][0] != 255).any()
    assert labels.samples["label_sha256"][2] == ""


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: path.unlink(), "b1.json is missing, the labels of images/track/val/b1/b1-0000001.jpg"),
        (lambda path: path.write_text("{"), "b1.json"),
        (lambda path: path.write_text("[]"), None),
    ],
)
def test_the_one_label_file_of_a_video_is_bad_for_each_of_its_frames(tmp_path, monkeypatch, spoil, says):
    car = layouts.bdd_label("1", "car", (0, 0, 9, 4))
    spoiled, _ = layouts.bdd(tmp_path / "bdd100k", "b1", [car], [car])
    layouts.bdd(tmp_path / "bdd100k", "b2", *([car] for _ in range(3)))
    spoil(spoiled)
    where = run.Workspace(Store(tmp_path / "store"), tmp_path, tmp_path)
    wanted = Recipe(
        dataset=DatasetRecipe(name="bdd100k-mot", bad_samples="keep-invalid"), frame=FrameSpec(input=32), models=(TINY,)
    )
    if says is None:  # a video without annotated frames is no damage
        assert run.read_samples(wanted, where).bad == {}
        return
    with pytest.raises(UserError, match=r"2 of 5 images are bad and at most 1 may be kept .*b1\.json"):
        run.read_samples(wanted, where)
    monkeypatch.setattr(bad_samples, "IMAGES_PER_BAD_IMAGE", 2)
    samples = run.read_samples(wanted, where)
    assert list(samples.label_table["valid"]) == [False, False, True, True, True]
    assert samples.table["valid"].all()
    assert says in samples.bad_labels["images/track/val/b1/b1-0000001.jpg"]
    labels, _ = make_labels(samples, where.store, [(2, 2)], {})
    assert set(labels.table("objects")["video"]) == {"b2"}
    notes = warnings([], samples, None, None)
    assert any("b1.json" in note and "cannot be used" in note for note in notes)
