"""The usual transform for evaluation, from files to sets: shorter side resized, centre crop."""

import numpy as np
import pytest
from PIL import Image

from pipeline.extraction import run
from pipeline.extraction.compute import Compute
from pipeline.extraction.plan import labelled_coverage, warnings
from pipeline.labels.label_set import PIXELS
from pipeline.recipe import FeatureRecipe, Recipe
from pipeline.rows.frames import resized_labels
from pipeline.rows.pixels import read_tiles
from pipeline.rows.preview import contact_sheet
from pipeline.rows.under_view import for_view
from stores import Store
from stores.errors import UserError
from stores.specs import FrameSpec
from tests.pipeline.tiny import recipe, write_camvid

CENTRE = FrameSpec(input=32, tile=32, resize={"shorter": 40}, edge="centre")
"""Images of 67x50 pixels become 53x40; round(21 / 2) = 10, half to even."""
BOX = (10, 4, 42, 36)


@pytest.fixture
def site(tmp_path):
    write_camvid(tmp_path / "data" / "camvid", n_train=2, n_val=1, size=(50, 67))
    return run.Workspace(Store(tmp_path / "store"), tmp_path / "data", tmp_path)


def test_a_set_holds_the_centre_of_every_image_with_its_labels(site):
    wanted = recipe(frame=CENTRE, features=FeatureRecipe(layers=(-1,), input_pixels=True))
    report = run.extract_recipe(wanted, site, Compute("cpu", batch_size=4, threads=1))
    labels, features = report.labels, report.outcomes[0].set
    assert features.spec.canonical()["frame"] == {
        "input": {"height": 32, "width": 32},
        "tile": {"height": 32, "width": 32},
        "resize": {"shorter": 40},
        "edge": "centre",
    }
    assert Store(site.store.location).open(features.digest).spec == features.spec
    assert len(labels.samples) == 3
    for row, line in enumerate(labels.samples.itertuples()):
        assert (line.left, line.top, line.right, line.bottom) == BOX
        plane = Image.open(site.data / "camvid" / line.source).convert("RGB").resize((53, 40), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(labels["inputs/pixels.bicubic"][row], np.asarray(plane.crop(BOX)))
    samples = run.read_samples(wanted, site)
    for row, source in enumerate(samples.sources.values()):
        classes = resized_labels(samples.dataset.pixel_classes(source), CENTRE)
        np.testing.assert_array_equal(labels[PIXELS][row], classes[4:36, 10:42])


def test_a_view_moves_the_window_over_the_resized_image(site):
    wanted = Recipe.model_validate({**recipe(frame=CENTRE).model_dump(), "views": [{"name": "shift", "levels": [3]}]})
    samples = run.read_samples(wanted, site)
    [shift] = [view for view, _ in wanted.all_views() if view.name == "shift"]
    pixels, _ = read_tiles(for_view(samples, shift), "bicubic", 0, 1)
    image = Image.open(site.data / "camvid" / samples.tiles[0][0]).convert("RGB")
    plane = image.resize((53, 40), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(pixels[0], np.asarray(plane.crop([edge + 3 for edge in BOX])))


def test_the_plan_says_what_is_left_out_and_the_preview_is_drawn(site):
    wanted = recipe(frame=CENTRE)
    samples = run.read_samples(wanted, site)
    assert samples.coverage == pytest.approx(32 * 32 / (53 * 40))
    labelled = labelled_coverage(samples)
    assert 0.3 < labelled < 0.7
    [note] = [line for line in warnings([], samples, None, None) if "pixels" in line]
    assert note.startswith(
        "no model sees 51.7% of all pixels, which lie outside the centre crops: a smaller resize or a "
    )
    [note] = [line for line in warnings([], samples, labelled, None) if "pixels" in line]
    assert f"51.7% of all pixels and {1 - labelled:.1%} of the labelled ones, which lie" in note
    sheet = contact_sheet(samples, [view for view, _ in wanted.all_views()], [0, 2], 8)
    assert min(sheet.size) > 300


def test_an_image_smaller_than_the_crop_is_named(site):
    frame = CENTRE.model_copy(update={"resize": None, "tile": FrameSpec(input=60).input})
    with pytest.raises(UserError, match=r"train000.png: an image of 67x50 pixels .* smaller than a tile of 60x60"):
        run.read_samples(recipe(frame=frame), site)
