"""Arrays as dask arrays: dask schedules ranges, it never writes them."""

from typing import Any

import numpy as np

from stores.arrays import StoredArray
from stores.format.layout import Layout


def dask_of_ranges(array: StoredArray, layout: Layout, identity: str) -> Any:
    """Return a dask array over ``array`` whose chunks are its ranges, so that no stored chunk is read twice.

    ``identity`` names the values: equal ones give equal dask names, which is what lets dask share work.
    """
    import dask.array
    from dask.base import tokenize

    def rows_of(block_info: Any = None) -> np.ndarray:
        start, stop = block_info[None]["array-location"][0]
        return array[int(start) : int(stop)]

    ranges = tuple(row_range.stop - row_range.start for row_range in layout.ranges())
    return dask.array.map_blocks(
        rows_of,
        name=f"{array.spec.name.replace('/', '-')}-{tokenize(identity)}",
        chunks=(ranges, *((extent,) for extent in array.spec.row_shape)),
        dtype=array.dtype,
        meta=np.empty((0,) * (1 + len(array.spec.row_shape)), array.dtype),
    )
