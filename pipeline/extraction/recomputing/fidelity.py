"""Recomputes some rows with today's libraries and device, for comparison with the stored ones."""

import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from pipeline.captures.contract import rows_together
from pipeline.extraction.compute import Compute, reconcile_with_recorded
from pipeline.extraction.computing import recompute
from pipeline.extraction.job import SAMPLE_STATS, Job
from pipeline.extraction.loading import Batch, default_workers
from pipeline.extraction.recomputing.repair import batch_span
from stores.errors import MissingError
from stores.format.layout import RowRange
from stores.specs import ArraySpec


@dataclass(frozen=True)
class Recomputed:
    """Some rows of every sealed array, recomputed."""

    rows: Int64[np.ndarray, " row"]
    """In increasing order."""
    arrays: dict[str, np.ndarray]
    """By address, in the order of ``rows``."""
    notes: list[str]


def draw_rows(set_digest: str, n_rows: int, samples: int, seed: int) -> Int64[np.ndarray, " row"]:
    """Return randomly chosen rows in increasing order, without repetition.

    Args:
        set_digest: Digest of the set; other sets give other rows.
        n_rows: Rows to choose from.
        samples: Number of rows; all when there are fewer.
        seed: Seed of the choice.
    """
    key = int.from_bytes(hashlib.sha256(f"fidelity {set_digest} {seed}".encode()).digest()[:16], "big")
    rng = np.random.Generator(np.random.PCG64(key))
    return np.sort(rng.permutation(n_rows)[:samples]).astype(np.int64)


def recompute_rows(job: Job, compute: Compute, samples: int, seed: int, workers: int | None = None) -> Recomputed:
    """Recompute randomly chosen rows in their original batches, so that equal libraries give equal bytes.

    Every row costs its whole batch; invalid rows are not chosen. Any device is accepted, because its difference is to
    be measured. Raises MissingError when nothing of the job is sealed.

    Args:
        job: The feature set.
        compute: Device; batch size and threads are those the set was made with.
        samples: Number of rows.
        seed: Seed of the choice of rows.
        workers: Threads that decode images; None takes `default_workers`.
    """
    stored = job.existing
    of_model = [array for array in job.arrays if array.group != SAMPLE_STATS]
    arrays = () if stored is None else tuple(array for array in of_model if stored.sealed(array.name))
    if stored is None or not arrays:
        raise MissingError(f"nothing of {job.title} is sealed yet: run `patchbank extract` first")
    compute, notes = reconcile_with_recorded(compute, stored.compute, allow_mixed=True)
    if stored.compute.get("device") != compute.device.partition(":")[0]:
        notes.append(f"the set was made on {stored.compute.get('device')} and is compared on {compute.device}")
    valid = np.flatnonzero(job.samples.table["valid"].to_numpy(dtype=bool))
    rows = valid[draw_rows(stored.digest, len(valid), samples, seed)]
    together = max(map(rows_together, arrays))
    wanted: dict[RowRange, tuple[ArraySpec, ...]] = {
        batch_span(job.layout, int(row), int(row) + 1, compute.batch_size, together): arrays for row in rows
    }
    parts: dict[str, list[np.ndarray]] = {array.name: [] for array in arrays}

    def take(batch: Batch, values: dict[str, np.ndarray]) -> None:
        inside = rows[(rows >= batch.start) & (rows < batch.start + len(batch))] - batch.start
        for name, block in values.items():
            parts[name].append(block[inside])

    recompute(job, wanted, compute, workers or default_workers(), take)
    return Recomputed(rows, {name: np.concatenate(blocks) for name, blocks in parts.items()}, notes)
