"""Attention, frequencies and token geometry from the command line: painted scenes, a random MAE with its decoder."""

import pandas as pd
import pytest

from demo.street import write_street_world
from tests.tiny_experiment import wrong

EXPERIMENT = """
seed = 0
[dataset]
name = "cityscapes"
folder = "street-world-tiny"
[frame]
tile = 32
input = 32
[features]
input_pixels = true
captures = ["attention", "class-attention", "frequency", "token-statistics"]
capture_points = ["embedding", "attention-residual", "output"]
sublayers = ["query", "key"]
[[models]]
name = "vit_tiny_patch16_224"
title = "MAE"
weights = "random"
arguments = { embed_dim = 24, depth = 3, num_heads = 2, patch_size = 8 }
decoder = { width = 16, depth = 2, heads = 2 }
[selection.train]
split = "train"
[selection.validation]
split = "val"
[[analyses]]
kind = "attention"
resamples = 20
[[analyses]]
kind = "frequency"
decoder = true
resamples = 20
[[analyses]]
kind = "token-geometry"
map_images = 2
resamples = 20
"""


@pytest.fixture
def site(here):
    scenes = {"train": {"alpha": 1}, "val": {"beta": 2}}
    write_street_world(here / "data" / "street-world-tiny", images_per_city=scenes, size=(64, 96))
    (here / "tiny.toml").write_text(EXPERIMENT)
    return here


@pytest.mark.slow
@pytest.mark.usefixtures("svg_alone")
def test_from_painted_scenes_to_the_figures(site, run):
    code, _, err = run("extract", "tiny.toml", "--batch-size", 4)
    assert code == 0, err
    code, _, err = run("evaluate", "tiny.toml")
    assert code == 0, err
    table = pd.read_parquet(site / "results" / "tiny" / "results.parquet")
    depths = table[table["metric"] == "delta_log_amplitude_highest"]
    of_decoder = (depths["outcome"] == "decoder").fillna(False)
    assert depths[~of_decoder]["x_value"].tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3]
    assert depths[of_decoder]["x_value"].tolist() == [0, 1, 2]
    attention = table[(table["metric"] == "attention_distance_px") & table["outcome"].isna()]
    assert attention["x_value"].tolist() == [1, 2, 3]
    assert attention["value"].between(0, 32).all()
    drawn = {path.stem for path in (site / "results" / "tiny" / "figures").glob("*.svg")}
    assert drawn == {
        *("attention", "class-maps", "query-maps", "frequency"),
        *("token-statistics", "token-spectra", "token-maps", "token-moves"),
    }
    assert run("evaluate", "tiny.toml")[1].startswith("made    0 results")


@pytest.mark.parametrize(
    ("captures", "analysis", "says"),
    [
        ('"frequency", "token-statistics"', "attention", 'no captured arrays of "attention"'),
        ('"attention", "token-statistics"', "frequency", 'no captured arrays of "frequency"'),
        ('"attention", "frequency"', "token-geometry", 'no captured arrays of "token-statistics"'),
    ],
)
def test_extract_refuses_what_evaluate_would_lack(site, run, captures, analysis, says):
    every = '"attention", "class-attention", "frequency", "token-statistics"'
    (site / "tiny.toml").write_text(wrong(EXPERIMENT, every, captures))
    code, _, err = run("extract", "tiny.toml")
    assert code == 2
    assert says in err
    assert "add it to `captures` in [features]" in err
    assert not list((site / "store").glob("features/*")), f"something was extracted, but {analysis} would be refused"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('capture_points = ["embedding", "attention-residual", "output"]', "capture_points = []",
         "features.capture_points: write at least one entry"),
        ('kind = "attention"\n', 'kind = "attention"\nqueries = [[50, 0.5]]\n',
         "analyses.0.queries.0.0: input should be less than 1, not 50"),
        ('kind = "attention"\n', 'kind = "attention"\nlayers = []\n',
         "analyses.0.layers: write 'all' or at least one entry, not []"),
        ('kind = "frequency"\n', 'kind = "frequency"\npoints = []\n',
         "analyses.1.points: write at least one entry, not []"),
        ('kind = "frequency"\n', 'kind = "frequency"\npoints = ["outptu"]\n',
         "analyses.1.points.0: input should be 'embedding', 'norm1'"),
        ("map_images = 2", "map_images = 2\nperplexity = inf",
         "analyses.2.perplexity: input should be a finite number"),
        ('kind = "attention"\n', 'kind = "attention"\nlayers = [9]\n',
         'MAE has no captured arrays of layer 9 of "attention" that are complete, only of 0, 1, 2: add it to '
         "`captures`, and the layer to `layers`, in [features]"),
    ],
)  # fmt: skip
def test_a_mistake_about_captures_says_what_to_write(site, run, old, new, says):
    assert old in EXPERIMENT
    text = EXPERIMENT.replace(old, new)
    (site / "tiny.toml").write_text(text)
    code, _, err = run("plan", "tiny.toml")
    assert code == 2
    assert says in " ".join(err.split()), err


def test_attention_that_a_backbone_of_stages_lacks_is_called_by_the_word_of_the_file(site, run):
    head = EXPERIMENT.replace("arguments = { embed_dim = 24, depth = 3, num_heads = 2, patch_size = 8 }\n", "")
    head = head.replace("decoder = { width = 16, depth = 2, heads = 2 }\n", "").replace(
        "vit_tiny_patch16_224", "resnet18"
    )
    (site / "tiny.toml").write_text(head.replace('sublayers = ["query", "key"]\n', "").replace('"embedding", ', ""))
    code, _, err = run("plan", "tiny.toml")
    assert code == 2
    assert "resnet18 has no transformer blocks to read attention in: take it out of `captures`" in " ".join(err.split())
    (site / "tiny.toml").write_text(head)
    code, _, err = run("plan", "tiny.toml")
    assert code == 2
    assert "or write `sublayers = []` into its [[models]] table" in " ".join(err.split())


STAGES = """[[models]]
name = "resnet18"
title = "Stages"
weights = "random"
captures = {captures}
capture_points = ["output"]
sublayers = []
[selection.train]"""


def test_a_backbone_of_stages_stands_beside_points_inside_of_blocks(site, run):
    """It has a file's other captures, and what it lacks is said in a note and not refused."""
    for captures, left_out in (
        ('["frequency", "token-statistics"]', ["attention leaves out Stages"]),
        ("[]", ["attention leaves out Stages", "frequency leaves out Stages", "leaves out statistics of Stages"]),
    ):
        text = EXPERIMENT.replace("decoder = true\n", "").replace(
            "[selection.train]", STAGES.replace("{captures}", captures)
        )
        (site / "tiny.toml").write_text(text.replace("input = 32", "input = 64").replace('kind = "frequency"',
                                        'kind = "frequency"\npoints = ["output", "attention-residual"]'))  # fmt: skip
        code, out, err = run("plan", "tiny.toml", "--no-time")
        said = " ".join((out + err).split())
        assert code == 0, said
        assert said.count("leaves out") == len(left_out), said
        assert all(note in said for note in left_out), said


def test_places_of_query_patches_can_be_written_in_the_file(site, run):
    text = EXPERIMENT.replace('kind = "attention"\n', 'kind = "attention"\nqueries = [[0.9, 0.1]]\n')
    (site / "tiny.toml").write_text(text)
    assert run("extract", "tiny.toml", "--batch-size", 4)[0] == 0
    code, _, err = run("plan", "tiny.toml")
    assert code == 0, err
