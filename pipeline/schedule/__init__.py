"""One extraction over many processes: Dask hands out numbers of ranges, and the store is all that they share."""
