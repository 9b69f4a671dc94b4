"""Pictures of patch tokens: three principal components as red, green and blue, norms, and cosines with one patch.

Principal components as colours are those of DINOv2 (Oquab et al., 2304.07193, figure 1): the components of all shown
images' tokens together, so that a colour means the same in every image. Two rules that published pictures leave open
are fixed here. *Sign*: the loading of largest magnitude of each direction is positive. *Foreground*, where it is asked
for: tokens on that side of the first component's zero to which fewer tokens of the images' borders belong; components
are then computed again from the foreground of all images, and the background is black.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, UInt8

from evaluate.kernels.tokens.projections import leading_directions

N_COLOURS = 3
RANGE = (1.0, 99.0)
"""Percentiles of a component, over all shown tokens, that are black and full colour."""


class Axes(NamedTuple):
    """Leading principal components of tokens."""

    directions: Float64[np.ndarray, "channel component"]
    mean: Float64[np.ndarray, " channel"]
    share: float
    """Share of the tokens' variance that these components have; nan where tokens do not vary."""

    @classmethod
    def of(cls, tokens: Float[np.ndarray, "token channel"]) -> "Axes":
        """Return the components of some tokens (`evaluate.kernels.tokens.projections.leading_directions`)."""
        return cls(*leading_directions(tokens, N_COLOURS))

    def project(self, tokens: Float[np.ndarray, "*shape channel"]) -> Float64[np.ndarray, "*shape component"]:
        """Return the components of tokens."""
        placed: np.ndarray = (tokens.astype(np.float64) - self.mean) @ self.directions
        return placed


def foreground(
    first: Float64[np.ndarray, "image rows columns"],
) -> Bool[np.ndarray, "image rows columns"]:
    """Return which patches are foreground: the side of zero with the smaller share of its tokens on borders."""
    border = np.ones(first.shape, dtype=bool)
    border[:, 1:-1, 1:-1] = False
    positive = first > 0
    shares = [border[side].mean() if side.any() else 1.0 for side in (positive, ~positive)]
    return positive if shares[0] <= shares[1] else ~positive


def limits(components: Float64[np.ndarray, "token 3"]) -> Float64[np.ndarray, "2 3"]:
    """Return the values of each component that are black and full colour; those of no token are 0 and 1."""
    if not len(components):
        return np.array([[0.0] * N_COLOURS, [1.0] * N_COLOURS])
    found: np.ndarray = np.percentile(components, RANGE, axis=0)
    return found


def colours(
    components: Float64[np.ndarray, "*shape 3"],
    shown: Bool[np.ndarray, "*shape"],
    ends: Float64[np.ndarray, "2 3"],
) -> UInt8[np.ndarray, "*shape 3"]:
    """Return components as colours.

    Args:
        components: Components of the tokens of all images.
        shown: Tokens that are coloured; the others are black.
        ends: Values that are black and full colour, from `limits`.
    """
    low, high = ends
    scaled = np.clip((components - low) / np.where(high > low, high - low, 1.0), 0.0, 1.0)
    painted: np.ndarray = np.rint(255.0 * scaled).astype(np.uint8)
    painted[~shown] = 0
    return painted


def norms(tokens: Float[np.ndarray, "*shape channel"]) -> Float64[np.ndarray, "*shape"]:
    """Return the Euclidean norm of every token."""
    found: np.ndarray = np.sqrt(np.square(tokens.astype(np.float64)).sum(axis=-1))
    return found


def cosines(
    tokens: Float[np.ndarray, "image patch channel"], places: Int64[np.ndarray, " query"]
) -> Float64[np.ndarray, "image query patch"]:
    """Return the cosine of every token with the token at each place of its image; 0 where a norm is 0."""
    values = tokens.astype(np.float64)
    lengths = norms(values)[..., None]
    unit = np.divide(values, lengths, out=np.zeros_like(values), where=lengths > 0)
    found: np.ndarray = unit[:, places] @ unit.transpose(0, 2, 1)
    return found
