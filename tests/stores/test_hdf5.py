"""A set in one file and back: equal digests, equal bytes, and nothing half-written when something is wrong."""

import io
import itertools
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stores import HDF5Set, Store
from stores.errors import DamageError, MissingError, UserError
from stores.format.content import content_of
from stores.hdf5 import importing
from stores.hdf5.exporting import choose_arrays, export_set
from stores.hdf5.importing import import_set
from stores.maintenance.verify import verify
from stores.specs import ArraySpec
from tests.stores.sealed_sets import PROVENANCE, prefix, rows_of, stored, tile_table, tokens
from tests.stores.specs_for_tests import FEATURES, LABELS

COUNTER = itertools.count()
CLASSES = pd.DataFrame({"id": [0, 1], "name": ["road", "sky"], "easy": [True, False]})
OBJECTS = pd.DataFrame({"source": ["a.png", "b.png"], "polygon": [[1.0, 2.5, 3.0], []], "track": [7, -1]})


def findings(root):
    return [finding for verdict in verify(Store(root)) for finding in verdict.findings]


def brought(path, root, **how):
    with HDF5Set(path) as source:
        return import_set(source, Store(root), **how)


@st.composite
def sets(draw):
    """What `stored` takes: features or labels, any dtype, sealed in part or whole."""
    n_rows, range_rows = draw(st.integers(1, 12)), 2 ** draw(st.integers(0, 4))
    how = {
        "n_rows": n_rows,
        "range_rows": range_rows,
        "compression": draw(st.sampled_from(["none", "zstd"])),
        "seed": draw(st.integers(0, 5)),
    }
    if draw(st.booleans()):
        layers = draw(st.sets(st.integers(0, 3), min_size=1, max_size=2))
        dtypes = st.sampled_from(["float16", "float32", "float64"])
        arrays = [
            tokens(layer, draw(st.booleans()), draw(dtypes), draw(st.integers(1, 5)), draw(st.integers(1, 9)))
            for layer in layers
        ]
        arrays += [prefix(layer, dtype=draw(dtypes)) for layer in layers if draw(st.booleans())]
        how |= {"arrays": arrays, "spec": FEATURES}
    else:
        side = draw(st.integers(1, 6))
        arrays = [
            ArraySpec(
                name="pixels/classes",
                row_shape=(side, side + 1),
                dtype=draw(st.sampled_from(["uint8", "uint16", "int32"])),
                dimension_names=("sample", "height", "width"),
            ),
            ArraySpec(
                name="patches/2x2",
                row_shape=(4,),
                dtype="uint8",
                dimension_names=("sample", "patch_2x2"),
                attributes={"grid_rows": 2, "grid_columns": 2, "rule": "majority", "scale": 0.5, "none": None},
            ),
        ][: draw(st.integers(0, 2))]
        how |= {"arrays": arrays, "spec": LABELS, "tables": {"classes": CLASSES, "objects": OBJECTS}}
    names = [array.name for array in how["arrays"]]
    how["unsealed"] = draw(st.sets(st.sampled_from(names), max_size=len(names) - 1)) if len(names) > 1 else set()
    return how


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(how=sets())
def test_any_set_comes_back_with_equal_digests(tmp_path, how):
    folder = tmp_path / str(next(COUNTER))
    made = stored(folder / "here", **how)
    exported = export_set(made, folder / "set.h5")
    assert set(exported.arrays) == set(made.seals)
    done = brought(folder / "set.h5", folder / "there")
    found = Store(folder / "there").open(made.digest)
    assert (done.set.digest, sorted(done.added), done.there) == (made.digest, sorted(made.seals), [])
    assert found.spec == made.spec
    assert found.layout == made.layout
    assert found.compute == made.compute
    assert found.provenance == made.provenance
    assert found.content == made.content
    assert found.stored == made.stored
    assert found.stored_digest() == made.stored_digest()
    for table in ("samples", *how.get("tables", {})):
        pd.testing.assert_frame_equal(found.table(table), made.table(table))
    for array in how["arrays"]:
        if made.sealed(array.name):
            np.testing.assert_array_equal(found[array.name][:], rows_of(array, how["n_rows"], how["seed"]))
    assert findings(folder / "there") == []
    # The same set gives the same bytes, wherever it lies.
    export_set(found, folder / "again" / "set.h5")
    assert (folder / "again" / "set.h5").read_bytes() == (folder / "set.h5").read_bytes()
    assert not list(folder.rglob("*.partial"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    stored(folder, [tokens(0), tokens(1), tokens(1, norm=True), prefix(1)])
    return folder


@pytest.fixture
def made(tmp_path, whole):
    shutil.copytree(whole, tmp_path / "here")
    return Store(tmp_path / "here").open(FEATURES)


@pytest.fixture
def file(tmp_path, made):
    return export_set(made, tmp_path / "set.h5").path


def test_h5py_and_pandas_alone_read_it(file, made):
    with h5py.File(file) as plain:
        array = plain["tokens/block.1.norm"]
        np.testing.assert_array_equal(array[:], rows_of(tokens(1, norm=True)))
        assert [dimension.label for dimension in array.dims] == ["sample", "patch", "channel"]
        assert array.attrs["layer"] == 1
        assert array.attrs["content_sha256"].decode() == made.content["tokens/block.1.norm"]
        table = pd.read_parquet(io.BytesIO(plain["patchbank/samples.parquet"][:].tobytes()))
    pd.testing.assert_frame_equal(table, tile_table(10))


def test_importing_twice_changes_nothing_and_importing_more_adds_it(tmp_path, made):
    export_set(made, tmp_path / "one.h5", choose_arrays(made, layers=[0]))
    export_set(made, tmp_path / "all.h5")
    assert brought(tmp_path / "one.h5", tmp_path / "there").added == ["tokens/block.0"]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "there").rglob("*")}
    again = brought(tmp_path / "one.h5", tmp_path / "there")
    assert (again.added, again.there) == ([], ["tokens/block.0"])
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "there").rglob("*")} == before
    more = brought(tmp_path / "all.h5", tmp_path / "there")
    assert more.there == ["tokens/block.0"]
    assert len(more.added) == 3
    assert more.set.stored_digest() == made.stored_digest()
    assert findings(tmp_path / "there") == []


