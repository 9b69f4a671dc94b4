"""Hands out shares of one set after another: workers that make the last ones of a set are given those of the next.

A worker holds two shares, of whichever sets. When one dies, Dask gives both to others, which make only the ranges
without a commit record. What was made is returned in the order of the sets, and so are errors: a set that fails ends
the command once those before it are complete, as in one process.

A worker that was given a share of the next model builds that one and is given no more of the model before, which the
others make, unless there are no others or it has nothing else to make.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Generator, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pipeline.schedule.clusters import Cluster
from pipeline.schedule.handing_out import NO_WORKER_SECONDS, done_of, give_up, present_workers, result_of, submit
from pipeline.schedule.in_worker import Share
from pipeline.schedule.share_sizes import IN_FLIGHT, ShareSizes
from stores.errors import PatchbankError, UserError

T = TypeVar("T")


BUILD_SECONDS = 60.0
"""Time that is left for a set, as far as nobody has been given it, when the model of the next may be tried: building
one and computing a first batch takes no longer, mostly."""


def nobody_looks() -> None:
    """Look at nothing."""


@dataclass(frozen=True)
class Work:
    """Shares of ranges that a set waits for."""

    submit: Callable[[tuple[int, ...]], tuple[Any, ...]]
    """Returns the function that makes a share in a worker, and its arguments."""
    numbers: Sequence[int]
    """Ranges to make."""
    on_share: Callable[[Share, tuple[int, ...]], None]
    """Takes the outcome of a share and the numbers of its ranges."""
    sizes: ShareSizes = field(default_factory=ShareSizes)
    """Decides how many ranges a share has."""
    on_look: Callable[[], None] = nobody_looks
    """Called every second while the sets before are complete."""
    built: Hashable = None
    """What a worker has to build for it, and may have built for another set; None for nothing that takes a while."""
    is_last: bool = False
    """Whether the next set may begin once nearly all of it is handed out: so nobody waits for its first batch."""
    is_alike: bool = False
    """Whether workers have built for this set what the next one needs."""


Steps = Generator[Work, None, T]
"""Makes one set: yields the shares that it waits for, goes on when they are made, and returns what was made."""


class _OpenSet(Generic[T]):
    """A set that has begun and that was not returned yet.

    Args:
        steps: Makes it.
    """

    def __init__(self, steps: Steps[T]) -> None:
        self.steps = steps
        self.work: Work | None = None
        self.left: deque[int] = deque()
        """Ranges that no worker has been given."""
        self.n_running = 0
        """Shares that workers hold."""
        self.made: list[T] = []
        """What was made, once it is complete."""
        self.error: PatchbankError | None = None
        self.built: Hashable = None
        """What workers build for it."""

    @property
    def is_handing_out_the_last(self) -> bool:
        """Whether the shares that it waits for are the last ones, of features."""
        return self.work is not None and self.work.is_last

    def lets_next_begin(self, n_workers: int) -> bool:
        """Return whether workers hold or have made what there is to make, or nearly all of it."""
        if self.made or self.error or self.work is None or not self.work.is_last:
            return bool(self.made)
        if self.work.is_alike:
            return len(self.left) <= n_workers
        # The worker that tries the next model makes no more of this one.
        seconds = self.work.sizes.seconds_left(len(self.left), n_workers)
        return not self.left or (n_workers > 1 and seconds is not None and seconds <= BUILD_SECONDS)

    def go_on(self) -> None:
        """Go on up to the next shares that are to be waited for."""
        while not (self.left or self.n_running or self.made or self.error):
            try:
                self.work = next(self.steps)
                self.left.extend(self.work.numbers)
            except StopIteration as end:
                self.made.append(end.value)
            except PatchbankError as error:
                self.fail(error)

    def fail(self, error: PatchbankError) -> None:
        """Hand out nothing more of it; the first error counts."""
        self.error = self.error or error
        self.left.clear()

    def look(self) -> None:
        """Show how far it is."""
        if self.work is not None:
            self.work.on_look()


def hand_out(cluster: Cluster, sets: Iterable[Steps[T]]) -> Generator[T]:
    """Let workers make some sets, and yield what was made of each in their order.

    A set begins once the shares of the one before are handed out, or nearly all. When this process is told to stop,
    workers get a grace to write what they have. Raises the error of a share or of a set, or of asking for the next one,
    once the sets before are complete, and UserError when the scheduler or all workers are gone.

    Args:
        cluster: The workers.
        sets: Makes a set each; the next is asked for when it begins.
    """
    coming, open_sets = iter(sets), deque[_OpenSet[T]]()
    running: dict[Any, tuple[_OpenSet[T], str, tuple[int, ...]]] = {}
    latest: dict[str, _OpenSet[T]] = {}
    is_more, last_seen = True, time.monotonic()
    try:
        while open_sets or is_more:
            workers = present_workers(cluster)
            if workers:
                last_seen = time.monotonic()
            elif time.monotonic() - last_seen > NO_WORKER_SECONDS:
                raise UserError("no worker is left: what is committed is kept, run the same command to continue")
            for seals in (False, True):  # workers get what they can make before sets are sealed, which takes a while
                for one in open_sets:
                    if seals or not one.is_handing_out_the_last:
                        one.go_on()
                _fill(cluster, workers, list(open_sets), running, latest)
            if open_sets and (error := open_sets[0].error):
                raise error
            if open_sets and open_sets[0].made:
                open_sets[0].look()
                yield open_sets.popleft().made[0]
                continue
            if is_more and (not open_sets or open_sets[-1].lets_next_begin(len(workers))):
                following = _next_of(coming)
                is_more = following is not None and following.error is None
                open_sets.extend([] if following is None else [following])
                continue
            for future in done_of(cluster, running):
                one, _, share = running.pop(future)
                one.n_running -= 1
                _take(one, share, cluster, future)
            open_sets[0].look()
    except BaseException:
        give_up(cluster, running)
        raise


def _next_of(coming: Iterator[Steps[T]]) -> _OpenSet[T] | None:
    """Return the next set, one that has failed where asking for it fails, or None after the last."""
    try:
        steps = next(coming, None)
    except PatchbankError as error:
        failed: _OpenSet[T] = _OpenSet(_no_steps())
        failed.fail(error)
        return failed
    return None if steps is None else _OpenSet(steps)


def _no_steps() -> Steps[Any]:
    yield from ()


def _fill(
    cluster: Cluster,
    workers: dict[str, str],
    open_sets: Sequence[_OpenSet[T]],
    running: dict[Any, tuple[_OpenSet[T], str, tuple[int, ...]]],
    latest: dict[str, _OpenSet[T]],
) -> None:
    """Give shares to workers that hold fewer than two: what a set begins with first, then ranges of the earliest set.

    Args:
        cluster: The workers.
        workers: Names of those that are there, by address.
        open_sets: The sets in order.
        running: Shares that workers hold, by future; new ones are added.
        latest: The last set that each worker was to build something for, by address; kept up.
    """
    held = Counter(dict.fromkeys(workers, 0))
    held.update(address for _, address, _ in running.values() if address in workers)
    while found := _who_makes_what(workers, open_sets, held, latest):
        one, address = found
        assert one.work is not None
        n_ranges = one.work.sizes.next(workers[address], len(one.left), len(workers))
        share = tuple(one.left.popleft() for _ in range(n_ranges))
        # A worker that is free takes what another holds.
        where: dict[str, Any] = {"workers": [address], "allow_other_workers": True}
        future = submit(cluster, *one.work.submit(share), **where)
        running[future] = (one, address, share)
        one.n_running += 1
        held[address] += 1
        if one.work.built is not None:
            one.built, latest[address] = one.work.built, one


def _who_makes_what(
    workers: Collection[str],
    open_sets: Sequence[_OpenSet[T]],
    held: Mapping[str, int],
    latest: Mapping[str, _OpenSet[T]],
) -> tuple[_OpenSet[T], str] | None:
    """Return the set of the next share and the worker that gets it; None where no worker may get any.

    Args:
        workers: Their addresses.
        open_sets: The sets in order.
        held: Shares that each holds.
        latest: The last set that each was to build something for.
    """
    some = [place for place, one in enumerate(open_sets) if one.work and one.left]
    for place in sorted(some, key=lambda place: open_sets[place].is_handing_out_the_last):  # in order otherwise
        able = [one for one in workers if not _has_moved_on(latest.get(one), held[one], open_sets, place)]
        address = min(able or workers, key=held.__getitem__, default=None)
        if address is not None and held[address] < IN_FLIGHT:
            return open_sets[place], address
    return None


def _has_moved_on(latest: _OpenSet[T] | None, n_held: int, open_sets: Sequence[_OpenSet[T]], place: int) -> bool:
    """Return whether a worker has built something for a later set, and has or will get shares of that.

    Args:
        latest: The last set that it was to build something for.
        n_held: Shares that it holds.
        open_sets: The sets in order.
        place: The place of the set whose share it may get.
    """
    own, others = open_sets[place].work, open_sets[place + 1 :]
    if latest is None or latest.error or latest.work is None or not any(one is latest for one in others):
        return False
    if own is None or own.built is None or own.built == latest.built:
        return False
    is_over = all(one.made or one.error or (one.is_handing_out_the_last and not one.left) for one in others)
    return n_held > 0 or not is_over


def _take(one: _OpenSet[T], share: tuple[int, ...], cluster: Cluster, future: Any) -> None:
    """Take what became of a share."""
    assert one.work is not None
    try:
        result: Share = result_of(cluster, future)
    except PatchbankError as error:
        one.fail(error)
        return
    if result.error is not None:
        one.fail(result.error)
    elif one.error is None and result.stopped:  # that worker alone was told to end
        one.left.extendleft(reversed(share))
    elif one.error is None:
        one.work.sizes.took(result.worker, len(share), result.seconds)
        one.work.on_share(result, share)
