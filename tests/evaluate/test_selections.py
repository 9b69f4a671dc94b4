import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commands.experiment.reading import source_choice
from evaluate.registry import EvaluationSettings
from evaluate.selection import SelectionRule, disjoint, hold_out_images, rows_of, select_sources
from stores.errors import UserError


def table(sizes, tiles=3, split="train"):
    """A samples table with ``sizes[group]`` sources a group and some tiles a source."""
    rows = [
        (f"{group}/{number:03d}.png", group, split)
        for group, size in sizes.items()
        for number in range(size)
        for _ in range(tiles)
    ]
    return pd.DataFrame(rows, columns=["source", "group", "split"])


sizes = st.dictionaries(st.sampled_from(["aachen", "bochum", "ulm", "münster"]), st.integers(4, 12), min_size=1)


@settings(max_examples=50, deadline=None)
@given(sizes=sizes, seed=st.integers(0, 2**31), small=st.integers(1, 4), large=st.integers(1, 4), shuffle=st.randoms())
def test_choices_are_nested_balanced_and_independent_of_row_order(sizes, seed, small, large, shuffle):
    small, large = sorted((small, large))
    samples = table(sizes)
    chosen = select_sources(samples, SelectionRule(split="train", per_group=small, seed=seed))
    assert set(chosen) <= set(select_sources(samples, SelectionRule(split="train", per_group=large, seed=seed)))
    assert list(chosen) == sorted(chosen)
    assert {group: sum(name.startswith(group) for name in chosen) for group in sizes} == dict.fromkeys(sizes, small)
    order = list(range(len(samples)))
    shuffle.shuffle(order)
    assert select_sources(samples.iloc[order], SelectionRule(split="train", per_group=small, seed=seed)) == chosen


def test_another_group_does_not_change_the_choice_of_a_group():
    rule = SelectionRule(split="train", per_group=3, groups=("ulm",), seed=5)
    alone, together = table({"ulm": 20}), table({"aachen": 9, "ulm": 20})
    assert select_sources(alone, rule) == select_sources(together, rule)
    everything = select_sources(together, SelectionRule(split="train", per_group=3, seed=5))
    assert set(select_sources(alone, rule)) < set(everything)


@settings(max_examples=50, deadline=None)
@given(sizes=sizes, seed=st.integers(0, 99), others=st.sets(st.integers(0, 40)))
def test_the_choice_among_extracted_images_is_the_choice_among_all(sizes, seed, others):
    """Only chosen images are extracted, and `evaluate` chooses again among these: it must come out the same."""
    samples = table(sizes)
    rule = SelectionRule(split="train", per_group=2, seed=seed)
    chosen = select_sources(samples, rule)
    extracted = set(chosen) | {name for n, name in enumerate(sorted(set(samples["source"]))) if n in others}
    assert select_sources(samples[samples["source"].isin(extracted)], rule) == chosen


def test_seeds_matter_and_the_choice_is_pinned():
    samples = table({"ulm": 40})
    choices = {seed: select_sources(samples, SelectionRule(split="train", per_group=3, seed=seed)) for seed in range(9)}
    assert len(set(choices.values())) > 6
    # A change here silently changes every published selection.
    assert choices[0] == ("ulm/014.png", "ulm/015.png", "ulm/036.png")


def test_all_sources_are_taken_without_a_number():
    samples = table({"ulm": 3, "aachen": 2})
    assert select_sources(samples, SelectionRule(split="train")) == tuple(sorted(set(samples["source"])))


@pytest.mark.parametrize("per_group", [2, None])
def test_what_training_skips_to_validation_is_disjoint_and_chosen_again_among_extracted_images(per_group):
    table = pd.DataFrame([(f"{n:02}", "a", "all") for n in range(12)], columns=["source", "group", "split"])
    train = SelectionRule(split="all", per_group=7)
    rest = SelectionRule(split="all", per_group=per_group, skip=7)
    chosen = select_sources(table, rest)
    assert len(chosen) == (per_group or 5)
    assert not set(chosen) & set(select_sources(table, train))
    extracted = table[table["source"].isin(select_sources(table, rest.with_skipped()))]
    assert select_sources(extracted, rest) == chosen
    assert "skip" not in train.canonical()
    assert rest.canonical()["skip"] == 7


def test_rules_read_toml_lists_and_refuse_unknown_keys():
    assert SelectionRule.model_validate({"split": "val", "groups": ["ulm"]}).groups == ("ulm",)
    for wrong in ({"per_group": 0}, {"per_gruop": 1}, {"seed": -1}):
        with pytest.raises(ValueError, match="validation error"):
            SelectionRule.model_validate({"split": "val", **wrong})


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (SelectionRule(split="test"), "splits: train"),
        (SelectionRule(split="train", groups=("bonn",)), "its groups are: aachen, ulm"),
        (SelectionRule(split="train", groups=()), "names no group"),
        (SelectionRule(split="train", per_group=3), "'aachen' of split 'train' has 2 images, fewer than the 3"),
    ],
)
def test_a_selection_that_cannot_be_made_says_why(rule, words):
    with pytest.raises(UserError, match=words):
        select_sources(table({"ulm": 3, "aachen": 2}), rule)


