"""Extraction on a tiny data set: right rows, right resume, no work twice."""

import hashlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from commands.show import other_machines
from pipeline.extraction import run
from pipeline.extraction.compute import Compute
from pipeline.extraction.extract import complete, extract, start_extraction
from pipeline.extraction.job import prepare
from pipeline.extraction.loading import Loader
from pipeline.extraction.model_pass.running import ModelPass
from pipeline.extraction.options import ExtractOptions
from pipeline.labels.label_set import PIXELS
from pipeline.labels.patch_labels import patch_labels
from pipeline.models import build_model
from pipeline.recipe import FeatureRecipe
from pipeline.rows.pixels import read_tiles
from stores import Store
from stores.errors import UserError
from stores.maintenance.describe import card
from stores.maintenance.verify import verify
from stores.specs import FrameSpec
from tests.pipeline.tiny import TINY, recipe, write_camvid

CPU = Compute("cpu", batch_size=4, threads=1)


@pytest.fixture
def data(tmp_path):
    write_camvid(tmp_path / "data" / "camvid")
    return tmp_path / "data"


def site(tmp_path, data, name="store"):
    return run.Workspace(Store(tmp_path / name), data, tmp_path)


def extract_all(wanted, where, **options):
    return run.extract_recipe(wanted, where, CPU, ExtractOptions(**options))


def test_rows_are_the_tiles_and_no_crop_of_the_model_is_applied(tmp_path, data):
    """Cut and normalise by hand with Pillow and numpy; a model-config crop (0.95 for this model) would differ."""
    wanted = recipe(features=FeatureRecipe(norm="both", store_dtype="float32"))
    report = extract_all(wanted, site(tmp_path, data))
    made = report.outcomes[0].set
    table = made.samples
    model = build_model(TINY, wanted.frame.input, tmp_path)
    assert model.module.pretrained_cfg["crop_pct"] < 1
    stored = made["block.5.norm"][:]
    assert len(table) == 7 * 4
    for row in (0, 1, 2, 3, 13, 27):
        line = table.iloc[row]
        image = Image.open(data / "camvid" / line["source"]).convert("RGB")
        tile = np.asarray(image.crop((line["left"], line["top"], line["right"], line["bottom"])))
        assert tile.shape == (32, 32, 3)
        inputs = torch.from_numpy((tile / 255.0 - 0.5) / 0.5).float().permute(2, 0, 1)[None]
        with torch.inference_mode():
            expected = model.module.forward_features(inputs)[0, 1:]
        np.testing.assert_allclose(stored[row], expected, rtol=1e-4, atol=1e-4)


def test_labels_are_cut_with_the_pixels(tmp_path, data):
    report = extract_all(recipe(), site(tmp_path, data))
    labels = report.labels
    table = labels.samples
    for row in (0, 3, 17):
        line = table.iloc[row]
        whole = np.asarray(Image.open(data / "camvid" / line["source"].replace("/", "annot/", 1)))
        whole = np.where(whole == 11, 255, whole)
        expected = whole[line["top"] : line["bottom"], line["left"] : line["right"]]
        np.testing.assert_array_equal(labels[PIXELS][row], expected)
    np.testing.assert_array_equal(labels["patches/2x2"][:], patch_labels(labels[PIXELS][:], 2, 2))
    assert list(labels.table("classes")["name"])[:2] == ["sky", "building"]


class Exploding(torch.nn.Module):
    def forward(self, *args):
        raise AssertionError("the model was run although everything is stored")


def test_a_second_extraction_runs_no_model(tmp_path, data, monkeypatch):
    where = site(tmp_path, data)
    first = extract_all(recipe(), where)
    monkeypatch.setattr("pipeline.extraction.computing.ModelPass", Exploding)
    monkeypatch.setattr("pipeline.extraction.job.read_tiles", Exploding().forward)
    again = extract_all(recipe(), where)
    assert again.outcomes[0].rows_made == 0
    assert again.outcomes[0].rows_reused == 28
    assert again.outcomes[0].set.stored_digest() == first.outcomes[0].set.stored_digest()


