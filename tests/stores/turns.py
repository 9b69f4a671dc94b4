"""Several writers whose every access to storage waits for its turn, so that a test decides how they interleave."""

import threading

from stores.errors import PatchbankError


class Killed(BaseException):
    """Stands for SIGKILL between two accesses: from here on nothing of this writer reaches the storage."""


class Turns:
    """Runs writers one access at a time; ``choose`` gets the waiting writers' numbers and names one."""

    def __init__(self, choose, kill=lambda writer: False):
        self.choose, self.kill = choose, kill
        self.changed = threading.Condition()
        self.waiting, self.granted, self.alive, self.dead = set(), None, set(), set()
        self.errors = {}

    def take(self, writer):
        """Block until it is this writer's turn."""
        with self.changed:
            if writer in self.dead:
                raise Killed
            self.waiting.add(writer)
            self.changed.notify_all()
            self.changed.wait_for(lambda: self.granted == writer)
            self.granted = None
            self.waiting.discard(writer)
            if writer in self.dead:
                raise Killed

    def _main(self, writer, work):
        try:
            work()
        except Killed:
            pass
        except PatchbankError as error:
            self.errors[writer] = error
        finally:
            with self.changed:
                self.alive.discard(writer)
                self.changed.notify_all()

    def run(self, works):
        """Run every work to its end; returns the errors that were meant for users, by writer."""
        self.alive = set(range(len(works)))
        threads = [
            threading.Thread(target=self._main, args=(writer, work), daemon=True) for writer, work in enumerate(works)
        ]
        for thread in threads:
            thread.start()
        while True:
            with self.changed:
                ready = self.changed.wait_for(lambda: self.granted is None and self.waiting >= self.alive, timeout=30)
                assert ready, f"{self.alive - self.waiting} hang"
                if not self.alive:
                    break
                writer = self.choose(sorted(self.waiting))
                if self.kill(writer):
                    self.dead.add(writer)
                self.granted = writer
                self.changed.notify_all()
        for thread in threads:
            thread.join()
        return self.errors


class InTurn:
    """Storage that takes a turn before each access that a rival could notice."""

    def __init__(self, objects, turns, writer):
        self.objects, self.turns, self.writer = objects, turns, writer
        self.url = objects.url

    def __getattr__(self, name):
        function = getattr(self.objects, name)

        def call(*arguments):
            self.turns.take(self.writer)
            return function(*arguments)

        return call
