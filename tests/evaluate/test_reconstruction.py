"""Reconstruction with features zeroed: against ten lines of numpy, and where the answer was planted."""

import copy
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from evaluate.analyses.reconstruction import Reconstruction, variants
from evaluate.analyses.variance_spectrum import VarianceSpectrum
from evaluate.kernels.image_metrics import mean_over, patch_errors, psnr, ssim
from evaluate.results.table import ResultStore
from evaluate.runner import evaluate
from evaluate.scoring import reconstruction
from stores.errors import MissingError, UserError
from tests.evaluate.planted_reconstruction import (
    BOLD,
    GRID,
    MEAN,
    N_PATCHES,
    N_VALUES,
    PATCH,
    STD,
    LinearDecoder,
    planted_reconstruction,
)
from tests.evaluate.test_patch_classification import settings_of, value


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    return planted_reconstruction(tmp_path_factory.mktemp("planted"))


def analysis(**changes):
    return Reconstruction(kind="reconstruction", **{"m": len(BOLD), "draws": 2, "resamples": 50, **changes})


def found(measured, folder, decoder, *asked):
    given = {measured.title: lambda: decoder}
    return evaluate("t", [measured], settings_of(*(asked or (analysis(),))), ResultStore(folder), decoders=given)


def cut(images):
    """Patches of (sample, height, width, 3), one by one."""
    corners = [(PATCH * row, PATCH * column) for row in range(GRID) for column in range(GRID)]
    return np.stack([images[:, y : y + PATCH, x : x + PATCH].reshape(len(images), -1) for y, x in corners], axis=1)


def maes_loss(predicted, pixels, mask, norm_pix):
    """MAE's loss in float64: pixels as the encoder sees them, patch by patch normalised if asked, masked mean."""
    target = cut((pixels / 255 - MEAN) / STD)
    if norm_pix:
        mean, variance = target.mean(axis=-1, keepdims=True), target.var(axis=-1, ddof=1, keepdims=True)
        target = (target - mean) / np.sqrt(variance + 1e-6)
    each = ((predicted - target) ** 2).mean(axis=-1)
    return (each * mask).sum() / mask.sum()


