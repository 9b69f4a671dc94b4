"""Captures: their numbers are those of float64 references, and the pass they are read in is not changed."""

import numpy as np
import pytest
import torch

from pipeline.captures.attention import STATISTICS, attention_statistics
from pipeline.captures.frequency import diagonal_amplitude
from pipeline.captures.points import AttentionCall
from pipeline.captures.table import wanted_arrays
from pipeline.captures.token_statistics import mean_cosine
from pipeline.extraction.model_pass.running import ModelPass
from pipeline.models import build_model
from pipeline.models.own_module import own_model
from pipeline.recipe import FeatureRecipe, ModelRecipe, Recipe
from stores.errors import UserError
from stores.specs import Size

SIZE = Size(height=48, width=64)
SMALL = {"embed_dim": 24, "depth": 3, "num_heads": 2, "patch_size": 8}
MODELS = {
    "plain": ModelRecipe(name="vit_tiny_patch16_224", weights="random", arguments=SMALL),
    "no class token": ModelRecipe(
        name="vit_tiny_patch16_224", weights="random", arguments={**SMALL, "class_token": False, "global_pool": "avg"}
    ),
    "registers": ModelRecipe(name="vit_small_patch14_reg4_dinov2", weights="random", arguments=SMALL),
    "norms of query and key": ModelRecipe(
        name="vit_tiny_patch16_224", weights="random", arguments={**SMALL, "qk_norm": True}
    ),
    "relative positions": ModelRecipe(
        name="beit_base_patch16_224", weights="random", arguments={**SMALL, "use_rel_pos_bias": True}
    ),
    "rotary positions": ModelRecipe(name="vit_small_patch16_dinov3", weights="random", arguments=SMALL),
}
ALL = ("attention", "class-attention", "frequency", "token-statistics", "covariances", "grams")
POINTS = ("embedding", "norm1", "attention", "attention-residual", "norm2", "mlp", "output")
INSIDE = ("embedding", "norm1", "attention", "attention-residual", "norm2", "mlp", "query", "key", "value", "heads")


SLOW = {"no class token", "norms of query and key"}
"""Models that the slow tests look at too."""


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in MODELS])
def model(request, tmp_path):
    return build_model(MODELS[request.param], SIZE, tmp_path)


@pytest.fixture
def pixels():
    values = np.random.default_rng(0).integers(0, 256, (5, SIZE.height, SIZE.width, 3))
    return torch.from_numpy(values.astype(np.float32))


def captured(model, pixels, rows=None, **features):
    features = FeatureRecipe(**{"norm": "none", "store_dtype": "float32", **features})
    return ModelPass(model, wanted_arrays(model, features), "float32")(pixels, (), rows)[0]


def names_of(model):
    return tuple(name for name in ALL if name != "class-attention" or model.n_prefix)


def test_stored_tokens_are_the_same_bytes_whatever_is_captured(model, pixels):
    plain = captured(model, pixels)
    with_all = captured(model, pixels, captures=names_of(model), capture_points=POINTS, sublayers=INSIDE, gram_rows=4)
    assert len(with_all) > len(plain)
    for name, values in plain.items():
        assert torch.equal(values, with_all[name]), name


def timm_weights(model, pixels):
    """Attention weights by block, of timm's own code without its fused kernel."""
    found = []
    for block in model.blocks:
        block.attn.fused_attn = False
    hooks = [
        block.attn.attn_drop.register_forward_hook(lambda module, inputs, output: found.append(output.double()))
        for block in model.blocks
    ]
    with torch.inference_mode():
        model.forward(model.normalise(pixels))
    for hook in hooks:
        hook.remove()
    for block in model.blocks:
        block.attn.fused_attn = True
    return found