def test_an_import_that_was_killed_goes_on_where_it_stopped(tmp_path, file, made, monkeypatch):
    def killed(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("stores.hdf5.importing.seal", killed)
        with pytest.raises(KeyboardInterrupt):
            brought(file, tmp_path / "there")
    assert Store(tmp_path / "there").open(FEATURES).content == {}
    assert brought(file, tmp_path / "there").set.stored_digest() == made.stored_digest()
    assert findings(tmp_path / "there") == []


def test_a_disk_that_fills_up_leaves_nothing(tmp_path, made):
    """A child process whose files may not grow beyond 40 kB stands for the full disk."""
    code = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "import stores\n"
        "from stores.hdf5.exporting import export_set\n"
        "made = stores.open(sys.argv[1])\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))\n"
        "try:\n    export_set(made, Path(sys.argv[2]))\n"
        "except stores.errors.UserError as error:\n    sys.exit(f'told: {error}')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "here" / made.prefix, tmp_path / "set.h5"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 1
    assert "told: cannot write" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_another_layout_or_codec_keeps_the_values(tmp_path, file, made):
    other = stored(tmp_path / "there", [tokens(0)], range_rows=8, compression="zstd")
    done = brought(file, tmp_path / "there")
    assert done.there == ["tokens/block.0"]
    assert done.set.layout == other.layout
    for name in made.arrays:
        np.testing.assert_array_equal(done.set[name][:], made[name][:])
        assert content_of(done.set[name], made.layout) == made.content[name]
        assert content_of(made[name], other.layout) == done.set.content[name] != made.content[name]
    assert done.set.stored != made.stored
    assert findings(tmp_path / "there") == []


def test_an_unfinished_array_is_completed_when_its_rows_agree(tmp_path, file, made):
    stored(tmp_path / "there", [tokens(0), tokens(1)], unsealed=("tokens/block.0", "tokens/block.1"))
    assert brought(file, tmp_path / "there").set.content == made.content
    stored(tmp_path / "other", [tokens(0)], unsealed=("tokens/block.0",), seed=1)
    with pytest.raises(UserError, match=r"holds a part of array tokens/block\.0 with other values"):
        brought(file, tmp_path / "other")
    assert Store(tmp_path / "other").open(FEATURES).content == {}


def test_sets_that_do_not_belong_together_are_refused(tmp_path, file):
    stored(tmp_path / "values", [tokens(0)], seed=1)
    with pytest.raises(UserError, match=r"holds array tokens/block\.0 with other values"):
        brought(file, tmp_path / "values")
    stored(tmp_path / "device", [tokens(0)], compute={"device": "cuda"})
    with pytest.raises(UserError, match=r"computed on cuda and .* on cpu"):
        brought(file, tmp_path / "device")
    assert len(brought(file, tmp_path / "device", allow_mixed=True).added) == 3
    stored(tmp_path / "shape", [tokens(1, channels=7)], unsealed=("tokens/block.1",))
    with pytest.raises(UserError, match=r"array tokens/block\.1"):
        brought(file, tmp_path / "shape")
    for name in ("values", "device", "shape"):
        assert [one for one in findings(tmp_path / name) if "complete" not in one.problem] == []


def test_a_wrong_value_is_found_by_the_content_digest_and_nothing_is_written(tmp_path, file):
    with h5py.File(file, "r+") as plain:
        rows = plain["tokens/block.1"][:]
        rows[3, 2, 1] += 1
        plain["tokens/block.1"][:] = rows
    with pytest.raises(DamageError, match=r"array tokens/block\.1 in .* holds other values"):
        brought(file, tmp_path / "there")
    assert not (tmp_path / "there").exists()


def test_a_flipped_bit_is_found_by_hdf5_itself(tmp_path, file):
    data = file.read_bytes()
    with h5py.File(file) as plain:
        start = plain["tokens/block.1"].id.get_chunk_info(0).byte_offset
    file.write_bytes(data[: start + 5] + bytes([data[start + 5] ^ 4]) + data[start + 6 :])
    with HDF5Set(file) as source:
        with pytest.raises(DamageError, match=r"array tokens/block\.1 cannot be read"):
            source["block.1"][:]
        source["block.0"][:]
    with pytest.raises(DamageError):
        brought(file, tmp_path / "there")
    assert not (tmp_path / "there").exists()


def test_a_changed_dtype_is_for_reading(tmp_path, made):
    exported = export_set(made, tmp_path / "wide.h5", dtype="float32")
    assert exported.reading_only
    with HDF5Set(tmp_path / "wide.h5") as source:
        assert source.reading_only
        for name in made.seals:
            assert source[name].dtype == np.float32
            np.testing.assert_array_equal(source[name][:], made[name][:].astype(np.float32))
            assert source.file.manifest.arrays[name].original.content == made.content[name]
            assert source.content[name] != made.content[name]
        with pytest.raises(UserError, match="for reading only") as error:
            import_set(source, Store(tmp_path / "there"))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "there").exists()
    assert not export_set(made, tmp_path / "same.h5", dtype="float16").reading_only
    large = stored(tmp_path / "large", [tokens(0, dtype="float32")], change=lambda name, rows: rows * 1e6)
    with pytest.raises(UserError, match="beyond the largest float16"):
        export_set(large, tmp_path / "narrow.h5", dtype="float16")
    assert not list(tmp_path.glob("narrow*"))
    with pytest.raises(UserError, match="neither float16 nor float32"):
        export_set(made, tmp_path / "odd.h5", dtype="int8")


