"""Exporting one HDF5 file for each source image with ``features`` and ``coords``, as CLAM and TRIDENT read them.

Sources of the layout: ``save_hdf5`` and ``compute_w_loader`` of mahmoodlab/CLAM (extract_features_fp.py), ``save_h5``
and ``coords_to_h5`` of mahmoodlab/TRIDENT (trident/IO.py). Both read back ``features`` (row, channel) and ``coords``
(row, x and y at level 0); TRIDENT also reads the attributes of ``coords``.
"""

import io
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import h5py
import numpy as np
import pandas as pd
from jaxtyping import Float, Int64

from stores.errors import UserError
from stores.format.paths import MEANS
from stores.hdf5.atomic import need_space, new_folder
from stores.hdf5.exporting import choose_arrays, converted
from stores.maintenance.checked import checked
from stores.sets import ZarrSet
from stores.specs import ArraySpec, FeatureSpec, relative_name

Vector = Literal["mean", "prefix", "patches"]
"""What a row of ``features`` is: the mean of a tile's patch tokens, its first prefix token, or one patch token."""

_CHUNK_BYTES = 1 << 20


def choose_tokens(
    stored_set: ZarrSet, vector: Vector, layers: Iterable[int] | None = None, arrays: Iterable[str] | None = None
) -> str:
    """Return the address of the array to export: of the last layer by default, normed where that is stored.

    Raises UserError when the choice leaves none or several layers.

    Args:
        stored_set: The feature set.
        vector: What a row of ``features`` is.
        layers: Blocks to choose from, as `choose_arrays` takes them.
        arrays: Names of arrays to choose from.
    """
    if not isinstance(stored_set.spec, FeatureSpec):
        raise UserError(f"set {stored_set.digest[:12]} holds labels: tile files are made of features")
    group = "prefix" if vector == "prefix" else "tokens"
    complete = choose_arrays(stored_set, layers, arrays)
    chosen = [name for name in complete if stored_set.arrays[name].group == group]
    if vector == "mean":
        patches = {name.partition("/")[2] for name in chosen}
        means = [name for name in complete if stored_set.arrays[name].group == MEANS]
        chosen += [name for name in means if name.partition("/")[2] not in patches]
    if not chosen:
        raise UserError(
            f"set {stored_set.digest[:12]} has no complete array {group}/... among those chosen: choose another "
            "--vector or other layers"
        )
    layer_of = {name: stored_set.arrays[name].layer or 0 for name in chosen}
    last = max(layer_of.values())
    if (layers is not None or arrays is not None) and len(set(layer_of.values())) > 1:
        raise UserError(f"tile files hold one layer and {len(set(layer_of.values()))} are chosen: name one")
    return max(
        (name for name in chosen if layer_of[name] == last),
        key=lambda name: bool(stored_set.arrays[name].is_normed),
    )


def export_tile_files(
    stored_set: ZarrSet, folder: Path, array: str, vector: Vector = "mean", dtype: str | None = None
) -> list[Path]:
    """Write a new folder with one file for each source image, and ``slides.csv`` that lists them; return the files.

    ``features`` is (row, channel); ``coords`` is (row, 2) int64, the left and top of the tile (of the patch, with
    ``vector`` "patches") in pixels of the resized source, which is treated as level 0. Means are taken in float64.
    Rows marked invalid are left out. Raises UserError when the folder exists or two sources would have the same file
    name, and DamageError when the store's bytes are not what was sealed. After an error the folder does not exist.

    Args:
        stored_set: The feature set.
        folder: The new folder.
        array: Address of the array, from `choose_tokens`.
        vector: What a row of ``features`` is.
        dtype: ``float32`` (the default) or ``float16``.
    """
    stored_set = checked(stored_set)
    spec = stored_set.arrays[array]
    samples = stored_set.samples
    lacking = ", ".join(sorted({"source", "left", "top", "right", "bottom"} - set(samples.columns)))
    if lacking:
        raise UserError(
            f"the samples of set {stored_set.digest[:12]} have no {lacking}: export it without --style clam"
        )
    valid = samples["valid"].to_numpy(bool) if "valid" in samples else np.ones(len(samples), bool)
    rows = np.flatnonzero(valid)
    sources = samples["source"].iloc[rows]
    names = file_names(sorted(set(sources)))
    dtype = dtype or "float32"
    if dtype not in ("float16", "float32"):
        raise UserError(f"--dtype {dtype!r} is neither float16 nor float32")
    values_a_row = spec.row_shape[-1] * (spec.row_shape[0] if vector == "patches" else 1)
    need_space(folder.expanduser().absolute().parent, len(rows) * values_a_row * np.dtype(dtype).itemsize)
    left = {str(name): int(count) for name, count in sources.value_counts().items()}
    waiting: dict[str, list[tuple[Int64[np.ndarray, " row"], np.ndarray]]] = {}
    with new_folder(folder.expanduser()) as partial:
        for numbers, block in stored_set[array].blocks(rows.astype(np.int64)):
            reduced = _reduced(block, vector)
            of_source = samples["source"].iloc[numbers].to_numpy()
            for source in dict.fromkeys(of_source):
                of_this = of_source == source
                waiting.setdefault(source, []).append((numbers[of_this], reduced[of_this]))
                left[source] -= int(of_this.sum())
                if left[source]:
                    continue
                parts = waiting.pop(source)
                features = np.concatenate([part for _, part in parts])
                features = converted(features, dtype, f"{array} of {source}")
                table = samples.iloc[np.concatenate([numbers for numbers, _ in parts])]
                _write_file(partial / names[source], source, features, table, spec, vector, stored_set)
        _write_list(partial / "slides.csv", samples.iloc[rows], names)
        files = sorted(child.name for child in partial.iterdir() if child.suffix == ".h5")
    return [folder.expanduser() / name for name in files]


