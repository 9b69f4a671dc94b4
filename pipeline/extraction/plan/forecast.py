"""Says from the rates of its stages how fast an extraction goes, which stage limits it, and what would help.

Stages run at the same time, so the slowest decides; but those that run on the processor share its cores, so it is never
faster than the sum of their CPU seconds over the cores. On a GPU the model takes no part in that sum and the slowest
stage mostly decides; on a processor the sum does. Both are computed, and the longer time is the forecast.
"""

from collections.abc import Mapping
from dataclasses import dataclass

STAGES = ("decode", "model", "hash", "write", "read back")
"""The stages, in the order in which a row passes them."""


@dataclass(frozen=True)
class Cost:
    """What one stage takes for a row."""

    seconds: float
    """Time that passes, with all threads that the stage has in an extraction."""
    cpu_seconds: float
    """Seconds of all cores together."""


@dataclass(frozen=True)
class Machine:
    """What an extraction runs on."""

    cores: int
    workers: int
    """Threads that decode images."""
    on_gpu: bool


@dataclass(frozen=True)
class Forecast:
    """How fast an extraction goes."""

    machine: Machine
    costs: Mapping[str, Cost | None]
    """What each stage takes; None where it could not be measured."""

    @property
    def measured(self) -> dict[str, Cost]:
        """The stages that were measured."""
        return {name: cost for name, cost in self.costs.items() if cost is not None}

    @property
    def rates(self) -> dict[str, float | None]:
        """Rows a second of each stage alone; None where it was not measured."""
        return {name: None if cost is None else 1 / cost.seconds for name, cost in self.costs.items()}

    @property
    def on_cores(self) -> dict[str, float]:
        """CPU seconds of a row by stage, of the stages that share the cores."""
        return {
            name: cost.cpu_seconds
            for name, cost in self.measured.items()
            if not (name == "model" and self.machine.on_gpu)
        }

    @property
    def cores_decide(self) -> bool:
        """Whether the stages that share the cores take longer together than the slowest stage alone."""
        return self._shared() > max(cost.seconds for cost in self.measured.values())

    @property
    def limit(self) -> str:
        """The stage that limits the extraction: the slowest, or where the cores decide the one that takes most."""
        if self.cores_decide:
            return max(self.on_cores, key=lambda name: self.on_cores[name])
        return max(self.measured, key=lambda name: self.measured[name].seconds)

    @property
    def seconds_per_row(self) -> float:
        """Time that a row takes."""
        return self._seconds_without("")

    def rate_without(self, stage: str) -> float | None:
        """Return the rows a second if a stage took no time: what a machine that is faster at it reaches at most."""
        seconds = self._seconds_without(stage)
        return 1 / seconds if seconds else None

    def sentence(self) -> str:
        """Return the limiting stage, the rates, and what would help, in words."""
        alone = "alone: " if self.cores_decide else ""
        others = alone + ", ".join(
            f"{name} {_rate(rate)}" for name, rate in self.rates.items() if self.cores_decide or name != self.limit
        )
        return f"{self.limit}, {_rate(1 / self.seconds_per_row)} rows/s{self._used()} ({others}): {self._advice()}"

    def _used(self) -> str:
        """Return the threads or the cores that the limiting stage had; other programs may have had the rest."""
        cores = _counted(self.machine.cores, "core")
        if self.cores_decide:
            return f" on {cores}, of which it takes {self.on_cores[self.limit] / sum(self.on_cores.values()):.0%}"
        if self.limit == "decode":
            return f" with {_counted(self.machine.workers, 'thread')}"
        if self.limit == "model" and not self.machine.on_gpu:
            model = self.measured["model"]
            return f" on {model.cpu_seconds / model.seconds:.1f} of {cores}"
        return ""

    def _advice(self) -> str:
        if self.limit == "model":
            most = self.rate_without("model")
            disk = " and this disk" if self.costs.get("write") is not None else " (writing was not measured)"
            until = "" if most is None else f", up to {_rate(most)} rows/s on these cores{disk}"
            if self.machine.on_gpu:
                return f"a faster GPU, or more of them with --shard, will help{until}"
            return f"a GPU will help{until}; so will more cores"
        is_shared, remedy = self._remedy()
        if not self.machine.on_gpu:
            return f"a GPU will not help{self._beyond()}; {remedy} will"
        no_gpu = "neither a faster GPU nor more of them will" if is_shared else "a faster GPU will not"
        return f"{no_gpu} help; {remedy} will"

    def _beyond(self) -> str:
        """Return how far a model that takes no time would get, where that is further."""
        most = self.rate_without("model")
        return f" beyond {_rate(most)} rows/s" if most is not None and most * self.seconds_per_row > 1.1 else ""

    def _remedy(self) -> tuple[bool, str]:
        """Return whether all processes of this machine share what limits, and what would help."""
        machine, limit = self.machine, self.limit
        if self.cores_decide:
            return True, "more cores" if limit == "decode" else "more cores or fewer arrays"
        if limit == "write":
            return True, "a faster disk or fewer arrays"
        if limit != "decode":  # a process has a fixed number of threads for them
            return False, "fewer arrays, or more processes with --shard,"
        decode = self.measured["decode"]
        if decode.cpu_seconds < 0.5 * decode.seconds * min(machine.workers, machine.cores):
            return True, "more --workers, or a faster disk for the images,"
        return (False, "more --workers") if machine.workers < machine.cores - 2 else (True, "more cores")

    def _shared(self, without: str = "") -> float:
        return sum(seconds for name, seconds in self.on_cores.items() if name != without) / self.machine.cores

    def _seconds_without(self, stage: str) -> float:
        alone = [cost.seconds for name, cost in self.measured.items() if name != stage]
        return max([*alone, self._shared(stage)], default=0.0)


def _rate(rate: float | None) -> str:
    if rate is None:
        return "not measured"
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
