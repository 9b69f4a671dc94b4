"""Painted worlds by folder name: painted once, whole or not at all."""

import pytest

from demo import worlds
from demo.satellite.sites import SITES


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


def test_sites_take_turns_in_folders_of_their_kind(tmp_path, monkeypatch):
    monkeypatch.setattr(worlds, "SITE_IMAGES", {"train": 6, "val": 5})
    monkeypatch.setattr(worlds, "SITE_SIZE", 64)
    worlds.paint("satellite-sites", tmp_path)
    for split, counts in (("train", [2, 1, 1, 1, 1]), ("val", [1] * 5)):
        folder = tmp_path / "satellite-sites" / split
        found = {kind: len(list((folder / kind).iterdir())) for kind in SITES}
        assert list(found.values()) == counts
