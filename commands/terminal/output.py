"""Prints lines, tables, counts, durations and progress on the terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from pipeline.extraction.progress import Progress as ExtractProgress


def say(line: str) -> None:
    """Print a line on stderr; stdout is kept for what programs read."""
    typer.echo(line, err=True)


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
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


@contextmanager
def progress() -> Iterator[Callable[["ExtractProgress"], None]]:
    """Show rate, remaining time and bottleneck: a bar on a terminal, a line every ten seconds elsewhere."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:.1f} rows/s, bottleneck: {task.fields[stage]}"),
            TimeRemainingColumn(),
        )
        with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
            tasks: dict[str, Any] = {}

            def on_progress(progress: "ExtractProgress") -> None:
                rate, stage = progress.rows_done / max(progress.seconds, 1e-9), progress.bottleneck
                if progress.title not in tasks:
                    tasks[progress.title] = bar.add_task(
                        progress.title, total=progress.rows_total, rate=rate, stage=stage
                    )
                bar.update(tasks[progress.title], completed=progress.rows_done, rate=rate, stage=stage)

            yield on_progress
        return
    last: dict[str, float] = {}

    def line(progress: "ExtractProgress") -> None:
        if progress.seconds - last.get(progress.title, 0.0) < 10 and progress.rows_done < progress.rows_total:
            return
        last[progress.title] = progress.seconds
        rate = progress.rows_done / max(progress.seconds, 1e-9)
        left = progress.rows_total - progress.rows_done
        ahead = f", {duration(left / rate)} left, bottleneck: {progress.bottleneck}" if left else ""
        say(f"{progress.title}: {progress.rows_done:,}/{progress.rows_total:,} rows, {rate:.1f} rows/s{ahead}")

    yield line
