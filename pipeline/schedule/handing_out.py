"""What this process hears from workers: who is there, what is done, how far shares are, and who died."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pipeline.extraction.progress import Progress
from pipeline.schedule.clusters import Cluster
from pipeline.schedule.in_worker import TOPIC, Share, stop
from pipeline.schedule.same_code import check_code, explain
from pipeline.schedule.worker_calls import REFUSED, OtherCodeError, call_in_worker, code_here, other_code
from stores.errors import PatchbankError, UserError

NO_WORKER_SECONDS = 120.0
"""Time without any worker after which an extraction ends."""
LOOK_SECONDS = 1.0
"""Time between two looks at which workers there are."""
WAIT_SECONDS = 5.0
"""Time without any worker after which a command says what it waits for."""
RETRIES = 2
"""How often a share is tried again after an unexpected error; an error that says what to do is not tried again."""


@dataclass
class Watch:
    """Workers as they tell of themselves: how far their share is, and who died.

    Args:
        cluster: The workers.
        on_death: Called with one line about a worker that died.
        lost: What a worker that dies loses.
    """

    cluster: Cluster
    on_death: Callable[[str], None]
    lost: str = "range that it was making"
    """What a worker that dies loses."""
    running: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The last event of every worker, by its name."""

    def on_event(self, event: tuple[float, Any]) -> None:
        """Take an event of a worker."""
        self.running[event[1]["name"]] = event[1]

    def on_refused(self, event: tuple[float, Any]) -> None:
        """Take an event of a worker that has no Patchbank, or another."""
        problem = other_code(event[1]["name"], event[1]["host"], None, code_here())
        if problem is not None:
            self.cluster.refused.append(problem)

    def on_change(self, event: tuple[float, Any]) -> None:
        """Take an event of the scheduler."""
        change = event[1]
        if self.cluster.is_ending.is_set():
            return
        if not isinstance(change, dict) or change.get("action") != "remove-worker" or change.get("expected"):
            return
        address = str(change["worker"])
        name = self.cluster.known.get(address)
        if name is None:  # it was never given anything
            self.on_death(f"worker {address} died while it started")
            return
        self.running.pop(name, None)
        shown = name if name == address else f"{name} ({address})"
        self.on_death(f"worker {shown} died: the {self.lost} is lost, and is made again")


@contextlib.contextmanager
def watching(cluster: Cluster, on_death: Callable[[str], None], lost: str = Watch.lost) -> Iterator[Watch]:
    """Subscribe to what workers tell, for the time of the context.

    Args:
        cluster: The workers.
        on_death: Called with one line about a worker that died.
        lost: What a worker that dies loses.
    """
    watch, is_over = Watch(cluster, on_death, lost), False

    def on_change(event: tuple[float, Any]) -> None:
        if not is_over:
            watch.on_change(event)

    # Events from before would be handed over too: those of an earlier extraction on a scheduler that lives longer.
    start = time.time()
    handlers = {TOPIC: watch.on_event, REFUSED: watch.on_refused, "all": on_change}
    for topic, handler in handlers.items():
        cluster.client.subscribe_topic(topic, lambda event, handler=handler: event[0] >= start - 1 and handler(event))
    try:
        yield watch
    finally:
        is_over = True
        for topic in handlers:
            with contextlib.suppress(Exception):  # the scheduler may be gone
                cluster.client.unsubscribe_topic(topic)


def present_workers(cluster: Cluster) -> dict[str, str]:
    """Return the names of the workers that are there, by address.

    Raises UserError when the scheduler is gone, and for a worker that has come without Patchbank.
    """
    if cluster.refused:
        raise OtherCodeError(cluster.refused[0])
    if cluster.client.status != "running":
        raise _gone()
    try:
        return cluster.worker_names()
    except (OSError, TimeoutError) as error:
        raise _gone() from error


def wait_for_workers(cluster: Cluster, on_wait: Callable[[str], None]) -> None:
    """Return when there is a worker and all have the code of this process.

    Raises UserError when the scheduler is gone, and for a worker that has other code.

    Args:
        cluster: The workers.
        on_wait: Called once with a line, after some seconds without any worker.
    """
    started, is_said = time.monotonic(), False
    while not present_workers(cluster):
        if not is_said and time.monotonic() - started >= WAIT_SECONDS:
            is_said = True
            on_wait(f"waiting for {cluster.what}: {cluster.advice}")
        time.sleep(LOOK_SECONDS / 2)
    check_code(cluster)