def reference_statistics(weights, n_prefix, grid, patch):
    """Distance and mutual information as naver-ai/cl-vs-mim computes them, row by row in float64."""
    rows, columns = grid
    centres = np.array([(row, column) for row in range(rows) for column in range(columns)], dtype=np.float64)
    kept = weights[:, :, n_prefix:, n_prefix:].numpy()
    kept = kept / kept.sum(axis=-1, keepdims=True)
    n = kept.shape[-1]
    out = np.empty((*kept.shape[:2], 4))
    for index in np.ndindex(kept.shape[:2]):
        of_key = kept[index].mean(axis=0)
        key_entropy = -(of_key * np.log(of_key)).sum()
        entropy = -(kept[index] * np.log(kept[index])).sum() / n
        information = (kept[index] / n * np.log(kept[index] / of_key)).sum()
        for number, step in enumerate((patch, (1 / (rows - 1), 1 / (columns - 1)))):
            distances = np.linalg.norm((centres[:, None] - centres) * step, axis=-1)
            out[index][number] = (kept[index] * distances).sum() / n
        out[index][2:] = entropy, information / np.sqrt(np.log(n) * key_entropy)
    return out


def test_attention_statistics_equal_those_of_the_unfused_weights(model, pixels):
    stored = captured(model, pixels, captures=[name for name in names_of(model) if "attention" in name])
    for layer, weights in enumerate(timm_weights(model, pixels)):
        expected = reference_statistics(weights, model.n_prefix, model.grid, (8, 8))
        found = stored[f"attention/block.{layer}"].transpose(1, 2)
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)
        if model.n_prefix:
            of_class = weights[:, :, 0, model.n_prefix :]
            np.testing.assert_allclose(stored[f"attention/block.{layer}.class"], of_class, rtol=1e-4, atol=1e-6)


def call(scores):
    """The call of an attention kernel whose products of query and key are ``scores``, (patch, patch)."""
    query = torch.as_tensor(scores, dtype=torch.float32)[None, None]
    key = torch.eye(query.shape[-1])[None, None]
    return AttentionCall(query, key, key, query, None, 1.0)


@pytest.mark.parametrize(("patch", "expected"), [(16, 116.5), (14, 116.6)])
def test_uniform_attention_has_the_known_distance(patch, expected):
    """116.5 px on the 14 x 14 grid of patches of 16 pixels; with 14 pixels the grid is 16 x 16."""
    grid = 224 // patch
    found = attention_statistics(call(np.zeros((grid**2, grid**2))), 0, (grid, grid), (float(patch), float(patch)))[
        0, :, 0
    ]
    by_name = dict(zip(STATISTICS, found.tolist(), strict=True))
    assert by_name["distance_px"] == pytest.approx(expected, abs=0.06)
    assert by_name["distance_unit"] == pytest.approx(by_name["distance_px"] / (224 - patch), rel=1e-5)
    assert by_name["entropy_nats"] == pytest.approx(np.log(grid**2), rel=1e-5)
    assert by_name["nmi"] == pytest.approx(0, abs=1e-4)


def test_mutual_information_is_one_for_identity_and_zero_for_equal_rows():
    identity = attention_statistics(call(1e4 * np.eye(16)), 0, (4, 4), (16.0, 16.0))[0, :, 0]
    assert identity.tolist() == pytest.approx([0, 0, 0, 1], abs=1e-5)
    row = np.random.default_rng(1).normal(size=16)
    equal = attention_statistics(call(np.tile(row, (16, 1))), 0, (4, 4), (16.0, 16.0))[0, :, 0]
    assert equal[3] == pytest.approx(0, abs=1e-5)
    collapsed = attention_statistics(call(np.tile(1e4 * np.eye(16)[3], (16, 1))), 0, (4, 4), (16.0, 16.0))[0, :, 0]
    assert collapsed[2:].tolist() == pytest.approx([0, 0], abs=1e-5)


def test_amplitudes_are_the_half_diagonal_of_the_whole_transform():
    """numpy's fft2 in float64, shifted and cut as in the notebook."""
    tokens = np.random.default_rng(2).normal(size=(3, 14 * 14, 5))
    maps = tokens.transpose(0, 2, 1).reshape(3, 5, 14, 14)
    spectrum = np.log(np.abs(np.fft.fft2(maps)) + 1e-6).mean(axis=1)
    shifted = np.fft.fftshift(spectrum, axes=(1, 2))
    expected = np.stack([np.diag(one)[7:] for one in shifted])
    found = diagonal_amplitude(torch.from_numpy(tokens.astype(np.float32)), (14, 14))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_a_planted_sinusoid_peaks_at_its_frequency():
    rows, columns = np.mgrid[:14, :14]
    for cycles in range(1, 7):
        wave = np.cos(2 * np.pi * cycles * (rows + columns) / 14).reshape(1, -1, 1)
        found = diagonal_amplitude(torch.from_numpy(wave.astype(np.float32)), (14, 14))[0]
        assert int(found.argmax()) == cycles


