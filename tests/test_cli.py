"""The commands a user types, on a tiny data set, and the sentences they get when something is wrong."""

import json
import shutil
import sys
from importlib import import_module

import pytest
from PIL import Image

from tests.tiny_experiment import EXPERIMENT, wrong


def test_the_daily_line(site, run, monkeypatch, request):
    code, out, _ = run("plan", "tiny.toml", "--no-time")
    assert code == 0
    assert "6 images, 24 rows; tiles cover 100.0% of the pixels" in out
    assert "missing" in out
    assert not (site / "store").exists(), "plan wrote something"

    code, out, _ = run("extract", "tiny.toml", "--batch-size", 4)
    assert code == 0
    assert out.splitlines()[-3:] == [
        "made    24 rows of features, 24 of labels",
        "reused  0 rows of features",
        f"where   {site / 'store'}",
    ]
    code, out, _ = run("plan", "tiny.toml", "--json")
    assert json.loads(out)["models"][0]["state"] == "sealed"
    assert run("extract", "tiny.toml")[1].startswith("made    0 rows")

    code, out, _ = run("evaluate", "tiny.toml")
    assert code == 0
    assert out.startswith("made    4 results\nreused  0 results\n")
    page = site / "results" / "tiny" / "report.html"
    first = page.read_bytes()
    table = (site / "results" / "tiny" / "results.parquet").read_bytes()
    assert {path.suffix for path in (page.parent / "figures").iterdir()} == {".svg", ".pdf"}
    request.getfixturevalue("svg_alone")  # both kinds were written once
    assert run("report", "tiny")[0] == 0
    assert page.read_bytes() == first

    # Nothing is computed twice, and neither images nor models are needed.
    (site / "data").rename(site / "elsewhere")
    monkeypatch.setitem(sys.modules, "timm", None)
    code, out, _ = run("evaluate", "tiny.toml")
    assert code == 0
    assert out.startswith("made    0 results\nreused  4 results\n")
    assert (site / "results" / "tiny" / "results.parquet").read_bytes() == table

    shutil.copytree(page.parent, site / "results" / "again")
    code, out, _ = run("compare", "tiny", site / "results" / "again", "--out", "side-by-side")
    assert code == 0
    assert "test_vit (tiny)" in out
    assert (site / "side-by-side" / "comparison.html").exists()
    assert "test_vit (again) value" in (site / "side-by-side" / "comparison.csv").read_text()
    assert run("compare", "tiny")[0] == 2, "one model was compared"
    assert run("compare", "tiny", site / "results" / "tiny", "results/tiny/")[0] == 2, "it was compared with itself"

    code, out, _ = run("ls")
    assert "24/24" in out
    sets = json.loads(run("ls", "--json")[1])
    features = next(one for one in sets if one["kind"] == "features")
    code, out, _ = run("show", features["digest"][:10])
    assert "block.5.norm" in out
    assert "24x4x64" in out
    assert json.loads(run("show", features["digest"], "--json")[1])["arrays"]["tokens/block.0"]["state"] == "sealed"
    assert run("verify")[0] == 0


@pytest.mark.usefixtures("undrawn")
def test_changing_one_parameter_recomputes_that_analysis_alone(site, run, monkeypatch):
    run("extract", "tiny.toml")
    run("evaluate", "tiny.toml")

    def explode(*arguments, **options):
        raise AssertionError("called")

    for model in (
        "models.build_model",
        "models.mae_decoder.decoder_of",
        "models.contract.FrozenModel.__init__",
    ):
        monkeypatch.setattr(f"pipeline.{model}", explode)
    changes = {
        "label_maps": ("images = 2", "images = 1"),
        "patch_classification": ("k = [1, 3]", "k = [1]"),
        "variance_spectrum": ("top = [3]", "top = [2]"),
    }
    for changed, (asked, instead) in changes.items():
        (site / "tiny.toml").write_text(EXPERIMENT.replace(asked, instead))
        with monkeypatch.context() as traps:
            for other in changes.keys() - {changed}:
                task = "".join(word.title() for word in other.split("_")) + "Task"
                traps.setattr(getattr(import_module(f"evaluate.analyses.{other}"), task), "compute", explode)
            assert run("evaluate", "tiny.toml")[1].startswith("made    1 result\nreused  3 results\n")
            # The traps lie where the commands go: other questions, or another store, fall into one.
            (site / "tiny.toml").write_text(EXPERIMENT.replace("seed = 0", "seed = 1"))
            for command in (("evaluate", "tiny.toml"), ("extract", "tiny.toml", "--store", "elsewhere")):
                with pytest.raises(AssertionError, match="called"):
                    run(*command)


