"""What every task in a worker begins with: a worker whose code is not that of the first process is refused.

A worker of somebody's own scheduler may run another version of Patchbank or of torch. What it makes would be stored
under digests that promise something else, so no task runs before the sources of both were compared.
"""

import functools
import importlib.metadata
import importlib.util
import pickle
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from distributed import WorkerPlugin, get_worker

from stores.canonical import sha256_hex
from stores.errors import PatchbankError, UserError

PACKAGES = ("stores", "pipeline", "evaluate", "commands")
"""Packages whose source files decide what a worker makes."""
LIBRARIES = ("torch", "timm", "numpy")
"""Libraries whose versions do."""

REFUSED = "patchbank-refused"
"""Topic under which a worker without Patchbank tells of itself."""


class OtherCodeError(UserError):
    """A worker that has other code than the first process."""


@functools.lru_cache(maxsize=1)
def code_here() -> dict[str, str]:
    """Return a digest of the source files of each package, and the versions of libraries, as this process has them.

    They are read once a process: what is changed on the disk later is not what runs.
    """
    found = {name: _sources_digest(name) for name in PACKAGES}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "none"
    return found


def _sources_digest(package: str) -> str:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return "none"
    folder = Path(spec.submodule_search_locations[0])
    files = sorted((path.relative_to(folder).as_posix(), path) for path in folder.rglob("*.py"))
    return sha256_hex("".join(f"{name} {sha256_hex(path.read_bytes())}\n" for name, path in files).encode())


def host_and_code() -> tuple[str, dict[str, str]]:
    """Return the name of this machine and `code_here`."""
    return platform.node(), code_here()


def other_code(worker: str, host: str, theirs: Mapping[str, str] | None, ours: Mapping[str, str]) -> str | None:
    """Return what is to be said of a worker's code, None where it is that of the first process.

    Args:
        worker: Its name.
        host: Its machine.
        theirs: What `code_here` returns there; None where it cannot be asked.
        ours: What it returns in the first process.
    """
    start = "start it in the environment of this command"
    if theirs is None:
        return f"worker {worker} on {host} has another Patchbank, or none: {start}"
    names = [name for name in ours if name in PACKAGES and theirs.get(name) != ours[name]]
    parts = [f"other source files of Patchbank ({', '.join(names)})"] if names else []
    parts += [
        f"{name} {theirs.get(name)} instead of {ours[name]}"
        for name in ours
        if name not in PACKAGES and theirs.get(name) != ours[name]
    ]
    return f"worker {worker} on {host} has {' and '.join(parts)}: {start}" if parts else None


def call_in_worker(ours: Mapping[str, str], function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a worker; return its result, or the PatchbankError that it raised or returned.

    A worker with other code calls nothing and returns OtherCodeError.

    Args:
        ours: What `code_here` returns in the first process.
        function: Called with the arguments.
        arguments: Its arguments.
    """
    name, host = str(get_worker().name), platform.node()
    problem = other_code(name, host, code_here(), ours)
    if problem is not None:
        return OtherCodeError(problem)
    try:
        result = function(*arguments)
    except PatchbankError as error:
        result = error
    return from_worker(result, name, host) if isinstance(result, PatchbankError) else result


def from_worker(error: PatchbankError, worker: str, host: str) -> PatchbankError:
    """Return an error that names the worker it comes from: its disk or its GPU may be the only bad one.

    Args:
        error: What was raised there.
        worker: The worker's name.
        host: Its machine.
    """
    if error.args:
        error.args = (f"{error} (worker {worker} on {host})", *error.args[1:])
    return error


def without_patchbank(plugin: WorkerPlugin) -> WorkerPlugin:
    """Return a plugin that a worker without Patchbank takes too, which then tells of itself under `REFUSED`.

    Dask lets a worker end without a word that cannot load the class of a plugin, or a task. A class inside of a
    function travels by value.

    Args:
        plugin: Set up by workers that can load it.
    """
    data, name, topic = pickle.dumps(plugin), getattr(plugin, "name", ""), REFUSED

    class Carried(WorkerPlugin):  # type: ignore[misc]
        def setup(self, worker: Any) -> None:
            import pickle
            import platform

            try:
                pickle.loads(data).setup(worker)  # noqa: S301 (of our parent)
            except (ImportError, AttributeError):
                worker.log_event(topic, {"name": str(worker.name), "host": platform.node()})
                raise

    carried = Carried()
    carried.name = name
    return carried
