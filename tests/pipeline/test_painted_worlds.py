"""Painted worlds by folder name: painted once, whole or not at all."""

import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import cross_val_score

from demo import worlds
from demo.painting.noise import generator_of
from demo.street.kinds import KINDS, rearranged
from demo.street.placing import draw_street
from demo.street.stills import paint_still, write_street_kinds, write_street_objects
from demo.street.style import draw_style
from pipeline.datasets.mot import Mot


def test_a_world_that_was_left_half_painted_is_painted_again(tmp_path, monkeypatch):
    def half(root):
        (root / "img").mkdir()
        (root / "img" / "one.png").write_bytes(b"1")
        raise KeyboardInterrupt

    def whole(root):
        assert not list(root.iterdir()), "what was left is removed first"
        (root / "two.png").write_bytes(b"2")

    monkeypatch.setattr(worlds, "WORLDS", {"painted": half})
    with pytest.raises(KeyboardInterrupt):
        worlds.paint("painted", tmp_path)
    assert worlds.is_missing("painted", tmp_path)
    monkeypatch.setattr(worlds, "WORLDS", {"painted": whole})
    worlds.paint("painted", tmp_path)
    assert not worlds.is_missing("painted", tmp_path)
    assert [path.name for path in (tmp_path / "painted").iterdir()] == ["two.png"]


def test_other_folders_are_never_painted(tmp_path):
    assert not worlds.is_missing("cityscapes", tmp_path)
    assert all(worlds.is_missing(name, tmp_path) for name in worlds.WORLDS)


def test_no_city_of_the_scenes_with_nuisances_is_in_the_other_world():
    cities = {city for split in worlds.NUISANCE_IMAGES.values() for city in split}
    assert len(cities) == sum(len(split) for split in worlds.NUISANCE_IMAGES.values())
    assert len(worlds.VIDEOS) >= 10, "below ten videos there is no interval"


def test_kinds_of_streets_take_turns_in_folders_of_their_kind(tmp_path):
    write_street_kinds(tmp_path, images={"train": 6, "val": 5}, size=(32, 64))
    for split, counts in (("train", [2, 1, 1, 1, 1]), ("val", [1] * 5)):
        found = {kind: len(list((tmp_path / split / kind).iterdir())) for kind in KINDS}
        assert list(found.values()) == counts


def test_the_kind_of_a_street_says_what_stands_on_it_and_its_boxes_are_exact(tmp_path):
    write_street_objects(tmp_path, images={"train": 10})
    dataset = Mot(tmp_path)
    found = {
        source.name: {dataset.classes()[entry.category].name for entry in dataset.objects(source)}
        for source in dataset.sources()
    }
    expected = {
        "buses": {"vehicle"},
        "cars": {"vehicle"},
        "cyclists": {"bicycle", "rider"},
        "empty": set(),
        "people": {"standing person"},
    }
    assert len(found) == 10
    for name, names in found.items():
        assert names == expected[name.split("/")[1].split("-")[0]], name
    assert dataset.notes() == []


def test_the_streets_of_kinds_and_of_objects_are_the_same_pictures(tmp_path):
    write_street_kinds(tmp_path / "kinds", images={"val": 1}, size=(32, 64))
    write_street_objects(tmp_path / "objects", images={"val": 1}, size=(32, 64))
    (one,), (two,) = (list((tmp_path / name).rglob("*.png")) for name in ("kinds", "objects"))
    assert one.read_bytes() == two.read_bytes()


def test_nothing_but_objects_tells_the_kind_of_a_street():
    shares = {kind: [] for kind in KINDS}
    for number in range(60):
        key = (0, "stills", "train", number)
        generator = generator_of(*key)
        street = draw_street(draw_style(generator, generator), 64, 128, generator)
        kind = list(KINDS)[number % len(KINDS)]
        changed = rearranged(kind, street, generator)
        assert [thing for thing in changed.things if not thing.instances] == [
            thing for thing in street.things if not thing.instances
        ]
        assert (changed.lots, changed.style, changed.camera) == (street.lots, street.style, street.camera)
        shares[kind].append(sum(bool(thing.instances) for thing in changed.things))
    assert shares["empty"] == [0] * 12
    assert all(len(set(counts)) > 1 for kind, counts in shares.items() if kind != "empty"), "numbers vary"


@pytest.mark.slow
def test_the_colours_of_a_street_do_not_tell_its_kind():
    kinds, colours = [], []
    for number in range(120):
        still = paint_still((32, 64), 0, "train", number)
        kinds.append(still.kind)
        colours.append([*still.picture.mean((0, 1)), *still.picture.std((0, 1))])
    right = cross_val_score(LinearDiscriminantAnalysis(), colours, kinds, cv=5).mean()
    assert right < 0.33, "chance is 0.2, its standard error 0.04"