def test_the_process_gets_its_threads_back(tmp_path, data):
    """Otherwise a second extraction of the process begins its sets with the threads of the first."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(CPU.threads + 1)
        extract_all(recipe(), site(tmp_path, data))
        assert torch.get_num_threads() == CPU.threads + 1
    finally:
        torch.set_num_threads(before)


def test_layers_added_later_leave_the_others_alone_and_equal_those_of_one_pass(tmp_path, data):
    where = site(tmp_path, data)
    first = extract_all(recipe(features=FeatureRecipe(layers=(5,), norm="final")), where).outcomes[0].set
    before = dict(first.content)
    later = extract_all(recipe(), where).outcomes[0].set
    assert later.digest == first.digest
    assert {name: later.content[name] for name in before} == before
    whole = extract_all(recipe(), site(tmp_path, data, "other")).outcomes[0].set
    assert whole.content == later.content


def test_shards_make_the_set_of_one_process(tmp_path, data):
    where = site(tmp_path, data)
    wanted = recipe()
    parts = [extract_all(wanted, where, shard=(index, 3)) for index in range(3)]
    assert sum(part.outcomes[0].rows_made for part in parts) == 28
    assert parts[0].outcomes[0].missing
    assert not parts[2].outcomes[0].missing
    alone = extract_all(wanted, site(tmp_path, data, "alone")).outcomes[0].set
    assert parts[2].outcomes[0].set.stored_digest() == alone.stored_digest()


def test_a_shard_without_a_range_may_come_first(tmp_path, data):
    where = site(tmp_path, data)
    surplus = extract_all(recipe(), where, shard=(99, 100)).outcomes[0]
    assert surplus.rows_made == 0
    assert set(surplus.missing) == set(surplus.set.arrays)
    assert not extract_all(recipe(), where).outcomes[0].missing


def test_an_edited_image_leads_to_another_set(tmp_path, data):
    where = site(tmp_path, data)
    first = extract_all(recipe(), where).outcomes[0].set
    path = next((data / "camvid" / "train").iterdir())
    pixels = np.asarray(Image.open(path)).copy()
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(path)
    assert extract_all(recipe(), where).outcomes[0].set.digest != first.digest


def test_an_edited_label_makes_new_labels_and_no_new_features(tmp_path, data, monkeypatch):
    where = site(tmp_path, data)
    first = extract_all(recipe(), where)
    path = next((data / "camvid" / "trainannot").iterdir())
    labels = np.asarray(Image.open(path)).copy()
    labels[:10] = 3
    Image.fromarray(labels).save(path)
    monkeypatch.setattr("pipeline.extraction.computing.ModelPass", Exploding)
    again = extract_all(recipe(), where)
    assert again.labels.digest != first.labels.digest
    assert again.outcomes[0].set.digest == first.outcomes[0].set.digest


def test_terms_of_use_are_those_of_these_weights_and_these_data(tmp_path, data, monkeypatch):
    made = extract_all(recipe(), site(tmp_path, data))
    features, labels = made.outcomes[0].set, made.labels
    assert features.provenance["licence_of_weights"] == "none: random weights"
    assert "CamVid" in features.provenance["licence_of_data"]

    model = build_model(TINY, wanted_size := FrameSpec(input=32, tile=32).input, tmp_path)
    safetensors.torch.save_file(model.module.state_dict(), tmp_path / "mine.safetensors")
    mine = TINY.model_copy(update={"weights": "mine.safetensors"})
    assert build_model(mine, wanted_size, tmp_path).licence == "not stated"
    mine = mine.model_copy(update={"licence": "CC0"})
    assert build_model(mine, wanted_size, tmp_path).licence == "CC0"

    # What is said of the terms names no other set: the same rows are not made twice.
    monkeypatch.setattr("pipeline.extraction.computing.ModelPass", Exploding)
    said = recipe(TINY.model_copy(update={"licence": "CC0"}))
    said = said.model_copy(update={"dataset": said.dataset.model_copy(update={"licence": "ours"})})
    again = extract_all(said, site(tmp_path, data))
    assert (again.outcomes[0].set.digest, again.labels.digest) == (features.digest, labels.digest)
    monkeypatch.undo()
    anew = extract_all(said, site(tmp_path, data, "another"))
    assert anew.outcomes[0].set.provenance["licence_of_data"] == anew.labels.provenance["licence_of_data"] == "ours"


def test_values_beyond_float16_name_layer_row_and_remedy(tmp_path, data):
    where = site(tmp_path, data)
    wanted = recipe()
    samples = run.read_samples(wanted, where)
    model = build_model(TINY, wanted.frame.input, tmp_path)
    with torch.no_grad():
        model.blocks[1].mlp.fc2.bias += 1e6
    job = prepare(wanted, TINY, model, samples, where.store)
    with pytest.raises(UserError, match=r'block\.1.*row 0.*65504.*store_dtype = "float32"'):
        extract(job, where.store, CPU)
    with torch.no_grad():
        model.blocks[0].mlp.fc2.bias += float("nan")
    with pytest.raises(UserError, match=r"block\.0.*NaN"):
        extract(prepare(wanted, TINY, model, samples, where.store), where.store, CPU)


def spoiled(model):
    """The same weights with values that are not: what a GPU of its own mind would give."""
    model.blocks[0].register_forward_hook(lambda module, inputs, output: output * float("nan"))
    return model


@pytest.mark.parametrize("ranges_there", [0, 1])
def test_a_first_batch_that_fails_touches_no_set_of_another_writer(tmp_path, data, ranges_there):
    where, wanted = site(tmp_path, data), recipe()
    samples = run.read_samples(wanted, where)
    job = prepare(wanted, TINY, build_model(TINY, wanted.frame.input, tmp_path), samples, where.store)
    if ranges_there:
        extract(job, where.store, CPU, ExtractOptions(shard=(0, job.layout.n_ranges)))
    else:
        extract(job, where.store, CPU, ExtractOptions(shard=(job.layout.n_ranges, job.layout.n_ranges + 1)))
    before = {key: where.store.objects.read(key) for key in where.store.objects.keys("features")}
    (other,) = where.store.sets()
    assert len(other.committed("tokens/block.5")) == ranges_there
    for existing in (None, other):  # whether the other came before this one looked or after
        late = replace(job, existing=existing, model=spoiled(build_model(TINY, wanted.frame.input, tmp_path)))
        with pytest.raises(UserError, match="NaN"):
            extract(late, where.store, CPU)
        assert {key: where.store.objects.read(key) for key in where.store.objects.keys("features")} == before
    assert not extract(replace(job, existing=other), where.store, CPU).missing


def test_a_set_that_another_creates_meanwhile_is_completed_in_its_ranges_and_batches(tmp_path, data):
    where, wanted = site(tmp_path, data), recipe()
    samples = run.read_samples(wanted, where)
    job = prepare(wanted, TINY, build_model(TINY, wanted.frame.input, tmp_path), samples, where.store)
    other = Compute("cpu", batch_size=3, threads=1)
    wider = replace(job, layout=job.layout.model_copy(update={"range_rows": 2 * job.layout.range_rows}))
    alone = extract(wider, Store(tmp_path / "alone"), other).set
    with start_extraction(job, CPU) as work:
        assert list(where.store.sets()) == []
        extract(wider, where.store, other, ExtractOptions(shard=(0, 2)))
        made = complete(work, where.store)
    assert any("batch size 3 is used" in note for note in made.notes)
    assert made.rows_reused == sum(stop - start for number, start, stop in wider.layout.ranges() if number % 2 == 0)
    assert made.set.stored_digest() == alone.stored_digest()


def test_resuming_uses_the_recorded_batch_and_says_so(tmp_path, data):
    where = site(tmp_path, data)
    wanted = recipe()
    extract_all(wanted, where, shard=(0, 2))
    other = Compute("cpu", batch_size=3, threads=1)
    done = run.extract_recipe(wanted, where, other).outcomes[0]
    assert any("batch size 4 is used" in note for note in done.notes)
    alone = extract_all(wanted, site(tmp_path, data, "alone")).outcomes[0].set
    assert done.set.stored_digest() == alone.stored_digest()


def test_another_kind_of_device_needs_to_be_allowed(tmp_path, data):
    from pipeline.extraction.compute import reconcile_with_recorded

    with pytest.raises(UserError, match="--allow-mixed"):
        reconcile_with_recorded(CPU, {"device": "cuda", "batch_size": 4}, allow_mixed=False)
    assert reconcile_with_recorded(CPU, {"device": "cuda", "batch_size": 8}, allow_mixed=True)[0].batch_size == 8


def test_ranges_of_another_processor_are_marked(tmp_path, data, monkeypatch):
    where = site(tmp_path, data)
    wanted = recipe()
    begun = extract_all(wanted, where, shard=(0, 2)).outcomes[0]
    assert other_machines(card(begun.set)["compute"], card(begun.set)["other_machines"]) == []
    monkeypatch.setattr("pipeline.extraction.compute._cpu_model", lambda: "another processor")
    done = extract_all(wanted, where, shard=(1, 2)).outcomes[0]
    assert any("cpu was" in note and "another processor" in note for note in done.notes)
    assert sum("`patchbank show` lists the ranges computed here" in note for note in done.notes) == 1
    assert done.missing == {}
    shown = other_machines(card(done.set)["compute"], card(done.set)["other_machines"])
    assert shown[0] == "computed on 2 kinds of machine, whose last bits may differ"
    assert shown[1].startswith("  3 ranges or fewer with cpu another processor instead of ")
    assert [verdict.findings for verdict in verify(where.store)] == [(), (), ()]
    mark = next((tmp_path / "store" / done.set.prefix / "machines").iterdir())
    mark.write_bytes(mark.read_bytes()[:-9])
    assert [f.key.rpartition("/")[2] for v in verify(where.store) for f in v.findings] == [mark.name]
    assert extract_all(wanted, where).outcomes[0].rows_made == 0


def test_a_compute_record_of_an_earlier_version_says_nothing_of_the_processor():
    from pipeline.extraction.compute import reconcile_with_recorded

    before = {key: value for key, value in CPU.record("float32").items() if "cpu" not in key and "mkl" not in key}
    assert reconcile_with_recorded(CPU, before, allow_mixed=False) == (CPU, [])
    elsewhere = before | {"threads": 10_000}
    (line,) = reconcile_with_recorded(CPU, elsewhere, allow_mixed=False)[1]
    assert "threads was 10000" in line
    assert "computed here" not in line, "fidelity and repair say it too, and add no ranges"


def test_a_full_disk_is_refused_before_anything_is_written(tmp_path, data, monkeypatch):
    where = site(tmp_path, data)
    monkeypatch.setattr(type(where.store.objects), "free_bytes", lambda self: 1000)
    with pytest.raises(UserError, match=r"needs .* MB and .* has 1\.0 kB free"):
        extract_all(recipe(), where)
    assert list(where.store.sets()) == []


def test_batches_never_cross_a_range_border_and_hold_every_row_once(tmp_path, data):
    where = site(tmp_path, data)
    wanted = recipe()
    samples = run.read_samples(wanted, where)
    job = prepare(wanted, TINY, build_model(TINY, wanted.frame.input, tmp_path), samples, where.store)
    for batch_size, full in itertools.product((1, 3, 5, 64), (True, False)):
        seen = []
        for batch in Loader(samples, "bicubic", batch_size, 2, full=full).batches(job.layout.ranges()):
            stop = batch.start + len(batch)
            assert batch.range.start <= batch.start < stop <= batch.range.stop
            assert len(batch) == batch_size or stop == batch.range.stop
            assert len(batch.pixels) == (batch_size if full else len(batch))
            assert (batch.pixels[len(batch) :] == batch.pixels[len(batch) - 1]).all()
            expected = np.concatenate([read_tiles(samples, "bicubic", row, row + 1)[0] for row in batch.rows])
            np.testing.assert_array_equal(batch.pixels[: len(batch)], expected)
            seen += batch.rows
        assert seen == list(range(28))


def test_every_forward_pass_of_a_set_has_one_number_of_rows(tmp_path, data, monkeypatch):
    """However the rows are dealt out: ranges of 4 in batches of 3, shards, and what was missing."""
    shapes, original = set(), ModelPass.__call__

    def call(self, pixels, tile_ids, rows):
        shapes.add(len(pixels))
        assert len(tile_ids) == len(pixels)
        return original(self, pixels, tile_ids, rows)

    monkeypatch.setattr(ModelPass, "__call__", call)
    where, other = site(tmp_path, data), Compute("cpu", batch_size=3, threads=1)
    for shard in ((0, 3), (0, 1)):
        run.extract_recipe(recipe(), where, other, ExtractOptions(shard=shard))
    assert shapes == {3}
    shapes.clear()
    run.extract_recipe(recipe(), site(tmp_path, data, "more"), Compute("cpu", batch_size=64, threads=1))
    assert shapes == {4}, "no more than a range has"


def test_a_set_of_an_earlier_version_is_completed_with_the_batches_it_was_begun_with(tmp_path, data, monkeypatch):
    shapes, original = [], ModelPass.__call__

    def call(self, pixels, tile_ids, rows):
        shapes.append(len(pixels))
        return original(self, pixels, tile_ids, rows)

    monkeypatch.setattr(ModelPass, "__call__", call)
    where, wanted = site(tmp_path, data), recipe()
    before = Compute("cpu", batch_size=3, threads=1, full_batches=False)
    record = Compute.record

    def as_before(self, dtype):
        return {key: value for key, value in record(self, dtype).items() if key != "full_batches"}

    with monkeypatch.context() as earlier:
        earlier.setattr(Compute, "record", as_before)
        run.extract_recipe(wanted, where, before, ExtractOptions(shard=(0, 2)))
    assert shapes == [3, 1] * 4
    shapes.clear()
    done = run.extract_recipe(wanted, where, Compute("cpu", batch_size=3, threads=1)).outcomes[0]
    assert shapes == [3, 1] * 3
    assert done.notes == []
    assert done.missing == {}


def test_mixed_sizes_without_a_tile_are_brought_to_one_grid(tmp_path):
    write_camvid(tmp_path / "data" / "camvid", n_train=2, n_val=1)
    path = next((tmp_path / "data" / "camvid" / "train").iterdir())
    for file in (path, tmp_path / "data" / "camvid" / "trainannot" / path.name):
        image = Image.open(file)
        image.resize((80, 40), Image.Resampling.NEAREST).save(file)
    made = extract_all(recipe(frame=FrameSpec(input=32)), site(tmp_path, tmp_path / "data")).outcomes[0].set
    assert made.layout.n_rows == 3


KILLED = """
import sys
from pathlib import Path
from commands.show import other_machines
from pipeline.extraction import run
from pipeline.extraction.compute import Compute
from pipeline.extraction.options import ExtractOptions
from stores import Store
from tests.pipeline.tiny import recipe
where = run.Workspace(Store(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[1]))
print("begun", flush=True)
def show(progress):
    print(progress.rows_done, flush=True)
