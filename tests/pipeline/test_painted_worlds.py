"""Painted worlds by folder name: painted once, whole or not at all."""

import pytest

from demo import worlds


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
