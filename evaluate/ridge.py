"""Ridge regression with its penalty chosen over held-out images, and the coefficient of determination."""

import numpy as np
from jaxtyping import Float64, Int64

from stores.errors import UserError

PENALTIES = np.logspace(-3, 5, 17)


def ridge(
    inputs: Float64[np.ndarray, "row channel"],
    targets: Float64[np.ndarray, "row class"],
    images: Int64[np.ndarray, " row"],
    queries: Float64[np.ndarray, "query channel"],
) -> Float64[np.ndarray, "query class"]:
    """Return predictions of one ridge regression a class, its penalty chosen by cross-validation over images.

    Raises UserError below two training images.
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    n_images = len(np.unique(images))
    if n_images < 2:
        raise UserError("global-context chooses its penalty on held-out images: train on at least two")
    folds = list(GroupKFold(min(5, n_images)).split(inputs, groups=images))
    columns = [
        make_pipeline(StandardScaler(), RidgeCV(PENALTIES, cv=folds)).fit(inputs, target).predict(queries)
        for target in targets.T
    ]
    return np.stack(columns, axis=1).astype(np.float64)


def r2(
    truth: Float64[np.ndarray, "row class"],
    predicted: Float64[np.ndarray, "row class"],
    weights: Float64[np.ndarray, " row"] | None = None,
) -> Float64[np.ndarray, " class"]:
    """Return the coefficient of determination, 1 - residual / total sum of squares; nan where nothing varies."""
    weight = np.ones(len(truth)) if weights is None else weights
    mean = (weight[:, None] * truth).sum(axis=0) / weight.sum()
    residual = (weight[:, None] * (truth - predicted) ** 2).sum(axis=0)
    total = (weight[:, None] * (truth - mean) ** 2).sum(axis=0)
    return np.where(total > 0, 1.0 - residual / np.where(total > 0, total, 1.0), np.nan)