def test_damage_is_named_with_exit_code_3(site, run):
    run("extract", "tiny.toml")
    chunk = next((site / "store" / "features").rglob("c.2.0.0"))
    data = bytearray(chunk.read_bytes())
    data[7] ^= 8
    chunk.write_bytes(data)
    code, out, err = run("verify")
    assert code == 3
    assert "c.2.0.0 holds other bytes than were committed" in out
    assert "error: 1 object damaged, missing or stray: run `patchbank repair" in err


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('name = "test_vit"', 'name = "tset_vit"', "did you mean test_vit"),
        ('edge = "shift-last"', 'egde = "drop"', "frame.egde is not a known key"),
        ("tile = 32", 'tile = "big"', "frame.tile"),
        ("tile = 32", "tile = 64", "choose a smaller tile"),
        ("input = 32", "input = 33", "cannot take inputs of 33x33 pixels: make `input` a multiple of 16"),
        ('name = "camvid"', 'name = "camvit"', "did you mean camvid"),
        ('name = "camvid"', 'name = "camvid"\nfolder = "../.."', "leaves the data root"),
        ('split = "train"', 'split = "trian"', "there is no sample of split 'trian'; the samples table has the splits"),
        ("per_group = 3", "per_group = 30", "fewer than the 30 asked for"),
        ('weights = "random"', 'weights = "mine.pth"', "there are no weights at mine.pth"),
        ('norm = "both"', "layers = [9]", "has 6 blocks, numbered 0 to 5, and no block 9"),
        ("seed = 0", "seed = ", "is not readable as TOML"),
    ],
)
def test_mistakes_in_the_file_get_one_sentence(site, run, old, new, says):
    (site / "tiny.toml").write_text(wrong(EXPERIMENT, old, new))
    code, _, err = run("extract", "tiny.toml")
    assert code == 2
    assert says in err
    assert err.count("\n") == 1, "one sentence, no traceback"
    assert not (site / "store" / "features").exists(), "something was half-written"


def test_other_mistakes(site, run):
    code, _, err = run("extract", "absent.toml")
    assert (code, err) == (2, "error: there is no experiment file absent.toml: see experiments/ for examples\n")
    code, _, err = run("evaluate", "tiny.toml")
    assert code == 2
    assert "was not extracted" in err
    assert "patchbank extract tiny.toml" in err
    code, _, err = run("show", "abcdef")
    assert code == 2
    assert "patchbank ls" in err
    code, _, err = run("extract", "tiny.toml", "--shard", "4/4")
    assert code == 2
    assert "--shard '4/4' is not i/N" in err
    code, _, err = run("extract", "tiny.toml", "--device", "cuda:99")
    assert code == 2
    assert "try --device cpu" in err


def test_broken_data_get_one_sentence(site, run):
    image = next((site / "data" / "camvid" / "val").iterdir())
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    code, _, err = run("extract", "tiny.toml")
    assert code == 2
    assert image.name in err
    image.write_bytes(whole)
    label = site / "data" / "camvid" / "valannot" / image.name
    kept = label.read_bytes()
    Image.open(label).resize((10, 10)).save(label)
    code, _, err = run("extract", "tiny.toml")
    assert code == 2
    assert image.name in err
    assert "10x10" in err
    label.write_bytes(kept)
    assert run("extract", "tiny.toml")[0] == 0


