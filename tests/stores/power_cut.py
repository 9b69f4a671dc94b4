"""What a disk may hold after a power cut, from the journal of the calls that were made before it.

The model is as hostile as POSIX allows. Bytes of a file that were not fsynced may be there, in part, as zeros or
not at all. A new, renamed or removed name is durable only once its folder was fsynced; until then each change of a
folder may have happened or not, in any combination. A folder whose own name was lost takes all it holds with it.
"""

from dataclasses import dataclass, field
from pathlib import PurePosixPath

FOLDER = "folder"


@dataclass
class File:
    data: bytes = b""
    durable: bytes | None = None


@dataclass
class Folder:
    durable: dict = field(default_factory=dict)
    pending: list = field(default_factory=list)
    """Changes since the last fsync; each is a dict of name to file, `FOLDER` or None (removed)."""

    def now(self):
        names = dict(self.durable)
        for change in self.pending:
            names.update(change)
        return names


class Disk:
    """Replays a journal; `states` yields what a crash at this moment may leave."""

    def __init__(self, base):
        self.base = str(base)
        self.folders = {self.base: Folder()}

    def apply(self, call):
        name, path, *rest = call
        if name == "mark":
            return
        folder, _, leaf = path.rpartition("/")
        if name == "create":
            self.folders[folder].pending.append({leaf: File()})
        elif name == "mkdir":
            self.folders[folder].pending.append({leaf: FOLDER})
            self.folders[path] = Folder()
        elif name == "write":
            self._file(path).data += rest[0]
        elif name == "fsync" and path in self.folders:
            self.folders[path].durable = self.folders[path].now()
            self.folders[path].pending = []
        elif name == "fsync":
            self._file(path).durable = self._file(path).data
        elif name == "link":
            assert PurePosixPath(rest[0]).parent == PurePosixPath(path).parent
            self.folders[folder].pending.append({rest[0].rpartition("/")[2]: self._file(path)})
        elif name == "replace":
            assert PurePosixPath(rest[0]).parent == PurePosixPath(path).parent
            self.folders[folder].pending.append({rest[0].rpartition("/")[2]: self._file(path), leaf: None})
        elif name == "unlink":
            self.folders[folder].pending.append({leaf: None})
        else:
            raise AssertionError(call)

    def _file(self, path):
        folder, _, leaf = path.rpartition("/")
        return self.folders[folder].now()[leaf]

    def pending(self):
        """Return ``(folder, number)`` of every change that may be lost."""
        return [(path, number) for path, folder in self.folders.items() for number in range(len(folder.pending))]

    def state(self, happened, tear):
        """Return file bytes by path relative to the base; ``happened`` are the pending changes that survived.

        ``tear`` gives the bytes of a file from what was written and what was fsynced (None: nothing).
        """
        found = {}
        stack = [self.base]
        while stack:
            path = stack.pop()
            folder = self.folders[path]
            names = dict(folder.durable)
            for number, change in enumerate(folder.pending):
                if (path, number) in happened:
                    names.update(change)
            for leaf, entry in names.items():
                if entry == FOLDER:
                    stack.append(f"{path}/{leaf}")
                elif entry is not None:
                    data = entry.data if entry.durable == entry.data else tear(entry.data, entry.durable)
                    found[f"{path}/{leaf}"[len(self.base) + 1 :]] = data
        return found


TEARS = {
    "lost": lambda data, durable: durable or b"",
    "half": lambda data, durable: data[: max(len(data) // 2, len(durable or b""))],
    "zeros": lambda data, durable: (durable or b"").ljust(len(data), b"\0"),
    "whole": lambda data, durable: data,
}


def states(disk, chosen=()):
    """Yield the hostile states of this moment: all, none, all but one, only one, and ``chosen`` subsets."""
    pending = disk.pending()
    everything = frozenset(pending)
    subsets = {everything, frozenset()}
    subsets |= {everything - {change} for change in pending}
    subsets |= {frozenset({change}) for change in pending}
    subsets |= {frozenset(change for change, keep in zip(pending, picks, strict=False) if keep) for picks in chosen}
    seen = set()
    for happened in sorted(subsets, key=lambda subset: (len(subset), sorted(subset))):
        for tear in TEARS.values():
            state = disk.state(happened, tear)
            key = frozenset(state.items())
            if key not in seen:
                seen.add(key)
                yield state
