"""Stands in for the GPUs of a machine: streams that do as little as they may, as late as they may.

A copy is only noted on its stream. It is made when the host waits for an event after it, or when the stream that
computes waits for one: the model runs on the host, at once. What nobody waits for is not made.
"""

import contextlib
from dataclasses import dataclass, field

import torch

from pipeline.extraction.model_pass.device import Cuda

STALE = 7
"""Value of page-locked memory that nothing was copied into."""


@dataclass
class Stream:
    name: str
    work: list = field(default_factory=list)
    n_done: int = 0

    def run_until(self, end):
        while self.n_done < end:
            job, self.work[self.n_done] = self.work[self.n_done], None  # which holds what it copies
            self.n_done += 1
            job()


@dataclass(frozen=True)
class Event:
    stream: Stream
    at: int


@dataclass
class Machine:
    """GPUs by index, each with a stream that computes; ``current`` is the device that a guard sets."""

    streams: dict = field(default_factory=dict)
    current: int = 0
    done: list = field(default_factory=list)
    """What was done, in order."""
    blocks: list = field(default_factory=list)
    """Page-locked blocks that were made."""

    def computing(self, index):
        return self.streams.setdefault(index, Stream(f"compute{index}"))


class StandIn(Cuda):
    """Has the methods of `Cuda`."""

    def __init__(self, machine, index):
        self.machine, self.index = machine, index
        self.n_streams = 0

    @contextlib.contextmanager
    def guard(self):
        before, self.machine.current = self.machine.current, self.index
        try:
            yield
        finally:
            self.machine.current = before

    def page_locked(self, n_bytes):
        assert self.machine.current == self.index, "page-locked memory opens a context on the current device"
        self.machine.blocks.append(torch.full((n_bytes,), STALE, dtype=torch.uint8))
        return self.machine.blocks[-1]

    def memory(self, n_bytes):
        return torch.full((n_bytes,), STALE, dtype=torch.uint8)

    def stream(self):
        self.n_streams += 1
        return Stream(("up", "down")[self.n_streams - 1])

    def current(self):
        return self.machine.computing(self.index)

    def copy(self, target, source, stream):
        def make():
            self.machine.done.append(f"copy {stream.name}")
            target.copy_(source)

        stream.work.append(make)

    def record(self, stream):
        return Event(stream, len(stream.work))

    def wait(self, stream, event):
        if stream.name.startswith("compute"):
            event.stream.run_until(event.at)
        else:
            stream.work.append(lambda: event.stream.run_until(event.at))
        self.machine.done.append(f"{stream.name} waits for {event.stream.name}")

    def synchronise(self, event):
        event.stream.run_until(event.at)
        self.machine.done.append(f"host waits for {event.stream.name}")

    def happened(self, event):
        return event.stream.n_done >= event.at


class AsBefore(StandIn):
    """Results as they were copied once: on the stream that computes, with events on that of the current device."""

    @contextlib.contextmanager
    def guard(self):
        yield

    def page_locked(self, n_bytes):
        with super().guard():
            return super().page_locked(n_bytes)

    def copy(self, target, source, stream):
        super().copy(target, source, self.current() if stream.name == "down" else stream)

    def record(self, stream):
        return super().record(self.machine.computing(self.machine.current) if stream.name == "down" else stream)
