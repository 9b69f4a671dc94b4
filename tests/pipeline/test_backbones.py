"""Training of the small backbones: a short version of every objective, and what their parts must do exactly."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from demo.backbones.__main__ import main
from demo.backbones.crops import Cropper, _blurred, _jittered
from demo.backbones.distilled import sinkhorn
from demo.backbones.encoder import ARGUMENTS, GRID, PIXELS, embed, encode, new_encoder, recipe_of
from demo.backbones.frames import HEIGHT, VOID, WIDTH, Frames, paint_frames
from demo.backbones.masked import patches_of
from demo.backbones.score import miou
from demo.backbones.settings import Crops, Record, World, read_settings
from demo.backbones.training import learning_rate, objective_of, train
from pipeline.models import build_model
from pipeline.models.loading.patch_pixels import PatchPixels, patchify
from pipeline.models.mae_decoder import decoder_of
from pipeline.recipe import DecoderRecipe
from stores.errors import UserError
from stores.specs import Size

FILES = sorted((Path(__file__).parents[2] / "demo" / "backbones").glob("*.toml"))
INPUT = Size(height=PIXELS, width=PIXELS)


def tiny(file, steps=2, batch=4):
    """The settings of a file with few scenes and steps."""
    settings = read_settings(file)
    return settings.model_copy(
        update={
            "world": settings.world.model_copy(update={"scenes": 4, "cities": 2}),
            "optimisation": settings.optimisation.model_copy(update={"steps": steps, "batch": batch, "warmup": 2}),
            "log_every": 1,
            "probe_scenes": 1,
        }
    )


def named(stem):
    return next(file for file in FILES if file.stem == stem)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Frames painted once for all tests here."""
    return tmp_path_factory.mktemp("frames")


@pytest.fixture(scope="module")
def short(tmp_path_factory, cache):
    """A short MAE."""
    out = tmp_path_factory.mktemp("short")
    return train(tiny(named("mae"), steps=8, batch=8), out, cache=cache)


def logged(path):
    return [json.loads(line) for line in path.with_suffix(".log.jsonl").read_text().splitlines()]


def losses(path):
    return [line["loss"] for line in logged(path) if "loss" in line]