def test_the_card_says_what_where_from_and_how(tmp_path, made):
    exported = export_set(made, tmp_path / "mae.h5", ["block.1.norm"], dtype="float32")
    card = (tmp_path / "mae.README.md").read_text()
    assert exported.card.name == "mae.README.md"
    for fact in (
        FEATURES.model.name,
        FEATURES.model.weights,
        FEATURES.dataset.sources,
        made.digest,
        made.content["tokens/block.1.norm"],
        exported.arrays["tokens/block.1.norm"].content,
        "10 x 4 x 6",
        "float32 (stored as float16)",
        "apache-2.0",
        "licence of the data | not stated",
        "patchbank extract tiny.toml",
        "torch | 2.0",
        "(fill in: nothing is recorded)",
        "é\\|`x`",
        "for reading",
    ):
        assert fact in card, fact
    assert "block.0`" not in card
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL).group(1).replace("mae.h5", str(exported.path))
    found = {}
    exec(code, found)
    np.testing.assert_array_equal(found["array"][:2], rows_of(tokens(1, norm=True))[:2].astype(np.float32))
    assert list(found["samples"]["sample"]) == list(made.samples["sample"])
    found["file"].close()


def test_the_card_of_a_set_of_somebody_else_holds_no_terminal_codes(tmp_path):
    evil = "mae\x1b[31m\x1b]0;title\x07\u202e\x9b1m"
    spec = FEATURES.model_copy(update={"model": FEATURES.model.model_copy(update={"name": evil})})
    odd = {**PROVENANCE, "command": evil, evil: evil, "licence_of_weights": evil, "citation_of_weights": evil}
    made = stored(tmp_path / "here", [tokens(0)], spec=spec, provenance=odd)
    card = export_set(made, tmp_path / "odd.h5").card.read_text()
    assert all(line.isprintable() for line in card.split("\n"))
    assert card.count(r"mae\x1b[31m\x1b]0;title\x07\u202e\x9b1m") >= 6


def test_nothing_is_replaced_and_nothing_half_written_stays(tmp_path, made, file, monkeypatch):
    before = file.read_bytes()
    with pytest.raises(UserError, match="exists already"):
        export_set(made, file)
    (tmp_path / "b.README.md").write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        export_set(made, tmp_path / "b.h5")
    assert file.read_bytes() == before
    chunk = tmp_path / "here" / made.prefix / "tokens" / "block.1" / "c.2.0.0"
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[:-1] + b"x")
    with pytest.raises(DamageError, match="patchbank verify"):
        export_set(made, tmp_path / "c.h5")
    chunk.write_bytes(whole)
    monkeypatch.setattr(
        "stores.hdf5.exporting._write_records", lambda *given: (_ for _ in ()).throw(OSError(28, "No space"))
    )
    with pytest.raises(UserError, match="No space"):
        export_set(made, tmp_path / "c.h5")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "b.README.md",
        "set.README.md",
        "set.h5",
    ]


