"""LiDAR: effective rank of the linear discriminant matrix of images under views (Thilak et al., ICLR 2024, 2312.04000).

Every image is a class and its vectors under all views are its members. With ``S_b`` the covariance of the images' means
and ``S_w`` that of the members about their image's mean plus ``delta I``, LiDAR is ``exp(-sum p log p)`` of the
eigenvalues of ``S_w^-1/2 S_b S_w^-1/2``, ``p = lam / sum lam + 1e-7``. It says how many directions tell images apart
that views leave alone. At most one less than the images and no more than the channels; the number of views and their
strengths change it.
"""

import numpy as np
from jaxtyping import Float64

from evaluate.kernels.geometry.rank import entropy_rank

DELTA = 1e-4
"""Added to the variances within images (2312.04000, section 4)."""


def lidar(members: Float64[np.ndarray, "image view channel"], delta: float = DELTA) -> float:
    """Return LiDAR; nan where all images have one mean."""
    means = members.mean(axis=1)
    offsets = means - means.mean(axis=0)
    n_images, n_views, n_channels = members.shape
    within = np.zeros((n_channels, n_channels))
    for one, mean in zip(members, means, strict=True):
        apart = one - mean
        within += apart.T @ apart
    within = within / (n_images * n_views) + delta * np.eye(n_channels)
    values, vectors = np.linalg.eigh(within)
    whitened = (offsets @ vectors) / np.sqrt(values)
    # The non-zero eigenvalues are those of the smaller product.
    small = whitened @ whitened.T if n_images < n_channels else whitened.T @ whitened
    found = np.linalg.eigvalsh(small / n_images)
    return entropy_rank(np.concatenate([np.maximum(found, 0.0), np.zeros(n_channels - len(found))]))
