"""``python -m benchmarks.gpu [section ...] [--tiny]``: where the time of an extraction goes on this GPU.

Rates of each stage alone (decoding, copies, the bare model, capturing layers), then of the stages together, in images a
second. Prints a table and writes benchmarks/out/gpu.json after every line, so that a run that is stopped keeps what it
has. ``--tiny`` runs all that a processor can, in under a minute, to find errors beforehand. Sections that have not
begun after four minutes are left out and named.
"""

import argparse
import contextlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from pipeline.dataset_recipe import DatasetRecipe
from pipeline.extraction import run
from pipeline.extraction.compute import Compute, choose_compute
from pipeline.extraction.extract import extract
from pipeline.extraction.job import Job, prepare
from pipeline.extraction.loading import Batch, default_workers
from pipeline.extraction.model_pass.device import Device, open_device
from pipeline.extraction.model_pass.forward import forward
from pipeline.extraction.model_pass.precision import autocast, converted, module_dtype
from pipeline.extraction.model_pass.running import ModelPass
from pipeline.extraction.options import ExtractOptions
from pipeline.extraction.progress import StageSeconds
from pipeline.frame_recipe import FrameRecipe
from pipeline.models import build_model
from pipeline.models.contract import FrozenModel
from pipeline.recipe import FeatureRecipe, ModelRecipe, Recipe
from pipeline.rows.pixels import read_tiles
from stores import Store
from stores.format.layout import RowRange
from stores.specs import Size

KEPT: dict[str, dict[str, Any]] = {
    "last layer": {"layers": (-1,)},
    "all layers": {"layers": "all"},
    "all layers, both norms": {"layers": "all", "norm": "both"},
}
SIZE = Size(height=224, width=224)
MOST_SECONDS = 240


class Bench:
    """The settings of a run, the pictures it reads and the lines it has written."""

    def __init__(self, folder: Path, *, tiny: bool) -> None:
        self.folder, self.tiny = folder, tiny
        self.compute = choose_compute("cpu" if tiny else None, 4 if tiny else 128)
        self.model = ModelRecipe(name="vit_tiny_patch16_224" if tiny else "vit_base_patch16_224", weights="random")
        self.precision = "bfloat16"
        self.n_pictures = 8 if tiny else 2048
        self.lines: list[dict[str, Any]] = []

    @cached_property
    def frozen(self) -> FrozenModel:
        """The model, with random weights."""
        return build_model(self.model, SIZE, self.folder)

    @cached_property
    def device(self) -> Device:
        """The device that is measured."""
        return open_device(self.compute.device)

    def note(self, section: str, what: str, value: float, unit: str, **more: Any) -> None:
        """Print a line and write all lines so far."""
        beside = ", ".join(f"{name} {one}" for name, one in more.items())
        print(f"{section:<8} {what:<46} {value:>10,.1f} {unit:<9} {beside}", flush=True)
        self.lines.append({"section": section, "what": what, "value": value, "unit": unit, **more})
        name = torch.cuda.get_device_name(self.compute.device) if self.compute.on_gpu else None
        machine = {"gpu": name, "cores": os.cpu_count(), "torch": torch.__version__, "tiny": self.tiny}
        machine |= {"model": self.model.name, "batch_size": self.compute.batch_size, "precision": self.precision}
        out = Path(__file__).parent / "out" / "gpu.json"
        out.parent.mkdir(exist_ok=True)
        out.write_text(json.dumps({"machine": machine, "rows": self.lines}, indent=2) + "\n")

    def seconds(self, call: Callable[[], Any], repeats: int = 5, warm: int = 1) -> float:
        """Return the median time of a call, its work on the GPU included."""
        taken = []
        for number in range(warm + (1 if self.tiny else repeats)):
            before = time.perf_counter()
            call()
            if self.compute.on_gpu:
                torch.cuda.synchronize(self.compute.device)
            if number >= warm:
                taken.append(time.perf_counter() - before)
        return statistics.median(taken)

    def job(self, kept: str, compiled: bool = False) -> Job:
        """Return the extraction of all pictures, some layers kept, into a store that is empty."""
        pictures = self.folder / "pictures"
        if not pictures.exists():
            write_pictures(pictures, self.n_pictures)
        features = FeatureRecipe(**KEPT[kept], compute_dtype="bfloat16", compile=compiled, dead_features="count")
        recipe = Recipe(
            dataset=DatasetRecipe(name="folder", folder="pictures"),
            frame=FrameRecipe(input=SIZE),
            models=(self.model,),
            features=features,
        )
        store = Store(Path(tempfile.mkdtemp(dir=self.folder, prefix="store-")))
        workspace = run.Workspace(store, self.folder, self.folder)
        return prepare(recipe, self.model, self.frozen, run.read_samples(recipe, workspace), store)

    def batches(self, device: Device, number: int) -> Iterator[Batch]:
        """Yield batches of noise in slots of the device, as the decoders write them."""
        n_rows = self.compute.batch_size
        noise = np.random.default_rng(0).integers(0, 256, (n_rows, 224, 224, 3), dtype=np.uint8)
        for index in range(number):
            slot = device.input_slot(noise.shape)
            slot[:1] = noise[:1]  # the others hold what they held: decoding is not what is measured
            yield Batch(RowRange(index, 0, n_rows), tuple(range(n_rows)), slot, {})


