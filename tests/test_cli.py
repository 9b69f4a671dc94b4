"""The commands a user types, on a tiny data set, and the sentences they get when something is wrong."""

import json
import sys

import pytest
from PIL import Image

import cli
from tests.pipeline.tiny import write_camvid

EXPERIMENT = """
seed = 0
[dataset]
name = "camvid"
[frame]
tile = 32
input = 32
edge = "shift-last"
[features]
norm = "both"
[storage]
range_megabytes = 0.002
[[models]]
name = "test_vit"
weights = "random"
[selection.train]
split = "train"
per_group = 3
[selection.validation]
split = "val"
[[analyses]]
kind = "variance-spectrum"
top = [3]
[[analyses]]
kind = "patch-classification"
remove = [0, 5]
k = [1, 3]
[[analyses]]
kind = "label-maps"
images = 2
"""


@pytest.fixture
def site(tmp_path, monkeypatch):
    write_camvid(tmp_path / "data" / "camvid")
    (tmp_path / "tiny.toml").write_text(EXPERIMENT)
    monkeypatch.chdir(tmp_path)
    for name in ("PATCHBANK_STORE", "PATCHBANK_DATA", "PATCHBANK_RESULTS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def run(monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["patchbank", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        printed = capsys.readouterr()
        return stop.value.code or 0, printed.out, printed.err

    return call


def test_the_daily_line(site, run, monkeypatch):
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
    assert run("report", "tiny")[0] == 0
    assert page.read_bytes() == first

    # Nothing is computed twice, and neither images nor models are needed.
    (site / "data").rename(site / "elsewhere")
    monkeypatch.setitem(sys.modules, "timm", None)
    code, out, _ = run("evaluate", "tiny.toml")
    assert code == 0
    assert out.startswith("made    0 results\nreused  4 results\n")
    assert (site / "results" / "tiny" / "results.parquet").read_bytes() == table

    code, out, _ = run("ls")
    assert "24/24" in out
    sets = json.loads(run("ls", "--json")[1])
    features = next(one for one in sets if one["kind"] == "features")
    code, out, _ = run("show", features["digest"][:10])
    assert "block.5.norm" in out
    assert "24x4x64" in out
    assert json.loads(run("show", features["digest"], "--json")[1])["arrays"]["tokens/block.0"]["state"] == "sealed"
    assert run("verify")[0] == 0


def test_changing_one_parameter_recomputes_that_analysis_alone(site, run):
    run("extract", "tiny.toml")
    run("evaluate", "tiny.toml")
    (site / "tiny.toml").write_text(EXPERIMENT.replace("images = 2", "images = 1"))
    assert run("evaluate", "tiny.toml")[1].startswith("made    1 results\nreused  3 results\n")
    (site / "tiny.toml").write_text(EXPERIMENT.replace("k = [1, 3]", "k = [1]"))
    assert run("evaluate", "tiny.toml")[1].startswith("made    1 results\nreused  3 results\n")


def test_damage_is_named_with_exit_code_3(site, run):
    run("extract", "tiny.toml")
    chunk = next((site / "store" / "features").rglob("c.2.0.0"))
    data = bytearray(chunk.read_bytes())
    data[7] ^= 8
    chunk.write_bytes(data)
    code, out, err = run("verify")
    assert code == 3
    assert "c.2.0.0 holds other bytes than were committed" in out
    assert "error: 1 objects are not what was committed" in err


def wrong(text, old, new):
    assert old in text
    return text.replace(old, new)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('name = "test_vit"', 'name = "tset_vit"', "did you mean test_vit"),
        ('edge = "shift-last"', 'egde = "drop"', "frame.egde is not a key that is known here"),
        ("tile = 32", 'tile = "big"', "frame.tile"),
        ("tile = 32", "tile = 64", "choose a smaller tile"),
        ("input = 32", "input = 33", "33x33"),
        ('name = "camvid"', 'name = "camvit"', "there is no folder"),
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
    assert (code, err) == (2, "error: there is no experiment file absent.toml: experiments/ holds some\n")
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
    assert out.startswith("made    1 results")
    (site / "own.toml").write_text(text + '[[analyses]]\nkind = "patch-classification"\n')
    code, _, err = run("evaluate", "own.toml")
    assert code == 2
    assert "needs a class for every pixel" in err
