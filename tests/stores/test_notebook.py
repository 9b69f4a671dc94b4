"""What a notebook shows of public objects: one short line each, a small table, and names to complete."""

import re
import warnings

import pytest
import xarray
import zarr

from stores import Store
from stores.hdf5.exporting import export_set
from stores.hdf5.reader import HDF5Set
from stores.maintenance.checked import checked
from stores.memory import MemorySet
from stores.torch_data import RangeDataset
from tests.stores.sealed_sets import prefix, stored, tokens
from tests.stores.specs_for_tests import FEATURES, LABELS

EVIL = "<script>alert(1)</script>"


@pytest.fixture
def made(tmp_path):
    return stored(tmp_path / "store", [tokens(0), tokens(1), prefix(0)], unsealed=["tokens/block.1"])


@pytest.fixture
def shown(made, tmp_path):
    memory = MemorySet(FEATURES, made.layout, {})
    memory.add_arrays([tokens(0)])
    with HDF5Set(export_set(made, tmp_path / "set.h5").path) as file:
        yield {
            "store": Store(tmp_path / "store"),
            "set": made,
            "checked set": checked(made),
            "file": file,
            "memory": memory,
            "array": made["block.0"],
            "array of a file": file["block.0"],
            "array in memory": memory["block.0"],
            "torch": RangeDataset(made, "block.0", rows=slice(4), shuffle=3),
            "features": FEATURES,
            "labels": LABELS,
            "array record": tokens(0),
        }


def test_every_object_has_a_short_line_and_a_table(shown):
    for name, item in shown.items():
        line, page = repr(item), item._repr_html_()
        assert "\n" not in line, name
        assert len(line) <= 300, name
        assert page.count("<table>") == page.count("</table>") == 1, name
        assert " at 0x" not in line, name
    assert repr(shown["store"]).startswith("<Store /")
    assert repr(shown["torch"]) == f"<RangeDataset {FEATURES.digest[:12]} tokens/block.0: 4 rows, shuffled by 3>"
    assert repr(FEATURES).endswith(f": {FEATURES.model.name} on camvid, view clean, input 224x224>")
    assert "<td>2/3 ranges</td>" in shown["set"]._repr_html_()
    assert f"<td>{FEATURES.digest[:12]}</td>" in shown["store"]._repr_html_()


def test_names_are_escaped_and_long_tables_are_cut(tmp_path):
    spec = FEATURES.model_copy(update={"model": FEATURES.model.model_copy(update={"name": EVIL})})
    made = stored(tmp_path, [tokens(layer) for layer in range(52)], spec=spec)
    for page in (Store(tmp_path)._repr_html_(), made._repr_html_(), spec._repr_html_()):
        assert "<script>" not in page
    assert made._repr_html_().count("<tr>") == 1 + 50 + 1
    assert "and 2 more" in made._repr_html_()


def test_a_store_that_cannot_be_read_is_shown_as_one(made, tmp_path):
    (tmp_path / "store" / made.prefix / "summary.json").write_text("{")
    assert "no summary that can be read" in Store(tmp_path / "store")._repr_html_()


def test_names_of_arrays_are_completed(shown):
    for name in ("set", "checked set", "file", "memory"):
        completed = shown[name]._ipython_key_completions_()
        assert "block.0" in completed
        assert all(shown[name][array] is not None for array in completed)
    assert "prefix/block.0" in shown["set"]._ipython_key_completions_()


def test_the_calls_on_our_pages_give_no_warning(made, tmp_path):
    folder = str(tmp_path / "store" / made.prefix)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        zarr.open_group(folder, mode="r")["tokens/block.0"][:]
        zarr.open_array(f"{folder}/tokens/block.0", mode="r")[:]
        assert dict(zarr.open_group(f"{folder}/tokens", mode="r").members())
        with xarray.open_zarr(f"{folder}/tokens", consolidated=False) as tokens_of_set:
            assert set(tokens_of_set) == {"block.0", "block.1"}
        with xarray.open_zarr(folder, group="prefix", consolidated=False) as prefix_of_set:
            assert set(prefix_of_set) == {"block.0"}
        warnings.filterwarnings("ignore", "Object at .* is not recognized as a component of a Zarr hierarchy")
        assert {name for name, _ in zarr.open_group(folder, mode="r").members()} == {"tokens", "prefix"}


def test_the_warnings_that_our_pages_explain_are_these(made, tmp_path):
    folder = str(tmp_path / "store" / made.prefix)
    with pytest.warns(zarr.errors.ZarrUserWarning, match=r"Object at .* is not recognized") as raised:
        list(zarr.open_group(folder, mode="r").members())
    named = {re.findall(r"Object at (\S+)", str(one.message))[0] for one in raised}
    assert named >= {"spec.json", "seals", "samples.parquet", "summary.json"}
    with pytest.warns(RuntimeWarning, match="consolidated"):
        xarray.open_zarr(f"{folder}/tokens").close()