def test_contradicting_tables_are_refused():
    samples = table({"ulm": 3})
    with pytest.raises(UserError, match="no column 'group'"):
        select_sources(samples.drop(columns="group"), SelectionRule(split="train"))
    samples.loc[0, "group"] = "bonn"
    with pytest.raises(UserError, match="in two groups"):
        select_sources(samples, SelectionRule(split="train"))


def test_rows_of_are_all_tiles_of_the_sources_in_order_whatever_the_index():
    samples = table({"ulm": 3}, tiles=2).iloc[[5, 0, 3, 2, 1, 4]]
    names = ("ulm/000.png", "ulm/002.png")
    rows = rows_of(samples, names)
    np.testing.assert_array_equal(rows, [0, 1, 4, 5])
    assert set(samples["source"].iloc[rows]) == set(names)
    with pytest.raises(UserError, match=r"'bonn/1.png' has no row"):
        rows_of(samples, ("bonn/1.png",))


def test_shared_sources_are_refused():
    disjoint(("a", "b"), ("c",))
    with pytest.raises(UserError, match="'b' among them"):
        disjoint(("a", "b"), ("b", "c"))


@settings(max_examples=50, deadline=None)
@given(ids=st.sets(st.integers(0, 99), min_size=2), share=st.floats(0, 1), seed=st.integers(0, 99))
def test_whole_images_are_held_out_and_some_are_left(ids, share, seed):
    images = np.repeat(np.array(sorted(ids)), 3)
    held_out = hold_out_images(images, share, seed)
    assert 1 <= len(held_out) < len(ids)
    assert set(held_out) < ids
    assert held_out == hold_out_images(images[::-1], share, seed)


def test_one_image_cannot_be_held_out():
    with pytest.raises(UserError, match="at least two images"):
        hold_out_images(np.zeros(5, dtype=np.int64), 0.2, 0)


def test_some_groups_are_chosen_by_the_seed_and_again_among_those_that_were_extracted():
    table = pd.DataFrame([{"source": f"{g}{n}", "group": g, "split": "val"} for g in "abcdef" for n in range(3)])
    rule = SelectionRule(split="val", n_groups=2)
    chosen = select_sources(table, rule)
    groups = sorted({name[0] for name in chosen})
    assert (len(groups), len(chosen)) == (2, 6)
    assert select_sources(table[table["group"].isin(groups)], rule) == chosen
    assert {name[0] for name in select_sources(table, rule.model_copy(update={"n_groups": 3}))} > set(groups)
    assert len({select_sources(table, rule.model_copy(update={"seed": seed})) for seed in range(8)}) > 1
    assert "n_groups" not in SelectionRule(split="val").canonical()
    with pytest.raises(UserError, match="6 groups, fewer than n_groups = 7"):
        select_sources(table, rule.model_copy(update={"n_groups": 7}))


rules = st.builds(
    SelectionRule,
    split=st.sampled_from(["train", "val"]),
    per_group=st.sampled_from([None, 1, 2]),
    groups=st.sampled_from([None, ("aachen",), ("aachen", "ulm")]),
    seed=st.sampled_from([0, 1]),
    skip=st.sampled_from([0, 2]),
    n_groups=st.sampled_from([None, 1, 2]),
)
SEVERAL = pd.concat([table({"aachen": 6, "bochum": 6, "ulm": 6}, split=split) for split in ("train", "val")])


@settings(max_examples=300, deadline=None)
@given(one=rules, other=rules)
def test_what_contains_another_rule_takes_all_that_it_takes(one, other):
    def taken(rule):
        try:
            return set(select_sources(SEVERAL, rule.with_skipped()))
        except UserError:  # more groups than there are
            return None

    assert one.contains(one)
    if one.contains(other) and taken(one) is not None and taken(other) is not None:
        assert taken(one) >= taken(other)


def test_smaller_choices_do_not_ask_for_another_extraction():
    def key(*analyses, **train):
        selection = {"train": {"split": "train", **train}, "validation": {"split": "val"}}
        return source_choice(EvaluationSettings(selection=selection, analyses=list(analyses))).key

    spectrum = {"kind": "variance-spectrum"}
    sizes = {"kind": "patch-classification", "train_per_group": [1, 3, 12]}
    assert key(spectrum) == key(spectrum, sizes) == key(sizes)
    assert key(spectrum, per_group=12) == key(spectrum, sizes, per_group=4)
    assert key(spectrum, per_group=4) != key(spectrum, sizes, per_group=4)
    assert len(key(spectrum)) == 2
