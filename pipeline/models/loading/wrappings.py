"""Finds a model's weights in a checkpoint, whatever dictionaries and prefixes a training code wrapped them in.

Every tensor has one name: the keys of the dictionaries above it and its own key, joined with dots. A wrapping is a
prefix of such names (``state_dict.model.`` of Lightning, ``teacher.backbone.``, ``module._orig_mod.``), and the right
one leaves the keys that the module itself has.
"""

import functools
import hashlib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.models.loading.checkpoints import named_tensors, read_file
from pipeline.models.loading.weights import Weights
from pipeline.recipe import ModelRecipe
from stores.errors import UserError

_WRAPPERS = ("model", "state_dict", "teacher", "student", "module")
"""Keys under which training codes store weights, in the order they are tried where no key is the module's own."""
_PREFIXES = ("module.", "backbone.", "encoder.")
"""Prefixes that are removed in that case."""
_NOT_THE_ONE = {"student": "teacher", "momentum_encoder": "base_encoder", "encoder_k": "encoder_q"}
"""Words of prefixes that are passed over, by the word that is read where both are there."""


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a file by name, and the sha256 of the file."""

    path: Path
    tensors: Weights
    sha256: str

    def below(self, prefix: str) -> Weights:
        """Return the tensors whose names begin with a prefix, without it."""
        return {key[len(prefix) :]: value for key, value in self.tensors.items() if key.startswith(prefix)}


@dataclass(frozen=True)
class ChosenWeights:
    """The weights that were chosen of a checkpoint."""

    weights: Weights
    origin: Mapping[str, str]
    """Name and sha256 of the file, and the prefix of what was read; part of a set's provenance."""


def read_checkpoint(path: Path, *, shapes_only: bool = False) -> Checkpoint:
    """Return the tensors of a safetensors or torch file; raises MissingError or UserError as `read_file` does.

    With ``shapes_only`` the tensors have no values, and there is no sha256: neither is read.
    """
    tensors = dict(named_tensors(read_file(path, shapes_only=shapes_only)))
    if not tensors:
        raise UserError(f"{path} contains no weights: expected a dictionary of tensors")
    if shapes_only:
        return Checkpoint(path, tensors, "")
    status = path.stat()
    return Checkpoint(path, tensors, _sha256(path, status.st_size, status.st_mtime_ns, status.st_ctime_ns))