def write_pictures(folder: Path, number: int) -> None:
    """Write JPEGs of 500x375 with edges and noise, some 60 kB each, as ImageNet has them; 16 different ones."""
    folder.mkdir()
    for index in range(number):
        path = folder / f"{index:06d}.jpg"
        if index >= 16:
            path.write_bytes((folder / f"{index % 16:06d}.jpg").read_bytes())
            continue
        numbers = np.random.default_rng(index)
        coarse = Image.fromarray(numbers.integers(0, 256, (47, 63, 3), dtype=np.uint8))
        fine = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC)) + numbers.normal(0, 8, (375, 500, 3))
        Image.fromarray(fine.clip(0, 255).astype(np.uint8)).save(path, "JPEG", quality=88)


def decode(bench: Bench) -> None:
    """Read, check, decode and resize pictures in threads."""
    samples = bench.job("last layer").samples
    rows = range(len(samples.tiles))
    for threads in sorted({1, 2, 8, default_workers()}):
        with ThreadPoolExecutor(threads) as pool:
            read = bench.seconds(
                lambda pool=pool: list(pool.map(lambda row: read_tiles(samples, "bicubic", row, row + 1), rows)),  # type: ignore[misc]
                repeats=1,
                warm=0,
            )
        bench.note("decode", f"{threads} threads", len(rows) / read, "images/s")


def copies(bench: Bench) -> None:
    """Copy page-locked memory to the GPU and back, and a copy back beside matrix products."""
    if not bench.compute.on_gpu:
        bench.note("copies", "left out: there is no GPU", 0, "GB/s")
        return
    device = torch.device(bench.compute.device)
    for megabytes in (19, 256, 925):
        there = torch.empty(megabytes * 10**6, dtype=torch.uint8, device=device)
        here = torch.empty(there.shape, dtype=torch.uint8, pin_memory=True)
        up = bench.seconds(lambda h=here, t=there: t.copy_(h, non_blocking=True))  # type: ignore[misc]
        down = bench.seconds(lambda h=here, t=there: h.copy_(t, non_blocking=True))  # type: ignore[misc]
        bench.note("copies", f"to the GPU, {megabytes} MB", megabytes / 1000 / up, "GB/s")
        bench.note("copies", f"from the GPU, {megabytes} MB", megabytes / 1000 / down, "GB/s")
    left, side = torch.randn(8192, 8192, device=device, dtype=torch.bfloat16), torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def both(stream: Any) -> None:
        for _ in range(8):
            left @ left
        with torch.cuda.stream(stream):
            here.copy_(there, non_blocking=True)

    one = bench.seconds(lambda: both(torch.cuda.current_stream(device)))
    two = bench.seconds(lambda: both(side))
    bench.note("copies", "products and a copy, one stream", one * 1000, "ms")
    bench.note("copies", "products beside a copy, two streams", two * 1000, "ms")


def model(bench: Bench) -> None:
    """Run the bare model, as timm has it, on normalised pixels that are on the device."""
    frozen, n_rows, device = bench.frozen, bench.compute.batch_size, bench.compute.device
    for precision in ("float32", "bfloat16-autocast", "bfloat16"):
        for compiled in (False,) if precision == "float32" or bench.tiny else (False, True):
            inputs = torch.rand(n_rows, 3, 224, 224, device=device, dtype=module_dtype(precision))
            call = torch.compile(frozen.forward, dynamic=False) if compiled else frozen.forward
            settings = autocast(precision, torch.device(device).type)
            with converted(frozen.module, device, precision), torch.inference_mode(), settings, bench.device.guard():
                before = time.perf_counter()
                call(inputs)
                first = round(time.perf_counter() - before, 1)
                taken = bench.seconds(lambda call=call, inputs=inputs: call(inputs))  # type: ignore[misc]
            torch.compiler.reset()
            name = f"{precision}, {'compiled' if compiled else 'eager'}"
            bench.note("model", name, n_rows / taken, "images/s", first_call_s=first)


