"""Reads how much memory this process can still use, within the limits of its control groups."""

from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


def free_memory(root: Path = ROOT, own: Path = Path("/proc/self/cgroup")) -> int:
    """Return the bytes that can be allocated without swapping, within the limits of batch systems and containers.

    Limits are those of Linux control groups, version 2: the process's own group and all its parents. File pages that
    can be dropped count as free. On other systems it is the machine's available memory.
    """
    import psutil

    free = int(psutil.virtual_memory().available)
    for folder in _groups(root, own):
        limit = _read(folder / "memory.max")
        used = _read(folder / "memory.current")
        if limit is not None and used is not None:
            free = min(free, max(0, limit - used + _inactive_files(folder)))
    return free


def _groups(root: Path, own: Path) -> list[Path]:
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return []
    names = [line.removeprefix("0::").strip("/") for line in lines if line.startswith("0::")]
    folder = root / names[0] if names else root
    return [folder, *(parent for parent in folder.parents if parent.is_relative_to(root))]


def _read(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _inactive_files(folder: Path) -> int:
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