def submit(cluster: Cluster, function: Callable[..., Any], *arguments: Any, **where: Any) -> Any:
    """Hand a call to a worker, which makes it if its code is that of this process; return the future.

    Args:
        cluster: The workers.
        function: Called with the arguments.
        arguments: Its arguments.
        where: Settings of the future beside those that all have.
    """
    return cluster.client.submit(
        call_in_worker, code_here(), function, *arguments, pure=False, retries=RETRIES, **where
    )


def done_of(cluster: Cluster, running: Iterable[Any]) -> list[Any]:
    """Return the futures that are done, after at most a second; raises UserError when the scheduler is gone."""
    from distributed import CancelledError, wait

    listed = list(running)
    if not listed:
        time.sleep(LOOK_SECONDS)
        return []
    try:
        with cluster.client.as_current():
            wait(listed, timeout=LOOK_SECONDS, return_when="FIRST_COMPLETED")
    except TimeoutError:
        pass
    except CancelledError as error:  # all futures are, once the scheduler is gone
        raise _gone() from error
    return [future for future in listed if future.done()]


def result_of(cluster: Cluster, future: Any) -> Any:
    """Return the result of a task; raises the PatchbankError that it ended with.

    Raises UserError when workers died of it, when the scheduler is gone, and for a worker that has other code.
    """
    from distributed import CancelledError, KilledWorker

    try:
        result = future.result()
    except KilledWorker as error:
        raise UserError(
            "several workers died of the same work, as when memory runs out: use fewer workers or a smaller "
            "--batch-size, then run the same command to continue"
        ) from error
    except CancelledError as error:
        raise _gone() from error
    except Exception as error:
        explain(cluster, error)
        raise
    if isinstance(result, PatchbankError):
        raise result
    return result


def _gone() -> UserError:
    return UserError("the scheduler is gone: what is committed is kept, start it and run the same command to continue")


def give_up(cluster: Cluster, running: Iterable[Any]) -> None:
    """Take all tasks back, let workers write what they have, and wait for them."""
    cluster.end()
    with contextlib.suppress(Exception):  # what fails here is in the way of the true error
        if cluster.client.status == "running":
            cluster.client.cancel(list(running), force=True)
            cluster.client.run(stop, on_error="ignore")


class ScheduledProgress:
    """Adds up what workers tell of their shares.

    Args:
        title: The set, for people.
        of: Names the set in what workers tell.
        rows_total: Rows to make.
        watch: What workers tell.
        on_progress: Called with the state of all of them.
    """

    def __init__(
        self, title: str, of: str, rows_total: int, watch: Watch, on_progress: Callable[[Progress], None]
    ) -> None:
        self.title, self.of, self.rows_total, self.watch, self.on_progress = title, of, rows_total, watch, on_progress
        self.started = time.monotonic()
        self.rows_done = 0
        self.stages: dict[str, float] = {}

    def add(self, share: Share, n_rows: int) -> None:
        """Add a share that was made."""
        self.rows_done += n_rows
        if self.watch.running.get(share.worker, {}).get("of") == self.of:
            del self.watch.running[share.worker]
        for name in ("decode", "model", "write"):
            self.stages[name] = self.stages.get(name, 0.0) + getattr(share.stages, name)

    def show(self) -> None:
        """Call back with the state of all workers, if there is anything to make."""
        if not self.rows_total:
            return
        events = [event for event in self.watch.running.values() if event["of"] == self.of]
        done = min(self.rows_total, self.rows_done + sum(event["rows"] for event in events))
        rates = {event["name"]: event["rows"] / max(event["seconds"], 1e-9) for event in events}
        stages = [event["stage"] for event in events]
        slowest = max(
            self.stages, key=lambda name: self.stages[name], default=max(stages, key=stages.count, default="model")
        )
        seconds = time.monotonic() - self.started
        self.on_progress(Progress(self.title, done, self.rows_total, seconds, slowest, rates))
