"""The commands that look after a store, as a user types them."""

import json
import os
import shutil
from pathlib import Path

import pytest

from stores import Store
from stores.errors import MissingError, UserError
from stores.storage.local import LocalObjects
from tests.pipeline.tiny import write_camvid
from tests.tiny_experiment import EXPERIMENT


@pytest.fixture
def site(here, run):
    write_camvid(here / "data" / "camvid")
    text = EXPERIMENT.replace('norm = "both"', 'layers = [4, 5]\nnorm = "final"')
    (here / "tiny.toml").write_text(text.partition('[[analyses]]\nkind = "patch')[0])
    assert run("extract", "tiny.toml", "--batch-size", 4)[0] == 0
    return here


def folder_of(site, kind):
    return next((site / "store" / kind).iterdir())


def chunk_of(site):
    return folder_of(site, "features") / "tokens" / "block.5.norm" / "c.1.0.0"


def test_damage_is_named_mended_and_gone(site, run):
    chunk = chunk_of(site)
    before = chunk.read_bytes()
    chunk.write_bytes(before[::-1])
    seal = folder_of(site, "features") / "seals" / "tokens__block.4.norm.json"
    kept = seal.read_bytes()
    seal.unlink()
    code, out, err = run("verify")
    assert code == 3
    assert f"{chunk.relative_to(site / 'store')} holds other bytes than were committed" in out
    assert f"{seal.relative_to(site / 'store')} is gone" in out
    assert "patchbank repair" in err

    code, out, err = run("repair")  # without the experiment: what the store itself holds
    assert code == 3
    assert seal.read_bytes() == kept
    assert "tokens/block.5.norm rows 4 to 7" in out
    assert "patchbank repair EXP" in out

    shutil.move(site / "data", site / "elsewhere")
    code, out, err = run("repair", "tiny.toml")
    assert code == 3
    assert "lost     test_vit, tokens/block.5.norm rows 4 to 7: there is no folder" in out
    shutil.move(site / "elsewhere", site / "data")

    code, out, err = run("repair", "tiny.toml", "--json")
    assert code == 0
    assert chunk.read_bytes() == before
    assert any(one["remade"] == {"tokens/block.5.norm": [1]} for one in json.loads(out)["sets"])
    assert run("verify")[0] == 0
    assert run("repair")[1].endswith("repaired 0 objects, 0 accepted as new, 0 lost, 0 stray\n")


def test_verify_of_a_folder_that_holds_no_set_is_no_success(here, run):
    code, _, err = run("verify", "--store", "mistyped")
    assert code == 2
    assert "mistyped contains no sets, nothing was verified" in err


def test_strays_wait_for_a_word_and_new_values_for_an_experiment(site, run):
    stray = folder_of(site, "labels") / "mine.txt"
    stray.write_text("mine")
    code, out, err = run("repair", "tiny.toml")
    assert code == 3
    assert "mine.txt: no record refers to it" in out
    assert "--remove-strays" in err
    assert run("repair", "tiny.toml", "--remove-strays")[0] == 0
    assert not stray.exists()
    code, _, err = run("repair", "--accept-new")
    assert code == 2
    assert "repair EXP" in err
    code, _, err = run("repair", "ffff")
    assert code == 2
    assert "patchbank ls" in err


def test_sources_that_changed_or_are_gone_are_named(site, run):
    assert run("verify", "--sources", "tiny.toml")[0] == 0
    camvid = site / "data" / "camvid"
    image, label = next((camvid / "train").iterdir()), next((camvid / "valannot").iterdir())
    image.write_bytes(image.read_bytes() + b"x")
    label.write_bytes(label.read_bytes() + b"x")
    code, out, err = run("verify", "--sources", "tiny.toml", "--json")
    assert code == 3
    changed = {Path(one["path"]).name: one["problem"] for one in json.loads(out)["sources"]}
    assert changed == dict.fromkeys((image.name, label.name), "is not the file the sets were made from")
    image.unlink()
    code, out, err = run("verify", "--sources", "tiny.toml")
    assert code == 3
    assert f"{image.name} is gone" in out
    assert "source files" in err


