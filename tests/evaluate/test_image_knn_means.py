"""Image k-NN on stored means of patch tokens: as on the tokens, and one sentence where it needs the tokens."""

import dataclasses
import json

import numpy as np
import pytest

from evaluate.analyses.image_knn import ImageKnn
from evaluate.analyses.variance_spectrum import VarianceSpectrum
from evaluate.registry import EvaluationSettings
from evaluate.results.table import ResultStore
from evaluate.runner import evaluate
from evaluate.scoring.images.vectors import vector_addresses
from stores.errors import MissingError, UserError
from stores.specs import FrameSpec, Size
from tests.evaluate.planted import write_set
from tests.evaluate.planted_views import RANGE_BYTES, viewed_sets
from tests.evaluate.test_patch_classification import SELECTION
from tests.stores.specs_for_tests import FEATURES


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    return viewed_sets(tmp_path_factory.mktemp("tokens") / "store", n_images=60)


def reduced(measured, folder, *, mean=True, prefix=True, deviation=False):
    """The same model with a set that holds means, deviations and prefix tokens of its layer, and no patch tokens."""
    tokens = measured.features["block.0.norm"][:]
    facts = {"layer": 0, "norm": True}
    arrays = {}
    if mean:
        values = tokens.mean(axis=1, dtype=np.float32).astype(np.float16)
        arrays["means/block.0.norm"] = (values, ("sample", "channel"), facts)
    if deviation:
        values = tokens.std(axis=1, dtype=np.float32).astype(np.float16)
        arrays["deviations/block.0.norm"] = (values, ("sample", "channel"), {**facts, "n_patches": tokens.shape[1]})
    if prefix:
        arrays["prefix/block.0.norm"] = (tokens[:, :1] * 2, ("sample", "prefix", "channel"), facts)
    spec = FEATURES.model_copy(update={"frame": FrameSpec(input=Size(height=16, width=16))})
    made = write_set(folder, spec, arrays, {"samples": measured.samples}, RANGE_BYTES)
    return dataclasses.replace(measured, features=made, views={})


def table_of(folder, model, **settings):
    analysis = ImageKnn(kind="image-knn", k=5, resamples=50, **settings)
    wanted = EvaluationSettings(selection=SELECTION, analyses=(analysis,), seed=1)
    return evaluate("t", [model], wanted, ResultStore(folder / "results")).table


def test_results_equal_those_from_tokens(tmp_path, measured):
    settings = {"remove": (0,)}
    expected = table_of(tmp_path / "a", dataclasses.replace(measured, views={}), **settings)
    table = table_of(tmp_path / "b", reduced(measured, tmp_path / "store"), **settings)
    columns = ["metric", "token", "m", "k", "value", "low", "high", "array", "layer", "normed", "n_train"]
    assert len(table) == 3
    assert table[columns].equals(expected[columns])


def test_prefix_tokens_alone_serve_the_class_token(tmp_path, measured):
    model = reduced(measured, tmp_path / "store", mean=False)
    table = table_of(tmp_path, model, remove=(0,), pooled=("class-token",))
    expected = table_of(tmp_path / "a", dataclasses.replace(measured, views={}), remove=(0,), pooled=("class-token",))
    assert table["value"].tolist() == expected["value"].tolist()
    with pytest.raises(MissingError, match="no stored mean: ask for class-token, or set means = true"):
        table_of(tmp_path, model, remove=(0,))


def test_removal_needs_tokens_and_says_what_to_keep(tmp_path, measured):
    model = reduced(measured, tmp_path / "store")
    with pytest.raises(
        UserError, match=r"keeps none of block.0.norm: set remove = \[0\], or name the layer in `tokens`"
    ):
        table_of(tmp_path, model, remove=(0, 6))
    with pytest.raises(MissingError, match="ask for mean-patch, or set prefix = true"):
        table_of(tmp_path, reduced(measured, tmp_path / "means", prefix=False), remove=(0,))


def test_deviations_rank_features_as_tokens_do(tmp_path, measured):
    model = reduced(measured, tmp_path / "store", deviation=True)
    expected = table_of(tmp_path / "a", dataclasses.replace(measured, views={}), remove=(0, 6))
    table = table_of(tmp_path / "b", model, remove=(0, 6))
    assert table[["token", "m", "value"]].equals(expected[["token", "m", "value"]])


def test_the_spectrum_of_deviations_is_that_of_tokens(tmp_path, measured):
    """Deviations and means are rounded to float16, each to half a part in a thousand."""
    analysis = VarianceSpectrum(kind="variance-spectrum", top=(3,), resamples=50)
    wanted = EvaluationSettings(selection=SELECTION, analyses=(analysis,), seed=1)
    model = reduced(measured, tmp_path / "store", deviation=True)
    tables = [
        evaluate("t", [one], wanted, ResultStore(tmp_path / str(number))).table
        for number, one in enumerate((dataclasses.replace(measured, views={}), model))
    ]
    assert tables[0]["metric"].tolist() == tables[1]["metric"].tolist()
    for column in ("value", "low", "high"):
        np.testing.assert_allclose(tables[1][column], tables[0][column], rtol=1e-3)


def test_analyses_of_patches_name_the_key_that_keeps_tokens(tmp_path, measured):
    model = reduced(measured, tmp_path / "store")
    wanted = EvaluationSettings(
        selection=SELECTION, analyses=(VarianceSpectrum(kind="variance-spectrum", top=(3,)),), seed=1
    )
    match = r"tokens/block.0.norm of planted is not complete .*: name its layer in `tokens` of \[features\] and run"
    with pytest.raises(MissingError, match=match):
        evaluate("t", [model], wanted, ResultStore(tmp_path / "results"))


def test_inputs_are_named_by_size_and_never_by_none(tmp_path, measured):
    """The keys are read in the column `inputs` of the results."""
    names = set(json.loads(table_of(tmp_path, measured)["inputs"].iloc[0]))
    assert {"clean tokens/block.0.norm", "clean prefix/block.0.norm"} <= names
    assert not [name for name in names if "None" in name or ".0 " in name]


def test_a_layer_that_a_set_lacks_is_named_and_not_its_class_token(tmp_path, measured):
    """A view keeps its last layer alone by default, and no other has any array there."""
    kept = r"planted keeps block.0.norm and not block.1.norm: name that layer in `layers` of \[features\] and run "
    with pytest.raises(MissingError, match=kept):
        vector_addresses(reduced(measured, tmp_path / "store"), "tokens/block.1.norm", "class-token")
    (name, level), *_ = measured.views
    kept = rf"block.0.norm.* under {name} and not block.1.norm: name that layer in `layers` of that view in"
    with pytest.raises(MissingError, match=kept):
        vector_addresses(measured.for_view(name, level), "tokens/block.1.norm", "mean-patch")
