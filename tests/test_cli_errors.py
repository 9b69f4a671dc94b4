"""One sentence for each mistake, with exit code 2: what is wrong, where, and what to do."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from tests.tiny_experiment import EXPERIMENT, wrong


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("seed = 0", "sede = 0", "sede is not a known key: did you mean seed? docs/experiment.md"),
        ("[storage]", "[stroage]", "did you mean storage?"),
        ("top = [3]", "topp = [3]", "did you mean top?"),
        ("per_group = 3", "pergroup = 3", "selection.train.pergroup is not a known key: did you mean per"),
        ('edge = "shift-last"', 'egde = "drop"', "did you mean edge?"),
        ("input = 32", "inptu = 32", "frame.inptu is not a known key: did you mean input?"),
        ("tile = 32", 'tile = "big"', "or one number, not 'big'"),
        ("tile = 32", "tile = { height = 3 }", "frame.tile.width is required and missing"),
        (
            "tile = 32",
            'tile = 32\nresize = { shorter = "big" }',
            "frame.resize.shorter: write an integer without",
        ),
        (
            "tile = 32",
            "tile = 32\nresize = { shorter = 40, width = 40 }",
            "frame.resize.width is not a known key",
        ),
        ("tile = 32", 'tile = 32\nresize = "big"', "or one number, not 'big'"),
        ('edge = "shift-last"', 'edge = "center"', "or 'centre', not 'center'"),
        ("per_group = 3", 'per_group = "3"', "write an integer without quotes, not '3'"),
        ("k = [1, 3]", "k = [0, 3]", "analyses.1.k.0: input should be greater than or equal to 1, not 0"),
        ('kind = "label-maps"', 'kinds = "label-maps"', ".kind is required and missing"),
        (
            "top = [3]",
            'top = [3]\nlayers = "last"',
            "analyses.0.layers: write 'all' or a list in [ ], not 'last'\n",
        ),
        (
            "top = [3]",
            'top = [3]\nlayers = [0, "last"]',
            "analyses.0.layers.1: write an integer without quotes, not 'last'\n",
        ),
        ("k = [1, 3]", "k = 3", "write a list in [ ], not 3"),
        ('norm = "both"', "tokens = []", "features.tokens: write 'all', 'none' or at least one entry, not []\n"),
        ('norm = "both"', 'tokens = "some"', "features.tokens: write 'all', 'none' or a list in [ ], not 'some'\n"),
        ('norm = "both"', "layers = []", "features.layers: write 'all' or at least one entry, not []\n"),
        ('norm = "both"', "masked = 1", "features.masked: write a table, not 1\n"),
        ('weights = "random"', 'weights = "random"\nmean = [0.5]', "models.0.mean.1 is required and missing"),
        ('weights = "random"', 'weights = "random"\nstd = [1, 1, 1, 1]', "models.0.std: write 3 entries or fewer, not"),
        ("tile = 32", "tile = 0", "frame.tile: input should be greater than or equal to 1, not 0\n"),
        ("range_megabytes = 0.002", "range_megabytes = 1e-9", "greater than or equal to 0.001, not 1e-09\n"),
        ("range_megabytes = 0.002", "chunk_megabytes = 1e-9", "greater than or equal to 0.001, not 1e-09\n"),
        ('kind = "label-maps"', 'kind = "label-map"', "there is no kind 'label-map': did you mean label-maps?"),
        ('name = "camvid"', 'name = "camvid"\nfolder = "gone"', "there is no folder data/gone for the data set camvid"),
    ],
)
def test_mistakes_in_the_file_name_what_was_meant(site, run, old, new, says):
    (site / "tiny.toml").write_text(wrong(EXPERIMENT, old, new))
    code, _, err = run("extract", "tiny.toml")
    assert code == 2
    assert says in err
    assert err.count("\n") == 1, err
    assert not (site / "store").exists(), "something was half-written"


def test_a_label_id_out_of_range_and_a_label_that_is_gone(site, run):
    label = min((site / "data" / "camvid" / "valannot").iterdir())
    ids = np.array(Image.open(label))
    ids[0, 0] = 77
    Image.fromarray(ids).save(label)
    code, _, err = run("extract", "tiny.toml")
    assert code == 2
    assert f"{label.name} holds the unknown ids [77]" in err
    label.unlink()
    code, _, err = run("extract", "tiny.toml")
    assert code == 2
    assert f"{label.name} is missing" in err


def test_a_full_disk_is_refused_with_sizes_that_tell_something(site, run, monkeypatch):
    from stores.storage.local import LocalObjects

    monkeypatch.setattr(LocalObjects, "free_bytes", lambda self: 12_300)
    code, _, err = run("extract", "tiny.toml")
    assert code == 2
    assert "has 12.3 kB free" in err
    assert not list((site / "store").rglob("c.*.0.0")), "something was half-written"


def test_a_store_that_is_a_file_holds_no_sets(site, run):
    code, _, err = run("ls", "--store", "tiny.toml")
    assert (code, err) == (2, "error: --store tiny.toml is a file: give the folder that contains the sets\n")


def test_without_faiss_the_exact_search_answers_and_the_other_says_so(site, run, monkeypatch):
    from evaluate.neighbours import faiss_library

    def broken(*_, **__):
        return subprocess.CompletedProcess([], -6, "", "")

    assert run("extract", "tiny.toml")[0] == 0
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setattr(faiss_library.subprocess, "run", broken)
    faiss_library.load_faiss.cache_clear()
    head, _, _ = EXPERIMENT.partition("[[analyses]]")
    text = head + '[[analyses]]\nkind = "patch-classification"\nclassifiers = ["knn"]\nremove = [0]\nk = [1]\n'
    (site / "tiny.toml").write_text(text)
    assert run("evaluate", "tiny.toml")[0] == 0
    (site / "tiny.toml").write_text(text + 'search = "faiss"\n')
    code, _, err = run("evaluate", "tiny.toml")
    assert code == 2
    assert "faiss does not load (importing it ends the process with -6): leave out `search" in err


def test_devices_that_evaluate_has_no_code_for_are_refused(site, run):
    for device in ("mps", "xpu", "cuda:99"):
        code, _, err = run("evaluate", "tiny.toml", "--device", device)
        assert code == 2
        assert err.startswith("error: ")
        assert err.rstrip().endswith("--device cpu")
        assert err.count("\n") == 1


def test_a_gpu_that_is_not_there_is_one_short_sentence_of_every_command(site, run, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for command in ("plan", "extract", "evaluate", "fidelity"):
        code, _, err = run(command, "tiny.toml", "--device", "cuda")
        assert (code, err) == (
            2,
            "error: device 'cuda' cannot be used (PyTorch finds no NVIDIA GPU): try --device cpu\n",
        ), command


def test_the_version_is_printed(run):
    code, out, _ = run("--version")
    assert code == 0
    assert out.startswith("patchbank ")


def checkpoint(path, architecture="test_vit", **changes):
    """Save an untrained model's weights, some of them changed or (None) taken out."""
    model = timm.create_model(architecture, num_classes=0)
    weights = {**model.state_dict(), **changes}
    save_file({name: value for name, value in weights.items() if value is not None}, path)


