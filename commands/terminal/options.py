"""Arguments and flags that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Experiment = Annotated[Path, typer.Argument(help="An experiment file, for example experiments/demo.toml.")]
StoreOption = Annotated[
    str, typer.Option("--store", envvar="PATCHBANK_STORE", help="Where feature sets live: a folder or fsspec URL.")
]
DataOption = Annotated[Path, typer.Option("--data", envvar="PATCHBANK_DATA", help="Folder that holds the data sets.")]
ResultsOption = Annotated[
    Path, typer.Option("--results", envvar="PATCHBANK_RESULTS", help="Folder that results are written to.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...; auto takes a GPU where there is one.")]
MemoryOption = Annotated[
    float | None,
    typer.Option(
        min=0.1,
        show_default="half of what is free",
        help="What an analysis may use above the process, in GB of 10^9 bytes; one that holds more is refused before "
        "anything is computed. By default half of the memory that is free. It changes no number.",
    ),
]
BatchOption = Annotated[int | None, typer.Option(min=1, help="Images a forward pass; 16 on a CPU, 128 on a GPU.")]
