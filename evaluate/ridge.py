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
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GroupKFold
    from sklearn.preprocessing import StandardScaler

    n_images = len(np.unique(images))
    if n_images < 2:
        raise UserError("global-context chooses its penalty on held-out images: train on at least two")
    folds = list(GroupKFold(min(5, n_images)).split(inputs, groups=images))
    scaler = StandardScaler().fit(inputs)
    scaled, asked = scaler.transform(inputs), scaler.transform(queries)
    penalties = _penalties(scaled, targets, folds)
    columns = [
        Ridge(penalty).fit(scaled, target).predict(asked) for penalty, target in zip(penalties, targets.T, strict=True)
    ]
    return np.stack(columns, axis=1).astype(np.float64)


def _penalties(
    inputs: Float64[np.ndarray, "row channel"],
    targets: Float64[np.ndarray, "row class"],
    folds: list[tuple[np.ndarray, np.ndarray]],
) -> Float64[np.ndarray, " class"]:
    """Return every class's penalty whose R² on the held-out folds is the highest on average, the first of equals.

    What scikit-learn's RidgeCV chooses, the first too where a fold has no R²; but products and factors are made once
    a fold, not once a class and penalty.
    """
    from scipy.linalg import cho_factor, cho_solve

    scores = np.zeros((len(PENALTIES), targets.shape[1]))
    by_class = np.ascontiguousarray(targets.T)
    for training, held in folds:
        known = inputs[training]
        centre = known.mean(axis=0)
        known -= centre
        means = by_class[:, training].mean(axis=1, keepdims=True)
        centred = (by_class[:, training] - means).T
        is_wide = len(known) < known.shape[1]  # the smaller of the two equivalent systems is solved
        product = known @ known.T if is_wide else known.T @ known
        right = centred if is_wide else known.T @ centred
        asked = inputs[held] - centre
        if is_wide:
            asked = asked @ known.T
        truth = by_class[:, held]
        for place, penalty in enumerate(PENALTIES):
            system = product.copy()
            system.flat[:: len(system) + 1] += penalty
            solved = cho_solve(cho_factor(system, overwrite_a=True, check_finite=False), right, check_finite=False)
            predicted = (asked @ solved).T + means
            scores[place] += _fold_r2(truth, predicted)
    return PENALTIES[scores.argmax(axis=0)]


def _fold_r2(
    truth: Float64[np.ndarray, "class row"], predicted: Float64[np.ndarray, "class row"]
) -> Float64[np.ndarray, " class"]:
    """Return R² of every class as scikit-learn does: nan of one row; where nothing varies 1 if predicted, else 0."""
    if truth.shape[1] < 2:
        return np.full(len(truth), np.nan)
    residual = ((truth - predicted) ** 2).sum(axis=1)
    total = ((truth - truth.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    return np.where(total > 0, 1.0 - residual / np.where(total > 0, total, 1.0), residual == 0)


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
