"""Prints lines, tables, counts, durations and progress on the terminal."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from stores.errors import UserError

if TYPE_CHECKING:
    from pipeline.extraction.progress import Progress as ExtractProgress


def visible(text: str) -> str:
    """Return text in which control characters, line breaks and marks of writing direction are visible escapes.

    File names, titles and stores of others may hold them: a terminal would obey, and other lines would seem printed.
    """
    if text.isprintable():
        return text
    spaces = "\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}\N{IDEOGRAPHIC SPACE}"
    return "".join(char if char.isprintable() or char in spaces else ascii(char)[1:-1] for char in text)


def echo(line: str = "") -> None:
    """Print one line of a command's result; raises UserError when it cannot be written, as on a full disk."""
    _print(visible(line))


def echo_json(record: Any) -> None:
    """Print a command's result as one JSON document, in ASCII without control characters."""
    _print(json.dumps(record, indent=2).replace("\x7f", "\\u007f"))


def _print(text: str) -> None:
    try:
        typer.echo(text)
    except BrokenPipeError:  # the reader, such as `head`, has enough
        raise
    except OSError as error:
        give_up_output()
        raise UserError(
            f"cannot write the output: {error.strerror}: choose another place for it, then run the same command again"
        ) from error


def say(line: str) -> None:
    """Print a line on stderr; stdout is kept for what programs read."""
    try:
        typer.echo(visible(line), err=True)
    except OSError:  # nobody can be told; the work goes on
        give_up_output(2)


def overwrite(line: str) -> None:
    """Show a line on the terminal at stderr in place of the last one; an empty line clears it."""
    try:
        sys.stderr.write(f"\r{visible(line):<78}" if line else f"\r{'':<78}\r")
        sys.stderr.flush()
    except OSError:
        give_up_output(2)


def give_up_output(number: int = 1) -> None:
    """Send what a standard stream still holds to the null device, or leaving the process would fail once more."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, number)
    os.close(descriptor)


def counted(number: int, thing: str) -> str:
    """Return a count with its noun in singular or plural: ``1 set``, ``1,204 sets``."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def duration(seconds: float) -> str:
    """Return seconds in a readable unit: ``40 s``, ``12 min``, ``2.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def print_table(lines: list[list[str]]) -> None:
    """Print rows of cells in aligned columns; the first row is the header."""
    lines = [[visible(cell) for cell in line] for line in lines]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        _print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _rates(progress: "ExtractProgress") -> str:
    """Return the rows a second of every worker, by its name."""
    return ", ".join(f"worker {visible(name)}: {rate:.1f}" for name, rate in sorted(progress.rates.items()))


@contextmanager
def progress() -> Iterator[Callable[["ExtractProgress"], None]]:
    """Show rate, remaining time and bottleneck: a bar on a terminal, a line every ten seconds elsewhere."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(
                "{task.fields[rate]:.1f} rows/s{task.fields[each]}, bottleneck: {task.fields[stage]}", markup=False
            ),
            TimeRemainingColumn(),
        )
        with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
            tasks: dict[str, Any] = {}

            def on_progress(progress: "ExtractProgress") -> None:
                rate, stage = progress.rows_done / max(progress.seconds, 1e-9), progress.bottleneck
                if progress.title not in tasks:
                    tasks[progress.title] = bar.add_task(
                        visible(progress.title), total=progress.rows_total, rate=rate, stage=stage, each=""
                    )
                each = f" ({_rates(progress)})" if progress.rates else ""
                bar.update(tasks[progress.title], completed=progress.rows_done, rate=rate, stage=stage, each=each)

            yield on_progress
        return
    last: dict[str, float] = {}
    complete: set[str] = set()

    def line(progress: "ExtractProgress") -> None:
        if progress.seconds - last.get(progress.title, 0.0) < 10 and progress.rows_done < progress.rows_total:
            return
        if progress.title in complete:  # rows that are taken over may follow the last one that is computed
            return
        if progress.rows_done >= progress.rows_total:
            complete.add(progress.title)
        last[progress.title] = progress.seconds
        rate = progress.rows_done / max(progress.seconds, 1e-9)
        left = progress.rows_total - progress.rows_done
        # On a slow machine the first range may take longer than the time between two lines.
        time_left = f"{duration(left / rate)} left" if rate else "no range is complete yet"
        ahead = f", {time_left}, bottleneck: {progress.bottleneck}" if left else ""
        each = f" ({_rates(progress)})" if progress.rates else ""
        say(f"{progress.title}: {progress.rows_done:,}/{progress.rows_total:,} rows, {rate:.1f} rows/s{each}{ahead}")

    yield line