def test_ls_survives_a_set_that_cannot_be_read(site, run):
    folder = folder_of(site, "labels")
    (folder / "summary.json").unlink()
    (folder / "layout.json").write_text("{}")
    code, out, err = run("ls")
    assert code == 3
    assert "sealed" in out
    assert "damaged" in out
    assert "patchbank verify" in err
    code, out, _ = run("ls", "--json")
    assert code == 3
    assert sorted(one["state"] for one in json.loads(out)) == ["damaged", "sealed"]


def test_ls_and_show_of_a_partial_set(site, run):
    shutil.rmtree(site / "store")
    assert run("extract", "tiny.toml", "--shard", "1/3")[0] == 0
    code, out, _ = run("ls")
    assert code == 0
    assert "2/6 ranges  8 of 24" in out
    partial = next(one for one in json.loads(run("ls", "--json")[1]) if one["state"] == "partial")
    code, out, _ = run("show", partial["digest"][:8])
    assert "partial: 24 rows, 8 of them in every array, 0 of 4 arrays sealed" in out
    assert "frame.input.height" in out
    assert run("verify")[0] == 0, "a half-made set is not damage"


def test_fidelity_of_the_same_libraries_is_zero(site, run):
    code, out, _ = run("fidelity", "tiny.toml", "--samples", 5)
    assert code == 0
    assert out.startswith("test_vit: 5 rows recomputed, 4 of 4 arrays bit-identical\n")
    found = json.loads(run("fidelity", "tiny.toml", "--samples", 99, "--seed", 1, "--json")[1])["test_vit"]
    assert {one["n_rows"] for one in found} == {24}
    assert all(one["equal"] and one["neighbours_moved"] == 0 for one in found)
    assert {one["array"]: one["labels_moved"] for one in found}["tokens/block.5.norm"] == 0
    shutil.rmtree(site / "store")
    code, _, err = run("fidelity", "tiny.toml")
    assert code == 2
    assert "patchbank extract" in err


@pytest.mark.usefixtures("undrawn")
def test_gc_lists_by_default_and_keeps_what_results_cite(site, run):
    partial = folder_of(site, "features") / "seals" / "x.json.1-ab.partial"
    partial.write_bytes(b"half")
    code, out, _ = run("gc")
    assert code == 0
    assert "partial file" in out
    assert "add --apply to delete" in out
    assert partial.exists()
    code, _, err = run("gc", "--apply")
    assert code == 2
    assert "--older-than 0" in err
    os.utime(partial, (0, 0))
    code, out, _ = run("gc", "--apply")
    assert code == 0
    assert not partial.exists()
    code, _, err = run("gc", "--apply", "--uncited")
    assert code == 2
    assert "--results" in err

    assert run("evaluate", "tiny.toml")[0] == 0
    (site / "other.toml").write_text(
        (site / "tiny.toml").read_text().replace('weights = "random"', 'weights = "random"\nseed = 9')
    )
    assert run("extract", "other.toml")[0] == 0
    uncited = [one for one in json.loads(run("gc", "--json")[1]) if one["kind"] == "uncited set"]
    assert len(uncited) == 1
    assert not uncited[0]["removed"]
    code, out, _ = run("gc", "--apply", "--uncited", "--older-than", 0)
    assert code == 0
    assert not (site / "store" / uncited[0]["key"]).exists()
    assert run("verify")[0] == 0
    assert run("evaluate", "tiny.toml")[1].startswith("made    0 results")
    assert "was not extracted" in run("evaluate", "other.toml")[2]


def test_gc_finds_what_a_killed_evaluation_left(here, run):
    folder = here / "results" / "answers" / "x"
    folder.mkdir(parents=True)
    left, own = folder / "rows.parquet.7-0123abcd.partial", folder / "notes.partial"
    for path in (left, own):
        path.write_bytes(b"half")
    code, out, _ = run("gc")
    assert code == 0
    assert "partial file  results/answers/x/rows.parquet.7-0123abcd.partial" in out
    assert "notes.partial" not in out
    code, _, err = run("gc", "--apply")
    assert (code, left.exists()) == (2, True)
    assert "rows.parquet.7-0123abcd.partial was written 0 minutes ago" in err
    os.utime(left, (0, 0))
    [found] = json.loads(run("gc", "--apply", "--json")[1])
    assert (found["kind"], found["n_bytes"], found["removed"]) == ("partial file", 4, True)
    assert (left.exists(), own.exists()) == (False, True)


