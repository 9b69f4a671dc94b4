"""Ridge regression with its penalty chosen on held-out images, and the coefficient of determination."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from stores.errors import UserError

PENALTIES = np.logspace(-3, 5, 17)
"""Grid of penalties, increasing."""
_ONE_THREAD = 1 << 20
"""Values of the training rows up to which a fit gets one BLAS thread: it takes milliseconds, and on cores that also do
other work the threads of one matrix product wait for each other far longer."""


def ridge(
    inputs: Float64[np.ndarray, "row channel"],
    targets: Float64[np.ndarray, "row class"],
    images: Int64[np.ndarray, " row"],
    queries: Float64[np.ndarray, "query channel"],
    analysis: str = "global-context",
) -> Float64[np.ndarray, "query class"]:
    """Return predictions of one ridge regression a class, its penalty chosen by cross-validation over images.

    Raises UserError below two training images, and where no fold of them holds two rows.

    Args:
        inputs: training rows; features are standardised with their statistics.
        targets: values to predict, one column a class.
        images: source image of each training row.
        queries: rows to predict.
        analysis: name of the analysis, for error messages.
    """
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GroupKFold
    from sklearn.preprocessing import StandardScaler

    n_images = len(np.unique(images))
    if n_images < 2:
        raise UserError(f"{analysis} chooses its penalty on held-out images: train on at least two")
    folds = list(GroupKFold(min(5, n_images)).split(inputs, groups=images))
    if all(len(held) < 2 for _, held in folds):
        raise UserError(
            f"{analysis} chooses its penalty by R² on held-out images, and no fold of {len(inputs)} training rows "
            "holds two: train on more images"
        )
    scaler = StandardScaler().fit(inputs)
    scaled, scaled_queries = scaler.transform(inputs), scaler.transform(queries)
    with threadpool_limits(limits=1 if inputs.size <= _ONE_THREAD else None, user_api="blas"):
        penalties = _penalties(scaled, targets, folds)
        columns = [
            Ridge(penalty).fit(scaled, target).predict(scaled_queries)
            for penalty, target in zip(penalties, targets.T, strict=True)
        ]
    return np.stack(columns, axis=1).astype(np.float64)


def _penalties(
    inputs: Float64[np.ndarray, "row channel"],
    targets: Float64[np.ndarray, "row class"],
    folds: Sequence[tuple[np.ndarray, np.ndarray]],
) -> Float64[np.ndarray, " class"]:
    """Return for each class the penalty of the highest mean R² over the held-out folds, the smallest of equals.

    The choice of scikit-learn's RidgeCV, but all classes share one fit a fold and penalty, and a fold of one row, which
    has no R², is left out.
    """
    from sklearn.linear_model import Ridge
    from sklearn.metrics import r2_score

    scores = np.zeros((len(PENALTIES), targets.shape[1]))
    for training, held in folds:
        if len(held) < 2:
            continue
        for index, penalty in enumerate(PENALTIES):
            predicted = Ridge(penalty).fit(inputs[training], targets[training]).predict(inputs[held])
            scores[index] += r2_score(targets[held], predicted, multioutput="raw_values")
    return PENALTIES[scores.argmax(axis=0)]


def r2(
    truth: Float64[np.ndarray, "row class"],
    predicted: Float64[np.ndarray, "row class"],
    weights: Float64[np.ndarray, " row"] | None = None,
) -> Float64[np.ndarray, " class"]:
    """Return the coefficient of determination, 1 - residual / total sum of squares; nan where nothing varies.

    The bits of scikit-learn's ``r2_score(multioutput="raw_values", force_finite=False)`` where something does. That
    function checks its arguments on every call: 1,000 weighted calls for 3 classes take it 8 times as long
    with 500 rows, 2.2 times with 5,000.
    """
    weight = np.ones(len(truth)) if weights is None else weights
    mean = (weight[:, None] * truth).sum(axis=0) / weight.sum()
    residual = (weight[:, None] * (truth - predicted) ** 2).sum(axis=0)
    total = (weight[:, None] * (truth - mean) ** 2).sum(axis=0)
    return np.where(total > 0, 1.0 - residual / np.where(total > 0, total, 1.0), np.nan)
