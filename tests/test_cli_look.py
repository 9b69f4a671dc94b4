"""``patchbank look``: pictures of stored tokens from the command line, and what it says when something is wrong."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from commands.look import _check_same_images
from stores.errors import UserError
from tests.tiny_experiment import EXPERIMENT


@pytest.fixture
def digests(site, run):
    (site / "tiny.toml").write_text(EXPERIMENT.replace('norm = "both"', 'norm = "both"\ninput_pixels = true'))
    assert run("extract", "tiny.toml")[0] == 0
    return {one["kind"]: one["digest"] for one in json.loads(run("ls", "--json")[1])}


def test_pictures_of_two_layers_and_two_queries_are_written_and_wrong_flags_are_named(site, run, digests):
    features = digests["features"]
    (site / "data").rename(site / "elsewhere")  # neither images nor models are needed
    command = (
        "look",
        features[:12],
        "--layers",
        "0,-1",
        "--query",
        "0,0",
        "--query",
        "0.9,0.5",
        "--image",
        "3",
        "--image",
        "7",
    )
    code, out, err = run(*command)
    assert code == 0
    assert out.splitlines() == [
        f"look/{kind}.{end}" for kind in ("components", "norm", "cosine") for end in ("png", "svg")
    ]
    assert "2 layers of 2 images" in err
    assert "no inputs" not in err
    with Image.open(site / "look" / "components.png") as components, Image.open(site / "look" / "cosine.png") as cosine:
        assert cosine.height > 1.5 * components.height, "a line for each of the two queries"
    first = (site / "look" / "components.png").read_bytes()
    shown = json.loads(run(*command, "--json")[1])
    assert (site / "look" / "components.png").read_bytes() == first
    assert len(shown["images"]) == 2
    name = shown["images"][0]
    by_name = ("look", features, "--image", name, "--kinds", "norm", "--json")
    assert json.loads(run(*by_name)[1])["images"] == [name]
    shared = ("look", features, "--layers", "all", "--shared-basis", "--foreground", "--unnormed", "--out", "shared")
    code, _, err = run(*shared, "--image", ".png")
    assert code == 0
    assert "note: --image .png fits 24 rows and" in err
    assert "and 20 more: give more of the name, or the row" in err

    for flags, words in (
        (("--layers", "x"), 'write "all", or numbers'),
        (("--layers", "77"), "is not complete"),
        (("--query", "3,4"), "two shares of the input from 0 to 1"),
        (("--kinds", "pca"), "choose among components, norm, cosine"),
        (("--image", ""), "--image is empty"),
        (("--image", "99"), "the set has rows 0 to 23"),
    ):
        code, _, err = run("look", features, *flags)
        assert (code, words in err) == (2, True), err
    assert "give the digest of a feature set" in run("look", digests["labels"])[2]


def test_sets_of_other_images_are_not_shown_side_by_side():
    class Sets:
        def __init__(self, digest, content):
            self.features = type("Features", (), {"digest": digest})
            self.samples = pd.DataFrame({"sample": ["0.png[0,0]", "1.png[0,0]"], "source_sha256": [content, "b"]})

    rows = np.array([0, 1])
    shown = [_check_same_images(Sets("one", "a"), rows, [])]
    assert _check_same_images(Sets("two", "a"), rows, shown) == shown[0]
    for model, some in ((Sets("three", "c"), rows), (Sets("four", "a"), rows[:1])):
        with pytest.raises(UserError, match="has other images than the first set"):
            _check_same_images(model, some, shown)
