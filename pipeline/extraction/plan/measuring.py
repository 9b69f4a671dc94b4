"""Measures what each stage of an extraction takes for a row, on this machine, in about two seconds a model.

Every stage runs alone, with as many threads as in an extraction, until its time is up. What no stage shows: the start
of Python and of the model, labels, and the folders and records of each range.

Rows a second that were forecast, and those of an extraction right after, of 204 or 408 rows of CamVid on two cores that
other programs took the most of: ViT-S/16, last layer, 5.8 and 4.7, 5.5 and 4.3; all layers and both norms, 3.7 and 4.3,
3.1 and 3.6; DINOv2 ViT-S/14, last layer, 3.1 and 2.8. Where other programs came or went in between it was up to three
times off: 6.2 and 13.9, 6.0 and 11.2, and with ViT-Ti/16 35 and 11.4. The model was the limit in all of them. Neither a
GPU nor an extraction that another stage limits was compared.
"""

import contextlib
import itertools
import os
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8

from pipeline.extraction.compute import Compute
from pipeline.extraction.computing import halved
from pipeline.extraction.job import SAMPLE_STATS, Job
from pipeline.extraction.loading import full_shape
from pipeline.extraction.model_pass.device import Fetched, open_device
from pipeline.extraction.model_pass.precision import converted
from pipeline.extraction.model_pass.running import ModelPass
from pipeline.extraction.plan.forecast import Cost, Forecast, Machine
from stores import Store
from stores.format.chunks import crc32c, encode_chunk
from stores.storage.base import PIECE_BYTES
from stores.storage.cores import available_cores
from stores.storage.local import LocalObjects

WRITE_THREADS = 4
"""Threads that hash and write, as `SetWriter` has; one thread reads back."""

DECODE_SECONDS, HASH_SECONDS, WRITE_SECONDS = 0.8, 0.25, 0.4
"""Time after which no thread takes another image, chunk or file."""

MOST_IMAGES = 1000
MOST_CHUNK_BYTES = 8 << 20
MOST_FILES, MOST_FILE_BYTES = 64, 32 << 20
"""Files that are written, and the bytes of all of them."""

MODEL_SECONDS = 1.5
"""Time after which a processor takes no other batch. A first batch that takes longer is the only one: what a first call
adds is small beside it."""

MOST_BATCHES = 6
"""Batches of a model, of which the first is not timed; a GPU copies beside the next one, as in an extraction."""


class _Work(NamedTuple):
    """Units of work that were done, with the seconds that passed and those of all cores."""

    units: int
    seconds: float
    cpu_seconds: float

    def cost(self, units: int) -> Cost:
        """Return what ``units`` take."""
        return Cost(self.seconds / self.units * units, self.cpu_seconds / self.units * units)


def measured(step: Callable[[int], int], threads: int, most: int, seconds: float) -> _Work:
    """Run ``step`` on 0, 1, 2, ... in threads until the time is up; each thread runs it at least once.

    Args:
        step: Does the work of a number and returns how many units that were.
        threads: Threads that run it.
        most: How many numbers there are.
        seconds: Time after which no thread takes another number.
    """
    numbers, lock = iter(range(most)), threading.Lock()
    before, before_cpu = time.perf_counter(), time.process_time()
    until = before + seconds

    def steps() -> int:
        units = 0
        while not units or time.perf_counter() < until:
            with lock:
                number = next(numbers, None)
            if number is None:
                break
            units += step(number)
        return units

    with ThreadPoolExecutor(threads) as pool:
        units = sum(future.result() for future in [pool.submit(steps) for _ in range(threads)])
    return _Work(units, time.perf_counter() - before, time.process_time() - before_cpu)