def test_a_set_that_cannot_be_read_is_named_and_the_others_are_served(site, run):
    folder, summary = folder_of(site, "labels"), folder_of(site, "features") / "summary.json"
    kept = (folder / "spec.json").read_bytes()
    for name in ("spec.json", "summary.json"):
        (folder / name).unlink()
        os.mkfifo(folder / name)
    summary.unlink()
    code, out, err = run("ls")
    assert code == 2
    assert "sealed" in out
    assert "spec.json is a device or a pipe" in err
    code, out, _ = run("verify")
    assert code == 3
    assert f"labels/{folder.name}/spec.json holds other bytes" in out
    assert f"{summary.relative_to(site / 'store')} is gone" in out
    assert run("repair")[0] == 3
    assert summary.exists()
    assert run("repair", "tiny.toml")[0] == 0
    assert (folder / "spec.json").read_bytes() == kept
    assert run("verify")[0] == 0


def test_what_the_system_refuses_is_not_called_damage(site, run, monkeypatch):
    """Permission, memory and a full disk end with exit code 2, and the other sets are served all the same."""
    folder, read = folder_of(site, "labels"), LocalObjects.read
    summary = folder_of(site, "features") / "summary.json"

    def refused(self, key):
        if key.startswith(f"labels/{folder.name}/s"):
            raise UserError(f"cannot read {key}: permission is denied") from PermissionError(13, "no")
        return read(self, key)

    monkeypatch.setattr(LocalObjects, "read", refused)
    before = summary.read_bytes()
    summary.write_bytes(b"torn")
    for command in (["verify"], ["ls"], ["repair"], ["repair", "tiny.toml"]):
        code, out, err = run(*command)
        assert code == (3 if command == ["verify"] else 2), (command, out, err)
        assert "permission is denied" in out + err
    assert summary.read_bytes() == before, "the other set was repaired"
    assert run("verify")[0] == 2
    monkeypatch.undo()
    monkeypatch.chdir(site)
    assert run("verify")[0] == 0


def test_a_lack_of_memory_is_not_damage(site, run, monkeypatch):
    import pyarrow.parquet

    def short(*_, **__):
        raise pyarrow.lib.ArrowMemoryError("malloc of size 4096 failed")

    monkeypatch.setattr(pyarrow.parquet, "read_metadata", short)
    code, _, err = run("evaluate", "tiny.toml")
    assert code == 2
    assert "not enough memory" in err

    def odd(*_, **__):
        raise OSError("Resource temporarily unavailable")

    monkeypatch.setattr(pyarrow.parquet, "read_metadata", odd)
    code, _, err = run("evaluate", "tiny.toml")
    assert code == 2
    assert "is whole and could not be read (Resource temporarily unavailable)" in err


def test_a_disk_that_fills_up_during_repair_is_not_damage(site, run, monkeypatch):
    chunk, put = chunk_of(site), LocalObjects.put
    kept = chunk.read_bytes()
    chunk.write_bytes(b"torn")

    def full(self, key, parts):
        raise UserError(f"cannot write {key}: the disk is full: free some space") from OSError(28, "full")

    monkeypatch.setattr(LocalObjects, "put", full)
    code, _, err = run("repair", "tiny.toml")
    assert code == 2
    assert "the disk is full" in err
    monkeypatch.setattr(LocalObjects, "put", put)
    assert run("repair", "tiny.toml")[0] == 0
    assert chunk.read_bytes() == kept


def test_a_lost_label_seal_is_a_sentence(site, run):
    (folder_of(site, "labels") / "seals" / "pixels__classes.json").unlink()
    model = model_of(site)
    with pytest.raises(MissingError, match=r"pixels/classes of set \w+ in .* is not sealed: `patchbank verify` says"):
        model.inputs("tokens/block.5.norm", labelled=True)
    with (site / "tiny.toml").open("a") as file:
        file.write('[[analyses]]\nkind = "patch-classification"\nclassifiers = ["knn"]\nresamples = 0\n')
    code, _, err = run("evaluate", "tiny.toml")
    assert (code, err.count("\n"), "seals/pixels__classes.json is gone: run `patchbank repair`" in err) == (3, 1, True)


