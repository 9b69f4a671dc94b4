"""Choosing tiles and images by what they contain."""

import errno
import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dataset_recipe import DatasetRecipe, FewShot
from pipeline.datasets import open_dataset
from pipeline.datasets.fair1m import Fair1m
from pipeline.extraction.plan import labelled_coverage, warnings
from pipeline.extraction.run import Workspace, read_samples
from pipeline.labels.making_labels import make_labels
from pipeline.recipe import Recipe
from pipeline.rows.few_shot import choose, choose_rows, class_order, tile_classes
from pipeline.rows.frames import tiles
from stores import Store
from stores.errors import MissingError, UserError
from stores.specs import FrameSpec, Size
from tests.pipeline.layouts import ade20k, dota, fair1m, fair1m_object, mot, write_image
from tests.pipeline.tiny import TINY

contents = st.dictionaries(
    st.tuples(st.sampled_from(["a.png", "b.png", "c.png"]), st.integers(0, 9), st.integers(0, 9)),
    st.frozensets(st.integers(0, 5), max_size=3),
    max_size=60,
)
order = st.permutations([(number, f"class {number}") for number in range(6)])


@given(contents, order, st.integers(1, 8), st.integers(0, 3), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_every_class_takes_its_count_or_all_that_is_left(contains, order, count, seed, shuffle):
    chosen = choose(contains, order, count, seed)
    taken = [key for keys in chosen.values() for key in keys]
    assert len(taken) == len(set(taken)), "no tile twice"
    before = set()
    for class_id, _ in order:
        left = {key for key, found in contains.items() if class_id in found} - before
        assert len(chosen[class_id]) == min(count, len(left))
        assert set(chosen[class_id]) <= left
        before |= set(chosen[class_id])
    items = list(contains.items())
    shuffle.shuffle(items)
    assert choose(dict(items), order, count, seed) == chosen, "the order of files decides nothing"


@given(contents, order, st.integers(1, 8))
@settings(max_examples=30, deadline=None)
def test_a_smaller_choice_of_the_first_class_is_part_of_a_larger_one(contains, order, count):
    first = order[0][0]
    assert choose(contains, order, count, 0)[first] == choose(contains, order, count + 1, 0)[first][:count]


def test_another_seed_chooses_otherwise():
    contains = {("a.png", row, column): frozenset({1}) for row in range(10) for column in range(10)}
    chosen = [frozenset(choose(contains, [(1, "ship")], 8, seed)[1]) for seed in range(5)]
    assert len(set(chosen)) == 5


corner = st.floats(-20, 80, allow_nan=False).map(lambda value: round(value, 3))


@given(corner, corner, st.floats(1, 40), st.floats(1, 40), st.floats(0, 3))
@settings(max_examples=60, deadline=None)
def test_a_tile_shows_a_class_when_enough_points_of_a_box_lie_in_it(x, y, width, height, angle):
    """Against counting points: a third is decided alike wherever the share is not near a third."""
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    steps = (np.arange(40) + 0.5) / 40 - 0.5
    points = np.array(list(itertools.product(steps * width, steps * height))) @ turn.T + (x, y)
    ends = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) / 2 * (width, height) @ turn.T + (x, y)
    tile_list = tiles(FrameSpec(input=32, tile=32), Size(height=64, width=64))
    found = tile_classes([(1, tuple(map(tuple, ends.tolist())))], tile_list, (1.0, 1.0), 1 / 3)
    for tile in tile_list:
        left, top, right, bottom = tile.box
        inside = (points >= (left, top)).all(axis=1) & (points < (right, bottom)).all(axis=1)
        if abs(inside.mean() - 1 / 3) > 0.05:
            assert (1 in found[tile.row, tile.column]) == (inside.mean() > 1 / 3)


def test_exactly_a_third_is_enough_and_scales_are_followed():
    frame = FrameSpec(input=30, tile=30)
    box = ((20.0, 3.0), (50.0, 3.0), (50.0, 3.3), (20.0, 3.3))
    found = tile_classes([(1, box)], tiles(frame, Size(height=30, width=60)), (1.0, 1.0), 1 / 3)
    assert found == {(0, 0): {1}, (0, 1): {1}}
    found = tile_classes([(1, box)], tiles(frame, Size(height=30, width=60)), (0.5, 1.0), 1 / 3)
    assert found == {(0, 0): {1}, (0, 1): set()}


def box(left, top, side=8):
    right, bottom = left + side, top + side
    return [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]


def few(unit="tiles", **per_class):
    return FewShot(unit=unit, per_class=per_class)