def file_names(sources: list[str]) -> dict[str, str]:
    """Return a flat file name for every source: ``train/a.png`` becomes ``train__a.h5``.

    Suffixes are kept where two sources differ by nothing else. Raises UserError when names are still equal.
    """
    flat = {}
    for source in sources:
        try:
            flat[source] = relative_name(source).replace("/", "__")
        except ValueError as error:
            raise UserError(f"a source cannot name a file ({error})") from error
    stems = {source: str(PurePosixPath(name).with_suffix("")) for source, name in flat.items()}
    if len(set(stems.values())) == len(stems):
        flat = stems
    elif len(set(flat.values())) < len(flat):
        raise UserError("two sources would have the same file name when their folders are joined with '__': rename one")
    return {source: f"{name}.h5" for source, name in flat.items()}


def _reduced(block: np.ndarray, vector: Vector) -> np.ndarray:
    """Return (sample, vector, channel): one vector for each tile, or for each patch."""
    if block.ndim == 2:  # means that were taken before they were stored
        return block[:, None].astype(np.float32)
    if vector == "mean":
        return block.mean(axis=1, dtype=np.float64, keepdims=True).astype(np.float32)
    return block[:, :1] if vector == "prefix" else block


def _coordinates(
    table: pd.DataFrame, spec: ArraySpec, vector: Vector
) -> tuple[Int64[np.ndarray, "row 2"], float, float]:
    """Return left and top of every row, and the width and height of a tile or patch."""
    corner = table[["left", "top"]].to_numpy(np.float64)
    width = float(table["right"].iloc[0] - table["left"].iloc[0])
    height = float(table["bottom"].iloc[0] - table["top"].iloc[0])
    if vector == "patches":
        if spec.grid is None:
            raise UserError(f"{spec.name} names no grid of patches: choose --vector mean or prefix")
        grid_rows, grid_columns = spec.grid
        width, height = width / grid_columns, height / grid_rows
        down, right = np.divmod(np.arange(grid_rows * grid_columns), grid_columns)
        corner = (corner[:, None] + np.stack([right * width, down * height], axis=1)[None]).reshape(-1, 2)
    return np.floor(corner).astype(np.int64), width, height


def _write_file(
    path: Path,
    source: str,
    features: Float[np.ndarray, "sample vector channel"],
    table: pd.DataFrame,
    spec: ArraySpec,
    vector: Vector,
    stored_set: ZarrSet,
) -> None:
    coordinates, width, height = _coordinates(table, spec, vector)
    name = path.stem
    geometry: dict[str, Any] = {
        # A source is one level; magnifications are not known, and readers use their ratio only.
        "patch_level": 0,
        "level0_magnification": 1,
        "target_magnification": 1,
        "overlap": 0,
        "name": name,
        "tile_width": width,
        "tile_height": height,
    }
    if width == height:
        geometry |= {"patch_size": int(width), "patch_size_level0": int(width)}
    assert isinstance(stored_set.spec, FeatureSpec)
    origin: dict[str, Any] = {
        "name": name,
        "source": source,
        "encoder": stored_set.spec.model.name,
        "weights_sha256": stored_set.spec.model.weights,
        "array": spec.name,
        "vector": vector,
        "set": stored_set.digest,
        "content_sha256": stored_set.content[spec.name],
    }
    # Made in memory first: on a full disk the HDF5 library could abort the process.
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for key, values, facts in (
            ("features", features.reshape(-1, features.shape[-1]), origin),
            ("coords", coordinates, geometry),
        ):
            step = min(len(values), max(1, _CHUNK_BYTES // values[0].nbytes))
            dataset = file.create_dataset(
                key, data=values, maxshape=(None, values.shape[1]), chunks=(step, values.shape[1])
            )
            for fact, value in facts.items():
                dataset.attrs[fact] = value
    path.write_bytes(buffer.getbuffer())


def _write_list(path: Path, samples: pd.DataFrame, names: dict[str, str]) -> None:
    """Write the table of slides: file, source, group, split and image class."""
    first = samples.drop_duplicates("source")
    table = pd.DataFrame({"slide_id": [Path(names[source]).stem for source in first["source"]]})
    for column in ("source", "group", "split", "image_class"):
        if column in first:
            table[column] = first[column].to_numpy()
    table.to_csv(path, index=False)