@functools.lru_cache(maxsize=64)
def _sha256(path: Path, *status: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def choose_weights(
    checkpoint: Checkpoint,
    recipe: ModelRecipe,
    own: Collection[str],
    rename: Callable[[Weights], Weights] = dict,
) -> ChosenWeights:
    """Return the weights of a checkpoint whose keys are most like the module's own.

    ``key_prefix`` and ``use_ema`` of the recipe decide where they are set. A teacher is taken before its student, and
    an encoder before its momentum encoder. Raises UserError when both weights and their moving average fit and
    ``use_ema`` does not say which, when ``key_prefix`` begins no name, and when several others fit.

    Args:
        checkpoint: The tensors of the file.
        recipe: The model's recipe, named in errors.
        own: Keys of the module.
        rename: Takes weights under the authors' key names and returns them under the module's.
    """
    if recipe.key_prefix is not None:
        below = checkpoint.below(recipe.key_prefix)
        if not below:
            first = next(iter(checkpoint.tensors))
            raise UserError(f"no key in {checkpoint.path} begins with {recipe.key_prefix!r}; the first is {first!r}")
        return _chosen(checkpoint, recipe.key_prefix, rename(below))
    fitting = _fitting(checkpoint, set(own), rename)
    if not fitting:
        if recipe.use_ema:
            raise _no_average(checkpoint.path)
        return _chosen(checkpoint, *_unwrapped(checkpoint, rename))
    fitting = _averaged_or_not(checkpoint.path, recipe, fitting)
    for other, wanted in _NOT_THE_ONE.items():
        if any(wanted in prefix.split(".") for prefix in fitting):
            fitting = {prefix: found for prefix, found in fitting.items() if other not in prefix.split(".")}
    if len(fitting) > 1:
        listed = " and ".join(repr(prefix) for prefix in sorted(fitting)[:3])
        raise UserError(
            f"{checkpoint.path} holds weights of {recipe.name} under {listed}: set key_prefix to one of them in "
            "[[models]]"
        )
    [(prefix, weights)] = fitting.items()
    return _chosen(checkpoint, prefix, weights)


def _chosen(checkpoint: Checkpoint, prefix: str, weights: Weights) -> ChosenWeights:
    origin = {"file": checkpoint.path.name, "sha256": checkpoint.sha256, "read": prefix or "all keys"}
    return ChosenWeights(weights, origin)


def _fitting(checkpoint: Checkpoint, own: set[str], rename: Callable[[Weights], Weights]) -> dict[str, Weights]:
    """Return the weights below the prefixes that leave most of the module's own keys, and at least half of them.

    Of prefixes that lead to the same tensors the longest is taken.
    """
    counts: dict[str, int] = {}
    for name in checkpoint.tensors:
        parts = name.split(".")
        for length in range(min(len(parts), 12)):
            prefix = "".join(f"{part}." for part in parts[:length])
            counts[prefix] = counts.get(prefix, 0) + 1
    refused: UserError | None = None
    matched: dict[str, tuple[int, Weights]] = {}
    for prefix, count in counts.items():
        if 2 * count >= len(own):
            try:
                renamed = rename(checkpoint.below(prefix))
            except UserError as error:
                refused = refused or error
                continue
            matched[prefix] = (len(own & renamed.keys()), renamed)
    most = max((n_matched for n_matched, _ in matched.values()), default=0)
    if 2 * most < len(own):
        if refused is not None:
            raise refused
        return {}
    by_tensors: dict[tuple[int, ...], str] = {}
    for prefix in sorted((prefix for prefix, (n_matched, _) in matched.items() if n_matched == most), key=len):
        weights = matched[prefix][1]
        by_tensors[tuple(weights[key].data_ptr() for key in sorted(own & weights.keys()))] = prefix
    return {prefix: matched[prefix][1] for prefix in by_tensors.values()}


def _averaged_or_not(path: Path, recipe: ModelRecipe, fitting: dict[str, Weights]) -> dict[str, Weights]:
    """Return the moving averages or the others, as the recipe says."""
    averaged = {prefix for prefix in fitting if "ema" in re.split(r"[._]", prefix)}
    if recipe.use_ema and not averaged:
        raise _no_average(path)
    if recipe.use_ema is False and len(averaged) == len(fitting):
        raise UserError(f"{path} holds moving averages of the weights alone: remove use_ema from [[models]]")
    if recipe.use_ema is None and 0 < len(averaged) < len(fitting):
        average, plain = min(averaged), min(fitting.keys() - averaged)
        raise UserError(
            f"{path} holds the weights ({plain!r}) and their moving average ({average!r}): set use_ema = true or false "
            "in [[models]]"
        )
    wanted = averaged if recipe.use_ema or len(averaged) == len(fitting) else fitting.keys() - averaged
    return {prefix: weights for prefix, weights in fitting.items() if prefix in wanted}


def _no_average(path: Path) -> UserError:
    return UserError(f"{path} holds no moving average (ema) of the weights: remove use_ema from [[models]]")


def _unwrapped(checkpoint: Checkpoint, rename: Callable[[Weights], Weights]) -> tuple[str, Weights]:
    """Return the weights below the known wrappers, where no prefix leaves the module's own keys."""
    read, inner = "", checkpoint.tensors
    while wrapper := next((key for key in _WRAPPERS if any(name.startswith(f"{key}.") for name in inner)), None):
        read += f"{wrapper}."
        inner = checkpoint.below(read)
    renamed = rename(inner)
    for prefix in _PREFIXES if rename is dict else ():
        below = {key[len(prefix) :]: value for key, value in renamed.items() if key.startswith(prefix)}
        read, renamed = (read + prefix, below) if below else (read, renamed)
    return read, renamed
