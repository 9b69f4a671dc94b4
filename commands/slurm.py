"""``patchbank slurm``: the scripts that extract and evaluate an experiment on a Slurm cluster."""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from commands.experiment.reading import load_experiment
from commands.terminal.options import DataOption, Experiment, JsonOption, ResultsOption, StoreOption
from commands.terminal.output import echo, echo_json
from stores.errors import MissingError, UserError

WARNED_SECONDS = 120
"""Time between Slurm's warning signal and the end of a job's time."""


@dataclass(frozen=True)
class Script:
    """One script with the place it takes in the chain."""

    name: str
    after: str
    """``afterany`` or ``afterok`` the script before, empty for the first."""
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """The script as it is submitted."""
        return "\n".join(self.lines) + "\n"


def slurm(
    experiment: Experiment,
    gpus: Annotated[int, typer.Option(min=1, help="Tasks of the array, each with one GPU.")] = 1,
    partition: Annotated[str | None, typer.Option(help="Partition of the jobs.")] = None,
    account: Annotated[str | None, typer.Option(help="Account of the jobs.")] = None,
    time: Annotated[str, typer.Option(help="Time limit of each job, as Slurm takes it.")] = "04:00:00",
    cpus: Annotated[int, typer.Option(min=1, help="Cores of each job.")] = 8,
    memory: Annotated[str, typer.Option(help="Memory of each job, as Slurm takes it.")] = "32G",
    sbatch: Annotated[
        list[str] | None, typer.Option(help='Another option of sbatch, such as "--constraint=a100"; repeatable.')
    ] = None,
    store: StoreOption = "store",
    data: DataOption = Path("data"),
    results: ResultsOption = Path("results"),
    submit: Annotated[bool, typer.Option(help="Submit the scripts with sbatch instead of printing them.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the three scripts that extract and evaluate an experiment on a Slurm cluster; --submit submits them.

    The first is an array of one task a GPU; its tasks share out what is missing. The second makes what failed tasks
    left and seals, whatever became of the first; the third evaluates if that succeeded. Jobs that Slurm warns or ends
    keep what they have committed, and the same command continues: exit code 138 after SIGUSR1, 143 after SIGTERM.
    """
    load_experiment(experiment)
    if not data.is_dir():
        raise MissingError(f"there is no data folder {data}: correct --data, which jobs read too")
    if store.startswith("memory:"):
        raise UserError(f"--store {store} is the memory of one process: name a store that all jobs see")
    general = {"partition": partition, "account": account, "time": time, "cpus-per-task": str(cpus), "mem": memory}
    options = [f"--{name}={value}" for name, value in general.items() if value] + list(sbatch or [])
    scripts = _scripts(experiment, gpus, options, store, data, results)
    if not submit:
        if as_json:
            echo_json([{"name": one.name, "after": one.after, "script": one.text} for one in scripts])
            return
        for one in scripts:
            dependency = f", --dependency={one.after}:JOB of the script above" if one.after else ""
            echo(f"### {one.name}: sbatch --parsable{dependency}")
            for line in one.lines:
                echo(line)
            echo()
        return
    jobs: list[str] = []
    for one in scripts:
        jobs.append(_submit(one, jobs))
    if as_json:
        echo_json({one.name: job for one, job in zip(scripts, jobs, strict=True)})
        return
    for one, job in zip(scripts, jobs, strict=True):
        echo(f"submitted  {job}  {one.name}")


def _scripts(
    experiment: Path, gpus: int, options: Sequence[str], store: str, data: Path, results: Path
) -> list[Script]:
    where = [f"PATCHBANK_STORE={shlex.quote(store if '://' in store else str(Path(store).absolute()))}"]
    where += [f"PATCHBANK_DATA={shlex.quote(str(data.absolute()))}"]
    where += [f"PATCHBANK_RESULTS={shlex.quote(str(results.absolute()))}"]
    path = shlex.quote(str(experiment.absolute()))

    def script(name: str, after: str, command: str, own: Sequence[str]) -> Script:
        log = f"{experiment.stem}-{name}-%{'A_%a' if name == 'extract' else 'j'}.log"
        given = [f"--job-name={experiment.stem}-{name}", f"--output={log}", *options, *own]
        lines = ["#!/bin/bash", *(f"#SBATCH {one}" for one in given), f"export {' '.join(where)}"]
        # The command takes the place of the shell, which would not pass the warning signal on.
        return Script(name, after, (*lines, f"exec {_patchbank()} {command} {path}"))

    again = ["--requeue", "--open-mode=append", f"--signal=B:USR1@{WARNED_SECONDS}"]
    return [
        script("extract", "", "extract", ["--gres=gpu:1", f"--array=0-{gpus - 1}", *again]),
        script("rest", "afterany", "extract", ["--gres=gpu:1", *again]),
        script("evaluate", "afterok", "evaluate", again),
    ]


def _patchbank() -> str:
    """Return this installation's command, so that jobs need no environment to be activated."""
    return f"{shlex.quote(sys.executable)} -P -m cli"  # -P: no file cli.py of the folder that a job runs in


def _submit(script: Script, before: Sequence[str]) -> str:
    """Submit a script after the last job; return the number of the new job."""
    if shutil.which("sbatch") is None:
        raise UserError("there is no sbatch here: submit on a login node of the cluster, or leave out --submit")
    chain = [f"--dependency={script.after}:{before[-1]}"] if script.after else []
    done = subprocess.run(
        ["sbatch", "--parsable", *chain], input=script.text, capture_output=True, text=True, check=False
    )
    job = done.stdout.strip().partition(";")[0]
    if done.returncode or not job.isdigit():
        reason = (done.stderr.strip().splitlines() or ["no job number"])[-1]
        cancel = f"take back what was submitted before with `scancel {' '.join(before)}` and " if before else ""
        raise UserError(f"sbatch refused the script {script.name} ({reason}): {cancel}correct the options of it")
    return job