def pictures_of(predicted, pixels, norm_pix):
    """RGB in 0..1 of predictions, clipped; written pixel by pixel patch."""
    true = cut((pixels / 255 - MEAN) / STD)
    if norm_pix:
        variance = true.var(axis=-1, ddof=1, keepdims=True)
        predicted = predicted * np.sqrt(variance + 1e-6) + true.mean(axis=-1, keepdims=True)
    images = np.zeros(pixels.shape)
    for number in range(N_PATCHES):
        y, x = PATCH * (number // GRID), PATCH * (number % GRID)
        images[:, y : y + PATCH, x : x + PATCH] = predicted[:, number].reshape(-1, PATCH, PATCH, 3)
    return np.clip(images * STD + MEAN, 0, 1)


def reference_ssim(true, shown):
    """Wang et al. (2004), equation 13, with Gaussian moments, borders of half a window left out."""

    def blurred(image):
        return gaussian_filter(image, sigma=(1.5, 1.5, 0), truncate=3.5)

    mean_a, mean_b = blurred(true), blurred(shown)
    var_a, var_b = blurred(true * true) - mean_a**2, blurred(shown * shown) - mean_b**2
    both = blurred(true * shown) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    index = (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return index[5:-5, 5:-5].mean()


def stored(measured, ratio):
    """Tokens with the class token first, visible ids and pixels of the validation rows, as the store keeps them."""
    rows = np.flatnonzero(measured.samples["split"] == "val")
    title = "mask75.seed0." if ratio else ""
    patches = measured.features[f"visible/{title}block.0.norm" if ratio else "tokens/block.0.norm"][rows]
    tokens = np.concatenate([measured.features[f"prefix/{title}block.0.norm"][rows], patches], axis=1)
    ids = measured.features["visible/mask75.seed0.ids"][rows] if ratio else None
    return tokens.astype(np.float64), ids, measured.labels["inputs/pixels.bicubic"][rows]


def decoded(tokens, ids):
    if ids is None:
        return tokens[:, 1:]
    predicted = np.repeat(tokens[:, :1], N_PATCHES, axis=1)
    for sample, places in enumerate(ids):
        predicted[sample, places] = tokens[sample, 1:]
    return predicted


@pytest.mark.parametrize("target", ["pixels", "normalised"])
@pytest.mark.parametrize("ratio", [0.0, 0.75])
def test_every_score_of_every_variant_equals_the_reference(measured, tmp_path, ratio, target):
    table = found(measured, tmp_path, LinearDecoder(target), analysis(masking=(ratio,))).table
    tokens, ids, pixels = stored(measured, ratio)
    mask = np.ones((len(pixels), N_PATCHES))
    if ids is not None:
        np.put_along_axis(mask, ids.astype(np.int64), 0.0, axis=1)
    norm_pix = target == "normalised"
    top = np.isin(np.arange(N_VALUES), BOLD)
    for outcome, zeroed in (("none", top & ~top), ("top", top), ("all-but-top", ~top)):
        predicted = decoded(np.where(zeroed, 0.0, tokens), ids)
        expected = {"mse_normalised": maes_loss(predicted, pixels, mask, norm_pix)}
        drawn = pictures_of(predicted, pixels, norm_pix)
        errors = ((cut(drawn) - cut(pixels / 255)) ** 2).mean(axis=-1)
        expected["mse_pixels"] = (errors * mask).sum() / mask.sum()
        expected["psnr"] = (-10 * np.log10(errors.mean(axis=1))).mean()
        expected["ssim"] = np.mean([reference_ssim(*pair) for pair in zip(pixels / 255, drawn, strict=True)])
        if outcome == "none":
            target = cut((pixels / 255 - MEAN) / STD)
            if norm_pix:
                variance = target.var(axis=-1, ddof=1, keepdims=True)
                target = (target - target.mean(axis=-1, keepdims=True)) / np.sqrt(variance + 1e-6)
            seen = [np.arange(N_PATCHES) if ids is None else ids[sample] for sample in range(len(target))]
            mean = np.stack([one[places].mean(axis=0) for one, places in zip(target, seen, strict=True)])
            blind = maes_loss(np.broadcast_to(mean[:, None], target.shape), pixels, mask, norm_pix)
            expected["mse_normalised_of_mean_patch"] = blind
            expected["mse_normalised_over_mean_patch"] = expected["mse_normalised"] / blind
        if ratio:
            expected["mse_normalised_visible"] = maes_loss(predicted, pixels, 1 - mask, norm_pix)
            expected["mse_normalised_all"] = maes_loss(predicted, pixels, np.ones_like(mask), norm_pix)
            expected["mse_pixels_all"] = errors.mean()
        for metric, number in expected.items():
            row = value(table, metric, outcome=outcome)
            assert row["value"] == pytest.approx(number, rel=1e-4, abs=1e-6), (outcome, metric)
            assert row["low"] <= row["value"] <= row["high"]
            assert (row["x_name"], row["x_value"], row["n_units"]) == ("mask_ratio", ratio, 12)
    assert set(table["array"]) == {"mask75.seed0.block.0.norm" if ratio else "block.0.norm"}
    assert set(table["token"]) == {"patch"}


def test_zeroing_the_planted_features_costs_what_they_carried(measured, tmp_path):
    """Without noise: nothing is lost, then the squares of the bold values are, then those of all others."""
    exact = planted_reconstruction(tmp_path / "exact", noise=0.0)
    table = found(exact, tmp_path / "r", LinearDecoder(), analysis(masking=(0.0,))).table
    true = cut((stored(exact, 0.0)[2] / 255 - MEAN) / STD)
    others = np.delete(true, BOLD, axis=2)
    lost = {"none": 0.0, "top": (true[..., BOLD] ** 2).sum(), "all-but-top": (others**2).sum()}
    for outcome, squares in lost.items():
        row = value(table, "mse_normalised", outcome=outcome)
        assert row["value"] == pytest.approx(squares / true.size, rel=1e-5, abs=1e-9)
    assert value(table, "psnr", outcome="top")["value"] < value(table, "psnr", outcome="none")["value"] - 20


def test_the_training_rows_alone_rank_the_features(tmp_path):
    """Values that are bold in validation images only are not among the top, so zeroing the top costs little."""
    measured = planted_reconstruction(tmp_path / "s", noise=0.0, bold_in_validation=BOLD + 1)
    table = found(measured, tmp_path / "r", LinearDecoder(), analysis(masking=(0.0,))).table
    true = cut((stored(measured, 0.0)[2] / 255 - MEAN) / STD)
    for outcome, zeroed in (("top", true[..., BOLD]), ("all-but-top", np.delete(true, BOLD, axis=2))):
        row = value(table, "mse_normalised", outcome=outcome)
        assert row["value"] == pytest.approx((zeroed**2).sum() / true.size, rel=1e-5)


def test_zeroed_values_are_drawn_in_the_mean_colour_and_no_others_move(measured, tmp_path):
    ((_, result),) = found(measured, tmp_path, LinearDecoder(), analysis(masking=(0.0,), pictures=2)).results.values()
    full, without = (cut(result.arrays[f"reconstruction_{name}"]) for name in ("none", "top"))
    np.testing.assert_array_equal(np.delete(full, BOLD, axis=2), np.delete(without, BOLD, axis=2))
    grey = np.rint(MEAN * 255).astype(np.uint8)
    np.testing.assert_array_equal(without[..., BOLD], np.broadcast_to(grey[BOLD % 3], without[..., BOLD].shape))
    validation = measured.samples[measured.samples["split"] == "val"]["sample"]
    assert result.arrays["reconstruction_samples"].tolist() == [validation.iloc[0], validation.iloc[-1]]


def test_pictures_of_masked_inputs_are_grey_where_nothing_was_seen(measured, tmp_path):
    ((_, result),) = found(measured, tmp_path, LinearDecoder(), analysis(masking=(0.75,), pictures=3)).results.values()
    shown, true = (cut(result.arrays[f"reconstruction_{name}"]) for name in ("masked_input", "input"))
    ids = stored(measured, 0.75)[1]
    for place, row in enumerate((0, 12, 23)):
        hidden = np.setdiff1d(np.arange(N_PATCHES), ids[row])
        np.testing.assert_array_equal(shown[place][ids[row]], true[place][ids[row]])
        assert (shown[place][hidden] == 128).all()


def test_ratios_are_paired_and_random_choices_are_averaged(measured, tmp_path):
    table = found(measured, tmp_path, LinearDecoder(), analysis(resamples=200)).table
    for array in ("block.0.norm", "mask75.seed0.block.0.norm"):
        here = table[table["array"] == array]
        none = value(here, "mse_normalised", outcome="none")
        top, ratio = (value(here, name, outcome="top") for name in ("mse_normalised", "mse_normalised_ratio"))
        assert ratio["value"] == pytest.approx(top["value"] / none["value"])
        assert ratio["reference"] == "none"
        assert ratio["low"] < ratio["value"] < ratio["high"]
        assert (ratio["low"] > 1.0) == (array == "block.0.norm"), "the class token alone draws badly, zeroed or not"
        draws = here[(here["outcome"] == "random") & (here["x_name"] == "draw")]
        for metric in ("mse_normalised", "ssim", "mse_normalised_ratio"):
            each = draws[draws["metric"] == metric]
            assert each["x_value"].tolist() == [0.0, 1.0]
            mean = value(here, metric, outcome="random", x_name="mask_ratio")
            assert mean["value"] == pytest.approx(each["value"].mean())
    same = value(table, "mse_normalised", outcome="none", array="block.0.norm")
    assert same["low"] < same["high"]


def test_ratios_of_proportional_errors_have_no_width(measured, tmp_path):
    """Paired by image: what errs twice as much in every image does so in every resample."""

    class Twice(LinearDecoder):
        def __call__(self, tokens, ids=None):
            factor = np.sqrt(2.0) if (tokens[:, :, BOLD] == 0).all() else 1.0
            of_tile = factor * np.abs(np.delete(tokens, BOLD, axis=2)).mean(axis=(1, 2), keepdims=True)
            return np.broadcast_to(of_tile, (len(tokens), N_PATCHES, N_VALUES)).astype(np.float32)

        def targets(self, pixels):
            return np.zeros((len(pixels), N_PATCHES, N_VALUES), np.float32)

    table = found(measured, tmp_path, Twice(), analysis(masking=(0.0,), resamples=200)).table
    plain = value(table, "mse_normalised", outcome="top")
    assert plain["high"] - plain["low"] > 1e-3
    ratio = value(table, "mse_normalised_ratio", outcome="top")
    np.testing.assert_allclose(ratio[["low", "value", "high"]].to_numpy(dtype=float), 2.0, rtol=1e-5)


def test_a_decoder_that_draws_nothing_is_told_from_one_that_does(measured, tmp_path):
    """The linear decoder reads patches that were seen and guesses masked ones; another tile's patches are no better."""

    class OfAnotherTile(LinearDecoder):
        def __call__(self, tokens, ids=None):
            return np.roll(super().__call__(tokens, ids), 1, axis=0)

    tables = {
        decoder: found(measured, tmp_path / decoder.__name__, decoder(), analysis(resamples=200)).table
        for decoder in (LinearDecoder, OfAnotherTile)
    }

    def over(decoder, masking):
        row = value(tables[decoder], "mse_normalised_over_mean_patch", x_value=masking)
        assert (row["outcome"], row["m"], row["reference"]) == ("none", 0, "mean patch")
        return row

    assert over(LinearDecoder, 0.0)["high"] < 1.0
    assert over(LinearDecoder, 0.75)["low"] > 1.0
    assert over(OfAnotherTile, 0.0)["low"] > 1.0


def test_the_class_token_is_zeroed_unless_the_settings_say_otherwise(measured, tmp_path):
    """Masked patches are drawn from the class token alone, so that sparing it spares them."""
    asked = {prefix: analysis(masking=(0.75,), prefix=prefix) for prefix in (True, False)}
    tables = {
        prefix: found(measured, tmp_path / str(prefix), LinearDecoder(), one).table for prefix, one in asked.items()
    }
    spared, zeroed = (value(tables[prefix], "mse_normalised", outcome="top")["value"] for prefix in (False, True))
    none = value(tables[True], "mse_normalised", outcome="none")["value"]
    assert spared == pytest.approx(none, rel=1e-12)
    assert abs(zeroed - none) > 0.01


def test_rows_are_streamed_and_blocks_change_no_number(measured, tmp_path, monkeypatch):
    whole, pieces = LinearDecoder(), LinearDecoder()
    first = found(measured, tmp_path / "a", whole).table
    pixels = measured.labels["inputs/pixels.bicubic"]
    reads, read = [], type(pixels).__getitem__

    def watched(array, rows):
        if array.folder == pixels.folder:
            reads.append(len(rows))
        return read(array, rows)

    monkeypatch.setattr(type(pixels), "__getitem__", watched)
    monkeypatch.setattr(reconstruction, "BLOCK_BYTES", 1)
    second = found(measured, tmp_path / "b", pieces).table
    assert reads == [8, 8, 8] * 2
    assert {shape[0] for shape in whole.seen} == {reconstruction.DECODED}
    assert whole.seen == pieces.seen
    assert first.equals(second)


def test_nothing_is_decoded_twice_and_m_recomputes_that_analysis_alone(measured, tmp_path):
    spectrum = VarianceSpectrum(kind="variance-spectrum", top=(3,))
    first = found(measured, tmp_path, LinearDecoder(), analysis(), spectrum)
    assert (first.n_computed, first.n_reused) == (3, 0)

    class Exploding(LinearDecoder):
        def __call__(self, tokens, ids=None):
            raise AssertionError("a stored result was decoded again")

    again = found(measured, tmp_path, Exploding(), analysis(), spectrum)
    assert (again.n_computed, again.n_reused) == (0, 3)
    assert again.table.equals(first.table)
    fewer = found(measured, tmp_path, LinearDecoder(), analysis(m=3), spectrum)
    assert (fewer.n_computed, fewer.n_reused) == (2, 1)
    one_mask = found(measured, tmp_path, Exploding(), analysis(masking=(0.75,)), spectrum)
    assert (one_mask.n_computed, one_mask.n_reused) == (0, 2)
    other = found(measured, tmp_path, LinearDecoder(digest="another decoder"), analysis(), spectrum)
    assert (other.n_computed, other.n_reused) == (2, 1)


def test_what_is_missing_is_said_in_one_sentence(measured, tmp_path):
    def refused(match, *asked, decoder=None, given=True, sets=measured, kind=UserError):
        makers = {sets.title: lambda: decoder or LinearDecoder()} if given else {}
        with pytest.raises(kind, match=match) as caught:
            evaluate("t", [sets], settings_of(*(asked or (analysis(),))), ResultStore(tmp_path / "r"), decoders=makers)
        assert "\n" not in str(caught.value)

    refused("needs the decoder of planted and was given none", given=False)
    refused("'MAE'; the models are planted", analysis(models=("MAE",)))
    refused("encoder with other weights than set", decoder=LinearDecoder(encoder="0" * 64))
    refused("zeroes m = 48 of 48 features: choose a smaller m", analysis(m=48))
    masked = r"mask50\.seed0\.block\.0\.norm of planted .*`masked = \{ ratio = 0\.5, seed = 0 \}` in \[features\]"
    refused(masked, analysis(masking=(0.5,)), kind=MissingError)
    refused("block.4.norm of planted is not complete", decoder=LinearDecoder(layer=4), kind=MissingError)
    bilinear = measured.spec.model.model_copy(update={"interpolation": "bilinear"})
    blind = replace(measured, features=_with_model(measured.features, bilinear))
    refused(r"inputs/pixels\.bilinear is not .*`input_pixels = true`", sets=blind, kind=MissingError)
    assert not (tmp_path / "r" / "answers").exists(), "something was half-written"


def _with_model(features, model):
    changed = copy.copy(features)
    changed.spec = features.spec.model_copy(update={"model": model})
    return changed


def test_only_the_models_in_the_settings_need_a_decoder(measured, tmp_path):
    other = replace(measured, title="no decoder")
    settings = settings_of(analysis(models=("planted",), masking=(0.0,)))
    decoders = {"planted": LinearDecoder}
    evaluation = evaluate("t", [measured, other], settings, ResultStore(tmp_path), decoders=decoders)
    assert set(evaluation.table["model"]) == {"planted"}


def test_variants_zero_what_they_say():
    ranking = np.array([4, 1, 0, 2, 3])
    chosen = variants(ranking, 2, 3, seed=0)
    assert [one.outcome for one in chosen] == ["none", "top", "random", "random", "random", "all-but-top"]
    by_name = {one.outcome: one.zeroed for one in chosen}
    assert np.flatnonzero(by_name["none"]).tolist() == []
    assert np.flatnonzero(by_name["top"]).tolist() == [1, 4]
    assert np.flatnonzero(by_name["all-but-top"]).tolist() == [0, 2, 3]
    assert [one.zeroed.sum() for one in chosen[2:5]] == [2, 2, 2]
    assert all((a.zeroed == b.zeroed).all() for a, b in zip(chosen, variants(ranking, 2, 3, seed=0), strict=True))
    assert any((a.zeroed != b.zeroed).any() for a, b in zip(chosen, variants(ranking, 2, 3, seed=1), strict=True))


def test_picture_scores_at_their_ends():
    rng = np.random.default_rng(0)
    true = rng.random((2, 12, 24, 3))
    assert np.isposinf(psnr(true, true)).all()
    np.testing.assert_allclose(ssim(true, true), 1.0)
    np.testing.assert_allclose(psnr(true, true + 0.1), 20.0)
    shown = rng.random(true.shape)
    np.testing.assert_allclose(ssim(true, shown), [reference_ssim(*pair) for pair in zip(true, shown, strict=True)])
    errors = patch_errors(true, shown, (3, 2))
    assert errors[1, 3] == pytest.approx(((true - shown)[1, 4:8, 12:] ** 2).mean())
    none = np.zeros(errors.shape, dtype=np.bool_)
    assert np.isnan(mean_over(errors, none)).all()
    with pytest.raises(UserError, match=r"11x11 pixels and the inputs have 24x8"):
        ssim(true[:, :8], true[:, :8])
