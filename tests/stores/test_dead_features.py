"""Channels that never change: counted at sealing, whatever the chunks, and refused where that is asked."""

import json

import numpy as np
import pytest

from stores.errors import UserError
from stores.format.paths import seal_path
from stores.maintenance.describe import card
from stores.maintenance.rebuild import unseal
from stores.maintenance.repair import repair_set
from stores.maintenance.verify import verify
from stores.store import Store
from stores.writing.dead_channels import DeadFeatures, describe_channels, has_channels
from stores.writing.sealing import seal
from tests.stores.sealed_sets import prefix, stored, tile_table, tokens


def dead_by_numpy(rows, valid):
    """The definition: one value over all positions of the valid rows."""
    flat = rows[valid].reshape(-1, rows.shape[-1])
    return tuple(np.flatnonzero((flat == flat[:1]).all(axis=0)))


def planted(name, rows):
    """Channel 2 is constant but for one patch of one row; 4 is constant; 5 is constant but for row 3."""
    rows = rows.copy()
    rows[..., 2] = 1.5
    rows[8, 1, 2] = 2.0
    rows[..., 4] = -0.25
    rows[..., 5] = 0.0
    rows[6, 0, 5] = -0.0
    rows[3, :, 5] = 7.0
    return rows


@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.parametrize("range_rows", [2, 16])
def test_dead_channels_are_those_of_numpy_whatever_the_chunks(tmp_path, compression, range_rows):
    array, other = tokens(0), tokens(1)
    made = stored(
        tmp_path,
        [array, other],
        range_rows=range_rows,
        compression=compression,
        change=lambda name, rows: planted(name, rows) if name == array.name else rows,
    )
    assert made.seals[array.name].dead == (4,) == dead_by_numpy(made[array.name][:], np.arange(10))
    assert made.seals[other.name].dead == ()
    assert card(made)["arrays"][array.name]["dead"] == [4]


def test_invalid_rows_do_not_keep_a_channel_alive(tmp_path):
    """Row 3 is NaN; without it channel 5 is zero of either sign, which is one value."""
    table = tile_table(10).assign(valid=[row != 3 for row in range(10)])

    def change(name, rows):
        rows = planted(name, rows)
        rows[3] = np.nan
        return rows

    made = stored(tmp_path, [tokens(0)], tables={"samples": table}, change=change)
    assert made.seals["tokens/block.0"].dead == (4, 5)
    assert made.seals["tokens/block.0"].dead == dead_by_numpy(made["block.0"][:], table["valid"].to_numpy())


def test_blocks_in_any_order_and_of_any_size_come_to_the_same():
    rng = np.random.default_rng(0)
    array = tokens(0, patches=5, channels=6)
    for _ in range(20):
        rows = rng.integers(0, 2, (40, 5, 6)).astype(np.float16)
        late = rng.integers(0, 40, 6)
        for channel in range(6):
            rows[: late[channel] if channel else 40, :, channel] = 1
        valid = rng.random(40) < 0.7
        dead = DeadFeatures(array, valid)
        starts = np.sort(rng.choice(np.arange(1, 40), 4, replace=False))
        pieces = list(zip([0, *starts], [*starts, 40], strict=True))
        for start, stop in [pieces[place] for place in rng.permutation(len(pieces))]:
            dead.take(int(start), rows[start:stop])
        assert dead.channels == dead_by_numpy(rows, valid)


def test_what_counts_as_features():
    assert has_channels(tokens(0))
    assert not has_channels(prefix(0)), "a class token that saw no patch yet"
    one_row = DeadFeatures(tokens(0), np.arange(10) == 3)
    one_row.take(0, np.zeros((10, 4, 6), np.float16))
    assert one_row.channels == (), "of one sample nothing is known"
    assert (
        describe_channels(tuple(range(12)), 64) == "12 of 64 features dead (channels 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ...)"
    )


def test_refusing_seals_the_others_names_the_layer_and_loses_nothing(tmp_path):
    made = stored(tmp_path, [tokens(0), tokens(1), tokens(2)], change=planted, unsealed=[])
    unseal(made, {name: [] for name in list(made.seals)[:2]})  # as it is before sealing: every range is committed
    names = sorted(made.arrays)
    with pytest.raises(UserError) as stop:
        seal(made, names, refuse_dead=True)
    model = made.spec.model.name
    assert str(stop.value).startswith(
        f"{model}, tokens/block.0 has 1 of 6 features dead (channels 4), the same in all 10 valid samples as in "
        'folder/image00.png[0,0] (1 more arrays have some): check weights and images, or set dead_features = "count"'
    )
    made.refresh()
    assert sorted(made.seals) == ["tokens/block.2"]
    assert made.committed("tokens/block.0") == {0, 1, 2}
    assert seal(made, names) == {}
    assert {name: one.dead for name, one in made.seals.items()} == dict.fromkeys(names, (4,))


def test_seals_without_dead_features_are_as_before_and_a_lost_one_comes_back_with_them(tmp_path):
    made = stored(
        tmp_path, [tokens(0), tokens(1)], change=lambda name, rows: planted(name, rows) if "0" in name else rows
    )
    keys = {name: f"{made.prefix}/{seal_path(name)}" for name in made.arrays}
    before = {name: made.objects.read(key) for name, key in keys.items()}
    assert "dead" not in json.loads(before["tokens/block.1"])
    assert json.loads(before["tokens/block.0"])["dead"] == [4]
    for key in keys.values():
        made.objects.delete(key)
    store = Store(tmp_path)
    repair_set(store, made.prefix)
    assert {name: made.objects.read(key) for name, key in keys.items()} == before
    assert [finding for verdict in verify(store) for finding in verdict.findings] == []
