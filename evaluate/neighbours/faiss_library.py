"""Search by FAISS's flat index, and loading of FAISS, which ends the process in some builds."""

import importlib
import subprocess
import sys
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Float32

from evaluate.neighbours.operands import Groups, Rows, groups_bytes
from evaluate.neighbours.shortlist import Level, merge
from stores.errors import UserError


@cache
def load_faiss() -> Any:
    """Import FAISS, which the exact search does not need; raises UserError where it does not load."""
    # A broken build may end the process that imports it, so a subprocess tries first.
    done = subprocess.run([sys.executable, "-c", "import faiss"], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        try:
            return importlib.import_module("faiss")
        except ImportError as error:
            reason = str(error)
    else:
        reason = (done.stderr.strip().splitlines() or [f"importing it ends the process with {done.returncode}"])[-1]
    raise UserError(
        f'faiss does not load ({reason}): leave out `search = "faiss"`, the exact search needs none, or install '
        "faiss-cpu>=1.9 or faiss-gpu>=1.15"
    )


def query_bytes(n_queries: int, n_channels: int, k: int) -> int:
    """Return the bytes of float32 queries, made from float64, and of k answers each with their temporaries."""
    channel = 8 + 4  # float64 and float32
    answer = 8 * 8  # distance, index, mask, the pair that they make, and copies of it that are sorted
    return n_queries * (channel * n_channels + answer * k)


def search_flat(
    bank: Rows, queries: Rows, k: int, groups: Groups | None, memory_bytes: int, device: str | None = None
) -> Level:
    """Return the k nearest bank rows of each query by ``faiss.knn`` over slabs of the bank that fit the memory.

    Args:
        bank: rows to search among.
        queries: rows whose neighbours are searched.
        k: neighbours of each query.
        groups: with groups given, rows of a query's own group are left out.
        memory_bytes: bytes it may use beside inputs and result; UserError says how many it needs at least.
        device: a CUDA device, where faiss-gpu searches if it is that FAISS that loads; else the processor does.
    """
    (n_bank, width), n_queries = bank.array.shape, queries.array.shape[0]
    wanted = k
    if groups is not None and n_queries:
        # FAISS cannot leave rows out in its fast path: ask for so many that enough remain.
        wanted += int(np.bincount(groups.bank, minlength=int(groups.queries.max()) + 1)[groups.queries].max())
    fixed = query_bytes(n_queries, width, wanted) + (0 if groups is None else groups_bytes(n_bank, n_queries))
    slab = min(n_bank, (memory_bytes - fixed) // (width * 12))
    if slab < min(wanted, n_bank):
        needed = fixed + min(wanted, n_bank) * width * 12
        raise UserError(
            f"FAISS needs at least {needed:,} bytes beside its inputs and may use {memory_bytes:,}; raise memory_bytes"
        )
    faiss = load_faiss()
    knn = faiss.knn if device is None else _on_gpu(faiss, device)
    converted = _float32(queries, slice(None))
    best = Level(np.full((n_queries, k), -1), np.full((n_queries, k), np.inf), np.zeros(n_queries, bool))
    for begin in range(0, n_bank, slab):
        stored = _float32(bank, slice(begin, begin + slab))
        distances, indices = knn(converted, stored, min(wanted, len(stored)))
        allowed = np.ones(indices.shape, bool)
        if groups is not None:
            allowed = groups.bank[indices + begin] != groups.queries[:, None]
        query, rank = np.nonzero(allowed)
        pairs = indices[query, rank] + begin, distances[query, rank].astype(np.float64)
        merge(best, 0, n_queries, query, *pairs)
    return best


def _on_gpu(faiss: Any, device: str) -> Any:
    """Return FAISS's search on a GPU, or its search on the processor where this FAISS has none."""
    if not device.startswith("cuda") or not hasattr(faiss, "knn_gpu") or not faiss.get_num_gpus():
        return faiss.knn
    number = int(device.partition(":")[2] or 0)
    resources = faiss.StandardGpuResources()
    return lambda queries, bank, k: faiss.knn_gpu(resources, queries, bank, k, device=number)


def _float32(rows: Rows, chosen: slice) -> Float32[np.ndarray, "row channel"]:
    if rows.unit:
        return rows.float64(chosen).astype(np.float32)
    return np.ascontiguousarray(rows.array[chosen], np.float32)
