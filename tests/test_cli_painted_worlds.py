"""Painted worlds that experiments name as their folder: painted once, by one process, or refused in a sentence."""

import threading
import time
from pathlib import Path

import pytest

from demo.street.world import write_street_world
from demo.worlds import WORLDS, is_missing, paint
from stores.errors import UserError

EXPERIMENT = """
[dataset]
name = "cityscapes"
folder = "street-world"
[frame]
input = 32
[[models]]
name = "test_vit"
weights = "random"
[selection.train]
split = "train"
[selection.validation]
split = "val"
[[analyses]]
kind = "variance-spectrum"
top = [3]
"""


@pytest.fixture
def painted(site, monkeypatch):
    """A world of two scenes, an experiment on it, and how often it was painted."""
    times = []

    def write(root: Path) -> None:
        times.append(root)
        write_street_world(root, images_per_city={"train": {"alpha": 1}, "val": {"beta": 1}}, size=(32, 64))

    monkeypatch.setitem(WORLDS, "street-world", write)
    (site / "world.toml").write_text(EXPERIMENT)
    return times


def test_an_empty_folder_is_painted(site, run, painted):
    (site / "data" / "street-world").mkdir()
    assert run("extract", "world.toml")[0] == 0
    assert len(painted) == 1
    assert (site / "data" / "street-world" / "leftImg8bit").is_dir()
    assert run("plan", "world.toml", "--no-time")[0] == 0


def test_what_a_killed_run_left_is_replaced(site, run, painted):
    (site / "data" / "street-world.partial" / "leftImg8bit" / "train" / "gone").mkdir(parents=True)
    assert run("extract", "world.toml")[0] == 0
    assert not (site / "data" / "street-world" / "leftImg8bit" / "train" / "gone").exists()
    assert not (site / "data" / "street-world.partial").exists()


def test_where_nothing_can_be_written_a_sentence_says_so(site, run, painted):
    (site / "file").touch()
    code, _, err = run("extract", "world.toml", "--data", "file")
    assert code == 2
    assert "error: cannot paint street-world below file: " in err
    assert "set --data or PATCHBANK_DATA to a folder that can be written" in err


@pytest.mark.parametrize("command", [["plan", "--no-time"], ["preview"]])
def test_commands_that_write_no_data_say_who_paints(site, run, painted, command):
    code, _, err = run(command[0], "world.toml", *command[1:])
    assert code == 2
    assert "error: the painted world street-world is not below data yet: run `patchbank extract world.toml`" in err
    assert painted == []


def test_of_two_painters_one_paints_and_the_other_waits(tmp_path, monkeypatch):
    """The second deleted what the first was writing."""
    times = []

    def write(root: Path) -> None:
        times.append(root)
        (root / "images").mkdir()
        for number in range(10):
            (root / "images" / f"{number}.png").touch()
            time.sleep(0.02)

    monkeypatch.setitem(WORLDS, "street-world", write)
    errors = []

    def paint_once() -> None:
        try:
            paint("street-world", tmp_path)
        except UserError as error:
            errors.append(error)

    threads = [threading.Thread(target=paint_once) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(times) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["street-world"]
    assert len(list((tmp_path / "street-world" / "images").iterdir())) == 10
    assert not is_missing("street-world", tmp_path)