run.extract_recipe(recipe(), where, Compute("cpu", 4, 1), ExtractOptions(on_progress=show))
"""


@pytest.mark.slow  # tests/test_kills.py does more of it in less time
def test_killed_extractions_resume_to_the_bytes_of_an_undisturbed_one(tmp_path, data):
    """SIGKILL at several moments; what was committed is kept, and the sealed set has the same stored digest."""
    store = tmp_path / "killed"
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    reused = []
    for after in (4, 16):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(store), str(data)],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for line in process.stdout:
            if line.strip().isdigit() and int(line) >= after:
                process.send_signal(signal.SIGKILL)
                break
        process.wait()
        process.stdout.close()
        left = [one for one in Store(store).sets() if one.spec.kind == "features"]
        reused.append(len(left[0].committed("tokens/block.5")) if left else 0)
        time.sleep(0.05)
    resumed = extract_all(recipe(), run.Workspace(Store(store), data, tmp_path)).outcomes[0]
    alone = extract_all(recipe(), site(tmp_path, data, "alone")).outcomes[0]
    assert resumed.rows_made < alone.rows_made or reused[-1] == 0
    assert resumed.set.stored_digest() == alone.set.stored_digest()
    left = [key for key in resumed.set.objects.keys(resumed.set.prefix) if key.endswith(".partial")]
    assert left == []
    first = resumed.set.objects.read(f"{resumed.set.prefix}/tokens/block.0/c.0.0.0")
    assert hashlib.sha256(first).hexdigest() == resumed.set.seals["tokens/block.0"].objects["c.0.0.0"].sha256


def test_an_image_moved_to_another_split_gets_a_label_set_of_its_own(tmp_path, data):
    where = site(tmp_path, data)
    before = extract_all(recipe(), where)
    train, val = data / "camvid" / "train.txt", data / "camvid" / "val.txt"
    first, *rest = train.read_text().splitlines()
    train.write_text("\n".join(rest))
    val.write_text(f"{val.read_text()}\n{first}\n")
    after = extract_all(recipe(), where)
    assert after.outcomes[0].set.digest == before.outcomes[0].set.digest
    assert after.outcomes[0].rows_made == 0
    assert after.labels.digest != before.labels.digest
    moved = after.labels.samples.set_index("source")["split"] == "val"
    assert (
        moved.groupby(level=0).first().sum()
        == (before.labels.samples.groupby("source")["split"].first() == "val").sum() + 1
    )


def test_where_the_time_went_is_noted_once_an_extraction(tmp_path, data):
    where = site(tmp_path, data)
    made = extract_all(recipe(), where).outcomes[0]
    extract_all(recipe(), where)
    (line,) = [json.loads(path.read_text()) for path in (tmp_path / "store" / "logs").iterdir()]
    assert line["set"] == made.set.digest
    assert line["rows_made"] == made.rows_made > 0
    assert set(line["seconds"]) == {"decode", "model", "write", "seal"}


def test_the_first_batch_counts_in_what_is_told_of_the_speed(tmp_path, data):
    """It is computed before anything is written; a clock that starts later promises hours as minutes."""
    told = []
    made = extract_all(recipe(), site(tmp_path, data), on_progress=told.append).outcomes[0]
    assert told[-1].rows_done == told[-1].rows_total == made.rows_made
    assert told[-1].seconds >= made.seconds.decode + made.seconds.model


def test_a_store_holds_what_its_page_names_and_nothing_that_counts_is_a_log(tmp_path, data):
    where = site(tmp_path, data)
    made = extract_all(recipe(), where).outcomes[0].set
    page = (Path(__file__).parents[2] / "stores" / "README.md").read_text()
    named = re.findall(r"^([a-z]+)/", page.split("## A store")[1].split("```")[1], re.MULTILINE)
    assert {path.name for path in (tmp_path / "store").iterdir()} <= set(named)
    (log,) = (tmp_path / "store" / "logs").iterdir()
    for spoil in (lambda: log.write_text("{"), log.unlink):
        spoil()
        assert [finding for verdict in verify(where.store) for finding in verdict.findings] == []
        again = extract_all(recipe(), where).outcomes[0]
        assert again.rows_made == 0
        assert again.set.stored_digest() == made.stored_digest()


def test_commit_records_left_by_a_kill_after_the_seals_are_cleared_away(tmp_path, data, monkeypatch):
    where = site(tmp_path, data)
    with monkeypatch.context() as killed:
        killed.setattr("stores.writing.sealing._remove_replaced_commits", lambda stored_set: None)
        left = extract_all(recipe(), where)
    assert left.outcomes[0].set.commits
    assert left.labels.commits
    again = extract_all(recipe(), where)
    assert again.outcomes[0].rows_made == 0
    for one in where.store.sets():
        assert one.commits == {}


def test_a_kill_while_a_set_is_created_does_not_stand_in_the_way(tmp_path, data):
    """Its spec is there and nothing else: it is no set yet, and the next command makes it."""
    whole = extract_all(recipe(), site(tmp_path, data, "whole")).outcomes[0].set
    where = site(tmp_path, data)
    where.store.objects.put(f"{whole.prefix}/spec.json", [whole.objects.read(f"{whole.prefix}/spec.json")])
    assert list(where.store.sets()) == []
    assert extract_all(recipe(), where).outcomes[0].set.stored_digest() == whole.stored_digest()