def test_frequency_of_points_is_that_of_their_tokens(model, pixels):
    points = ("embedding", "attention-residual", "output")
    stored = captured(model, pixels, captures=["frequency"], capture_points=points, sublayers=points[:2])
    for name, values in stored.items():
        if not name.startswith("frequency/"):
            continue
        point = name.partition("/")[2]
        is_inside = "residual" in point or point == "embedding"
        tokens = stored[f"sublayers/{point}"][:, model.n_prefix :] if is_inside else stored[f"tokens/{point}"]
        np.testing.assert_allclose(values, diagonal_amplitude(tokens, model.grid), rtol=0, atol=1e-5)
        assert values.shape[1] == min(model.grid) // 2


def test_sublayers_add_up_to_the_block(model, pixels):
    """``z + attention`` is the residual and ``residual + mlp`` the output, where there is no layer scale."""
    stored = captured(model, pixels, sublayers=INSIDE)
    kernel = {name: stored[f"sublayers/block.0.{name}"].double() for name in ("query", "key", "value", "heads")}
    block, n_prefix = model.blocks[0], model.n_prefix
    if not hasattr(block.attn, "relative_position_bias_table") or block.attn.relative_position_bias_table is None:
        weights = (kernel["query"] @ kernel["key"].mT / kernel["query"].shape[-1] ** 0.5).softmax(dim=-1)
        np.testing.assert_allclose(kernel["heads"], weights @ kernel["value"], rtol=0, atol=1e-5)
    scales = [
        name for name in ("ls1", "gamma_1") if not isinstance(getattr(block, name, None), torch.nn.Identity | None)
    ]
    if scales:
        return
    total = stored["sublayers/embedding"] + stored["sublayers/block.0.attention"]
    np.testing.assert_allclose(total, stored["sublayers/block.0.attention-residual"], rtol=0, atol=1e-5)
    output = total + stored["sublayers/block.0.mlp"]
    np.testing.assert_allclose(output[:, n_prefix:], stored["tokens/block.0"], rtol=0, atol=1e-5)


def test_token_statistics_equal_loops_over_pairs(model, pixels):
    stored = captured(model, pixels, captures=["token-statistics"], sublayers=["embedding", "heads"])
    before = stored["sublayers/embedding"][:, model.n_prefix :]
    for layer in range(3):
        tokens = stored[f"tokens/block.{layer}"]
        heads = stored[f"sublayers/block.{layer}.heads"][:, :, model.n_prefix :]
        for row in range(2):
            found = stored[f"statistics/block.{layer}"][row]
            expected = [
                mean_of_pairs(tokens[row]),
                np.mean([cosine(one, other) for one, other in zip(before[row], tokens[row], strict=True)]),
                tokens[row].double().var(dim=0, correction=0).mean(),
                np.mean([mean_of_pairs(heads[row, :, patch]) for patch in range(heads.shape[2])]),
            ]
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        before = tokens


def cosine(one, other):
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    return one @ other / np.linalg.norm(one) / np.linalg.norm(other)


def test_covariances_are_those_of_each_inputs_tokens(model, pixels):
    stored = captured(model, pixels, captures=["covariances"], capture_points=["attention", "output"],
                      sublayers=["attention"])  # fmt: skip
    for name, source in (("covariances/block.1", "tokens/block.1"),
                         ("covariances/block.1.attention", "sublayers/block.1.attention")):  # fmt: skip
        tokens = stored[source].double().numpy()
        tokens = tokens[:, -model.layers[1].n_patches :]
        for row, found in zip(tokens, stored[name].numpy(), strict=True):
            covariance = np.cov(row.T, bias=True)
            expected = np.concatenate([row.mean(axis=0), covariance[np.tril_indices(row.shape[1])]])
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max())


