"""Opening a sealed set from its summary: the same set as from its records, and no belief in what was lost since."""

import numpy as np
import pytest

from stores import Store
from stores.errors import MissingError
from stores.maintenance.checked import checked
from tests.stores.sealed_sets import stored, tokens
from tests.stores.specs_for_tests import FEATURES


def test_it_is_the_set_that_its_records_describe_and_reads_no_seal(tmp_path, monkeypatch):
    stored(tmp_path, [tokens(0), tokens(1)])
    full = Store(tmp_path).open(FEATURES)
    monkeypatch.setattr("stores.sets.read_seals", None)
    monkeypatch.setattr("stores.sets.read_commits", None)
    quick = Store(tmp_path).open(FEATURES, from_summary=True)
    assert (quick.arrays, quick.content, quick.stored) == (full.arrays, full.content, full.stored)
    assert (quick.n_bytes, quick.stored_digest(), repr(quick)) == (full.n_bytes, full.stored_digest(), repr(full))
    assert dict(quick.seals) == full.seals
    for name in full.arrays:
        assert quick.sealed(name)
        assert quick.committed(name) == full.committed(name)
        np.testing.assert_array_equal(quick[name][:], full[name][:])
        np.testing.assert_array_equal(checked(quick)[name][:], full[name][:])


def test_a_set_that_is_not_sealed_or_lost_a_seal_is_opened_from_its_records(tmp_path):
    made = stored(tmp_path / "half", [tokens(0), tokens(1)], unsealed=("tokens/block.1",))
    assert not Store(tmp_path / "half").open(made.digest, from_summary=True).sealed("tokens/block.1")
    made = stored(tmp_path / "lost", [tokens(0), tokens(1)])
    (tmp_path / "lost" / made.prefix / "seals" / "tokens__block.1.json").unlink()
    opened = Store(tmp_path / "lost").open(made.digest, from_summary=True)
    assert (opened.sealed("tokens/block.0"), opened.sealed("tokens/block.1")) == (True, False)


def test_a_torn_seal_or_that_of_other_content_is_a_sentence_where_a_chunk_is_compared_with_it(tmp_path):
    made = stored(tmp_path, [tokens(0), tokens(1)])
    path = tmp_path / made.prefix / "seals" / "tokens__block.1.json"
    path.write_bytes(path.read_bytes()[:-20])
    opened = checked(Store(tmp_path).open(made.digest, from_summary=True))
    assert len(opened["block.0"][:])
    with pytest.raises(MissingError, match=r"tokens/block\.1 of set .* is not sealed: `patchbank verify` says"):
        opened["block.1"][:]