def test_fair1m_tiles_by_the_papers_rule(tmp_path):
    """Buses stand in every tile, baseball fields in two: each class gets its own tiles, the rest goes."""
    buses = [fair1m_object("Bus", box(x * 32 + 4, y * 32 + 4)) for x in range(4) for y in range(4)]
    field = fair1m_object("Baseball Field", box(20, 20, 24))  # over four tiles, a third in none
    for part, number in (("part1", 1), ("part2", 2)):
        fields = [fair1m_object("Baseball Field", box(2, 2, 12)), fair1m_object("Bridge", box(2, 2))]
        fair1m(tmp_path / "train" / part, number, *buses, *fields, field, width=128, height=128)
    fair1m(tmp_path / "validation", 3, *buses, width=128, height=128)
    dataset, frame = Fair1m(tmp_path), FrameSpec(input=32, tile=32)
    chosen = choose_rows(dataset, dataset.sources(), frame, few(train=8))
    assert [source.split for source in chosen.sources] == ["train", "train"]
    rows = {(name, *tile) for name, found in chosen.tiles.items() for tile in found}
    corners = {(f"train/part{number}/images/{number}.tif", 0, 0) for number in (1, 2)}
    # Buses come first and take 8 of 32; fields and bridges get what they left of the two corner tiles.
    assert len(rows) in (8, 9, 10)
    assert corners <= rows
    with pytest.raises(UserError, match="names the split 'dev', the data set has: train, val"):
        choose_rows(dataset, dataset.sources(), frame, few(dev=8))


def test_samples_hold_only_the_chosen_tiles_and_the_digest_says_which(tmp_path):
    lines = [f"{x} {y} {x + 8} {y} {x + 8} {y + 8} {x} {y + 8} ship 0" for x in (4, 36) for y in (4, 36)]
    for number in range(3):
        dota(tmp_path / "dota/train", f"P{number}", *lines, width=128, height=128)
    site, digests = Workspace(Store(str(tmp_path / "store")), tmp_path, tmp_path), set()
    for seed in (0, 1):
        rule = FewShot(unit="tiles", per_class={"train": 5}, seed=seed)
        recipe = Recipe(
            dataset=DatasetRecipe(name="dota", few_shot=rule), frame=FrameSpec(input=32, tile=32), models=(TINY,)
        )
        samples = read_samples(recipe, site)
        assert len(samples.tiles) == 5
        assert samples.n_tiles == 16 * len(samples.sources)
        assert samples.coverage == 1.0, "the tiles that were not chosen are not lost at an edge"
        assert labelled_coverage(samples) == 1.0
        assert {(tile.row, tile.column) for _, tile in samples.tiles} <= {(0, 0), (0, 1), (1, 0), (1, 1)}
        assert samples.table["source"].tolist() == [name for name, _ in samples.tiles]
        digests.add(samples.digest)
    assert len(digests) == 2


def test_ade20k_images_from_the_rarest_class_on(tmp_path):
    """The rare class would get nothing if walls, which are everywhere, chose first."""
    for number in range(6):
        ids = [[1, 1, 2]] if number < 4 else [[1, 2, 3]] if number == 4 else [[1, 1, 4]]
        ade20k(tmp_path, "train", f"t{number}", ids)
    ade20k(tmp_path, "val", "v0", [[0, 1, 1]])
    ade20k(tmp_path, "val", "v1", [[0, 0, 0]])
    dataset = open_dataset("ade20k", tmp_path)
    frame = FrameSpec(input=32)
    chosen = choose_rows(dataset, dataset.sources(), frame, few("images", train=1, val=2))
    names = [source.name.rpartition("/")[2] for source in chosen.sources]
    assert {"t4.jpg", "t5.jpg", "v0.jpg"} <= set(names)
    assert len(names) == 4 + 1, "four classes take one image each, and of the validation images one has labels"
    assert chosen.tiles is None
    contains = {("x", 0, 0): {0, 1}, ("y", 0, 0): {0, 1}, ("z", 0, 0): {1}}
    assert [class_id for class_id, _ in class_order(dataset, contains, "images")][-2:] == [0, 1]


def test_rules_that_do_not_fit_the_data_are_refused(tmp_path):
    ade20k(tmp_path / "ade", "train", "t", [[0]])
    dataset = open_dataset("ade20k", tmp_path / "ade")
    with pytest.raises(UserError, match=r'ade20k has no objects to choose tiles by: set unit = "images"'):
        choose_rows(dataset, dataset.sources(), FrameSpec(input=32), few(train=1))
    with pytest.raises(UserError, match="finds no labels below"):
        choose_rows(dataset, dataset.sources(), FrameSpec(input=32), few("images", train=1))