def mean_of_pairs(vectors):
    n = len(vectors)
    return np.mean([cosine(vectors[i], vectors[j]) for i in range(n) for j in range(i)])


def test_the_mean_cosine_of_one_vector_is_one():
    assert mean_cosine(torch.randn(3, 1, 4), axis=1).tolist() == [1, 1, 1]


def test_grams_equal_the_products_in_float64_however_the_rows_are_batched(model):
    rng = np.random.default_rng(4)
    pixels = torch.from_numpy(rng.integers(0, 256, (11, 48, 64, 3)).astype(np.float32))
    features = FeatureRecipe(
        norm="none", store_dtype="float32", captures=("grams",), capture_points=("norm1", "output"), gram_rows=4
    )
    arrays = wanted_arrays(model, features)
    tokens = ModelPass(model, arrays, "float32")(pixels)[0]
    for batch in (1, 3, 4, 11):
        run = ModelPass(model, [array for array in arrays if array.group == "grams"], "float32")
        parts = []
        for start in range(0, 11, batch):
            rows = range(start, min(start + batch, 11))
            padded = [*rows, *[rows[-1]] * (batch - len(rows))]
            parts.append({name: values[: len(rows)] for name, values in run(pixels[padded], (), rows)[0].items()})
        for kind in ("tokens", "prefix") if model.n_prefix else ("tokens",):
            vectors = tokens[f"{kind}/block.1"].flatten(1).double()
            name = {"tokens": "patches", "prefix": "prefix"}[kind]
            found = torch.cat([part[f"grams/block.1.{name}.rows4"] for part in parts])
            expected = torch.zeros(11, 4, dtype=torch.float64)
            for row in range(11):
                first = row // 4 * 4
                expected[row, : row - first + 1] = vectors[row] @ vectors[first : row + 1].T
            np.testing.assert_allclose(found, expected, rtol=1e-5)
            if batch == 11:
                np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_rows_that_do_not_follow_begin_a_minibatch_of_their_own(tmp_path, pixels):
    model = build_model(MODELS["plain"], SIZE, tmp_path)
    features = FeatureRecipe(captures=("grams",), gram_rows=4, tokens="none", prefix=False)
    run = ModelPass(model, wanted_arrays(model, features), "float32")
    run(pixels[:2], (), (0, 1))
    after = run(pixels[2:4], (), (8, 9))[0]["grams/block.0.patches.rows4"]
    alone = ModelPass(model, run.arrays, "float32")(pixels[2:4], (), (8, 9))[0]["grams/block.0.patches.rows4"]
    assert torch.equal(after, alone)


def test_maps_of_a_convolutional_net_have_grams_frequencies_and_statistics(tmp_path):
    model = build_model(ModelRecipe(name="resnet18", weights="random"), Size(height=64, width=64), tmp_path)
    pixels = torch.from_numpy(np.random.default_rng(5).integers(0, 256, (4, 64, 64, 3)).astype(np.float32))
    stored = captured(model, pixels, captures=["grams", "frequency", "token-statistics"], gram_rows=4)
    assert stored["grams/stage.2.patches.rows4"].shape == (4, 4)
    assert stored["frequency/stage.1"].shape[1] == model.layers[1].grid[0] // 2
    assert stored["statistics/stage.4"].shape == (4, 2)
    with pytest.raises(UserError, match=r'no transformer blocks to read "attention" in'):
        captured(model, pixels, captures=["grams"], capture_points=["attention"])
    with pytest.raises(UserError, match="no transformer blocks"):
        captured(model, pixels, captures=["attention"])


class OwnAttention(torch.nn.Module):
    """Attention that calls no kernel of PyTorch."""

    num_heads = 1

    def forward(self, tokens, **options):
        return (tokens @ tokens.mT).softmax(dim=-1) @ tokens