NAN, HUGE = torch.full((64,), torch.nan), torch.full((64,), 1e5)


@pytest.mark.parametrize(
    ("architecture", "changes", "says"),
    [
        ("vit_tiny_patch16_224", {}, r"\.safetensors does not fit test_vit: 72 keys too many \(such as blocks\.10"),
        ("vit_tiny_patch16_224", {}, r"78 keys of another shape \(.*\): name the architecture it was made for$"),
        ("test_vit", {"blocks.2.mlp.fc1.weight": None}, r"1 key missing \(such as blocks\.2\.mlp\.fc1\.weight\)"),
        ("test_vit", {"surprise.weight": torch.ones(3)}, r"1 key too many \(such as surprise\.weight\)"),
        ("test_vit", {"norm.bias": NAN}, r"64 of 64 values of norm\.bias in .* are NaN or infinite"),
        (
            "test_vit",
            {"norm.bias": HUGE},
            r'norm, row 0 .* exceed the largest float16 value.*set store_dtype = "float32"',
        ),
    ],
)
def test_weights_that_do_not_fit(site, run, architecture, changes, says):
    checkpoint(site / "another.safetensors", architecture, **changes)
    (site / "tiny.toml").write_text(wrong(EXPERIMENT, 'weights = "random"', 'weights = "another.safetensors"'))
    code, _, err = run("extract", "tiny.toml")
    assert code == 2
    assert re.search(says, err.rstrip()), err
    assert err.count("\n") == 1, err
    assert begun_sets(site) == []
    code, out, _ = run("plan", "tiny.toml", "--no-time")
    if "does not fit" in says or "key" in says:
        assert code == 0
        assert re.search(says, out, re.M), "plan says why the weights cannot be used"