def tokens_of(weights):
    """Features of noise by the ordinary path: an experiment's model recipe, built as `extract` does."""
    model = build_model(recipe_of(str(weights)), INPUT, Path())
    noise = torch.rand(2, 3, PIXELS, PIXELS, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return model, model.forward(noise).numpy()


def test_a_short_training_lowers_the_loss_and_keeps_log_curve_and_record(short):
    found = losses(short)
    assert np.mean(found[-3:]) < 0.8 * found[0]
    first, last = logged(short)[0], logged(short)[-1]
    assert {"loss", "probe", "knn"} <= first.keys()  # the scores of the initial weights
    assert last["step"] == 8
    assert 0 <= last["knn"] <= 1
    assert 0 <= last["probe"] <= 1
    record = json.loads(short.with_suffix(".json").read_text())
    assert record["settings"]["objective"]["target"] == "pixels"
    assert record["last"] == last
    assert b"svg" in short.with_suffix(".svg").read_bytes()[:200]


def test_weights_load_by_the_ordinary_path_and_differ_from_random_ones(short):
    model, trained = tokens_of(short)
    random, others = tokens_of("random")
    assert (model.grid, model.width, len(model.layers)) == ((GRID, GRID), 128, ARGUMENTS["depth"])
    assert model.record.weights != random.record.weights
    assert model.record.mean == model.record.std == (0.5, 0.5, 0.5)  # the crops are values of -1..1
    assert np.abs(trained - others).mean() > 0.1 * others.std()


def test_the_loaded_model_computes_what_was_trained(short):
    """The frozen model's tokens are those of the training's own encoder with the saved weights."""
    module = new_encoder(0)
    weights = load_file(short)
    module.load_state_dict({key: weights[key].float() for key in module.state_dict()})
    noise = torch.rand(2, 3, PIXELS, PIXELS, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        own = encode(module, embed(module, noise))
    np.testing.assert_allclose(tokens_of(short)[1], own.numpy(), atol=1e-4)


def test_the_decoder_loads_by_the_path_of_reconstruction(short):
    recipe = recipe_of(str(short)).model_copy(update={"decoder": DecoderRecipe(target="pixels", heads=3)})
    decoder = decoder_of(recipe, INPUT, Path())
    module = decoder.module
    assert module.pos_embed.shape == (1, 1 + GRID * GRID, 96)
    assert len(module.blocks) == 2
    np.testing.assert_array_equal(module.masked.numpy(), load_file(short)["mask_token"].float().numpy())


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes(tmp_path, cache):
    settings = tiny(named("mae"))
    first, again = (train(settings, tmp_path / name, cache=cache) for name in "ab")
    assert first.read_bytes() == again.read_bytes()
    assert logged(first) == logged(again)
    seeds = (new_encoder(seed).state_dict() for seed in (0, 0, 1))
    one, same, other = (state["blocks.0.mlp.fc1.weight"] for state in seeds)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    "stem",
    [
        "ibot",
        "moco",
        *(
            pytest.param(stem, marks=pytest.mark.slow)
            for stem in ("dino", "mae-normalised", "simmim", "supervised", "supervised-image")
        ),
    ],
)
def test_every_objective_trains_and_its_weights_load(stem, tmp_path, cache):
    path = train(tiny(named(stem), steps=1, batch=2), tmp_path, cache=cache)
    model, tokens = tokens_of(path)
    assert np.isfinite(tokens).all()
    assert model.record.weights != tokens_of("random")[0].record.weights
    assert np.isfinite(losses(path)).all()


@pytest.mark.slow
@pytest.mark.parametrize("stem", ["mae-normalised", "simmim", "dino", "ibot", "moco", "supervised", "supervised-image"])
def test_every_objective_lowers_its_loss_and_repeats(stem, tmp_path, cache):
    settings = tiny(named(stem), steps=40, batch=8)
    first, again = (train(settings, tmp_path / name, cache=cache) for name in "ab")
    assert first.read_bytes() == again.read_bytes()
    found = losses(first)
    if stem not in ("dino", "ibot"):  # its loss is that of a moving target, and rises while the centre is found
        assert np.mean(found[-5:]) < np.mean(found[:3])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_states_every_hyper_parameter(file):
    def unset(record, name=""):
        missing = [f"{name}{key}" for key in type(record).model_fields if key not in record.model_fields_set]
        for key in record.model_fields_set:
            value = getattr(record, key)
            missing += unset(value, f"{name}{key}.") if isinstance(value, Record) else []
        return missing

    assert unset(read_settings(file)) == []


def test_names_and_worlds_of_the_files():
    settings = [read_settings(file) for file in FILES]
    assert len({one.name for one in settings}) == len(settings) >= 6
    assert all(one.name == f"demo-{file.stem}" for one, file in zip(settings, FILES, strict=True))
    assert {one.objective.kind for one in settings} == {"mae", "simmim", "dino", "moco", "supervised"}


def test_frames_of_a_purpose_are_seeded_kept_and_shared_with_no_other(tmp_path):
    world = World(scenes=1, cities=1, seed=3, nuisances={"haze": 1.0})
    frames, again = paint_frames(world), paint_frames(world, cache=tmp_path)
    kept = paint_frames(world, cache=tmp_path)
    other = paint_frames(world, "probe-training")
    assert frames.pictures.shape == (1, HEIGHT, WIDTH, 3)
    for one in (again, kept):
        np.testing.assert_array_equal(frames.pictures, one.pictures)
        np.testing.assert_array_equal(frames.classes, one.classes)
    assert all((picture != one).mean() > 0.5 for picture in frames.pictures for one in other.pictures)


def test_a_file_says_whether_the_decoder_is_kept():
    held = {stem: objective_of(read_settings(named(stem))).saved() for stem in ("mae", "mae-normalised")}
    assert "mask_token" in held["mae"]
    assert held["mae-normalised"] == {}


def test_targets_are_those_that_the_decoders_predict():
    pixels = np.random.default_rng(0).integers(0, 256, (2, PIXELS, PIXELS, 3), np.uint8)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    np.testing.assert_array_equal(
        patches_of(images).numpy(), patchify(images.permute(0, 2, 3, 1).numpy(), (GRID, GRID))
    )
    for target, stem in (("pixels", "mae"), ("normalised", "mae-normalised")):
        reader = PatchPixels((GRID, GRID), 8, target, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        trained = objective_of(read_settings(named(stem))).targets(images).numpy()
        np.testing.assert_allclose(trained, reader.targets(pixels), atol=1e-4)


def coded_frames():
    """Frames whose red is the class times ten: crops must show both at the same place."""
    classes = np.repeat(np.repeat(np.arange(128, dtype=np.uint8).reshape(8, 16) % 19, 16, 0), 16, 1)
    pictures = np.zeros((1, HEIGHT, WIDTH, 3), np.uint8)
    pictures[0, :, :, 0] = classes * 10
    return Frames(pictures, classes[None])


def test_crops_keep_pictures_and_classes_together_and_inside():
    cropper = Cropper(coded_frames(), torch.Generator().manual_seed(0))
    images, classes = cropper.crop(cropper.choose(16), Crops(pixels=64, area=(0.2, 0.6)), with_classes=True)
    red = (images[:, 0] + 1) * 127.5 / 10
    assert images.shape == (16, 3, 64, 64)
    assert ((red - classes).abs() < 0.3).float().mean() > 0.8  # but for pixels across an edge
    assert classes.max() < VOID


def test_no_change_of_colour_is_the_identity_and_a_blur_keeps_the_mean():
    images = torch.rand(3, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    drawn = torch.rand(5, 3, 1, 1, 1, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(_jittered(images, 0.0, drawn), images, atol=1e-5, rtol=0)
    assert (_jittered(images, 0.5, drawn) - images).abs().mean() > 0.02
    flat = torch.full((2, 3, 24, 24), 0.4)
    torch.testing.assert_close(_blurred(flat, torch.tensor([0.5, 1.5])), flat)
    impulse = torch.zeros(1, 3, 25, 25)
    impulse[..., 12, 12] = 1
    spread = _blurred(impulse, torch.tensor([1.2]))[0, 0].double()
    offsets = torch.arange(25.0).double() - 12
    assert float((spread.sum(0) * offsets**2).sum()) == pytest.approx(1.2**2, rel=0.02)


def test_simmim_masks_squares_and_the_same_share_everywhere():
    objective = objective_of(read_settings(named("simmim")))
    cropper = Cropper(coded_frames(), torch.Generator().manual_seed(0))
    masked = objective.mask(cropper, 5).reshape(5, 7, 2, 7, 2)
    coarse = masked[:, :, :1, :, :1]
    assert (masked == coarse).all()
    assert (coarse.sum((1, 2, 3, 4)) == round(0.6 * 49)).all()


def test_sinkhorn_uses_all_outputs_equally_often():
    logits = torch.randn(32, 8, generator=torch.Generator().manual_seed(0)) * 2 + torch.arange(8.0)
    found = sinkhorn(logits, rounds=50)
    torch.testing.assert_close(found.sum(1), torch.ones(32))
    torch.testing.assert_close(found.sum(0), torch.full((8,), 4.0), atol=1e-3, rtol=0)


def test_masked_patches_are_predicted_and_hidden_from_the_student():
    settings = tiny(named("ibot"))
    objective, encoder = objective_of(settings), new_encoder(0)
    cropper = Cropper(coded_frames(), torch.Generator().manual_seed(0))
    images = torch.rand(3, 3, 64, 64)
    masked = objective.mask(cropper, images)
    assert masked.shape == (3, 64)
    assert (masked.sum(1) == round(0.3 * 64)).all()
    changed = images.clone()
    row, column = divmod(int(masked[0].nonzero()[0]), 8)
    changed[0, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] += 1.0
    with torch.no_grad():
        first, second = (objective.student_tokens(encoder, some, masked) for some in (images, changed))
    torch.testing.assert_close(first, second)
    alone = settings.model_copy(update={"objective": settings.objective.model_copy(update={"masked_share": 0.0})})
    both = [objective_of(one).loss(encoder, Cropper(coded_frames(), torch.Generator().manual_seed(1)))
            for one in (settings, alone)]  # fmt: skip
    assert both[0].item() > both[1].item() > 0


def test_moco_finds_the_other_crop_of_its_frame():
    objective = objective_of(tiny(named("moco")))
    keys = torch.eye(4, 128)
    right, wrong = objective._info_nce(keys, keys), objective._info_nce(keys, keys.roll(1, 0))
    assert float(right) == pytest.approx(np.log(np.exp(5.0) + 3) - 5.0, rel=1e-5)
    assert float(wrong) == pytest.approx(np.log(np.exp(5.0) + 3), rel=1e-5)


def test_dino_compares_other_views_and_its_teacher_follows():
    """The loss again in float64 from the outputs, and the moving average of one step."""
    settings = tiny(named("dino"), steps=10)
    settings = settings.model_copy(update={"objective": settings.objective.model_copy(update={"small_crops": 0})})
    encoder, objective = new_encoder(0), objective_of(settings)
    generators = [torch.Generator().manual_seed(5) for _ in range(2)]
    found = objective.loss(encoder, Cropper(coded_frames(), generators[0])).detach()
    cropper = Cropper(coded_frames(), generators[1])
    chosen = cropper.choose(4)
    views = [cropper.crop(chosen, settings.crops)[0] for _ in range(2)]
    with torch.no_grad():
        tokens = torch.cat([encode(encoder, embed(encoder, view))[:, 0] for view in views])
        outputs = objective.head(tokens).double().chunk(2)  # together, for BatchNorm
    pairs = [((outputs[a] / 0.04).softmax(1), (outputs[b] / 0.1).log_softmax(1)) for a, b in ((0, 1), (1, 0))]
    expected = np.mean([float(-(target * guess).sum(1).mean()) for target, guess in pairs])
    assert float(found) == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(objective.centres["class"], 0.1 * torch.cat(outputs).mean(0, keepdim=True).float())
    before = objective.teacher[0].cls_token.clone()
    with torch.no_grad():
        encoder.cls_token += 1.0
    objective.after_update(encoder)
    torch.testing.assert_close(objective.teacher[0].cls_token, before + 0.02, atol=1e-5, rtol=0)
    assert objective.trained(encoder) is objective.teacher[0]


def test_image_labels_are_the_classes_that_cover_enough():
    objective = objective_of(read_settings(named("supervised-image")))
    classes = torch.full((1, 10, 20), VOID)
    classes[0, 0, :2], classes[0, 5, 0] = 13, 11  # 1 % and 0.5 %
    np.testing.assert_array_equal(np.flatnonzero(objective.present(classes)[0].numpy()), [13])


def test_the_rate_rises_and_falls_to_zero():
    optimisation = tiny(named("mae"), steps=102).optimisation
    rates = [learning_rate(step, optimisation) for step in range(103)]
    assert rates[0] == pytest.approx(optimisation.learning_rate / 2)
    assert max(rates) == rates[1] == pytest.approx(optimisation.learning_rate)
    assert rates[52] == pytest.approx(optimisation.learning_rate / 2)
    assert rates[102] == pytest.approx(0)


def test_scores_count_classes_that_occur():
    labels, guessed = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 2])
    assert miou(guessed, labels) == pytest.approx((1 / 2 + 1 / 3 + 0) / 3)


def test_settings_that_cannot_be_used_end_with_one_sentence(tmp_path, capsys):
    text = named("mae").read_text()
    file = tmp_path / "a.toml"
    for old, new, words in (
        ("mask_ratio = 0.75", "mask_ratio = 1.75", "mask_ratio: input should be less than 1"),
        ("mask_ratio = 0.75", "mask_ratio = 0.0", "mask_ratio: input should be greater than 0"),
        ("pixels = 112", "pixels = 100", "crops.pixels: input should be a multiple of 8"),
        ("pixels = 112", "pixels = 56", "crops.pixels = 56: what is predicted patch by patch needs 112"),
        ("heads = 3", "heads = 5", "heads = 5 do not divide width = 96"),
        ("area = [0.35, 1.0]", "area = [1.0, 0.35]", r"area = \[1.0, 0.35\] is no range of shares"),
        ('name = "demo-mae"', 'name = "../evil"', "name: string should match pattern"),
        ("betas = [0.9,", "betas = [1.5,", "betas.0: input should be less than 1"),
        ("haze = 1.0", "fog = 1.0", "world.nuisances: there is no fog: choose among daytime"),
        ("steps = ", "stops = ", "optimisation"),
    ):
        file.write_text(text.replace(old, new))
        with pytest.raises(UserError, match=words):
            read_settings(file)
    assert main(["train", str(file), "--out", str(tmp_path / "out")]) == 2
    assert main(["train", str(tmp_path / "none.toml"), "--out", str(tmp_path / "out")]) == 2
    assert main(["train", str(named("dino")), "--out", str(tmp_path / "out"), "--batch", "0"]) == 2
    assert main(["train", str(named("moco")), "--out", str(tmp_path / "out"), "--batch", "1"]) == 2
    assert main(["train", str(named("dino")), "--out", str(tmp_path / "out"), "--threads", "-3"]) == 2
    (tmp_path / "taken").write_text("")
    assert main(["train", str(named("dino")), "--out", str(tmp_path / "taken")]) == 2
    said = capsys.readouterr().err
    assert "none.toml cannot be read" in said
    assert "--batch 0: give 1 or more" in said
    assert "moco tells the images of a batch apart" in said
    assert "--threads -3: give 1 or more" in said
    assert f"cannot write {tmp_path / 'taken'} (File exists): choose another --out or --cache" in said
    assert not (tmp_path / "out").exists()
