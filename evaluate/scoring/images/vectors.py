"""One vector an image, from its class token, the mean of its patch tokens or both, and the class of every image."""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64, Int64

from evaluate.inputs.chunks import of_chunks
from evaluate.inputs.memory import reducing_bytes
from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.rows import RowSelection, image_numbers
from stores.errors import MissingError, UserError
from stores.format.paths import DEVIATIONS, MEANS

Pooled = Literal["class-token", "mean-patch", "class-and-mean"]
"""What stands for an image: its first prefix token, the mean of its patch tokens, or both, one after the other."""

_GROUPS = ("tokens/", "prefix/", f"{MEANS}/")
"""Beginnings of the addresses that vectors are made of."""

NAME_BYTES = 1024
"""What a row of a selection holds beside its vector: its image's name in selections and keys, numbers and masks
(measured: 300 to 700 bytes)."""

_PARTS: dict[Pooled, tuple[Pooled, ...]] = {"class-and-mean": ("class-token", "mean-patch")}


def stored_address(model: ModelSets, array: str, *groups: str) -> str | None:
    """Return the address of a layer's array in the first of some groups that has it complete; None where none has."""
    addresses = (f"{group}/{array.partition('/')[2]}" for group in groups)
    return next((one for one in addresses if one in model.features.arrays and model.features.sealed(one)), None)


def vector_addresses(model: ModelSets, array: str, pooled: Pooled) -> list[str]:
    """Return the addresses of what vectors are made of; raises MissingError without one, naming the key that keeps it.

    Args:
        model: The model's sets.
        array: Address of any array of the layer.
        pooled: What stands for an image.
    """
    addresses = []
    for part in _PARTS.get(pooled, (pooled,)):
        is_mean = part == "mean-patch"
        address = stored_address(model, array, *(("tokens", MEANS) if is_mean else ("prefix",)))
        if address is None:
            _check_layer_is_kept(model, array)
            what, other, key = ("mean", "class-token", "means") if is_mean else ("class token", "mean-patch", "prefix")
            raise MissingError(
                f"{model.title} has no stored {what}: ask for {other}, or set {key} = true in [features] and run "
                f"`{model.extract_command}`"
            )
        addresses.append(address)
    return addresses


def _check_layer_is_kept(model: ModelSets, array: str) -> None:
    """Raise MissingError where a set has other layers alone, as a view may."""
    asked = array.partition("/")[2]
    kept = sorted({address.partition("/")[2] for address in model.features.arrays if address.startswith(_GROUPS)})
    if kept and asked not in kept:
        view = model.spec.view
        place, where = ("", "[features]") if view.name == "clean" else (f" under {view.name}", "that view in [[views]]")
        raise MissingError(
            f"{model.title} keeps {', '.join(kept)}{place} and not {asked}: name that layer in `layers` of {where} and "
            f"run `{model.extract_command}`, or choose another layer in the analysis"
        )


def vector_inputs(model: ModelSets, array: str, pooled: Sequence[Pooled]) -> dict[str, str]:
    """Return the digests of both sets and of what vectors are made of, for a result key; raises MissingError.

    Args:
        model: The model's sets.
        array: Address of any array of the layer.
        pooled: Everything that stands for an image.
    """
    used = [address for each in pooled for address in vector_addresses(model, array, each)]
    sets = {"features": model.features.digest, "labels": model.labels.digest}
    return {**sets, **{address: model.features.content[address] for address in used}}


def ranking_addresses(model: ModelSets, array: str) -> tuple[str, ...]:
    """Return the addresses of what ranks a layer's features: patch tokens, or deviations and means; none without."""
    tokens, *others = (stored_address(model, array, group) for group in ("tokens", DEVIATIONS, MEANS))
    return (tokens,) if tokens is not None else tuple(one for one in others if one and None not in others)


