"""Rows that workers read from two files in the store are those of the process that listed them."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from pipeline.dataset_recipe import DatasetRecipe
from pipeline.extraction import run
from pipeline.labels import label_set, making_labels
from pipeline.labels.label_set import label_spec, label_values, pixel_array
from pipeline.rows.under_view import for_view
from pipeline.schedule import written_rows
from pipeline.schedule.written_rows import read_rows, remove_rows, write_rows
from pipeline.views import CLEAN
from pipeline.views.flip import Flip
from stores import Store
from stores.errors import UserError
from stores.maintenance.garbage import find_garbage
from tests.pipeline.tiny import recipe, write_camvid


@pytest.fixture
def place(tmp_path):
    write_camvid(tmp_path / "data" / "camvid")
    (tmp_path / "data" / "camvid" / "train" / "0001TP_train001.png").write_bytes(b"no image")
    (tmp_path / "data" / "camvid" / "valannot" / "0001TP_val000.png").write_bytes(b"no labels")
    return run.Workspace(Store(tmp_path / "store"), tmp_path / "data", tmp_path)


@pytest.fixture
def samples(place, monkeypatch):
    monkeypatch.setattr(written_rows, "BATCH_ROWS", 3)
    monkeypatch.setattr("pipeline.rows.bad_samples.check_bad_count", lambda reasons, n_sources: None)
    return run.read_samples(recipe(dataset=DatasetRecipe(name="camvid", bad_samples="keep-invalid")), place)


@pytest.mark.parametrize("is_local", [True, False])
def test_rows_are_those_that_were_written(place, samples, tmp_path, is_local):
    objects = place.store.objects if is_local else Store(f"memory://{tmp_path}").objects
    written = write_rows(samples, objects, "run")
    found = read_rows(written, objects)
    assert list(map(repr, found.sources.values())) == list(map(repr, samples.sources.values())), "by text, for NaN"
    assert dict(found.sizes) == dict(samples.sizes)
    assert list(found.tiles) == list(samples.tiles)
    assert found.tiles[2:5] == list(samples.tiles[2:5])
    assert found.tiles[-1] == samples.tiles[-1]
    assert dict(found.image_digests) == dict(samples.image_digests)
    assert dict(found.label_digests) == dict(samples.label_digests)
    assert len(found.sizes) == len(samples.sizes)
    assert (found.bad_images, found.bad_labels) == (samples.bad_images, samples.bad_labels)
    assert found.bad_images
    assert found.bad_labels
    pd.testing.assert_frame_equal(found.table.astype(samples.table.dtypes), samples.table)
    assert found.view is CLEAN
    with pytest.raises(KeyError):
        found.sources["none"]
    with pytest.raises(IndexError):
        found.tiles[len(samples.tiles)]


def test_labels_and_views_of_rows_that_were_read_are_those_of_the_others(place, samples, monkeypatch):
    objects = place.store.objects
    found = read_rows(write_rows(samples, objects, "run"), objects)
    view = Flip(name="flip").at(1, samples.frame)
    for one, other in ((samples, found), (for_view(samples, view), for_view(found, view))):
        assert label_spec(one) == label_spec(other)
        row_range = next(iter(making_labels._layout(one).ranges()))
        values = [label_values(pixel_array(rows), rows, row_range) for rows in (one, other)]
        np.testing.assert_array_equal(*values)
        pd.testing.assert_frame_equal(other.label_table.astype(one.label_table.dtypes), one.label_table)
    monkeypatch.setattr(label_set, "class_table", None)
    assert label_spec(found) == found.label_record, "workers do not go over all sources for it"


def test_files_that_are_gone_or_changed_are_refused_in_a_sentence(place, samples):
    objects = place.store.objects
    written = write_rows(samples, objects, "run")
    key = next(iter(written.digests))
    data = objects.read(key)
    objects.put(key, [data[:-1] + b"x"])
    with pytest.raises(UserError, match="are not as they were written: run the same command again"):
        read_rows(written, objects)
    remove_rows(written, objects)
    remove_rows(written, objects)
    assert objects.children("logs") == []
    with pytest.raises(UserError, match="are gone: run the same command again"):
        read_rows(written, objects)


def test_what_a_killed_command_left_is_found_as_garbage(place, samples):
    written = write_rows(samples, place.store.objects, "run")
    assert {one.key for one in find_garbage(place.store, None)} >= written.digests.keys()


def test_rows_are_named_by_their_content(place, samples):
    objects = place.store.objects
    other = dataclasses.replace(samples, licence="another")
    written = [write_rows(one, objects, run).digest for one, run in ((samples, "a"), (samples, "b"), (other, "c"))]
    assert written[0] == written[1] != written[2]
