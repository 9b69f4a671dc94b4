"""`patchbank datasets`: what can be read, and what is found."""

import json
from pathlib import Path

import pytest

from pipeline.datasets import DATASETS
from tests.pipeline.layouts import ade20k, mot17


def test_official_folder_names_are_found_and_told(tmp_path, run):
    ade20k(tmp_path / "ADEChallengeData2016", "train", "t", [[1]])
    mot17(tmp_path / "MOT17", "1,1,1,1,0,5,1,1,1")
    (tmp_path / "dota").mkdir()
    code, out, _ = run("datasets", "--data", tmp_path, "--json")
    assert code == 0
    found = {entry["name"]: entry for entry in json.loads(out)}
    assert list(found) == list(DATASETS)
    assert (found["ade20k"]["images"], found["ade20k"]["official"]) == (1, {"train": 20210, "val": 2000})
    assert found["ade20k"]["folder"] == str(tmp_path / "ADEChallengeData2016")
    assert found["mot17"]["notes"] == [
        f"{tmp_path}/MOT17/train/MOT17-02-FRCNN/gt/gt.txt, line 1, has a box without area; correct or remove the line"
    ], "a broken data set is told of like any other"
    assert "holds neither images" in found["dota"]["notes"][0]
    assert found["imagenet"]["folder"] is None
    assert all(entry["licence"] and entry["layout"] for entry in found.values())

    code, out, _ = run("datasets", "--data", tmp_path)
    assert code == 0
    assert "ade20k        1 images" in out
    assert "dota          unreadable" in out
    assert f"camvid        not found       {tmp_path}/camvid or {tmp_path}/CamVid" in out
    assert "  official release: train 1,400, val 200, test 400 videos" in out


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_a_folder_that_may_not_be_listed_is_told_with_the_others(tmp_path, run, monkeypatch, words):
    ade20k(tmp_path / "ADEChallengeData2016", "train", "t", [[1]])
    locked = tmp_path / "cityscapes" / "leftImg8bit"
    locked.mkdir(parents=True)
    listed = Path.iterdir

    def refused(self):
        if self == locked:
            raise PermissionError(13, "Permission denied", str(self))
        return listed(self)

    monkeypatch.setattr(Path, "iterdir", refused)
    code, out, err = run("datasets", "--data", tmp_path, *words)
    assert (code, err) == (2, f"error: {locked} cannot be listed (Permission denied); make it readable\n")
    assert "ADEChallengeData2016" in out, "the others are listed all the same"