def begun_sets(site):
    return sorted(path for kind in ("features", "labels") for path in (site / "store").glob(f"{kind}/*"))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("train/0001TP_train000.png", r"train000\.png cannot be read as an image"),
        ("trainannot/0001TP_train000.png", r"trainannot/0001TP_train000\.png cannot be read"),
    ],
)
def test_a_truncated_first_image_or_label_leaves_no_set_behind(site, run, name, says):
    path = site / "data" / "camvid" / name
    path.write_bytes(path.read_bytes()[:-60])
    code, _, err = run("extract", "tiny.toml")
    assert code == 2
    assert re.search(says, err), err
    assert err.count("\n") == 1, err
    assert begun_sets(site) == []


def test_a_set_from_a_newer_format(site, run):
    assert run("extract", "tiny.toml")[0] == 0
    spec = next((site / "store" / "features").glob("*/spec.json"))
    spec.write_text(json.dumps({**json.loads(spec.read_text()), "format": 9}))
    for command in (("evaluate", "tiny.toml"), ("extract", "tiny.toml"), ("show", spec.parent.name[:8])):
        code, _, err = run(*command)
        assert (code, err.count("\n")) == (2, 1), err
        assert "is of format 9" in err
        assert "install a newer patchbank" in err


def test_a_damaged_set_answers_nothing(site, run):
    assert run("extract", "tiny.toml")[0] == 0
    chunk = next((site / "store" / "features").glob("*/tokens/block.5.norm/c.2.0.0"))
    data = bytearray(chunk.read_bytes())
    data[7] ^= 8
    chunk.write_bytes(data)
    code, out, err = run("evaluate", "tiny.toml")
    assert (code, out) == (3, "")
    assert "block.5.norm/c.2.0.0" in err
    assert "is not what was committed: run `patchbank verify`" in err
    assert err.count("error:") == 1
    assert not list((site / "results").rglob("results.parquet")), "no answer may rest on it"


def test_analyses_that_need_labels_say_so_before_anything_is_computed(site, run):
    text = wrong(EXPERIMENT, 'name = "camvid"', 'name = "folder"\nfolder = "camvid/val"')
    head, _, tail = text.partition("[selection.train]")
    says = "patch-classification needs a class for every pixel and the data set folder has none"
    (site / "tiny.toml").write_text(head + tail[tail.index("[[analyses]]") :])
    code, _, err = run("extract", "tiny.toml")
    assert code == 2
    assert says in err
    (site / "tiny.toml").write_text(head)
    assert run("extract", "tiny.toml")[0] == 0
    (site / "tiny.toml").write_text(head + tail[tail.index("[[analyses]]") :])
    code, _, err = run("evaluate", "tiny.toml")
    assert code == 2
    assert says in err
    assert not (site / "results").exists()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("k = [1, 3]", "k = [1000000]", "k = 1000000 neighbours are more than the "),
        ("top = [3]", "top = [3]\nlayers = [7]", "is not complete in "),
    ],
)
def test_what_cannot_be_asked_of_the_store_is_said_before_anything_is_computed(site, run, old, new, says):
    """The first would take terabytes; the second was never kept, and extracting the same again would not keep it."""
    assert run("extract", "tiny.toml")[0] == 0
    (site / "tiny.toml").write_text(wrong(EXPERIMENT, old, new))
    code, _, err = run("evaluate", "tiny.toml")
    assert code == 2
    assert says in err
    assert "memory" not in err
    assert ("add it to [features] and run `patchbank extract tiny.toml`" in err) == ("layers" in new)
    assert err.count("\n") == 1, err


def test_two_models_of_one_name_are_named_without_their_tables(site, run):
    model = EXPERIMENT[EXPERIMENT.index("[[models]]") :].split("\n\n")[0].split("\n[")[0]
    (site / "tiny.toml").write_text(f"{EXPERIMENT}\n{model}\n")
    code, _, err = run("plan", "tiny.toml")
    assert code == 2
    assert err.startswith("error: tiny.toml: models: two models are called ")
    assert err.endswith(": give one of them a title\n")