def test_unlabelled_data_give_a_variance_spectrum_and_say_what_they_cannot_give(site, run):
    photos = site / "data" / "photos"
    photos.mkdir()
    for path in (site / "data" / "camvid" / "train").iterdir():
        path.rename(photos / path.name)
    head, _, _ = EXPERIMENT.partition("[selection.train]")
    text = head.replace('name = "camvid"', 'name = "folder"\nfolder = "photos"')
    (site / "own.toml").write_text(text + '[[analyses]]\nkind = "variance-spectrum"\ntop = [3]\n')
    assert run("extract", "own.toml")[0] == 0
    code, out, _ = run("evaluate", "own.toml")
    assert code == 0
    assert out.startswith("made    1 result")
    (site / "own.toml").write_text(text + '[[analyses]]\nkind = "patch-classification"\n')
    code, _, err = run("evaluate", "own.toml")
    assert code == 2
    assert "needs a class for every pixel" in err


def test_doctor_says_what_is_here_and_what_is_wrong(site, run, monkeypatch):
    from commands import doctor

    code, out, err = run("doctor", "--json")
    found = json.loads(out)
    assert code == 0, err
    assert found["libraries"]["zarr"]
    assert found["faiss"]["broken"] is False
    assert found["data"]["found"] == ["camvid"]
    monkeypatch.setattr(doctor, "SELF_TEST", "import os; os.abort()")
    code, out, err = run("doctor")
    assert code == 2
    assert "problem: faiss does not work" in out


