"""Twelve jobs of a newcomer, each done as a person would: commands, one experiment file, and `import patchbank`."""

import json

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

import patchbank

PHOTOS = """
dataset = { name = "folder", folder = "photos" }
frame = { tile = 32, input = 32, edge = "shift-last" }
models = [{ name = "test_vit", weights = "random" }]
features = { layers = [-1] }
analyses = [{ kind = "variance-spectrum", top = [3] }]
"""

FIELDS = """
frame = { tile = 32, input = 32, edge = "shift-last" }
models = [{ name = "test_vit", weights = "random" }]
features = { layers = [-1] }
selection = { train = { split = "train" }, validation = { split = "val" } }
analyses = [{ kind = "patch-classification", classifiers = ["knn"], remove = [0, 5] }]
[dataset]
name = "manifest"
file = "fields.csv"
void_ids = [9]
classes = [{ ids = [0], name = "soil" }, { ids = [1, 2], name = "crop" }]
"""

pytestmark = pytest.mark.usefixtures("svg_alone")


def photo(path, number):
    """Save one photo of 40 x 48 pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((48, 40), Image.Resampling.BICUBIC).save(path)


@pytest.fixture
def photos(here):
    """Three photos in data/photos and photos.toml beside the folder."""
    for number in range(3):
        photo(here / "data" / "photos" / f"{number}.png", number)
    (here / "photos.toml").write_text(PHOTOS)
    return here


@pytest.fixture
def fields(here):
    """Six photos with masks of the ids 0, 1, 2 and 9, their list, and fields.toml."""
    lines = ["image,mask,split"]
    for number in range(6):
        name = f"fields/{number}.png"
        photo(here / "data" / name, number)
        ids = np.random.default_rng(number).choice([0, 1, 2, 9], (5, 6)).astype(np.uint8)
        mask = Image.fromarray(ids).resize((48, 40), Image.Resampling.NEAREST)
        mask.save(here / "data" / "fields" / f"mask_{number}.png")
        lines.append(f"{name},fields/mask_{number}.png,{'train' if number < 4 else 'val'}")
    (here / "data" / "fields.csv").write_text("\n".join(lines) + "\n")
    (here / "fields.toml").write_text(FIELDS)
    return here


def done(result):
    """Return what a command printed; it has to end with exit code 0."""
    code, out, err = result
    assert code == 0, err
    return out


def test_1_photos_without_labels(photos, run):
    assert "12 rows" in done(run("plan", "photos.toml"))
    assert done(run("extract", "photos.toml")).startswith("made    12 rows of features, 0 of labels\n")
    assert done(run("evaluate", "photos.toml")).startswith("made    1 result\n")
    assert "test_vit" in (photos / "results" / "photos" / "report.html").read_text()


def test_2_what_is_in_the_store(photos, run):
    done(run("extract", "photos.toml"))
    head, features, labels = done(run("ls")).splitlines()
    assert head.split()[:3] == ["set", "kind", "data"]
    assert {"32x32", "photos", "test_vit"} <= set(features.split())
    assert "photos" in labels.split()
    assert "tokens/block.5.norm" in done(run("show", features.split()[0]))
    done(run("verify"))


def test_3_photos_with_masks(fields, run):
    done(run("preview", "fields.toml", "--out", "fields.png"))
    assert (fields / "fields.png").exists()
    done(run("extract", "fields.toml"))
    done(run("evaluate", "fields.toml"))
    table = patchbank.read_results("results", "fields").table
    assert set(table[table.metric == "patch_miou"].m) == {0, 5}
    assert {"soil", "crop"} <= set(table["class"].dropna())


def test_4_a_checkpoint_of_my_own(photos, run):
    torch.manual_seed(1)
    save_file(timm.create_model("test_vit", num_classes=0).state_dict(), photos / "mine.safetensors")
    text = PHOTOS.replace(
        '"random" }', '"random" }, { name = "test_vit", weights = "mine.safetensors", title = "mine" }'
    )
    (photos / "photos.toml").write_text(text)
    assert done(run("extract", "photos.toml")).startswith("made    24 rows of features")
    done(run("evaluate", "photos.toml"))
    table = patchbank.read_results("results", "photos").table
    assert set(table.model) == {"test_vit", "mine"}


def test_5_a_module_of_my_own(photos, run):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 8, 8), torch.nn.GELU(), torch.nn.Conv2d(16, 32, 2, 2))
    model = patchbank.own_model(net, name="my-net", layers=["1", "2"], input=32)
    text = PHOTOS.replace('name = "test_vit", weights = "random"', 'name = "my-net", weights = "own"')
    (photos / "photos.toml").write_text(text.replace("layers = [-1]", 'layers = "all"'))
    assert "extract from Python" in done(run("plan", "photos.toml"))
    code, _, err = run("extract", "photos.toml")
    assert code == 2
    assert "extract it from Python" in err
    [features] = patchbank.extract("photos.toml", model=model)
    assert features["stage.1"].shape == (12, 4, 32)
    assert "sealed" in done(run("plan", "photos.toml"))
    assert done(run("evaluate", "photos.toml")).startswith("made    1 result\n")


def test_6_two_models_of_different_depth(photos, run):
    both = """models = [
        { name = "test_vit", weights = "random", layers = [2, 5] },
        { name = "test_vit2", weights = "random", layers = [-1, -4] },
    ]"""
    text = PHOTOS.replace('models = [{ name = "test_vit", weights = "random" }]', both)
    (photos / "photos.toml").write_text(text.replace("top = [3]", 'top = [3], layers = "all"'))
    done(run("extract", "photos.toml"))
    done(run("evaluate", "photos.toml"))
    table = patchbank.read_results("results", "photos").table
    layers = table.groupby("model")["layer"].unique()
    assert sorted(layers["test_vit"]) == [2, 5]
    deeper = len(timm.create_model("test_vit2").blocks)
    assert sorted(layers["test_vit2"]) == [deeper - 4, deeper - 1]


def test_7_more_photos_and_fewer(photos, run):
    done(run("extract", "photos.toml"))
    photo(photos / "data" / "photos" / "0b.png", 7)
    [planned] = json.loads(done(run("plan", "photos.toml", "--no-time", "--json")))["models"]
    assert (planned["rows_missing"], planned["rows_taken_over"]) == (16, 12)
    out = done(run("extract", "photos.toml"))
    assert out.startswith("made    4 rows of features")
    assert "taken   12 rows of features over from" in out
    (photos / "data" / "photos" / "1.png").unlink()
    assert done(run("extract", "photos.toml")).startswith("made    0 rows of features")
    done(run("evaluate", "photos.toml"))


def test_8_another_question_and_another_layer(fields, run):
    done(run("extract", "fields.toml"))
    done(run("evaluate", "fields.toml"))
    (fields / "data").rename(fields / "on another disk")  # questions need the store only
    more = FIELDS.replace('classifiers = ["knn"]', 'classifiers = ["knn", "probe"], penalties = [0.1]')
    (fields / "fields.toml").write_text(more)
    assert done(run("evaluate", "fields.toml")).startswith("made    1 result\nreused  1 result\n")
    (fields / "on another disk").rename(fields / "data")
    (fields / "fields.toml").write_text(more.replace("layers = [-1]", "layers = [2, -1]"))
    done(run("extract", "fields.toml"))
    assert done(run("evaluate", "fields.toml")).startswith("made    0 results\nreused  2 results\n")


def test_9_a_script(photos):
    [features] = patchbank.extract("photos.toml", data="data", store="store")
    same = patchbank.open(features.digest[:12], "store")
    tokens = same["block.5.norm"]
    assert tokens.shape == (12, 4, 64)
    assert sum(len(block) for _, block in tokens.blocks(max_bytes=1 << 12)) == 12
    assert list(same.samples["source"].unique()) == ["0.png", "1.png", "2.png"]

    def spread(features, layer):
        yield {"metric": "spread", "value": float(features[layer][:].std())}

    table = patchbank.run(spread, [same], layer="block.5.norm", results="results")
    assert table["value"].item() > 0


def test_10_a_notebook(photos, run):
    done(run("extract", "photos.toml"))
    done(run("evaluate", "photos.toml"))
    assert {"extract", "open", "own_model", "read_results", "run"} <= set(dir(patchbank))
    results = patchbank.read_results("results", "photos")
    assert len(results.table) > 0
    figure = results.figure("variance-spectrum")
    figure.axes[0].set_title("my photos")
    figure.savefig("variance.pdf")
    with pytest.raises(patchbank.UserError, match="choose one of main-scores, variance-spectrum"):
        results.figure("variance")


def test_11_a_set_for_a_colleague(photos, run):
    done(run("extract", "photos.toml"))
    features = next(one for one in json.loads(done(run("ls", "--json"))) if one["kind"] == "features")
    done(run("export", features["digest"][:12], "photos.h5"))
    done(run("import", "photos.h5", "--store", "elsewhere"))
    assert (
        patchbank.open(features["digest"], "elsewhere").content == patchbank.open(features["digest"], "store").content
    )


MISTAKES = {
    "a key that is misspelt": (("layers = [-1]", "layer = [-1]"), "did you mean layers"),
    "a name that is no data set": (('"manifest"', '"manifesto"'), 'belong to name = "manifest"'),
    "a list that is not there": (('"fields.csv"', '"field.csv"'), "field.csv is missing"),
    "a model that nobody knows": (('"test_vit"', '"test_vat"'), "test_vat"),
    "weights that are not there": (('"random"', '"mine.pth"'), "there are no weights at mine.pth"),
    "a tile that is larger than the photos": (("tile = 32", "tile = 64"), "smaller than a tile"),
    "an input that patches do not divide": (("input = 32", "input = 37"), "37"),
    "an edge of another name": (('"shift-last"', '"shift"'), "drop"),
    "a layer that the model lacks": (("layers = [-1]", "layers = [40]"), "no block 40"),
    "a layer that is not kept": (
        ("classifiers", "layers = [1], classifiers"),
        "block.1.norm of test_vit is not complete",
    ),
    "a split that is not in the list": (('split = "val"', 'split = "test"'), "no sample of split 'test'"),
    "photos that train and validate": (('split = "val"', 'split = "train"'), "are in both"),
    "no validation": ((', validation = { split = "val" }', ""), "needs [selection.train] and [selection.validation]"),
    "more neighbours than patches": (("remove =", "k = [5000], remove ="), "k = 5000 neighbours are more than"),
    "more features than there are": (("[0, 5]", "[0, 64]"), "cannot remove 64 features"),
    "an id that no class has": (("ids = [1, 2]", "ids = [1]"), "list them in `void_ids` of [dataset]"),
    "an id that two classes have": (("ids = [1, 2]", "ids = [0, 1]"), "the mask id 0 is given twice"),
    "an analysis of another name": (
        ('"patch-classification"', '"patch-clasification"'),
        "did you mean patch-classification",
    ),
    "an analysis that needs views": (('"patch-classification"', '"robustness"'), "needs [[views]]"),
    "an analysis that needs objects": (
        ('kind = "patch-classification", classifiers = ["knn"]', 'kind = "tracking"'),
        "has no objects",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_12_twenty_mistakes(fields, run, mistake):
    """Every one is one sentence with exit code 2, before a model runs or anything is stored."""
    (old, new), says = MISTAKES[mistake]
    assert old in FIELDS
    (fields / "fields.toml").write_text(FIELDS.replace(old, new))
    code, out, err = run("extract", "fields.toml")
    assert (code, out) == (2, "")
    assert says in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1, err
    assert not list((fields / "store").glob("features/*")), "something was stored"


def test_a_list_with_the_wrong_names_of_columns_and_with_absolute_paths(fields, run):
    listed = (fields / "data" / "fields.csv").read_text()
    (fields / "data" / "fields.csv").write_text(listed.replace("image,mask,split", "image,label,split"))
    code, _, err = run("extract", "fields.toml")
    assert code == 2
    assert "the columns label of fields.csv are not read; masks stand in the column `mask`" in err
    (fields / "data" / "fields.csv").write_text(listed)
    done(run("extract", "fields.toml"))
    (fields / "data" / "fields.csv").write_text(listed.replace("fields/", f"{fields}/data/fields/"))
    assert done(run("extract", "fields.toml")).startswith("made    0 rows of features, 0 of labels")


def test_names_with_dots_and_two_files_of_one_name(photos, run):
    (photos / "lr0.001.toml").write_text(PHOTOS)
    done(run("extract", "lr0.001.toml"))
    done(run("evaluate", "lr0.001.toml"))
    for name in ("lr0.001", "lr0.001.toml"):
        assert "results/lr0.001/report.html" in done(run("report", name))
    (photos / "again").mkdir()
    (photos / "again" / "lr0.001.toml").write_text(PHOTOS)
    code, _, err = run("evaluate", "again/lr0.001.toml")
    assert code == 2
    assert "results/lr0.001 holds the results of lr0.001.toml, a file of the same name" in err
    (photos / "lr0.001.toml").rename(photos / "moved.toml")
    done(run("evaluate", "again/lr0.001.toml"))


def test_a_convolutional_net_with_dead_channels_is_stored(photos, run):
    (photos / "photos.toml").write_text(PHOTOS.replace("test_vit", "test_resnet"))
    code, _, err = run("extract", "photos.toml")
    assert code == 0, err
    strict = PHOTOS.replace("test_vit", "test_resnet").replace("[-1] }", '[-1], dead_features = "stop" }')
    (photos / "photos.toml").write_text(strict)
    code, _, err = run("extract", "photos.toml", "--store", "strict")
    assert code == 2
    assert "features dead" in err


def test_keys_of_analyses_are_those_of_the_evaluation_settings():
    from evaluate.registry import EvaluationSettings
    from pipeline.library import OF_ANALYSES

    assert set(OF_ANALYSES) == set(EvaluationSettings.model_fields)
