"""NaN and infinite values of a batch: counted by layer, and refused with layer and sample named."""

from collections.abc import Mapping

import numpy as np

from pipeline.rows.samples import Samples
from stores.errors import UserError


def refuse_not_finite(model: str, arrays: Mapping[str, np.ndarray], samples: Samples, start: int) -> None:
    """Raise UserError where a valid row is not finite; the arrays hold the rows from ``start`` on, inner layers first.

    It names the first layer with its first sample and number of values, then the numbers of the other layers.
    """
    n_rows = len(next(iter(arrays.values())))
    valid = np.flatnonzero(~samples.invalid(start, start + n_rows))
    counts = {name: int((~np.isfinite(values[valid])).sum()) for name, values in arrays.items()}
    found = {name: count for name, count in counts.items() if count}
    if not found:
        return
    name, count = next(iter(found.items()))
    values = arrays[name][valid]
    row = start + int(valid[(~np.isfinite(values)).reshape(len(values), -1).any(axis=1).argmax()])
    n_nan = int(np.isnan(values).sum())
    where = f"{model}, {name}, row {row} ({samples.table['sample'].iloc[row]})"
    others = ", ".join(f"{more} of {other}" for other, more in found.items() if other != name)
    also = f" (in the same {len(valid)} samples {others})" if others else ""
    if n_nan == 0 and values.dtype == np.float16:
        raise UserError(
            f"{count} values of {where} are beyond float16's largest number, 65504{also}: "
            'set store_dtype = "float32" in [features]'
        )
    raise UserError(
        f"{count} values of {where} are NaN or infinite ({n_nan} NaN){also}: check the weights, or compute in float32"
    )