def test_attention_without_the_kernel_is_refused_in_a_sentence(tmp_path, pixels):
    model = build_model(MODELS["plain"], SIZE, tmp_path)
    model.blocks[1].attn = OwnAttention()
    with pytest.raises(UserError, match=r"block 1 of vit_tiny_patch16_224 does not call .*scaled_dot_product"):
        captured(model, pixels, captures=["attention"])


def test_an_own_module_has_grams_of_its_layers(pixels):
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 8, stride=8), torch.nn.Conv2d(6, 8, 1))
    model = own_model(net, name="own", layers=["0", "1"], input=SIZE)
    stored = captured(model, pixels, captures=["grams", "frequency"], gram_rows=8)
    name = model.layers[1].name
    vectors = stored[f"tokens/{name}"].flatten(1).double()
    np.testing.assert_allclose(stored[f"grams/{name}.patches.rows8"][4, :5], vectors[4] @ vectors.T, rtol=1e-9)


def test_captures_are_refused_in_a_compiled_model(tmp_path):
    model = build_model(MODELS["plain"], SIZE, tmp_path)
    run = ModelPass(model, wanted_arrays(model, FeatureRecipe(captures=("attention",))), "float32")
    with pytest.raises(UserError, match="set compile = false"), run.compiled():
        pass


def test_only_what_is_read_inside_the_blocks_is_refused_in_a_compiled_model(tmp_path):
    model = build_model(MODELS["registers"], SIZE, tmp_path)
    features = FeatureRecipe(captures=("attention", "frequency", "grams"), compile=True)
    run = ModelPass(model, wanted_arrays(model, features), "float32")
    with pytest.raises(UserError, match=r"the attention arrays of .* are read inside"), run.compiled():
        pass


def test_products_are_not_rounded_under_autocast(tmp_path, pixels):
    """Tokens are those of bfloat16; their products and statistics are taken in full precision."""
    model = build_model(MODELS["plain"], SIZE, tmp_path)
    features = FeatureRecipe(
        norm="none", store_dtype="float32", captures=("grams", "attention"), sublayers=("query", "key")
    )
    stored = ModelPass(model, wanted_arrays(model, features), "bfloat16-autocast")(pixels)[0]
    vectors = stored["tokens/block.2"].flatten(1).double()
    np.testing.assert_allclose(stored["grams/block.2.patches.rows32"][4, :5], vectors[4] @ vectors.T, rtol=1e-10)
    query, key = (stored[f"sublayers/block.2.{name}"] for name in ("query", "key"))
    again = attention_statistics(
        AttentionCall(query, key, key, query, None, query.shape[-1] ** -0.5), 1, model.grid, (8.0, 8.0)
    )
    np.testing.assert_allclose(stored["attention/block.2"], again, rtol=0, atol=1e-6)


def test_a_missing_layer_scale_is_said_with_what_is_there(tmp_path, pixels):
    model = build_model(MODELS["plain"], SIZE, tmp_path)
    with pytest.raises(UserError, match=r'block 0 of vit_tiny_patch16_224 has no "ls1" \(it has norm1, attention,'):
        captured(model, pixels, sublayers=["ls1"])
    scaled = build_model(MODELS["registers"], SIZE, tmp_path)
    assert "sublayers/block.0.ls1" in captured(scaled, pixels, sublayers=["ls1"])


def test_a_model_or_a_view_says_which_captures_are_kept_of_it():
    vit = ModelRecipe(name="vit_tiny_patch16_224")
    stages = ModelRecipe(name="resnet18", captures=("frequency",))
    blur = {"name": "blur", "levels": [10], "captures": ["grams"]}
    asked = {"features": {"captures": ["attention", "grams"]}, "views": [blur, {"name": "flip"}]}
    wanted = Recipe.model_validate(
        {"dataset": {"name": "camvid"}, "frame": {"input": 224}, "models": [vit, stages]} | asked
    )
    assert [kept.captures for _, kept in wanted.all_views(vit)] == [("attention", "grams"), ("grams",), ()]
    assert [kept.captures for _, kept in wanted.all_views(stages)] == [("frequency",), (), ()]
    keys = {wanted.model_key(one) for one in (stages, stages.model_copy(update={"captures": ("grams",)}))}
    assert len(keys) == 1, "captures can be added to a set that is complete"
