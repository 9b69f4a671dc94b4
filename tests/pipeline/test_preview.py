"""Sheets: what is drawn lies where the view shows it."""

import dataclasses

import numpy as np
from pydantic import TypeAdapter

from pipeline.datasets.camvid import CamVid
from pipeline.datasets.contract import ObjectEntry
from pipeline.extraction import run
from pipeline.rows import preview
from pipeline.views import CLEAN, AnyView
from stores import Store
from tests.pipeline.tiny import recipe, write_camvid


class Boxes(CamVid):
    """One box of source pixels 8..16 x 4..12 in every image, and no pixel labels."""

    labels = frozenset({"objects"})

    def objects(self, source):
        return [ObjectEntry(((8.0, 4.0), (16.0, 4.0), (16.0, 12.0), (8.0, 12.0)), 0, track="7")]


def test_outlines_move_with_the_pixels(tmp_path):
    write_camvid(tmp_path / "data" / "camvid", n_train=2, n_val=1)
    where = run.Workspace(Store(tmp_path / "store"), tmp_path / "data", tmp_path)
    samples = run.read_samples(recipe(), where, remember=False)
    samples = dataclasses.replace(samples, dataset=Boxes(tmp_path / "data" / "camvid"))
    name, tile = samples.tiles[0]
    grey = np.full((32, 32, 3), 100, np.uint8)
    for settings, left in (({"name": "flip"}, 16), ({"name": "shift", "levels": [4]}, 4), (None, 8)):
        view = CLEAN
        if settings is not None:
            made = TypeAdapter(AnyView).validate_python(settings)
            view = made.at(made.all_levels()[0], recipe().frame)
        drawn = np.asarray(preview._overlaid(samples, view, name, tile, grey, patch=16))
        yellow = (drawn == (255, 220, 0)).all(axis=2)
        columns = np.flatnonzero(yellow.any(axis=0)) * 32 / drawn.shape[1]
        assert abs(columns[0] - left) < 0.3
        assert abs(columns[-1] - (left + 8)) < 0.3


def test_rows_come_from_different_sources_while_there_are_enough(tmp_path):
    write_camvid(tmp_path / "data" / "camvid", n_train=2, n_val=1)
    where = run.Workspace(Store(tmp_path / "store"), tmp_path / "data", tmp_path)
    samples = run.read_samples(recipe(), where, remember=False)
    for seed in range(5):
        rows = preview.choose_rows(samples, 3, seed)
        assert len({samples.tiles[row][0] for row in rows}) == 3
        assert len(set(preview.choose_rows(samples, 7, seed))) == 7
    assert len(preview.choose_rows(samples, 50, 0)) == 12


def test_of_a_source_the_tile_with_the_objects_is_shown(tmp_path):
    write_camvid(tmp_path / "data" / "camvid", n_train=2, n_val=1)
    where = run.Workspace(Store(tmp_path / "store"), tmp_path / "data", tmp_path)
    samples = run.read_samples(recipe(), where, remember=False)
    samples = dataclasses.replace(samples, dataset=Boxes(tmp_path / "data" / "camvid"))
    for seed in range(5):
        boxes = [samples.tiles[row][1].box for row in preview.choose_rows(samples, 3, seed)]
        assert all(left <= 12 < right and top <= 8 < bottom for left, top, right, bottom in boxes)
