"""Sets of views: the right pixels from files, the same bytes however they are made, and clean ones as before."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.extraction import run
from pipeline.extraction.compute import Compute
from pipeline.extraction.job import feature_spec, prepare
from pipeline.extraction.loading import Loader
from pipeline.extraction.options import ExtractOptions
from pipeline.extraction.recomputing.fidelity import recompute_rows
from pipeline.extraction.recomputing.repair import repair_recipe
from pipeline.labels.label_set import PIXELS, label_spec
from pipeline.labels.patch_labels import patch_labels
from pipeline.models import build_model
from pipeline.recipe import Recipe
from pipeline.rows.frames import tiles
from pipeline.rows.pixels import read_tiles
from pipeline.rows.under_view import for_view
from pipeline.source_choice import SourceChoice
from stores import Store
from stores.errors import UserError
from stores.format.layout import RowRange
from stores.specs import FrameSpec, Size, ViewSpec
from tests.pipeline.tiny import TINY, recipe, write_camvid

CPU = Compute("cpu", batch_size=4, threads=1)
MIXED = (
    {"name": "noise", "levels": [20.0]},
    {"name": "frequency-noise", "levels": [0.375]},
    {"name": "crop"},
    {"name": "colour-jitter"},
)


@pytest.fixture
def data(tmp_path):
    write_camvid(tmp_path / "data" / "camvid", n_train=2, n_val=1)
    return tmp_path / "data"


def site(tmp_path, data, name="store"):
    return run.Workspace(Store(tmp_path / name), data, tmp_path)


def with_views(*views, **changes):
    return Recipe.model_validate({**recipe(**changes).model_dump(), "views": views})


def extract_all(wanted, where, **options):
    report = run.extract_recipe(wanted, where, CPU, ExtractOptions(**options))
    return {outcome.title: outcome for outcome in report.outcomes}


def test_the_loader_resizes_first_then_changes_then_cuts(tmp_path, data):
    """By hand with Pillow: a shift of 3 pixels counts in pixels of the resized source."""
    frame = FrameSpec(input=32, tile=32, resize=Size(height=40, width=50))
    wanted = with_views({"name": "shift", "levels": [3]}, {"name": "greyscale"}, frame=frame)
    samples = run.read_samples(wanted, site(tmp_path, data))
    name = samples.tiles[0][0]
    plane = Image.open(data / "camvid" / name).convert("RGB").resize((50, 40), Image.Resampling.BICUBIC)
    for view, _ in wanted.all_views():
        pixels, _ = read_tiles(for_view(samples, view), "bicubic", 0, 1)
        by_hand = np.asarray(plane)
        by_hand = by_hand[3:35, 3:35] if view.name == "shift" else by_hand[:32, :32]
        if view.name == "greyscale":
            by_hand = np.rint(by_hand @ np.array([0.299, 0.587, 0.114]))[..., None].repeat(3, 2)
        np.testing.assert_array_equal(pixels[0], by_hand)


@pytest.mark.parametrize("settings", MIXED, ids=lambda settings: settings["name"])
def test_bytes_depend_on_neither_workers_nor_order(tmp_path, data, settings):
    wanted = with_views(settings)
    samples = run.read_samples(wanted, site(tmp_path, data))
    [_, (view, _)] = wanted.all_views()
    shown = for_view(samples, view)
    ranges = [RowRange(number, start, min(start + 5, 12)) for number, start in enumerate(range(0, 12, 5))]
    made = []
    for workers, order in ((1, ranges), (4, ranges), (4, ranges[::-1])):
        rows = {}
        for batch in Loader(shown, "bicubic", 3, workers).batches(order):
            for row, pixels in enumerate(batch.pixels[: len(batch)]):
                facts = [values[row].tobytes() for _, values in sorted(batch.sample_stats.items())]
                rows[batch.start + row] = (pixels.tobytes(), *facts)
        made.append(rows)
    assert sorted(made[0]) == list(range(12))
    assert made[0] == made[1] == made[2]
    alone = with_views(settings)
    kept = run.read_samples(alone, site(tmp_path, data), SourceChoice(lambda table: [table["source"].iloc[-1]]))
    last, _ = read_tiles(for_view(kept, view), "bicubic", 0, 4)
    assert [pixels.tobytes() for pixels in last] == [made[0][row][0] for row in range(8, 12)], "rows are not counted"


def test_clean_records_are_what_they_were_without_views(tmp_path, data):
    wanted = with_views(*MIXED)
    samples = run.read_samples(wanted, site(tmp_path, data))
    model = build_model(TINY, wanted.frame.input, tmp_path)
    spec = feature_spec(model, samples, wanted.features)
    assert spec.view == ViewSpec()
    assert set(spec.revisions) == {"capture", "frames", "images"}
    assert set(label_spec(samples).revisions) == {"frames", "patch_labels"}
    assert recipe().model_key(TINY) == wanted.model_key(TINY)
    keys = {wanted.model_key(TINY, view=view) for view, _ in wanted.all_views()}
    assert len(keys) == 5
    first = extract_all(wanted, site(tmp_path, data))["test_vit"].set
    assert first.stored_digest() == extract_all(recipe(), site(tmp_path, data, "other"))["test_vit"].set.stored_digest()


def test_views_resume_and_share_ranges_like_clean_sets(tmp_path, data):
    where, wanted = site(tmp_path, data), with_views(MIXED[0], {"name": "rotation", "levels": [20.0]})
    for index in range(2):
        parts = extract_all(wanted, where, shard=(index, 2))
        assert sum(part.rows_made for part in parts.values()) == 3 * (8, 4)[index]
    alone = extract_all(wanted, site(tmp_path, data, "alone"))
    assert list(alone) == ["test_vit", "test_vit, noise 20", "test_vit, rotation 20"]
    for title, part in parts.items():
        assert part.set.stored_digest() == alone[title].set.stored_digest()
    noise = alone["test_vit, noise 20"].set
    assert set(noise.arrays) == {
        *("tokens/block.5", "tokens/block.5.norm", "prefix/block.5", "prefix/block.5.norm"),
        *("view/noise_energy", "view/clipped_share", "view/noise_energy_input"),
    }
    page = (Path(__file__).parents[2] / "stores" / "README.md").read_text().split("## Arrays")[1].split("\n\n")[2]
    named = "|".join(
        re.sub("<[a-z]+>", "[a-z0-9]+", name.replace(".", r"\.")) for name in re.findall(r"`(\w+/.*?)`", page)
    )
    for one in where.store.sets():
        assert [name for name in one.arrays if not re.fullmatch(named, name)] == [], "the format page names every array"
    assert noise["view/noise_energy"][:].mean() == pytest.approx(400, rel=0.1)
    again = extract_all(wanted, where)
    assert sum(part.rows_made for part in again.values()) == 0
    path = next((tmp_path / "store" / "features" / noise.digest / "view" / "noise_energy").glob("c.0"))
    assert path.stat().st_size == 4 * 4 + 4


def test_only_the_facts_of_a_view_can_be_made_again(tmp_path, data):
    where, wanted = site(tmp_path, data), with_views(MIXED[0])
    samples = run.read_samples(wanted, where)
    model = build_model(TINY, wanted.frame.input, tmp_path)
    (view, features) = list(wanted.all_views())[1]
    whole = prepare(wanted, TINY, model, samples, where.store, view, features)
    from dataclasses import replace

    from pipeline.extraction.extract import extract

    extract(replace(whole, arrays=tuple(a for a in whole.arrays if not a.name.startswith("view/"))), where.store, CPU)
    left = prepare(wanted, TINY, model, samples, where.store, view, features)
    assert extract(left, where.store, CPU).rows_made == 12
    assert where.store.open(left.spec).sealed("view/clipped_share")


def test_labels_of_views(tmp_path, data):
    where = site(tmp_path, data)
    wanted = with_views({"name": "blur", "levels": [5]}, {"name": "flip"}, {"name": "size", "levels": [16, 64]})
    run.extract_recipe(wanted, where, CPU)
    found = {}
    for view, _ in wanted.all_views():
        noted = where.store.recall(wanted.model_key(TINY, view=view))
        found[view.title] = where.store.open(noted["features"]), where.store.open(noted["labels"])
    clean = found["clean"][1]
    assert found["blur 5"][1].digest == clean.digest
    features, labels = found["flip 1"]
    np.testing.assert_array_equal(labels[PIXELS][:], clean[PIXELS][:][:, :, ::-1])
    np.testing.assert_array_equal(labels["patches/2x2"][:], patch_labels(labels[PIXELS][:], 2, 2))
    np.testing.assert_array_equal(labels["correspondence/2x2"][:], np.tile([1, 0, 3, 2], (12, 1)))
    # shift-last: the lower tiles share 16 rows with the upper ones, which are those ones' own.
    owned = labels.samples[["owned_left", "owned_top", "owned_right", "owned_bottom"]]
    assert owned.iloc[2].tolist() == [0, 16, 32, 32]
    features, labels = found["size 64"]
    assert features["block.5"].shape == (12, 16, 64)
    assert labels[PIXELS].shape == (12, 64, 64)
    np.testing.assert_array_equal(
        labels["correspondence/4x4-of-2x2"][0].reshape(4, 4), np.kron([[0, 1], [2, 3]], np.ones((2, 2)))
    )
    assert labels.samples.iloc[2]["owned_top"] == 32
    assert found["size 16"][1]["correspondence/1x1-of-2x2"][0].tolist() == [3], "a centre on a border is the next one's"


def test_unlabelled_data_have_correspondences_too(tmp_path):
    folder = tmp_path / "data" / "folder"
    folder.mkdir(parents=True)
    Image.new("RGB", (64, 48)).save(folder / "a.png")
    wanted = with_views({"name": "rotation", "levels": [45.0]}, dataset={"name": "folder"})
    report = run.extract_recipe(wanted, site(tmp_path, tmp_path / "data"), CPU)
    assert [outcome.rows_made for outcome in report.outcomes] == [4, 4]
    sets = [one for one in Store(tmp_path / "store").sets() if one.spec.view.name == "rotation"]
    labels = next(one for one in sets if one.spec.kind == "labels")
    assert set(labels.arrays) == {"correspondence/2x2"}


def test_the_model_sees_the_view(tmp_path, data):
    wanted = with_views({"name": "blur", "levels": [7], "layers": [2], "norm": "none"})
    made = extract_all(wanted, site(tmp_path, data))["test_vit, blur 7"].set
    assert set(made.arrays) == {"tokens/block.2", "prefix/block.2"}
    samples = run.read_samples(wanted, site(tmp_path, data))
    [_, (view, _)] = wanted.all_views()
    pixels, _ = read_tiles(for_view(samples, view), "bicubic", 0, 4)
    model = build_model(TINY, wanted.frame.input, tmp_path)
    assert len(tiles(wanted.frame, Size(height=48, width=64))) == 4
    with torch.inference_mode():
        tokens = model.module.forward_intermediates(
            model.normalise(torch.from_numpy(pixels).float()), indices=[2], output_fmt="NLC", intermediates_only=True
        )[0]
    np.testing.assert_allclose(made["block.2"][:4].astype(np.float32), tokens, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize(
    ("views", "says"),
    [
        (({"name": "blur", "levels": [5]}, {"name": "blur", "levels": [3, 5]}), "listed twice at level 5"),
        (({"name": "blurr"},), "blurr"),
        (({"name": "rotation", "fill": "white"},), "black"),
        (({"name": "noise", "levels": []},), "at least 1"),
        (({"name": "blur", "levels": [2.5]},), "integer"),
    ],
)
def test_mistakes_in_views_are_named(views, says):
    with pytest.raises(ValueError, match=says):
        with_views(*views)


def test_an_input_size_that_patches_do_not_divide_is_refused(tmp_path, data):
    with pytest.raises(UserError, match="patches of 16 pixels, which do not divide an input of 20x20"):
        extract_all(with_views({"name": "size", "levels": [20]}), site(tmp_path, data))


def test_a_full_disk_counts_all_views(tmp_path, data, monkeypatch):
    where = site(tmp_path, data)
    [(_, shown)] = run.jobs(wanted := with_views({"name": "blur"}), where, run.read_samples(with_views(), where))
    needed = sum(job.missing_bytes for _, job in shown)
    monkeypatch.setattr(type(where.store.objects), "free_bytes", lambda self: needed - 1)
    with pytest.raises(UserError, match=r"test_vit needs .* in \[features\] or \[\[views\]\]"):
        extract_all(wanted, where)
    assert list(where.store.sets()) == []


def test_damaged_facts_of_a_view_come_back(tmp_path, data):
    where, wanted = site(tmp_path, data), with_views(MIXED[0])
    report = run.extract_recipe(wanted, where, CPU)
    made, view = report.outcomes[1].set, list(wanted.all_views())[1][0]
    keys = [
        f"{made.prefix}/{name}/{chunk}"
        for name, chunk in (("view/noise_energy", "c.1"), ("tokens/block.5.norm", "c.1.0.0"))
    ]
    before = [where.store.objects.read(key) for key in keys]
    for key in keys:
        where.store.objects.put(key, [b"damage"])
    recorded = [run.Recorded(TINY, view, made.digest, report.labels.digest)]
    found = repair_recipe(wanted, where, recorded, lambda: CPU)
    assert [where.store.objects.read(key) for key in keys] == before
    assert found[1].remade == {"tokens/block.5.norm": [1], "view/noise_energy": [1]}


def test_fidelity_compares_what_the_model_gives_of_a_view(tmp_path, data):
    where, wanted = site(tmp_path, data), with_views(MIXED[0])
    samples = run.read_samples(wanted, where)
    extract_all(wanted, where)
    _, (_, job) = run.view_jobs(wanted, TINY, where, samples)
    again = recompute_rows(job, CPU, 3, 0)
    assert "tokens/block.5.norm" in again.arrays
    assert not [name for name in again.arrays if name.startswith("view/")]
    for name, values in again.arrays.items():
        np.testing.assert_array_equal(values, job.existing[name][again.rows])
