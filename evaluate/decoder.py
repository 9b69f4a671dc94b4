"""The contract of a decoder, which the reconstruction analysis needs and the pipeline implements."""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, Integer, UInt8


@runtime_checkable
class PatchDecoder(Protocol):
    """Turns encoder tokens back into pixels; never a backbone. Patches are row-major, values (row, column, channel)."""

    @property
    def digest(self) -> str:
        """Names weights, targets and code; it is one of the inputs in the key of every result that used the decoder."""
        ...

    @property
    def encoder(self) -> str:
        """Weights digest of the encoder it was trained with: the ``weights`` of the feature set's model record."""
        ...

    @property
    def layer(self) -> int:
        """The encoder's last block, counted from 0: whose normed tokens it takes."""
        ...

    def __call__(
        self, tokens: Float[np.ndarray, "sample token channel"], ids: Integer[np.ndarray, "sample visible"] | None
    ) -> Float32[np.ndarray, "sample patch value"]:
        """Return the predicted values of every patch.

        ``tokens`` are normed last tokens, class token first. Without ``ids`` the others are all patches in grid order;
        with ``ids`` token ``1 + i`` is patch ``ids[i]`` and every other patch was masked.
        """
        ...

    def targets(self, pixels: UInt8[np.ndarray, "sample height width 3"]) -> Float32[np.ndarray, "sample patch value"]:
        """Return what a perfect prediction of these inputs would be."""
        ...

    def images(
        self, patches: Float32[np.ndarray, "sample patch value"], pixels: UInt8[np.ndarray, "sample height width 3"]
    ) -> Float32[np.ndarray, "sample height width 3"]:
        """Return predictions as RGB in the scale of 0..1, not clipped.

        ``pixels`` are the true inputs; they are read only where targets were normalised patch by patch.
        """
        ...


@runtime_checkable
class BlockDecoder(PatchDecoder, Protocol):
    """A decoder whose tokens can be read block by block, which the frequency analysis needs."""

    def block_tokens(
        self, tokens: Float[np.ndarray, "sample token channel"]
    ) -> Iterator[Float32[np.ndarray, "sample patch channel"]]:
        """Yield the patches' tokens that enter the first block, then those that every block leaves.

        ``tokens`` are as in a call without ids: class token first, nothing masked.
        """
        ...
