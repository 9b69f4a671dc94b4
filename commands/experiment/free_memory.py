"""How much memory is free for this process: the machine's, or what the job's control group leaves of it."""

from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


def free_memory(root: Path = ROOT, own: Path = Path("/proc/self/cgroup")) -> int:
    """Return the bytes that can still be taken without swapping, within the limits of batch systems and containers.

    Limits are those of control groups of version 2 (Linux), of the process's own group and of all above it; file
    pages that can be dropped count as free. Other systems give what the machine has available.
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