def test_models_lists_the_known_ones_first(site, run, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (site / "weights").mkdir()
    (site / "weights" / "simmim_pretrain__vit_base__img224__800ep.pth").touch()
    code, out, _ = run("models", "simmim")
    assert code == 0
    assert out.splitlines()[0].startswith(
        "simmim-base          patch 16  width  768  depth 12  prefix 1  found: weights/"
    )
    assert "crop, flip; licence MIT" in out
    (site / "weights" / "ibot-base").mkdir()
    (site / "weights" / "ibot-base" / "checkpoint_teacher.pth").touch()
    (site / "weights" / "checkpoint_teacher.pth").touch()  # says nothing of whose it is
    places = {one["name"]: one["present"] for one in json.loads(run("models", "ibot", "--json")[1])["known"]}
    assert places.pop("demo-ibot").endswith("shipped/demo-ibot.safetensors")
    assert places == {"ibot-small": None, "ibot-base": "weights/ibot-base/checkpoint_teacher.pth"}
    listed = json.loads(run("models", "dinov2", "--json", "--weights", "elsewhere")[1])
    known = {one["name"]: one for one in listed["known"]}
    assert known["dinov2-base-reg"]["n_prefix"] == 5
    assert known["dinov2-base"]["position_embedding"] == "hub"
    assert "lvd142m" in listed["timm"]["vit_base_patch14_dinov2"]
    out = run("models")[1]
    assert out.startswith("mae-base ")
    assert "\nvit_base_patch16_224 " in out
    assert "did you mean simmim-base" in run("models", "simim")[2]
    assert "vit_base" in run("models", "vit_bse")[2]
    code, _, err = run("models", "no-such-model")
    assert code == 2
    assert "leave out the pattern" in err


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_an_official_file_and_its_settings_in_an_experiment(site, run):
    """The keys of [[models]] as a user writes them, from the file to the stored record."""
    import torch

    from tests.pipeline.official_files import CASES, drawn, write

    case = CASES["beit"]
    write(case.save(dict(drawn(case.reference()).state_dict())), site / "official.pth")
    model = """
[[models]]
name = "beit-base"
weights = "official.pth"
mean = [0.4, 0.5, 0.6]
std = [0.2, 0.2, 0.3]
arguments = { embed_dim = 48, depth = 3, num_heads = 4, patch_size = 8 }
[selection.train]"""
    text = EXPERIMENT.replace("[selection.train]", model, 1)
    (site / "tiny.toml").write_text(text)
    assert run("extract", "tiny.toml")[0] == 0
    sets = [one for one in json.loads(run("ls", "--json")[1]) if one["kind"] == "features"]
    records = [json.loads(run("show", one["digest"], "--json")[1])["spec"]["model"] for one in sets]
    beit = next(record for record in records if record["name"] == "beit-base")
    assert beit["mean"] == [0.4, 0.5, 0.6]
    assert beit["family"] == "beit"
    assert beit["position_embedding"] == "native"
    assert run("evaluate", "tiny.toml")[0] == 0
    code, _, err = run("plan", "tiny.toml", "--no-time")
    assert code == 0, err
    torch.save({"model": {"a": object()}}, site / "official.pth")
    code, _, err = run("extract", "tiny.toml")
    assert code == 2
    assert "could run code" in err
    (site / "tiny.toml").write_text(text.replace("std = [0.2, 0.2, 0.3]", "std = [0.2, 0.0, 0.3]"))
    code, _, err = run("plan", "tiny.toml")
    assert code == 2
    assert "std" in err


@pytest.mark.usefixtures("svg_alone")
def test_claims_are_decided_where_a_model_plays_a_part(site, run):
    asked = EXPERIMENT.partition('[[analyses]]\nkind = "patch')[0].replace("top = [3]", "top = [17]\nresamples = 0")
    (site / "tiny.toml").write_text(asked.replace('weights = "random"', 'weights = "random"\nrole = "mae"'))
    assert run("extract", "tiny.toml")[0] == 0
    assert run("evaluate", "tiny.toml")[0] == 0
    claims = json.loads((site / "results" / "tiny" / "claims.json").read_text())
    assert claims[3]["models"] == ["test_vit"]
    assert 'weights = "random" as control' in claims[3]["reason"]
    (site / "tiny.toml").write_text(asked)
    assert run("evaluate", "tiny.toml")[1].startswith("made    0 results"), "a role changes no number"
    claims = json.loads((site / "results" / "tiny" / "claims.json").read_text())
    assert "no model plays MAE" in claims[3]["reason"]
    (site / "tiny.toml").write_text(f'{asked}\n[claims]\nbeside = ["other"]\n')
    code, _, err = run("evaluate", "tiny.toml")
    assert code == 0, err
    assert "note: other, named in [claims] beside, has no results in results: claims that need it stay open" in err
    (site / "tiny.toml").write_text(f'{asked}\n[claims]\nbeside = ["tiny"]\n')
    code, _, err = run("evaluate", "tiny.toml")
    assert (code, err) == (2, "error: tiny.toml names itself in [claims] beside: name other experiments there\n")
    (site / "tiny.toml").write_text(asked)
    run("evaluate", "tiny.toml")
    (site / "store").rename(site / "moved")
    assert run("report", "tiny")[0] == 0
    page = site / "results" / "tiny" / "report.html"
    assert ">not checked</" in page.read_text()
    assert run("report", "tiny", "--store", "moved")[0] == 0
    assert ">whole</dd>" in page.read_text()
    (site / "tiny.toml").write_text(asked.replace('weights = "random"', 'role = "maee"'))
    code, _, err = run("evaluate", "tiny.toml")
    assert code == 2
    assert "models.0.role" in err


def test_names_with_dots_and_own_data_are_named_as_they_are(site, run):
    (site / "data" / "photos").mkdir()
    Image.new("RGB", (32, 32)).save(site / "data" / "photos" / "0.png")
    (site / "lr0.001.toml").write_text(
        'dataset = { name = "folder", folder = "photos" }\nframe = { input = 32 }\nfeatures = { layers = [-1] }\n'
        'models = [{ name = "test_vit", weights = "random" }]\nanalyses = [{ kind = "variance-spectrum" }]\n'
    )
    assert run("extract", "lr0.001.toml")[0] == 0
    assert run("evaluate", "lr0.001.toml")[0] == 0
    page = site / "results" / "lr0.001" / "report.html"
    assert "1 model on photos." in page.read_text()
    page.unlink()
    assert run("report", "lr0.001")[0] == 0
    assert run("report", "lr0.001.toml")[0] == 0
    assert page.exists()
