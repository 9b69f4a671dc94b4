"""Nuisances of the street world: off by default, recorded, seeded, and without any influence on labels."""

import csv
import hashlib
from dataclasses import asdict, replace

import numpy as np
import pytest

from demo.painting.noise import generator_of
from demo.street import Nuisances, write_street_world
from demo.street.nuisances import ALL, COLUMNS, OFF, Conditions, draw_conditions
from demo.street.scene import paint_scene
from pipeline.datasets.cityscapes import LABEL_IDS, Cityscapes

SIZE = (96, 192)
NAMES = tuple(OFF.strengths)
FIELDS = {
    "daytime": {"daytime", "sun", "skew"},
    "colour_cast": {"warmth", "greenness"},
    **{name: {name} for name in ("haze", "wetness", "exposure", "noise", "season")},
}
"""What each nuisance records."""


def painted(nuisances=OFF, number=0, conditions=None):
    drawn = draw_conditions(nuisances, 0, "train", "alpha", number) if conditions is None else conditions
    scene = generator_of(0, "train", "alpha", number)
    return paint_scene(generator_of(0, "alpha"), *SIZE, scene, nuisances, drawn)


def files(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.*")}


def test_without_nuisances_scenes_are_those_painted_before_there_were_any():
    digest = hashlib.sha256()
    for number in range(3):
        for part in painted(number=number):
            digest.update(part.tobytes())
    assert digest.hexdigest() == "da050eb771d1fd90781c6f7087e4d2a1982c7175eb29df916a78f28784e85b4f"


def test_the_default_world_has_no_table_and_equals_the_one_switched_off(tmp_path):
    small = {"size": SIZE, "images_per_city": {"train": {"alpha": 1}}}
    recorded = write_street_world(tmp_path / "a", **small)
    write_street_world(tmp_path / "b", nuisances=Nuisances(), **small)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert not (tmp_path / "a" / "nuisances.csv").exists()
    assert set(recorded.values()) == {Conditions()}


@pytest.mark.parametrize("name", NAMES)
def test_each_changes_pictures_alone_and_its_own_values(name):
    nuisances = Nuisances(**{name: 1.0})
    plain = [painted(number=number) for number in range(4)]
    varied = [painted(nuisances, number) for number in range(4)]
    for (picture, labels), (other, same) in zip(plain, varied, strict=True):
        np.testing.assert_array_equal(labels, same)
        assert picture.std() > 20
        assert other.std() > 12
    assert any((picture != other).any() for (picture, _), (other, _) in zip(plain, varied, strict=True))
    drawn = [asdict(draw_conditions(nuisances, 0, number)) for number in range(40)]
    changed = {key for values in drawn for key in values if values[key] != asdict(Conditions())[key]}
    assert changed == FIELDS[name]


def test_all_together_leave_the_labels_and_are_seeded():
    for number in range(3):
        picture, labels = painted(ALL, number)
        np.testing.assert_array_equal(labels, painted(number=number)[1])
        np.testing.assert_array_equal(picture, painted(ALL, number)[0])
        assert (picture != painted(number=number)[0]).mean() > 0.8


def test_switching_one_leaves_the_values_of_the_others():
    """Each has a random generator of its own, which no scene's objects and no other nuisance share."""
    for number in range(5):
        everything = asdict(draw_conditions(ALL, 7, "val", number))
        for name in NAMES:
            alone = asdict(draw_conditions(Nuisances(**{name: 1.0}), 7, "val", number))
            assert {key: alone[key] for key in FIELDS[name]} == {key: everything[key] for key in FIELDS[name]}
            less = asdict(draw_conditions(replace(ALL, **{name: 0.0}), 7, "val", number))
            assert {key: less[key] for key in COLUMNS if key not in FIELDS[name]} == {
                key: everything[key] for key in COLUMNS if key not in FIELDS[name]
            }


@pytest.mark.slow
def test_values_are_independent_of_each_other_and_of_the_classes():
    """Correlations between 400 scenes' values, and of values with class shares of 30 scenes, as small as chance."""
    drawn = np.array([list(asdict(draw_conditions(ALL, 0, "train", "a", number)).values()) for number in range(400)])
    between = np.abs(np.corrcoef(drawn.T) - np.eye(drawn.shape[1]))
    assert between.max() < 0.2  # four standard errors
    values, shares = [], []
    for number in range(30):
        labels = paint_scene(generator_of(0, "a"), 48, 96, generator_of(0, "train", "a", number))[1]
        shares.append([(labels == LABEL_IDS[name]).mean() for name in ("road", "building", "vegetation", "car", "sky")])
        values.append(drawn[number])
    across = np.corrcoef(np.array(values).T, np.array(shares).T)[: drawn.shape[1], drawn.shape[1] :]
    assert np.abs(across).max() < 0.73  # four standard errors of 30


def test_strength_scales_what_varies():
    weak = [draw_conditions(Nuisances(haze=0.25, exposure=0.25), number) for number in range(50)]
    strong = [draw_conditions(Nuisances(haze=1.0, exposure=1.0), number) for number in range(50)]
    assert max(one.haze for one in weak) == pytest.approx(0.25 * max(one.haze for one in strong))
    assert all(1 / 1.11 < one.exposure < 1.11 for one in weak)
    assert all(1 / 1.41 < one.exposure < 1.41 for one in strong)


def test_values_are_recorded_beside_the_frames_and_the_reader_ignores_them(tmp_path):
    several = {"train": {"alpha": 2}, "val": {"beta": 1}}
    recorded = write_street_world(tmp_path, size=SIZE, images_per_city=several, nuisances=ALL, seed=5)
    with (tmp_path / "nuisances.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["frame"] for row in rows] == list(recorded)
    assert [tuple(float(row[name]) for name in COLUMNS) for row in rows] == [
        tuple(asdict(conditions).values()) for conditions in recorded.values()
    ]
    assert recorded["alpha_000001_000019"] == draw_conditions(ALL, 5, "train", "alpha", 1)
    assert len(Cityscapes(tmp_path).sources()) == 3
    again = tmp_path / "again"
    write_street_world(again, size=SIZE, images_per_city=several, nuisances=ALL, seed=5)
    assert {name: content for name, content in files(tmp_path).items() if not name.startswith("again")} == files(again)


def test_plain_light_is_the_same_in_all_scenes():
    plain = Nuisances(plain_light=True)
    skies = []
    for number in range(6):
        picture, labels = painted(plain, number)
        np.testing.assert_array_equal(labels, painted(number=number)[1])
        skies.append(picture[labels == LABEL_IDS["road"]].mean(0))
    usual = [picture[labels == LABEL_IDS["road"]].mean(0) for picture, labels in (painted(number=n) for n in range(6))]
    assert np.std(skies, axis=0).max() < 0.5 * np.std(usual, axis=0).max()


@pytest.mark.parametrize(
    ("values", "darker", "label"),
    [
        ({"wetness": 1.0}, True, "road"),
        ({"exposure": 0.75}, True, "building"),
        ({"haze": 1.0}, False, "vegetation"),
        ({"season": 0.5}, False, "vegetation"),
    ],
)
def test_what_is_recorded_is_what_is_seen(values, darker, label):
    """Brightness of a class under one condition, over three scenes in the same plain light."""
    plain = Nuisances(plain_light=True)
    before, after = [], []
    for number in range(3):
        picture, labels = painted(plain, number, Conditions())
        other, _ = painted(plain, number, Conditions(**values))
        before.append(picture[labels == LABEL_IDS[label]].mean())
        after.append(other[labels == LABEL_IDS[label]].mean())
    assert (np.mean(after) < np.mean(before) - 3) if darker else (np.mean(after) > np.mean(before) + 3)


def test_strengths_outside_0_to_1_are_refused():
    with pytest.raises(ValueError, match=r"haze has strength 1.5: give a number from 0 to 1"):
        Nuisances(haze=1.5)


def test_the_sheet_shows_every_nuisance_once():
    from demo.street.__main__ import SHOWN, sheet

    assert sheet(32).shape == (5 * 16, 4 * 32, 3)
    shown = {key for values in SHOWN for key in values}
    assert all(FIELDS[name] & shown for name in set(NAMES) - {"exposure"})