@pytest.mark.parametrize("torn", [False, True])
def test_a_lost_seal_is_damage_of_every_command_and_repair_brings_it_back(site, run, torn):
    """`evaluate` and `export` sent to `extract`, which ran the model again, with the exit code of a missing set."""
    seal = folder_of(site, "features") / "seals" / "tokens__block.5.norm.json"
    kept = seal.read_bytes()
    if torn:
        seal.write_bytes(kept[:-9])
    else:
        seal.unlink()
    digest = folder_of(site, "features").name
    for command in (("verify",), ("evaluate", "tiny.toml", "--results", "new"), ("export", digest, "one.h5")):
        code, out, err = run(*command)
        assert code == 3, (command, err)
        assert "tokens__block.5.norm.json is " in out + err
        assert "run `patchbank repair" in err
    assert not (site / "one.h5").exists()
    assert run("repair")[0] == 0
    assert seal.read_bytes() == kept
    assert run("evaluate", "tiny.toml", "--results", "new")[0] == 0


def test_a_seal_that_was_lost_with_the_summary_is_named(site, run):
    folder = folder_of(site, "features")
    (folder / "seals" / "tokens__block.5.norm.json").unlink()
    (folder / "summary.json").unlink()
    for target in ((), ("tiny.toml",)):
        code, out, _ = run("repair", *target)
        assert code == 0
        assert f"partial  features/{folder.name}: tokens/block.5.norm is not sealed" in out
        assert "`patchbank extract EXP` completes" in out
    assert run("extract", "tiny.toml")[0] == 0
    assert "partial" not in run("repair")[1]


def test_no_command_sends_a_killed_first_extraction_round_in_circles(site, run, monkeypatch):
    """`verify` sent to `repair EXP`, which said that nothing was extracted yet, with the damage left as it was."""
    shutil.rmtree(site / "store")
    with monkeypatch.context() as killed:  # before it wrote the note, which comes last
        killed.setattr(Store, "remember", lambda self, key, record: None)
        assert run("extract", "tiny.toml", "--shard", "1/3")[0] == 0
    assert "run `patchbank extract tiny.toml`" in run("evaluate", "tiny.toml")[2]
    folder = folder_of(site, "features")
    chunk = next(folder.glob("tokens/*/c.*"))
    chunk.write_bytes(b"")
    code, _, err = run("verify")
    assert (code, "run `patchbank repair EXP`" in err) == (3, True)
    code, out, err = run("repair", "tiny.toml")
    assert code == 2
    assert "counts as missing and is extracted again" in out
    assert "was not extracted to the end: run `patchbank extract tiny.toml`, which makes what" in err
    assert run("verify")[0] == 0
    assert run("extract", "tiny.toml")[0] == 0
    assert run("evaluate", "tiny.toml")[0] == 0


def test_repair_of_what_was_never_extracted_says_so(site, run):
    shutil.rmtree(site / "store")
    code, _, err = run("repair", "tiny.toml")
    assert (code, "was not extracted to" in err, "run `patchbank extract tiny.toml`" in err) == (2, True, True)


def test_a_range_that_is_damaged_before_its_seal_says_what_to_do(site, run):
    shutil.rmtree(site / "store")
    assert run("extract", "tiny.toml", "--shard", "1/3")[2].count("are still missing: others make them") == 1
    next(folder_of(site, "features").glob("tokens/block.4.norm/c.*")).write_bytes(b"")
    code, _, err = run("extract", "tiny.toml")
    assert code == 0
    assert "1 of 6 ranges are still missing: their stored bytes were damaged, run it again" in err
    assert "still missing" not in run("extract", "tiny.toml")[2]
    assert run("verify")[0] == 0


def model_of(site):
    from commands.experiment.reading import load_experiment
    from commands.experiment.stored_sets import model_sets

    (model,) = model_sets(site / "tiny.toml", *load_experiment(site / "tiny.toml"), Store(site / "store"))
    return model


def test_the_last_layer_is_the_one_that_was_made_even_if_its_records_are_lost(site, run):
    folder = folder_of(site, "features")
    (folder / "seals" / "tokens__block.5.norm.json").unlink()
    (folder / "tokens" / "block.5.norm" / "spec.json").unlink()
    model = model_of(site)
    for layers in ((-1,), "all"):
        with pytest.raises(MissingError, match=r"block\.5\.norm of test_vit is not complete"):
            model.arrays(layers, "final")
    assert model.arrays((-2,), "final") == ["tokens/block.4.norm"]
