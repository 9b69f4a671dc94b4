"""Some rows computed again with today's libraries and device, to be compared with what is stored."""

import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from pipeline.extraction.compute import Compute, reconcile_with_recorded
from pipeline.extraction.extract import recompute
from pipeline.extraction.job import SAMPLE_STATS, Job
from pipeline.extraction.loading import Batch
from pipeline.extraction.repair import batch_span
from stores.errors import MissingError
from stores.format.layout import RowRange
from stores.specs import ArraySpec


@dataclass(frozen=True)
class Again:
    """Drawn rows of every sealed array, computed again."""

    rows: Int64[np.ndarray, " row"]
    """In increasing order."""
    arrays: dict[str, np.ndarray]
    """By address, in the order of ``rows``."""
    notes: list[str]


def draw_rows(set_digest: str, n_rows: int, samples: int, seed: int) -> Int64[np.ndarray, " row"]:
    """Return ``samples`` different rows in increasing order (all of them when there are fewer), drawn from ``seed``."""
    key = int.from_bytes(hashlib.sha256(f"fidelity {set_digest} {seed}".encode()).digest()[:16], "big")
    rng = np.random.Generator(np.random.PCG64(key))
    return np.sort(rng.permutation(n_rows)[:samples]).astype(np.int64)


def compute_again(job: Job, compute: Compute, samples: int, seed: int, workers: int = 2) -> Again:
    """Compute drawn rows in the batches they were first computed in: equal libraries give equal bytes.

    Every drawn row costs its whole batch; invalid rows are not drawn. Any device is accepted, because its difference
    is what is asked for. Raises MissingError when nothing of the job is sealed.
    """
    stored = job.existing
    of_model = [array for array in job.arrays if array.group != SAMPLE_STATS]
    arrays = () if stored is None else tuple(array for array in of_model if stored.sealed(array.name))
    if stored is None or not arrays:
        raise MissingError(f"nothing of {job.title} is sealed yet: run `patchbank extract` first")
    settled, notes = reconcile_with_recorded(compute, stored.compute, allow_mixed=True)
    if stored.compute.get("device") != settled.device.partition(":")[0]:
        notes.append(f"the set was made on {stored.compute.get('device')} and is compared on {settled.device}")
    valid = np.flatnonzero(job.samples.table["valid"].to_numpy(dtype=bool))
    rows = valid[draw_rows(stored.digest, len(valid), samples, seed)]
    wanted: dict[RowRange, tuple[ArraySpec, ...]] = {
        batch_span(job.layout, int(row), int(row) + 1, settled.batch_size): arrays for row in rows
    }
    found: dict[str, list[np.ndarray]] = {array.name: [] for array in arrays}

    def take(batch: Batch, values: dict[str, np.ndarray]) -> None:
        inside = rows[(rows >= batch.start) & (rows < batch.start + len(batch))] - batch.start
        for name, block in values.items():
            found[name].append(block[inside])

    recompute(job, wanted, settled, workers, take)
    return Again(rows, {name: np.concatenate(parts) for name, parts in found.items()}, notes)
