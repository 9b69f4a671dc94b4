"""Checks a batch of arrays for NaN and infinite values."""

from collections.abc import Mapping

import numpy as np

from pipeline.rows.samples import Samples
from stores.errors import UserError


def check_finite(model: str, arrays: Mapping[str, np.ndarray], samples: Samples, start: int) -> None:
    """Raise UserError when a valid row has a NaN or infinite value.

    It names the first affected layer with its first sample and count, then the counts of the other layers.

    Args:
        model: Name of the model.
        arrays: Arrays by address, inner layers first; all hold the same rows.
        samples: The samples of the set.
        start: Number of the arrays' first row.
    """
    n_rows = len(next(iter(arrays.values())))
    valid = np.flatnonzero(~samples.invalid(start, start + n_rows))
    counts = {name: int((~np.isfinite(values[valid])).sum()) for name, values in arrays.items()}
    affected = {name: count for name, count in counts.items() if count}
    if not affected:
        return
    name, count = next(iter(affected.items()))
    values = arrays[name][valid]
    row = start + int(valid[(~np.isfinite(values)).reshape(len(values), -1).any(axis=1).argmax()])
    n_nan = int(np.isnan(values).sum())
    where = f"{model}, {name}, row {row} ({samples.table['sample'].iloc[row]})"
    others = ", ".join(f"{more} of {other}" for other, more in affected.items() if other != name)
    also = f" (in the same {len(valid)} samples {others})" if others else ""
    if n_nan == 0 and values.dtype == np.float16:
        raise UserError(
            f"{count} values of {where} exceed the largest float16 value, 65504{also}: "
            'set store_dtype = "float32" in [features]'
        )
    raise UserError(
        f"{count} values of {where} are NaN or infinite ({n_nan} NaN){also}: check the weights, or compute in float32"
    )
