"""Precisions and compiled passes: what they change of the values, and what the records say of them."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.captures.table import wanted_arrays
from pipeline.extraction import run
from pipeline.extraction.compute import Compute, reconcile_with_recorded
from pipeline.extraction.model_pass.precision import converted, precision_of
from pipeline.extraction.model_pass.running import ModelPass
from pipeline.extraction.options import ExtractOptions
from pipeline.models import build_model
from pipeline.models.own_module import own_model
from pipeline.recipe import FeatureRecipe, ModelRecipe
from stores import Store
from stores.errors import UserError
from stores.specs import Size
from tests.pipeline.tiny import TINY, recipe, write_camvid

SIZE = Size(height=32, width=32)
CPU = Compute("cpu", batch_size=4, threads=1)


def pixels(n=4, size=32):
    return torch.randint(0, 256, (n, size, size, 3), generator=torch.Generator().manual_seed(0)).float()


def captured(model, precision, features, compiled=False, n=4, passes=1):
    capture = ModelPass(model, wanted_arrays(model, features), precision)
    ids = [("a", (0, 0, 32, 32))] * n
    with converted(model.module, "cpu", precision):
        if not compiled:
            return capture(pixels(n), ids)[0]
        with capture.compiled(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compiler's own
            for _ in range(passes):
                found, _ = capture(pixels(n), ids)
            return found


def error(values, exact):
    """Median distance of a token, relative to its length."""
    distance = torch.linalg.vector_norm(values.float() - exact.float(), dim=-1)
    return float((distance / torch.linalg.vector_norm(exact.float(), dim=-1)).median())


def test_autocast_errs_less_than_a_cast_module(tmp_path):
    """Random weights, 12 blocks; on DINOv2's weights the docstring of precision.py has the figures."""
    model = build_model(ModelRecipe(name="vit_tiny_patch16_224", weights="random"), SIZE, tmp_path)
    keep = FeatureRecipe(layers=(-1,), store_dtype="float32")
    found = {name: captured(model, name, keep) for name in ("float32", "bfloat16", "bfloat16-autocast")}
    exact = found["float32"]["tokens/block.11.norm"]
    cast, auto = (error(found[name]["tokens/block.11.norm"], exact) for name in ("bfloat16", "bfloat16-autocast"))
    assert 0.001 < auto < 0.75 * cast < 0.03
    assert all(one.dtype == torch.float32 for one in model.module.parameters()), "it has its own values back"
    assert torch.equal(captured(model, "float32", keep)["tokens/block.11.norm"], exact)


def extracted(tmp_path, name, **features):
    where = run.Workspace(Store(tmp_path / name), tmp_path / "data", tmp_path)
    if not (tmp_path / "data").exists():
        write_camvid(tmp_path / "data" / "camvid")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return run.extract_recipe(recipe(features=FeatureRecipe(**features)), where, CPU).outcomes[0].set


def test_autocast_names_another_set_and_both_records_say_it(tmp_path):
    made = {name: extracted(tmp_path, "store", compute_dtype=name) for name in ("bfloat16", "bfloat16-autocast")}
    cast, auto = made.values()
    assert cast.digest != auto.digest
    assert (cast.spec.compute_dtype, auto.spec.compute_dtype) == ("bfloat16", "bfloat16")
    assert auto.spec.revisions.items() - cast.spec.revisions.items() == {("autocast", 1)}
    assert [precision_of(one.spec) for one in (cast, auto)] == list(made)
    assert [one.compute["compute_dtype"] for one in (cast, auto)] == list(made)
    keys = {recipe(features=FeatureRecipe(compute_dtype=name)).model_key(TINY) for name in made}
    assert len(keys) == 2


COMPILED = """
import sys
from pathlib import Path
import torch
from pipeline.models import build_model
from pipeline.recipe import FeatureRecipe, MaskRecipe
from tests.pipeline.test_precision import SIZE, TINY, captured
model = build_model(TINY, SIZE, Path())
mask = MaskRecipe(ratio=0.5, seed=0) if sys.argv[1] == "masked" else None
keep = FeatureRecipe(norm="both", store_dtype="float32", masked=mask)
plain, compiled = captured(model, "float32", keep), captured(model, "float32", keep, compiled=True, passes=3)
assert plain.keys() == compiled.keys()
for name, values in plain.items():
    torch.testing.assert_close(compiled[name], values, rtol=1e-4, atol=1e-4)
assert all(not part._forward_hooks for part in model.module.modules()), "no hook stays behind"
print("graphs", torch._dynamo.utils.counters["stats"]["unique_graphs"])
print("breaks", sum(torch._dynamo.utils.counters["graph_break"].values()))
"""


@pytest.mark.slow
@pytest.mark.parametrize("masked", ["masked", "whole"])
def test_a_compiled_pass_is_one_function_with_the_same_values_within_tolerance(masked):
    """In a process of its own: the checks of shapes that run in tests are not compiled."""
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, "-c", COMPILED, masked]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["graphs", "1", "breaks", "0"]


@pytest.mark.slow
def test_a_module_of_the_users_own_is_compiled_too():
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 8, 8), torch.nn.GELU(), torch.nn.Conv2d(8, 6, 1))
    model = own_model(net, name="own", layers=["1", "2"], input=32)
    keep = FeatureRecipe(norm="none", store_dtype="float32")
    plain, compiled = captured(model, "float32", keep), captured(model, "float32", keep, compiled=True)
    for name, values in plain.items():
        torch.testing.assert_close(compiled[name], values, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_compiled_set_says_so_and_goes_on_as_it_was_begun(tmp_path):
    made = extracted(tmp_path, "store", layers=(-1,), compile=True)
    assert made.compute["compiled"] is True
    plain = extracted(tmp_path, "plain", layers=(-1,))
    assert made.digest == plain.digest, "the last bits may differ, what is measured does not"
    np.testing.assert_allclose(made["block.5.norm"][:], plain["block.5.norm"][:], rtol=2e-3, atol=2e-3)
    settled, lines = reconcile_with_recorded(CPU, made.compute, allow_mixed=False)
    assert settled.compiled
    assert "the model is compiled: the set was started so" in lines


def test_what_cannot_be_compiled_is_one_sentence(tmp_path, monkeypatch):
    def refuse(*arguments, **more):
        raise torch._dynamo.exc.BackendCompilerFailed("inductor", RuntimeError("no compiler"), None)

    model = build_model(TINY, SIZE, tmp_path)
    monkeypatch.setattr(torch, "compile", lambda function, **more: refuse)
    with pytest.raises(UserError, match=r"cannot be compiled on this machine .*set compile = false in \[features\]$"):
        captured(model, "float32", FeatureRecipe(), compiled=True)


@pytest.mark.slow
def test_shards_of_a_compiled_set_are_equal_to_one_process(tmp_path):
    alone = extracted(tmp_path, "alone", layers=(-1,), compile=True)
    where = run.Workspace(Store(tmp_path / "shards"), tmp_path / "data", tmp_path)
    wanted = recipe(features=FeatureRecipe(layers=(-1,), compile=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for index in range(2):
            last = run.extract_recipe(wanted, where, CPU, ExtractOptions(shard=(index, 2))).outcomes[0]
    assert last.set.stored_digest() == alone.stored_digest()
