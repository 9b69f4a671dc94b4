"""How many directions tokens use: RankMe, alpha-ReQ, participation ratio and stable rank, from second moments.

With ``lam`` the eigenvalues of the second moment (centred: of the covariance) and ``s = sqrt(lam)``:

* RankMe ``exp(-sum p log p)``, ``p = s / sum s + 1e-7`` (Garrido et al., ICML 2023, arXiv 2210.02885, equation 1, which
  does not centre);
* alpha-ReQ: ``alpha`` of ``lam_j ~ j^-alpha``, by least squares of ``log lam`` on ``log j`` over a range of ranks
  (Agrawal et al., NeurIPS 2022). The range decides which of two models has the larger one;
* participation ratio ``(sum lam)^2 / sum lam^2``, and one of unbiased numerator and denominator (Chun et al., arXiv
  2509.26560, correct both for finite samples). Without centring these are sums over pairs of different tokens; with it
  the unbiased estimates of ``(tr S)^2`` and ``tr S^2`` of Himeno and Yamada (J. Multivariate Analysis 2014). They take
  tokens as independent, which those of one image are not;
* stable rank ``sum lam / max lam``.

Centring can reverse an order of models in all of them, so both are given.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

EPSILON = 1e-7
"""Added to the shares of singular values (2210.02885)."""


def entropy_rank(values: Float64[np.ndarray, " rank"]) -> float:
    """Return ``exp(-sum p log p)`` of ``p = values / sum + 1e-7``; nan where the sum is not above 0."""
    total = float(values.sum())
    if not total > 0.0:
        return float("nan")
    shares = values / total + EPSILON
    return float(np.exp(-(shares * np.log(shares)).sum()))


def decay_exponent(eigenvalues: Float64[np.ndarray, " rank"], first: int, last: int) -> float:
    """Return ``alpha`` of ``lam_j ~ j^-alpha`` over ranks ``first`` to ``last``; nan below three positive eigenvalues
    there.

    Args:
        eigenvalues: decreasing.
        first: first rank that is fitted, counted from 1.
        last: last rank that is fitted; the last eigenvalue where there are fewer.
    """
    some = eigenvalues[first - 1 : last]
    positive = some > 0.0
    if np.count_nonzero(positive) < 3:
        return float("nan")
    ranks = np.log(np.arange(first, first + len(some), dtype=np.float64)[positive])
    logs, ranks = np.log(some[positive]), ranks - ranks.mean()
    return -float(ranks @ logs / (ranks @ ranks))


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Second moment of some tokens, and sums of fourth powers of their lengths."""

    count: int
    eigenvalues: Float64[np.ndarray, " rank"]
    """Of the second moment divided by the count, decreasing; those that are rounding alone are 0."""
    fourth: float
    """Sum of the fourth powers of the tokens' lengths, from the mean where it is centred."""
    centred: bool

    @property
    def rankme(self) -> float:
        """RankMe."""
        return entropy_rank(np.sqrt(self.eigenvalues))

    @property
    def stable_rank(self) -> float:
        """Sum of the eigenvalues over the largest."""
        return _ratio(float(self.eigenvalues.sum()), float(self.eigenvalues[0]))

    @property
    def participation(self) -> float:
        """Participation ratio, as it is."""
        return _ratio(float(self.eigenvalues.sum()) ** 2, float((self.eigenvalues**2).sum()))

    @property
    def corrected_participation(self) -> float:
        """Ratio of unbiased estimates of numerator and denominator; nan below four tokens."""
        n = float(self.count)
        if self.count < 4:
            return float("nan")
        trace, squares = float(self.eigenvalues.sum()) * n, float((self.eigenvalues**2).sum()) * n * n
        if not self.centred:
            return _ratio(trace**2 - self.fourth, squares - self.fourth)
        # tr and tr of the square of the unbiased covariance, and q of Himeno and Yamada (2014), section 2.
        trace, squares, q = trace / (n - 1.0), squares / (n - 1.0) ** 2, self.fourth / (n - 1.0)
        top = 2.0 * squares + (n * n - 3.0 * n + 1.0) * trace**2 - n * q
        bottom = (n - 1.0) * (n - 2.0) * squares + trace**2 - n * q
        return _ratio(top, bottom)


def _ratio(top: float, bottom: float) -> float:
    return top / bottom if bottom > 0.0 else float("nan")


def spectra(
    count: int,
    total: Float64[np.ndarray, " channel"],
    second: Float64[np.ndarray, "channel channel"],
    fourth: float,
    cubic: Float64[np.ndarray, " channel"],
) -> Iterator[Spectrum]:
    """Yield the centred spectrum of some tokens and the one about the origin.

    Args:
        count: number of tokens ``x``.
        total: ``sum x``.
        second: ``sum x x^T``.
        fourth: ``sum |x|^4``.
        cubic: ``sum |x|^2 x``.
    """
    mean = total / count
    squares, length = float(np.trace(second)), float(mean @ mean)
    # |x - m|^4 = (|x|^2 - 2 x m + |m|^2)^2, summed.
    centred = fourth + 4.0 * float(mean @ second @ mean) + count * length**2 - 4.0 * float(mean @ cubic)
    centred += 2.0 * length * squares - 4.0 * length * float(mean @ total)
    for matrix, power, is_centred in (
        (second / count - np.outer(mean, mean), centred, True),
        (second / count, fourth, False),
    ):
        values = np.linalg.eigvalsh(matrix)[::-1]
        # Fewer tokens than channels span no more directions; centring cancels digits of the moment about the origin.
        rank = min(len(values), count - is_centred)
        rounding = np.finfo(np.float64).eps * len(values) * squares / count
        values = np.where((np.arange(len(values)) < rank) & (values > rounding), values, 0.0)
        yield Spectrum(count, values, power, is_centred)