def test_a_full_disk_is_told_before_anything_is_written(tmp_path, made, file, monkeypatch):
    class Full:
        f_bavail, f_frsize = 1, 10

    monkeypatch.setattr("os.statvfs", lambda path: Full)
    with pytest.raises(UserError, match=r"0\.0 kB free and [\d.]+ [kM]B are needed"):
        export_set(made, tmp_path / "c.h5")
    with pytest.raises(UserError, match=r"0\.0 kB free and [\d.]+ [kM]B are needed"):
        brought(file, tmp_path / "there")
    assert not (tmp_path / "there").exists()


def test_choosing_arrays(tmp_path, made):
    assert choose_arrays(made) == sorted(made.seals)
    assert choose_arrays(made, layers=[-1]) == ["prefix/block.1", "tokens/block.1", "tokens/block.1.norm"]
    assert choose_arrays(made, layers=[0]) == ["tokens/block.0"]
    assert choose_arrays(made, arrays=["block.0", "prefix/block.1"]) == ["prefix/block.1", "tokens/block.0"]
    with pytest.raises(MissingError, match="layer 7: it has the layers 0, 1"):
        choose_arrays(made, layers=[0, 7])
    with pytest.raises(MissingError, match=r"has no array block\.9"):
        choose_arrays(made, arrays=["block.9"])
    with pytest.raises(UserError, match="give one of them"):
        choose_arrays(made, layers=[0], arrays=["block.0"])
    half = stored(tmp_path / "half", [tokens(0)], unsealed=("tokens/block.0",))
    with pytest.raises(UserError, match=r"array tokens/block\.0 of set \w+ is not complete: run `patchbank extract`"):
        choose_arrays(half, layers=[0])
    with pytest.raises(UserError, match="not complete"):
        choose_arrays(half, arrays=["block.0"])
    with pytest.raises(UserError, match="no complete array"):
        choose_arrays(half)


def test_the_last_layer_is_that_of_the_set_and_not_the_last_sealed(tmp_path):
    made = stored(tmp_path / "half", [tokens(0), tokens(1)], unsealed=("tokens/block.1",))
    assert choose_arrays(made, layers=[-2]) == ["tokens/block.0"]
    with pytest.raises(UserError, match=r"array tokens/block\.1 of set \w+ is not complete"):
        choose_arrays(made, layers=[-1])
    shutil.rmtree(tmp_path / "half" / made.prefix / "tokens" / "block.1")
    lost = Store(tmp_path / "half").open(FEATURES)
    assert choose_arrays(lost, layers=[-2]) == ["tokens/block.0"]
    with pytest.raises(MissingError, match=r"the records of layer 1 of set \w+ are lost: run `patchbank repair`"):
        choose_arrays(lost, layers=[-1])


def test_an_array_that_another_command_unseals_meanwhile_is_not_called_damage(tmp_path, file, monkeypatch):
    monkeypatch.setattr(importing, "seal", lambda target, names: {})
    with pytest.raises(UserError, match=r"array prefix/block\.1 of .* is not sealed, .* run the same import again"):
        brought(file, tmp_path / "there")
    monkeypatch.undo()
    assert len(brought(file, tmp_path / "there").added) == 4


def test_unlabelled_data_carry_their_tables(tmp_path):
    made = stored(tmp_path / "here", [], spec=LABELS, tables={"classes": CLASSES.iloc[:0]})
    export_set(made, tmp_path / "labels.h5")
    found = brought(tmp_path / "labels.h5", tmp_path / "there").set
    assert found.stored_digest() == made.stored_digest()
    assert found.provenance == PROVENANCE


def test_notes_that_lead_to_the_set_go_with_it_and_replace_none(tmp_path, made):
    key, other = "a" * 64, "b" * 64
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    here.remember(key, {"features": made.digest, "labels": "1" * 64})
    here.remember(other, {"features": "2" * 64, "labels": "1" * 64})
    here.remember("c" * 64, {"features": made.digest, "seen": "yesterday"})
    export_set(made, tmp_path / "set.h5")
    brought(tmp_path / "set.h5", tmp_path / "there")
    assert there.recall("c" * 64) is None
    assert there.recall(key) == here.recall(key)
    assert there.recall(other) is None
    there.remember(key, {"features": "3" * 64, "labels": "1" * 64})
    brought(tmp_path / "set.h5", tmp_path / "there")
    assert there.recall(key)["features"] == "3" * 64