class Measurements:
    """Measures the stages of jobs, each once where several jobs share it.

    Args:
        store: The store that would be written to.
        compute: Device, batch size and threads.
        workers: Threads that decode images.
    """

    def __init__(self, store: Store, compute: Compute, workers: int) -> None:
        self.store, self.compute, self.workers = store, compute, workers
        self._decoding: dict[object, tuple[Cost, np.ndarray]] = {}
        self._models: dict[object, Cost] = {}
        self._chunks: dict[object, tuple[_Work, _Work | None, _Work]] = {}

    def forecast(self, job: Job) -> Forecast:
        """Measure what was not measured for another job, and return the forecast of this one.

        Raises UserError where one row does not fit the memory of the device, or the model cannot be compiled.
        """
        decode, pixels = self._decode(job)
        costs: dict[str, Cost | None] = {"decode": decode}
        arrays = tuple(array.name for array in job.arrays)
        key = job.spec.model.model_dump_json(), job.samples.frame.input, arrays
        if key not in self._models:
            self._models[key] = model_cost(job, pixels, self.compute)
        costs["model"] = self._models[key]
        for name, work in zip(("hash", "write", "read back"), self._storage(job), strict=True):
            costs[name] = None if work is None else work.cost(job.row_bytes)
        return Forecast(Machine(available_cores(), self.workers, self.compute.on_gpu), costs)

    def _decode(self, job: Job) -> tuple[Cost, UInt8[np.ndarray, "sample height width 3"]]:
        view = job.samples.view
        key = view.name, view.level, job.samples.frame.input, job.spec.model.interpolation, job.inputs is None
        if key not in self._decoding:
            self._decoding[key] = decode_cost(job, self.workers)
        return self._decoding[key]

    def _storage(self, job: Job) -> tuple[_Work, _Work | None, _Work]:
        n_bytes = sum(job.layout.chunk_rows(array) * array.row_bytes for array in job.arrays) // len(job.arrays)
        n_bytes = max(4, min(n_bytes, MOST_CHUNK_BYTES))
        key = n_bytes.bit_length(), job.layout.compression
        if key not in self._chunks:
            values = np.random.default_rng(0).standard_normal(n_bytes // 4, np.float32)
            folder = _folder_of(self.store)
            self._chunks[key] = (
                hash_work(values, job.layout.compression),
                None if folder is None else write_work(values, folder),
                read_back_work(values),
            )
        return self._chunks[key]


def decode_cost(job: Job, workers: int) -> tuple[Cost, UInt8[np.ndarray, "sample height width 3"]]:
    """Decode different images, evenly spread and with the view; return what a row takes, and the first's pixels.

    Images are read as they lie: from the disk, or from the memory of an earlier reading.
    """
    spans: list[tuple[int, int]] = []
    for name, group in itertools.groupby(enumerate(name for name, _ in job.samples.tiles), key=lambda pair: pair[1]):
        rows = [row for row, _ in group]
        if name not in job.samples.bad_images:
            spans.append((rows[0], rows[-1] + 1))
    spans = spans or [(0, 1)]  # all images are bad

    def read(span: tuple[int, int]) -> np.ndarray:
        return job.read(*span)[0]

    pixels = read(spans[0])  # the first call imports what decodes
    others = spans[1:] or spans
    chosen = [others[index] for index in np.linspace(0, len(others) - 1, min(len(others), MOST_IMAGES)).astype(int)]
    order = np.random.default_rng(0).permutation(len(chosen))  # time may be up after a few: these are spread too
    work = measured(lambda number: len(read(chosen[order[number]])), workers, len(chosen), DECODE_SECONDS)
    return work.cost(1), pixels


def model_cost(job: Job, pixels: UInt8[np.ndarray, "sample height width 3"], compute: Compute) -> Cost:
    """Return what a row takes in full batches, after a first one, copies to the device and back included.

    A batch that does not fit the memory is halved, as in an extraction.

    Args:
        job: The model and the arrays that are kept of it.
        pixels: Pixels of some rows, repeated up to a batch.
        compute: Device, batch size and threads.
    """
    while True:
        try:
            return _model_cost(job, pixels, compute)
        except torch.OutOfMemoryError:
            tried = full_shape(job.layout, compute.batch_size)
        # After the block, in which tensors of the failed pass can still be held.
        compute = halved(replace(compute, batch_size=tried), job)[0]


def _model_cost(job: Job, pixels: np.ndarray, compute: Compute) -> Cost:
    n_rows = full_shape(job.layout, compute.batch_size)
    tokens = [array for array in job.arrays if array.group != SAMPLE_STATS]
    tile_ids = job.samples.tile_ids[:n_rows]
    run, device = ModelPass(job.model, tokens, job.precision), open_device(compute.device)
    compiled = run.compiled() if compute.compiled and tokens else contextlib.nullcontext()
    with converted(job.model.module, compute.device, job.precision), compiled, device.guard():
        slots = [device.input_slot((n_rows, *pixels.shape[1:])) for _ in range(MOST_BATCHES)]
        for slot in slots:
            slot[:] = np.resize(pixels, slot.shape)
        pending: deque[Fetched] = deque()
        clock = [(time.perf_counter(), time.process_time())]
        for slot in slots:
            values, sums = run(device.pixels(slot), tile_ids)
            pending.append(device.fetch(values | {"": sums}))
            if len(pending) <= int(device.runs_behind):
                continue
            pending.popleft().wait()
            clock.append((time.perf_counter(), time.process_time()))
            is_late = clock[-1][0] - clock[0][0] > MODEL_SECONDS and not device.runs_behind
            if is_late and len(clock) > 1 + compute.compiled:
                break
        for fetched in pending:
            fetched.wait()
    timed = clock if len(clock) == 2 else clock[1:]
    (start, start_cpu), (stop, stop_cpu) = timed[0], timed[-1]
    return _Work((len(timed) - 1) * n_rows, stop - start, stop_cpu - start_cpu).cost(1)


def hash_work(values: np.ndarray, compression: str) -> _Work:
    """Encode chunks: CRC32C and sha256, compressed where the layout says so; a unit is a byte."""

    def encode(number: int) -> int:
        encode_chunk(values, compression)
        return int(values.nbytes)

    return measured(encode, WRITE_THREADS, 1 << 20, HASH_SECONDS)


def write_work(values: np.ndarray, folder: Path) -> _Work | None:
    """Write files of the size of a chunk below a folder, with fsync, and remove them; None where that is not allowed.

    The files have no names where the system can do that (Linux), so that not even a kill leaves one. A disk may take
    these few megabytes faster than a long extraction.
    """

    def write(number: int) -> int:
        with tempfile.TemporaryFile(dir=folder, prefix="patchbank-plan-", buffering=0) as file:
            file.write(values.data)
            os.fsync(file.fileno())
        return int(values.nbytes)

    try:
        return measured(write, WRITE_THREADS, min(MOST_FILES, MOST_FILE_BYTES // values.nbytes), WRITE_SECONDS)
    except OSError:
        return None


def read_back_work(values: np.ndarray) -> _Work:
    """Copy and checksum the bytes of a chunk piece by piece, as one thread reads it back; a unit is a byte."""
    buffer, data = bytearray(values.nbytes), values.reshape(-1).view(np.uint8).data

    def read(number: int) -> int:
        checksum = 0
        for start in range(0, len(data), PIECE_BYTES):
            piece = slice(start, start + PIECE_BYTES)
            buffer[piece] = data[piece]
            checksum = crc32c(memoryview(buffer)[piece], checksum)
        return int(values.nbytes)

    return measured(read, 1, 1 << 20, HASH_SECONDS / 2)


def _folder_of(store: Store) -> Path | None:
    """Return the folder of a store, or the nearest folder above it that is there; None for an object store."""
    objects = store.objects
    if not isinstance(objects, LocalObjects):
        return None
    return next(folder for folder in (objects.root, *objects.root.parents) if folder.is_dir())
