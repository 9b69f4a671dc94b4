"""Norm outliers: tokens whose length is far above the others'.

A token is an outlier where its Euclidean norm is above ``median + k * MAD``, with ``MAD`` the median absolute deviation
from the median, not scaled. Darcet et al. ("Vision Transformers Need Registers", arXiv 2309.16588) cut at norm 150 for
DINOv2 ViT-g, a number of one model and one place in it; this rule goes with the model and the layer. Of normally
distributed norms 0.04 % are above ``k = 5`` (3.4 standard deviations).

Sarle's bimodality coefficient is ``(g^2 + 1) / (h + 3 (n - 1)^2 / ((n - 2) (n - 3)))`` with the sample skewness ``g``
and excess kurtosis ``h`` (SAS Institute, SAS/STAT User's Guide, CLUSTER procedure; Pfister et al., Frontiers in
Psychology 2013): 1/3 for a normal distribution, 5/9 for a uniform one, above it two modes are likely. A long tail
raises it too.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

UNIFORM_BIMODALITY = 5.0 / 9.0
"""Sarle's coefficient of a uniform distribution."""


@dataclass(frozen=True)
class NormThreshold:
    """Where norms begin to count as outliers."""

    median: float
    deviation: float
    """Median absolute deviation from the median."""
    k: float

    @classmethod
    def of(cls, norms: Float[np.ndarray, "*any"], k: float) -> "NormThreshold":
        """Return the threshold of some norms."""
        median = float(np.median(norms))
        return cls(median, float(np.median(np.abs(norms - np.float32(median)))), k)

    @property
    def value(self) -> float:
        """The largest norm that is no outlier."""
        return self.median + self.k * self.deviation

    def outliers(self, norms: Float[np.ndarray, "*any"]) -> Bool[np.ndarray, "*any"]:
        """Return which norms are outliers."""
        return norms > self.value


def bimodality(values: Float[np.ndarray, "*any"]) -> float:
    """Return Sarle's bimodality coefficient; nan below four values and where they are all equal."""
    n = values.size
    if n < 4:
        return float("nan")
    centred = values.reshape(-1).astype(np.float64)
    centred -= centred.mean()
    squares = centred * centred
    second = float(squares.mean())
    if second <= 0.0:
        return float("nan")
    third, fourth = float((squares @ centred) / n), float((squares @ squares) / n)
    skewness = third / second**1.5 * np.sqrt(n * (n - 1.0)) / (n - 2.0)
    excess = (n - 1.0) / ((n - 2.0) * (n - 3.0)) * ((n + 1.0) * (fourth / second**2 - 3.0) + 6.0)
    return float((skewness**2 + 1.0) / (excess + 3.0 * (n - 1.0) ** 2 / ((n - 2.0) * (n - 3.0))))
