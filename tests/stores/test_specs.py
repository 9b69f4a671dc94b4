"""Digests must not change by accident.

If a golden digest here fails, every cached feature set on every disk has just been orphaned: raise the format
version and write the decision into the changelog, or undo the change.
"""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from stores import canonical
from stores.canonical import canonical_json, checksummed, digest, digest_of_list, read_checksummed
from stores.specs import FrameSpec, relative_name, samples_digest, sources_digest
from tests.stores.specs_for_tests import FEATURES, LABELS, token_array

GOLDEN_FEATURES = "a53465b1dbab31e4916f5a882a7cd6b8148fb2388dd6b85d0f7eb943c71e2a6b"
GOLDEN_LABELS = "7460cd247fa19a39af7aecd392d12f513db1e3052993f9cb8a9453e4bc3804bc"


def test_feature_spec_digest_is_golden():
    assert FEATURES.digest == GOLDEN_FEATURES


def test_label_spec_digest_is_golden():
    assert LABELS.digest == GOLDEN_LABELS


def test_digest_is_the_sha256_of_sorted_compact_json():
    expected = json.dumps(FEATURES.canonical(), sort_keys=True, separators=(",", ":")).encode()
    assert FEATURES.digest == hashlib.sha256(expected).hexdigest()


def test_every_field_of_the_spec_changes_the_digest():
    changed = FEATURES.canonical()
    changes = {
        "samples": "9" * 64,
        "compute_dtype": "bfloat16",
        "store_dtype": "float32",
        "revisions": {"capture": 2},
        "frame": {**changed["frame"], "edge": "pad"},
        "view": {**changed["view"], "name": "blur"},
        "model": {**changed["model"], "weights": "8" * 64},
        "dataset": {**changed["dataset"], "sources": "7" * 64},
    }
    digests = {digest({**changed, key: value}) for key, value in changes.items()}
    assert len(digests | {FEATURES.digest}) == len(changes) + 1


def test_nothing_of_a_machine_is_in_the_spec():
    text = canonical_json(FEATURES.canonical()).decode()
    for word in ("path", "batch", "device", "worker", "date", "split", "layer", "norm", "/"):
        assert word not in text


@given(st.lists(st.lists(st.text() | st.integers() | st.booleans() | st.none())), st.integers(1, 3))
def test_the_digest_of_a_long_list_is_that_of_the_list(items, part):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(canonical, "_PART", part)
        assert digest_of_list(iter(items)) == digest(items)


@given(st.dictionaries(st.text("ab", min_size=1), st.text("01")))
def test_sources_in_order_have_the_digest_of_sources_in_any_order(entries):
    assert sources_digest(sorted(entries.items()), in_order=True) == sources_digest(entries.items())
    assert sources_digest(entries.items()) == digest(sorted([name, value] for name, value in entries.items()))


def test_sources_that_are_said_to_be_in_order_are():
    with pytest.raises(ValueError, match="'a' follows 'b'"):
        sources_digest([("b", "0"), ("a", "0")], in_order=True)


def test_specs_are_frozen_and_refuse_unknown_keys():
    with pytest.raises(ValidationError):
        FEATURES.view = None
    with pytest.raises(ValidationError, match="Extra inputs"):
        FrameSpec(input=224, crop=0.9)
    with pytest.raises(ValidationError, match="needs a tile size"):
        FrameSpec(input=224, edge="pad")


@pytest.mark.parametrize("name", ["/etc/passwd", "../x.png", "a/../../x", "a\\b", "", "a//b", "./a"])
def test_names_that_could_leave_their_root_are_refused(name):
    with pytest.raises(ValueError, match="not a plain relative path"):
        relative_name(name)


def test_sources_digest_ignores_order_and_samples_digest_does_not():
    entries = [("a.png", "1" * 64), ("b.png", "2" * 64)]
    assert sources_digest(entries) == sources_digest(reversed(entries))
    assert sources_digest(entries) != sources_digest([("a.png", "1" * 64), ("b.png", "3" * 64)])
    rows = [("a.png", (0, 0, 8, 8)), ("a.png", (8, 0, 16, 8))]
    assert samples_digest(rows) != samples_digest(reversed(rows))


@given(st.dictionaries(st.text(max_size=5).filter(lambda key: key != "checksum"), st.integers() | st.text()))
def test_checksummed_records_come_back_and_any_changed_byte_is_seen(record):
    data = checksummed(record)
    assert read_checksummed(data) == record
    for position in range(0, len(data) - 1, 7):
        torn = bytearray(data)
        torn[position] ^= 1
        assert read_checksummed(bytes(torn)) is None
    assert not any(read_checksummed(data[:length]) for length in range(len(data))), "also without its last line break"


def test_row_bytes_and_fill():
    array = token_array(patches=196, channels=384)
    assert array.row_bytes == 196 * 384 * 2
    labels = array.model_copy(update={"dtype": "uint8"})
    assert labels.fill == 255
    assert labels.row_bytes == 196 * 384