def test_images_of_objects_and_of_scenes_can_be_chosen_too(tmp_path):
    mot(tmp_path / "mot/A", "1,1,1,1,5,5,1,1,1", "3,1,1,1,5,5,1,2,1")
    dataset = open_dataset("mot", tmp_path / "mot")
    chosen = choose_rows(dataset, dataset.sources(), FrameSpec(input=32), few("images", all=4))
    assert [source.frame for source in chosen.sources] == [1, 3]
    for name in "abc":
        write_image(tmp_path / f"scenes/lake/{name}.jpg")
    dataset = open_dataset("resisc45", tmp_path / "scenes")
    assert len(choose_rows(dataset, dataset.sources(), FrameSpec(input=32), few("images", all=2)).sources) == 2


def test_usual_folder_names_are_tried(tmp_path):
    site = Workspace(Store(str(tmp_path / "store")), tmp_path, tmp_path)
    recipe = Recipe(dataset=DatasetRecipe(name="ade20k"), frame=FrameSpec(input=32), models=(TINY,))
    with pytest.raises(MissingError, match=r"no folder .*/ade20k or .*/ADEChallengeData2016 for the data set ade20k"):
        read_samples(recipe, site)
    ade20k(tmp_path / "ADEChallengeData2016", "train", "t", [[1]])
    assert len(read_samples(recipe, site).sources) == 1


def keep(name, rule, **options):
    return Recipe(
        dataset=DatasetRecipe(name=name, few_shot=rule, bad_samples="keep-invalid", **options),
        frame=FrameSpec(input=32, tile=32),
        models=(TINY,),
    )


@pytest.mark.parametrize("spoil", [lambda path: path.write_text("1 2 ship"), lambda path: path.unlink()])
def test_labels_that_cannot_be_used_are_left_out_of_a_kept_choice(tmp_path, spoil):
    """What the others give up is drawn as if the image had never been there."""
    lines = [f"{x} {y} {x + 8} {y} {x + 8} {y + 8} {x} {y + 8} ship 0" for x in (4, 36) for y in (4, 36)]
    for number in range(4):
        dota(tmp_path / "dota/train", f"P{number}", *lines, width=128, height=128)
    site = Workspace(Store(str(tmp_path / "store")), tmp_path, tmp_path)
    rule = FewShot(unit="tiles", per_class={"train": 11})
    whole = read_samples(keep("dota", rule), site)
    assert whole.left_out == {}
    assert {source for source, _ in whole.tiles} == {f"train/images/P{number}.png" for number in range(4)}
    [label] = (tmp_path / "dota/train").glob("label*/P2.txt")
    spoil(label)
    with pytest.raises(UserError, match=r"P2\.txt"):
        read_samples(keep("dota", rule).model_copy(update={"dataset": DatasetRecipe(name="dota", few_shot=rule)}), site)
    kept = read_samples(keep("dota", rule), site)
    [(name, reason)] = kept.left_out.items()
    assert name == "train/images/P2.png"
    assert "P2.txt" in reason
    assert str(tmp_path) not in reason
    assert any(
        "1 images are left out of the few-shot choice, the first: " in line for line in warnings([], kept, None, None)
    )
    label.unlink(missing_ok=True)
    (tmp_path / "dota/train/images/P2.png").unlink()
    alone = read_samples(keep("dota", rule), site)
    assert list(kept.tiles) == list(alone.tiles)
    assert kept.digest == alone.digest
    made = make_labels(kept, site.store, [(2, 2)], {})[0]
    assert made.provenance["left_out_of_choice"] == kept.left_out

    for number in (0, 1):
        next((tmp_path / "dota/train").glob(f"label*/P{number}.txt")).write_text("1 2 ship")
    with pytest.raises(UserError, match="2 of 3 images are bad and at most 1 may be kept"):
        read_samples(keep("dota", rule), site)


def test_a_file_that_cannot_be_opened_stops_a_kept_choice(tmp_path, monkeypatch):
    for number in range(3):
        ade20k(tmp_path / "ade20k", "train", f"t{number}", [[1]])
    opened = Path.open

    def refuse(path, *arguments, **options):
        if path.name == "t1.png":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    dataset = open_dataset("ade20k", tmp_path / "ade20k")
    with pytest.raises(UserError, match=r"t1\.png cannot be opened \(Input/output error\)"):
        choose_rows(dataset, dataset.sources(), FrameSpec(input=32), few("images", train=1), keep_invalid=True)
