"""The operating-system calls that the store makes below a folder: watched, refused, and kept in a journal.

It wraps the functions of `os` (and `io.open`, which pathlib reads with), so that the real `LocalObjects` is under test.
"""

import builtins
import contextlib
import io
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path

CHANGES = ("open", "write", "fsync", "link", "replace", "unlink", "mkdir")
LOOKS = ("stat", "scandir", "read", "statvfs")


@dataclass
class Calls:
    """What happened below ``root``, call by call; ``before`` may raise, and then the call is not made."""

    root: Path
    before: object = None
    count: int = 0
    journal: list = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)
    paths: dict = field(default_factory=dict)
    """Path of every open descriptor."""

    def mark(self, *what):
        """Note in the journal what the program was told at this moment."""
        with self.lock:
            self.journal.append(("mark", *what))

    def inside(self, path):
        return isinstance(path, str | os.PathLike) and (
            Path(path).is_relative_to(self.root) or Path(path) == self.root.parent
        )

    def announce(self, name, path):
        if self.before is not None:
            number, self.count = self.count, self.count + 1
            self.before(number, name, Path(path))


@contextlib.contextmanager
def watched(root, before=None):
    """Yield the `Calls` below ``root`` while the block runs."""
    calls = Calls(Path(root), before)
    real = {name: getattr(os, name) for name in (*CHANGES, "stat", "scandir", "statvfs", "close")}
    real_open = io.open

    def opened(path, flags, mode=0o777, **more):
        if not calls.inside(path):
            return real["open"](path, flags, mode, **more)
        with calls.lock:
            calls.announce("open", path)
            descriptor = real["open"](path, flags, mode, **more)
            calls.paths[descriptor] = str(path)
            if flags & os.O_CREAT:
                calls.journal.append(("create", str(path)))
            return descriptor

    def on_descriptor(name):
        def call(descriptor, *rest):
            with calls.lock:
                path = calls.paths.get(descriptor)
                if path is None:
                    return real[name](descriptor, *rest)
                calls.announce(name, path)
                result = real[name](descriptor, *rest)
                calls.journal.append((name, path, *(bytes(part) for part in rest)))
                return result

        return call

    def closed(descriptor):
        with calls.lock:
            calls.paths.pop(descriptor, None)
            return real["close"](descriptor)

    def on_path(name):
        def call(path, *rest, **more):
            if not calls.inside(path):
                return real[name](path, *rest, **more)
            with calls.lock:
                calls.announce(name, path)
                result = real[name](path, *rest, **more)
                if name in CHANGES:
                    targets = [str(other) for other in rest if isinstance(other, str | os.PathLike)]
                    calls.journal.append((name, str(path), *targets))
                return result

        return call

    def read(path, mode="r", *rest, **more):
        if calls.inside(path) and "r" in mode:
            with calls.lock:
                calls.announce("read", path)
        return real_open(path, mode, *rest, **more)

    fakes = {"open": opened, "write": on_descriptor("write"), "fsync": on_descriptor("fsync"), "close": closed}
    fakes |= {name: on_path(name) for name in ("link", "replace", "unlink", "mkdir", "stat", "scandir", "statvfs")}
    for name, fake in fakes.items():
        setattr(os, name, fake)
    io.open = builtins.open = read
    try:
        yield calls
    finally:
        for name, function in real.items():
            setattr(os, name, function)
        io.open = builtins.open = real_open
