"""``patchbank doctor``: check libraries, GPU, store and data of this machine."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import typer

from commands.terminal.options import DataOption, JsonOption, StoreOption
from commands.terminal.output import counted
from stores.units import format_bytes

LIBRARIES = (
    *("torch", "torchvision", "timm", "zarr", "h5py", "numpy", "scikit-learn", "dask", "typer", "pandas", "pyarrow"),
    *("pydantic", "matplotlib", "safetensors"),
)
"""Libraries whose versions are printed."""

SELF_TEST = """
import numpy, faiss, json
rng = numpy.random.default_rng(0)
bank = rng.normal(size=(200, 16)).astype("float32")
index = faiss.IndexFlatL2(16)
index.add(bank)
found = index.search(bank[:20], 1)[1][:, 0]
assert (found == numpy.arange(20)).all(), found
print(json.dumps({"version": faiss.__version__, "gpus": getattr(faiss, "get_num_gpus", lambda: 0)()}))
"""
"""Runs in a separate process, because a broken build of FAISS may crash the process that imports it."""


def doctor(
    store: StoreOption = "store",
    data: DataOption = Path("data"),
    as_json: JsonOption = False,
) -> None:
    """Check this machine: library versions, GPU, FAISS self-test, disk space, data sets. Changes nothing."""
    found: dict[str, Any] = {
        "python": sys.version.split()[0],
        "libraries": _versions(),
        "device": _device(),
        "faiss": _faiss(),
        "store": _store(store),
        "data": _data(data),
    }
    problems = _problems(found)
    if as_json:
        typer.echo(json.dumps({**found, "problems": problems}, indent=2))
    else:
        libraries = found["libraries"]
        typer.echo(f"python    {found['python']}, {os.cpu_count()} cores")
        typer.echo("libraries " + ", ".join(f"{name} {version or 'absent'}" for name, version in libraries.items()))
        typer.echo(f"device    {found['device']['text']}")
        typer.echo(f"faiss     {found['faiss']['text']}")
        typer.echo(f"store     {found['store']['text']}")
        typer.echo(f"data      {found['data']['text']}")
        for problem in problems:
            typer.echo(f"problem: {problem}")
        if not problems:
            typer.echo("no problems found")
    if problems:
        raise typer.Exit(2)


def _versions() -> dict[str, str | None]:
    import importlib.metadata

    versions: dict[str, str | None] = {}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def _device() -> dict[str, Any]:
    try:
        import torch
        import torchvision  # noqa: F401  (a torchvision of another build fails here)
    except (ImportError, RuntimeError, OSError) as error:
        return {"text": f"torch and torchvision do not load ({str(error).splitlines()[0]})", "broken": True}
    driver = shutil.which("nvidia-smi") is not None
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        text = f"{torch.cuda.device_count()} x {properties.name}, {format_bytes(properties.total_memory)}"
        return {"text": text, "broken": False, "gpus": torch.cuda.device_count()}
    more = ", although there is an NVIDIA driver: this torch cannot use it" if driver else ""
    return {"text": f"no GPU found{more}; models run on the CPU", "broken": driver, "gpus": 0}


def _faiss() -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", SELF_TEST], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode == 0:
        reported = json.loads(done.stdout)
        text = f"{reported['version']}, self-test passed; {reported['gpus']} GPUs"
        return {"text": text, "broken": False, **reported}
    last = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
    return {"text": f"does not work ({last})", "broken": True}


def _store(store: str) -> dict[str, Any]:
    from stores import Store
    from stores.errors import PatchbankError

    try:
        opened = Store(store)
        sets = sum(1 for _ in opened.set_folders())
        free = opened.objects.free_bytes()
    except PatchbankError as error:
        return {"text": str(error), "broken": True}
    room = "" if free is None else f", {format_bytes(free)} free"
    writable = True
    if "://" not in store:
        nearest = Path(store).absolute()
        while not nearest.exists():
            nearest = nearest.parent
        writable = os.access(nearest, os.W_OK) and nearest.is_dir()
    text = f"{opened.location}: {counted(sets, 'set')}{room}" + ("" if writable else ", not writable")
    return {"text": text, "broken": False, "sets": sets, "free_bytes": free, "writable": writable}


def _data(data: Path) -> dict[str, Any]:
    from pipeline.datasets import DATASETS

    found = [
        name
        for name, layout in DATASETS.items()
        if name != "manifest" and any((data / folder).is_dir() for folder in layout.folders)
    ]
    here = f"folders of {', '.join(found)}; `patchbank datasets` lists their contents"
    if not found:
        here = "no data set found; `patchbank datasets` lists the folders it looks for"
    text = f"{data}: {here}" if data.is_dir() else f"{data} is not a folder: set --data or PATCHBANK_DATA"
    return {"text": text, "found": found}


def _problems(found: dict[str, Any]) -> list[str]:
    absent = [name for name, version in found["libraries"].items() if version is None]
    problems = [f"{', '.join(absent)} not installed: run `make setup`"] if absent else []
    if found["device"]["broken"]:
        problems.append(f"{found['device']['text']}: run `make setup`, which installs matching builds")
    if found["faiss"]["broken"]:
        problems.append(f"faiss {found['faiss']['text']}: install faiss-cpu>=1.9 or faiss-gpu>=1.15")
    if found["store"]["broken"]:
        problems.append(found["store"]["text"])
    elif not found["store"]["writable"]:
        problems.append(f"{found['store']['text']}: choose another --store to extract")
    return problems
