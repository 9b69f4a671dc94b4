"""Shows how far an evaluation is: tasks done, time so far and time left, and steps inside a task."""

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from commands.terminal.output import duration, overwrite, say

if TYPE_CHECKING:
    from evaluate.kernels.progress import Step
    from evaluate.task import Task

SECONDS = 10.0
"""Time between two lines about one task where stderr is no terminal."""


class EvaluationProgress:
    """Prints one line a task, and while a task runs one line every ten seconds; on a terminal it is overwritten.

    Args:
        clock: Returns seconds, for tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.total = self.done = 0
        self.started = self.task_started = self.printed = clock()
        self.first: dict[str, tuple[int, float]] = {}
        self.on_terminal = sys.stderr.isatty()
        self.is_line_open = False

    def start(self, n_tasks: int) -> None:
        """Begin an evaluation with so many tasks to compute."""
        self.total, self.started = n_tasks, self.clock()

    def task(self, task: "Task", reused: bool) -> None:
        """Print what begins, with the time left if earlier tasks tell; a reused result is not printed."""
        if reused:
            return
        now = self.clock()
        elapsed = now - self.started
        left = f", about {duration(elapsed / self.done * (self.total - self.done))} left" if self.done else ""
        so_far = f", {duration(elapsed)}{left}" if self.done else ""
        self.done += 1
        self.first.clear()
        self.task_started = self.printed = now
        self.close()
        say(f"{task.title}: {task.description} ({self.done} of {self.total}{so_far})")

    def step(self, step: "Step") -> None:
        """Print how far the running task is, at most every ten seconds (on a terminal every half second)."""
        now = self.clock()
        first_done, first_time = self.first.setdefault(step.what, (step.done, now))
        if step.done < first_done:  # the loop began again, for the next penalty or layer
            self.first[step.what] = (step.done, now)
        if now - self.printed < (0.5 if self.on_terminal else SECONDS):
            return
        self.printed = now
        line = f"  {step.done:,} {step.what}"
        if step.total:
            line = f"  {step.done:,} of {step.total:,} {step.what}"
            if step.done > first_done:
                line += f", {duration((now - first_time) / (step.done - first_done) * (step.total - step.done))} left"
        line += f", {duration(now - self.task_started)} so far"
        if not self.on_terminal:
            say(line)
            return
        overwrite(line)
        self.is_line_open = True

    def close(self) -> None:
        """Remove the line that a terminal shows of the running task."""
        if self.is_line_open:
            overwrite("")
        self.is_line_open = False
