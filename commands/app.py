"""The command line as a typer application: every command by its name."""

from collections.abc import Callable
from typing import Annotated

import typer

from commands import (
    compare,
    datasets,
    demo,
    doctor,
    evaluate,
    export,
    extract,
    fidelity,
    gc,
    import_,
    look,
    ls,
    models,
    plan,
    preview,
    repair,
    report,
    show,
    slurm,
    verify,
)
from commands.terminal.output import echo

app = typer.Typer(
    name="patchbank",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS: dict[str, Callable[..., None]] = {
    "plan": plan.plan,
    "extract": extract.extract,
    "evaluate": evaluate.evaluate,
    "slurm": slurm.slurm,
    "report": report.report,
    "compare": compare.compare,
    "ls": ls.list_sets,
    "show": show.show,
    "verify": verify.verify,
    "repair": repair.repair,
    "look": look.look,
    "fidelity": fidelity.fidelity,
    "gc": gc.gc,
    "export": export.export,
    "import": import_.import_set,
    "models": models.models,
    "datasets": datasets.datasets,
    "preview": preview.preview,
    "doctor": doctor.doctor,
    "demo": demo.demo,
}
"""Every command by the name users type, in the order of the help."""


def _version(asked: bool) -> None:
    if asked:
        import importlib.metadata

        echo(f"patchbank {importlib.metadata.version('patchbank')}")
        raise typer.Exit


@app.callback()
def patchbank(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """A feature store for frozen vision transformers: run each model once, analyse its features often."""


for name, command in COMMANDS.items():
    app.command(name=name)(command)
