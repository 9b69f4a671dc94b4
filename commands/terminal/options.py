"""Arguments and flags shared by several commands."""

from pathlib import Path
from typing import Annotated

import typer

Experiment = Annotated[Path, typer.Argument(help="An experiment file, for example experiments/demo.toml.")]
StoreOption = Annotated[
    str, typer.Option("--store", envvar="PATCHBANK_STORE", help="The store of feature sets: a folder or an fsspec URL.")
]
DataOption = Annotated[
    Path, typer.Option("--data", envvar="PATCHBANK_DATA", help="Folder that contains the data sets.")
]
ResultsOption = Annotated[Path, typer.Option("--results", envvar="PATCHBANK_RESULTS", help="Folder for results.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; auto uses a GPU if there is one.")]
EvaluationDeviceOption = Annotated[
    str,
    typer.Option(
        "--device",
        help="cpu, cuda, cuda:1, ...: where neighbours are searched and probes trained; all else is computed on the "
        "processor. Exact neighbours are equal everywhere; results of probes and of FAISS name the kind of GPU in "
        "their key.",
    ),
]
MemoryOption = Annotated[
    float | None,
    typer.Option(
        min=0.1,
        max=1e9,  # infinity is no number of bytes
        show_default=False,
        help="Memory limit of one analysis in GB (10^9 bytes), without what the idle process has. If one is estimated "
        "to need more, nothing is computed. No result depends on it. Default: half of the free memory.",
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(min=1, show_default=False, help="Threads that decode images. Default: all cores but two, at least 2."),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(min=1, show_default=False, help="Threads that read and hash files. Default: one a core."),
]
BatchOption = Annotated[
    int | None, typer.Option(min=1, help="Images per forward pass. Default: 16 on a CPU, 128 on a GPU.")
]
SchedulerOption = Annotated[
    str | None,
    typer.Option(
        show_default=False,
        help="Workers that share the work: local:N (processes here), gpus (one process a visible GPU), tcp://HOST:PORT "
        "(a running Dask scheduler) or slurm:N (jobs of dask-jobqueue). Default: all visible GPUs of this machine, "
        "where there are several and --device names none; otherwise this process.",
    ),
]
EvaluationSchedulerOption = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        show_default=False,
        help="Workers that compute results side by side: local:N, gpus, tcp://HOST:PORT or slurm:N, as for extract. "
        "Those on this machine share its cores and --memory. Default: this process.",
    ),
]
