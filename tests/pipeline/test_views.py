"""Views: pixels change as they say, and labels move with the pixels."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from pipeline.rows import under_view
from pipeline.rows.frames import cut, cut_labels, tiles
from pipeline.views import CLEAN, VIEWS, AnyView, View
from pipeline.views.blur import box_blur
from pipeline.views.frequency_noise import band
from pipeline.views.placement import Placement, corresponding_patches, source_pixels
from stores.errors import UserError
from stores.specs import VOID, FrameSpec, Size

FRAME = FrameSpec(input=32, tile=32)


def view(name, level, frame=FRAME, **options):
    recipe = TypeAdapter(AnyView).validate_python({"name": name, "levels": [level], **options})
    return recipe.at(recipe.all_levels()[0], frame)


def smooth(height, width, seed=0):
    """Random pixels that stay away from 0 and 255."""
    rng = np.random.Generator(np.random.PCG64(seed))
    return rng.integers(60, 196, (height, width, 3), np.uint8)


def shown(one, image, frame=FRAME, name="a.png", interpolation="bicubic"):
    size = Size(height=image.shape[0], width=image.shape[1])
    return under_view.pixels(one, frame, name, tiles(frame, size), image, interpolation)


# -- pixels -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [1, 2, 5, 10])
def test_box_blur_is_the_mean_over_opencvs_window(kernel):
    image = smooth(13, 17)
    padded = np.pad(image, [(20, 20), (20, 20), (0, 0)], mode="reflect").astype(np.float64)
    expected = np.empty(image.shape)
    for y in range(13):
        for x in range(17):
            top, left = y + 20 - kernel // 2, x + 20 - kernel // 2
            expected[y, x] = padded[top : top + kernel, left : left + kernel].mean(axis=(0, 1))
    np.testing.assert_array_equal(box_blur(image, kernel), np.rint(np.round(expected, 9)))


def test_gaussian_blur_has_its_width():
    dot = np.zeros((81, 81, 3), np.uint8)
    dot[40, 40] = 255
    blurred = view("gaussian-blur", 12).change(dot, np.random.default_rng())
    y = np.arange(81) - 40.0
    kernel = np.where(abs(y) <= 6, np.exp(-(y**2) / (2 * 2.0**2)), 0)
    kernel /= kernel.sum()
    np.testing.assert_array_equal(blurred.pixels[..., 1], np.rint(255 * kernel[:, None] * kernel))


def test_noise_has_its_mean_and_deviation_before_clipping():
    image = np.full((200, 200, 3), 250, np.uint8)
    one = view("noise", 20)
    frame = FrameSpec(input=100, tile=100)
    noise = one.change(image, one.generator("a.png")).noise
    assert noise.mean() == pytest.approx(0, abs=4 * 20 / np.sqrt(noise.size))
    assert noise.std() == pytest.approx(20, rel=0.01)
    pixels, facts = shown(one, image, frame)
    for row, (y, x) in enumerate([(0, 0), (0, 100), (100, 0), (100, 100)]):
        here = noise[y : y + 100, x : x + 100].astype(np.float64)
        assert facts["noise_energy"][row] == pytest.approx((here**2).mean(), rel=1e-5)
        assert facts["clipped_share"][row] == pytest.approx((here > 5.5).mean(), abs=2e-4)
        np.testing.assert_array_equal(pixels[row], np.rint(250 + here).clip(0, 255))


@pytest.mark.parametrize("centre", [0.125, 0.375, 0.625, 0.875])
def test_frequency_noise_keeps_its_energy_in_its_band(centre):
    image = np.full((90, 121, 3), 128, np.uint8)
    one = view("frequency-noise", centre)
    noise = one.change(image, one.generator("a.png")).noise.astype(np.float64)
    mask = band(90, 121, centre, 0.1)
    energy = np.abs(np.fft.fft2(noise, axes=(0, 1))) ** 2
    assert energy[~mask].sum() < 1e-9 * energy.sum()
    assert (noise**2).mean() == pytest.approx(40**2 * mask.mean(), rel=0.1), "white noise fills its band evenly"
    rescaled = view("frequency-noise", centre, rms="sigma")
    again = rescaled.change(image, rescaled.generator("a.png")).noise
    assert np.sqrt((again.astype(np.float64) ** 2).mean()) == pytest.approx(40, rel=1e-5)


def test_bands_are_rings_around_the_shifted_spectrums_centre():
    y, x = np.mgrid[-20:20, -30:30]
    radius = np.hypot(y / 40, x / 60) / 0.5
    np.testing.assert_array_equal(np.fft.fftshift(band(40, 60, 0.5, 0.21)), abs(radius - 0.5) <= 0.105)


def test_tiles_that_share_pixels_show_the_same_noise_there():
    frame = FrameSpec(input=32, tile=32, edge="shift-last")
    pixels, _ = shown(view("noise", 10), smooth(32, 48), frame)
    np.testing.assert_array_equal(pixels[0][:, 16:], pixels[1][:, :16])


def test_colours():
    image = smooth(32, 32)
    grey = view("greyscale", 1.0).change(image, np.random.default_rng()).pixels
    np.testing.assert_array_equal(grey[..., 0], np.rint(image @ np.array([0.299, 0.587, 0.114])))
    assert (grey == grey[..., :1]).all()
    half = view("greyscale", 0.5).change(image, np.random.default_rng()).pixels
    np.testing.assert_allclose(half, (image.astype(float) + grey) / 2, atol=1)
    jitter = view("colour-jitter", 1.0)
    one, other = (jitter.change(image, jitter.generator(name)).pixels for name in ("a.png", "b.png"))
    assert (one != image).any()
    assert (one != other).any(), "factors are drawn for each source"
    plain = np.full((4, 4, 3), 100, np.uint8)
    assert len(np.unique(jitter.change(plain, jitter.generator("a.png")).pixels)) == 1, "grey stays grey"


def test_sizes_average_whole_blocks_as_torch_does():
    import torch

    image = smooth(64, 64)
    frame = FrameSpec(input=64)
    one = view("size", 16, frame)
    assert one.input == Size(height=16, width=16)
    made = under_view.pixels(
        one, FrameSpec(input=16), "a.png", tiles(frame, Size(height=64, width=64)), image, "bicubic"
    )[0]
    planes = torch.from_numpy(image).permute(2, 0, 1)[None].double()
    mean = torch.nn.functional.interpolate(planes, size=16, mode="area")[0].permute(1, 2, 0)
    np.testing.assert_allclose(made[0], mean, atol=1.01)  # Pillow rounds after either axis
    wide = FrameSpec(input=Size(height=32, width=48))
    assert view("size", 16, wide).input == Size(height=16, width=24)
    with pytest.raises(UserError, match="without changing its aspect"):
        view("size", 15, wide)


def test_the_clean_view_is_the_frame_alone():
    frame = FrameSpec(input=28, tile=32, resize=Size(height=70, width=90), edge="shift-last")
    image, classes = smooth(50, 60), smooth(50, 60)[..., 0] % 19
    cells = tiles(frame, Size(height=50, width=60))
    np.testing.assert_array_equal(shown(CLEAN, image, frame)[0], cut(image, frame, cells, "bicubic"))
    labels = under_view.labels(CLEAN, frame, "a.png", cells, classes)
    np.testing.assert_array_equal(labels, cut_labels(classes, frame, cells))
    unmoved = View(CLEAN.spec, place=lambda size, random: Placement())
    np.testing.assert_array_equal(shown(unmoved, image, frame)[0], cut(image, frame, cells, "bicubic"))
    np.testing.assert_array_equal(under_view.labels(unmoved, frame, "a.png", cells, classes), labels)


# -- geometry -----------------------------------------------------------------------------------------------------

MOVES = st.one_of(
    st.tuples(st.just("shift"), st.integers(-9, 9), st.just({})),
    st.tuples(
        st.just("rotation"), st.floats(-180, 180), st.fixed_dictionaries({"fill": st.sampled_from(["black", "parent"])})
    ),
    st.tuples(
        st.just("scale"), st.floats(0.4, 2.5), st.fixed_dictionaries({"fill": st.sampled_from(["black", "parent"])})
    ),
    st.tuples(st.just("flip"), st.sampled_from([1, 2]), st.just({})),
    st.tuples(st.just("crop"), st.floats(0.2, 1), st.just({})),
)


@given(MOVES, st.sampled_from([32, 40, 48]), st.integers(0, 60), st.integers(0, 60))
@settings(max_examples=120, deadline=None)
def test_a_painted_marker_stays_on_its_label(move, side, top, left):
    """White 20 x 20 on grey: what is surely white is labelled so, what is surely not is not; void is black."""
    name, level, options = move
    image, classes = np.full((96, 96, 3), 100, np.uint8), np.zeros((96, 96), np.uint8)
    image[top : top + 20, left : left + 20] = 255
    classes[top : top + 20, left : left + 20] = 1
    frame = FrameSpec(input=side, tile=48)
    one = view(name, level, frame, **options)
    cells = tiles(frame, Size(height=96, width=96))
    pixels = under_view.pixels(one, frame, "a.png", cells, image, "bilinear")[0][..., 0]
    labels = under_view.labels(one, frame, "a.png", cells, classes)
    assert set(np.unique(labels)) <= {0, 1, VOID}
    others = name == "rotation" and options["fill"] == "parent"  # what other tiles are scored on is void there
    assert np.isin(labels[pixels > 230], (1, VOID) if others else (1,)).all()
    assert (labels[pixels < 10] == VOID).all()
    if (labels == 1).sum() > 100:
        assert pixels[labels == 1].mean() > 190
    if (labels == 0).sum() > 500:
        assert 90 < pixels[labels == 0].mean() < 125
    if not others and (labels == VOID).sum() > 200:
        assert pixels[labels == VOID].mean() < 40


def test_shifts_show_the_source_around_the_tile_and_black_beyond_it():
    image, classes = smooth(64, 64), (np.arange(64 * 64).reshape(64, 64) % 19).astype(np.uint8)
    cells = tiles(FRAME, Size(height=64, width=64))
    pixels, _ = shown(view("shift", 3), image)
    labels = under_view.labels(view("shift", 3), FRAME, "a.png", cells, classes)
    np.testing.assert_array_equal(pixels[0], image[3:35, 3:35])
    np.testing.assert_array_equal(labels[0], classes[3:35, 3:35])
    np.testing.assert_array_equal(pixels[3][:29, :29], image[35:, 35:])
    assert (pixels[3][29:] == 0).all()
    assert (labels[3][29:] == VOID).all()
    assert (labels[3][:, 29:] == VOID).all()
    back, _ = shown(view("shift", -3), image)
    np.testing.assert_array_equal(back[3], image[29:61, 29:61])
    assert (back[0][:3] == 0).all()


def test_flips_are_flips_of_clean_pixels_and_labels():
    frame = FrameSpec(input=28, tile=32)
    image, classes = smooth(64, 64), (np.arange(64 * 64).reshape(64, 64) % 251).astype(np.uint8)
    cells = tiles(frame, Size(height=64, width=64))
    clean, labels = cut(image, frame, cells, "bicubic"), cut_labels(classes, frame, cells)
    for level, axis in ((1, 2), (2, 1)):
        one = view("flip", level)
        np.testing.assert_array_equal(shown(one, image, frame)[0], np.flip(clean, axis))
        np.testing.assert_array_equal(under_view.labels(one, frame, "a.png", cells, classes), np.flip(labels, axis))


def test_a_quarter_turn_is_exact_and_counterclockwise():
    image, classes = smooth(32, 32), (np.arange(1024).reshape(32, 32) % 251).astype(np.uint8)
    one = view("rotation", 90.0)
    np.testing.assert_array_equal(shown(one, image)[0][0], np.rot90(image))
    labels = under_view.labels(one, FRAME, "a.png", tiles(FRAME, Size(height=32, width=32)), classes)
    np.testing.assert_array_equal(labels[0], np.rot90(classes))


def test_doubling_shows_the_middle():
    image, classes = smooth(32, 32), (np.arange(1024).reshape(32, 32) % 251).astype(np.uint8)
    one = view("scale", 2.0)
    labels = under_view.labels(one, FRAME, "a.png", tiles(FRAME, Size(height=32, width=32)), classes)[0]
    np.testing.assert_array_equal(labels, np.repeat(np.repeat(classes[8:24, 8:24], 2, 0), 2, 1))
    pixels = shown(one, image, interpolation="nearest")[0][0]
    np.testing.assert_array_equal(pixels, np.repeat(np.repeat(image[8:24, 8:24], 2, 0), 2, 1))


@pytest.mark.parametrize(
    ("name", "level", "bound"),
    [
        *[("rotation", degrees, share) for degrees, share in ((5, 0.980), (10, 0.918), (15, 0.918), (20, 0.878))],
        *[("rotation", degrees, share) for degrees, share in ((30, 0.837), (45, 0.796))],
        *[("scale", factor, share) for factor, share in ((0.5, 0.25), (0.7, 0.51), (0.8, 0.735), (0.9, 0.735))],
        *[("scale", factor, 1.0) for factor in (1.1, 1.2, 2.0)],
        *[("shift", pixels, 1.0) for pixels in (1, 2, 3, 4)],
    ],
)
def test_upper_bounds_of_the_default_grid(name, level, bound):
    """Paper A, section 3.3: what is possible at best, computed once by hand for 14 x 14 patches of 16 pixels."""
    size = Size(height=224, width=224)
    place = view(name, level).place(size, np.random.default_rng())
    found = corresponding_patches(place, size, (14, 14), (14, 14))
    assert (found >= 0).mean() == pytest.approx(bound, abs=6e-4)
    if name == "shift":
        np.testing.assert_array_equal(found, np.arange(196))


@given(MOVES)
@settings(max_examples=60, deadline=None)
def test_corresponding_patches_hold_the_centre_by_brute_force(move):
    name, level, options = move
    size = Size(height=48, width=64)
    place = view(name, level, **options).place(size, np.random.default_rng(1))
    found = corresponding_patches(place, size, (3, 4), (6, 8))
    for patch, answer in enumerate(found):
        x, y = (patch % 4 + 0.5) * 16, (patch // 4 + 0.5) * 16
        source = [float(value[0]) for value in place.source(np.array([x]), np.array([y]))]
        assert place.moved(*source) == pytest.approx((x, y), abs=1e-6)
        if answer >= 0:
            left, top = (answer % 8) * 8, (answer // 8) * 8
            assert left - 1e-6 <= source[0] <= left + 8 + 1e-6
            assert top - 1e-6 <= source[1] <= top + 8 + 1e-6
        else:
            assert not (1e-6 < source[0] < 64 - 1e-6 and 1e-6 < source[1] < 48 - 1e-6)


@given(MOVES, st.sampled_from([24, 28, 32]), st.integers(32, 90), st.integers(32, 90))
@settings(max_examples=80, deadline=None)
def test_no_source_pixel_is_scored_by_two_tiles(move, side, height, width):
    name, level, options = move
    frame = FrameSpec(input=side, tile=32, edge="shift-last")
    one = view(name, level, frame, **options)
    cells = tiles(frame, Size(height=height, width=width))
    rows, columns = (plane.astype(np.uint8) for plane in np.indices((height, width)))
    maps = [under_view.labels(one, frame, "a.png", cells, plane) for plane in (rows, columns)]
    seen = np.full((height, width), -1)
    for number, tile in enumerate(cells):
        left, top, right, bottom = under_view.owned(one, frame, "a.png", tile)
        y, x = (plane[number][top:bottom, left:right] for plane in maps)
        y, x = y[x != VOID], x[x != VOID]
        assert np.isin(seen[y, x], (-1, number)).all()
        seen[y, x] = number
    if name == "flip":
        assert (seen >= 0).all() or side < 32


def test_pixel_centres_follow_the_frames_rule():
    rows, columns = source_pixels(Placement(), Size(height=256, width=240), Size(height=224, width=224))
    np.testing.assert_array_equal(rows[:, 0], (2 * np.arange(224) + 1) * 256 // 448)
    np.testing.assert_array_equal(columns[0], (2 * np.arange(224) + 1) * 240 // 448)


# -- the table ----------------------------------------------------------------------------------------------------


def test_every_view_states_its_level_and_moves_labels_only_if_it_must():
    for name, recipe in VIEWS.items():
        made = recipe.model_validate({"name": name})
        for level in made.all_levels():
            one = made.at(level, FrameSpec(input=224))
            assert one.name == name
            assert one.level == level
            moves = name in ("shift", "rotation", "scale", "size", "flip", "crop")
            assert one.moves_labels == moves


GOLDEN = {
    "blur": (10, "72cc6f3540a0"),
    "gaussian-blur": (10, "71446591eb64"),
    "noise": (20, "271080892e1a"),
    "frequency-noise": (0.375, "eb7abd4df7cf"),
    "shift": (3, "ba73ec9285f3"),
    "rotation": (10, "870c0dc2f43d"),
    "scale": (0.8, "1f7d1c88e256"),
    "size": (16, "c8ef009ae843"),
    "flip": (1, "f7ceac184c65"),
    "crop": (0.5, "dde19b6d1135"),
    "colour-jitter": (1, "f2c35aca4c31"),
    "greyscale": (1, "faa8894cc347"),
}


@pytest.mark.parametrize("name", VIEWS)
def test_golden_bytes(name):
    """When this fails, stored features no longer match their specs: raise the view's REVISION with the new digest."""
    level, digest = GOLDEN[name]
    frame = FrameSpec(input=32, tile=40, resize=Size(height=60, width=100), edge="shift-last")
    one = view(name, level, frame)
    frame = frame.model_copy(update={"input": one.input or frame.input})
    image = smooth(70, 110, seed=5)
    cells = tiles(frame, Size(height=70, width=110))
    made = hashlib.sha256(shown(one, image, frame)[0].tobytes())
    made.update(under_view.labels(one, frame, "a.png", cells, image[..., 0] % 19).tobytes())
    assert (one.spec.revision, made.hexdigest()[:12]) == (1, digest)