def layers(bench: Bench) -> None:
    """Capture layers from pixels on the device, and the same through the copies into host memory."""
    frozen, compute = bench.frozen, bench.compute
    for kept in KEPT:
        for compiled in (False, True):
            if compiled and kept != "last layer" and (bench.tiny or kept == "all layers"):
                continue  # a compilation takes half a minute
            job = bench.job(kept)
            capture = ModelPass(frozen, job.arrays, bench.precision)
            pixels = torch.rand(compute.batch_size, 224, 224, 3, device=compute.device) * 255
            name = f"{kept}, {'compiled' if compiled else 'eager'}"
            in_precision = converted(frozen.module, compute.device, bench.precision)
            with in_precision, bench.device.guard(), capture.compiled() if compiled else contextlib.nullcontext():
                taken = bench.seconds(lambda capture=capture, pixels=pixels: capture(pixels))  # type: ignore[misc]
                bench.note("layers", f"{name}, nothing copied", compute.batch_size / taken, "images/s")
                number = 3 if bench.tiny else 24
                _through(bench, job, capture, 3)
                before = time.perf_counter()
                _through(bench, job, capture, number)
                rate = number * compute.batch_size / (time.perf_counter() - before)
                bench.note("layers", f"{name}, into host memory", rate, "images/s")


def _through(bench: Bench, job: Job, capture: ModelPass, number: int) -> None:
    """Run batches through the device and the model, and drop what comes out."""
    for _ in forward(bench.batches(bench.device, number), capture, job.samples, bench.device, StageSeconds()):
        pass


def whole(bench: Bench) -> None:
    """Extract into a store and seal, with the seconds of each stage."""
    for kept, compiled in (("last layer", False), ("last layer", True), ("all layers", False)):
        if bench.tiny and compiled:
            continue
        job = bench.job(kept, compiled)
        compute: Compute = bench.compute.for_features(FeatureRecipe(compile=compiled))
        assert job.existing is None
        store = Store(Path(tempfile.mkdtemp(dir=bench.folder, prefix="store-")))
        before = time.perf_counter()
        made = extract(job, store, compute, ExtractOptions())
        taken = time.perf_counter() - before
        stages = {name: round(value, 2) for name, value in made.seconds.__dict__.items()}
        size = round(job.layout.n_rows * job.row_bytes / 1e9, 2)
        name = f"{kept}, {'compiled' if compiled else 'eager'}, sealed"
        bench.note("whole", name, job.layout.n_rows / taken, "images/s", gigabytes=size, **stages)


SECTIONS = {"decode": decode, "copies": copies, "model": model, "layers": layers, "whole": whole}


def main() -> None:
    """Run the named sections, or all of them."""
    arguments = argparse.ArgumentParser(description="Where the time of an extraction goes on this GPU.")
    arguments.add_argument("sections", nargs="*", help=f"any of {', '.join(SECTIONS)}")
    arguments.add_argument("--tiny", action="store_true", help="run on the processor, with a tiny model")
    given = arguments.parse_args()
    if unknown := set(given.sections) - SECTIONS.keys():
        arguments.error(f"no section {sorted(unknown)[0]!r}: there are {', '.join(SECTIONS)}")
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=os.environ.get("PATCHBANK_BENCH_DIR")) as folder:
        bench = Bench(Path(folder), tiny=given.tiny)
        print(
            f"{bench.model.name}, batches of {bench.compute.batch_size}, {bench.precision}, on {bench.compute.device}"
        )
        for name, section in SECTIONS.items():
            if given.sections and name not in given.sections:
                continue
            if time.perf_counter() - started > MOST_SECONDS:
                bench.note(name, "left out: four minutes are over", 0, "s")
                continue
            try:
                section(bench)
            except Exception as error:  # the other sections still say what they can
                bench.note(name, f"failed: {type(error).__name__}: {error}"[:300], 0, "-")
    print(f"written to {Path(__file__).parent / 'out' / 'gpu.json'} after {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