def row_vectors(
    model: ModelSets, array: str, rows: Int64[np.ndarray, " row"], pooled: Pooled
) -> Float64[np.ndarray, "row channel"]:
    """Return one vector a row; raises MissingError for what is not stored.

    Args:
        model: The model's sets.
        array: Address of any array of the layer.
        rows: Rows to read, increasing.
        pooled: What stands for a row.
    """
    vectors = np.empty((len(rows), _width(model, array, pooled)))
    for some, columns, values in _parts(model, array, rows, pooled):
        vectors[some, columns] = values
    return vectors


def image_vectors(
    model: ModelSets, array: str, selection: RowSelection, pooled: Pooled
) -> Float32[np.ndarray, "image channel"]:
    """Return one vector an image: tiles of one source are averaged; raises MissingError for what is not stored.

    Args:
        model: The model's sets.
        array: Address of any array of the layer.
        selection: Rows of the images.
        pooled: What stands for an image.
    """
    numbers = image_numbers(model, selection)
    summed = np.zeros((len(selection.sources), _width(model, array, pooled)))
    for some, columns, values in _parts(model, array, selection.rows, pooled):
        np.add.at(summed[:, columns], numbers[some], values)
    summed /= np.bincount(numbers, minlength=len(selection.sources))[:, None]
    return summed.astype(np.float32)


def _width(model: ModelSets, array: str, pooled: Pooled) -> int:
    return sum(model.n_channels(one) for one in vector_addresses(model, array, pooled))


def _parts(
    model: ModelSets, array: str, rows: Int64[np.ndarray, " row"], pooled: Pooled
) -> Iterator[tuple[slice, slice, Float64[np.ndarray, "some channel"]]]:
    """Yield vectors of the rows of one chunk after another, with where their rows and channels belong."""

    def vectors(first: int, block: np.ndarray) -> tuple[int, Float64[np.ndarray, "some channel"]]:
        if group == "prefix":
            return first, block[:, 0].astype(np.float64)
        return first, block.astype(np.float64) if group == MEANS else block.mean(axis=1, dtype=np.float64)

    begin = 0
    for address in vector_addresses(model, array, pooled):
        stored = model.features[address]
        group, columns = stored.spec.group, slice(begin, begin + model.n_channels(address))
        for first, values in of_chunks(stored, rows, vectors):
            yield slice(first, first + len(values)), columns, values
        begin = columns.stop


def image_classes(model: ModelSets, selection: RowSelection, analysis: str) -> Int64[np.ndarray, " image"]:
    """Return the class of every selected image; raises UserError, naming the analysis, when one has none."""
    table = model.samples.iloc[selection.rows].drop_duplicates("source").set_index("source")["image_class"]
    classes = table.loc[list(selection.sources)].to_numpy(dtype=np.int64)
    if (classes < 0).any():
        raise UserError(
            f"{analysis} needs a class for every image and {selection.sources[int((classes < 0).argmax())]} of "
            f"{model.label_spec.dataset.name} has none: choose a data set of labelled images"
        )
    return classes


def vectors_bytes(
    model: ModelSets, array: str, selections: Sequence[RowSelection], pooled: Sequence[Pooled], after: int = 0
) -> int:
    """Return what reading vectors of images and using them holds at most, in bytes.

    Vectors are summed by image in float64 and kept in float32, beside those of the selections before. What reads them
    may keep its memory, and is added, as are the vectors of the chunks that are read ahead.

    Args:
        model: The model's sets.
        array: Address of any array of the layer.
        selections: Rows of the images, read one selection after another.
        pooled: Everything that stands for an image, one at a time.
        after: What is done with all vectors holds beside them, once they are read.
    """
    addresses = [one for each in pooled for one in vector_addresses(model, array, each)]
    width = max(_width(model, array, each) for each in pooled)
    reading = max(
        reducing_bytes(model, one, some.rows, 8 * model.n_channels(one)) for one in addresses for some in selections
    )
    kept, made = 0, 0
    for some in selections:
        n_rows, n_images = len(some.rows), len(some.sources)
        made = max(made, kept + width * (8 * n_rows + 4 * n_images))
        kept += 4 * width * n_images
    names = NAME_BYTES * sum(len(some.rows) for some in selections)
    return names + reading + max(made, kept + after)
