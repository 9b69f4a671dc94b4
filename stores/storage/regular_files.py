"""Opening files that somebody else may have put there: pipes, sockets and devices are refused, never waited for."""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

from stores.errors import UserError
from stores.storage.base import MOST_BYTES

_open = os.open  # bound here, so that a test that watches the calls of a store counts this opening once, as a read


def _open_without_waiting(path: str, flags: int) -> int:
    # Opening a pipe that nobody writes to would wait for ever; plain files do not know the flag.
    return _open(path, flags | os.O_NONBLOCK)


def open_file(path: Path | str) -> BufferedReader:
    """Return a file opened for reading in binary; raises OSError as `open` does, UserError when it is no plain file."""
    try:
        file = open(path, "rb", opener=_open_without_waiting)  # noqa: SIM115 - the caller closes it
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.EOPNOTSUPP) and stat.S_ISSOCK(Path(path).stat().st_mode):
            raise UserError(f"{path} is a socket and not a file: remove it") from error
        raise
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise UserError(f"{path} is a device or a pipe and not a file: remove it")


def read_file(path: Path | str, most_bytes: int = MOST_BYTES) -> bytes:
    """Return a file's bytes; raises as `open_file` does, and UserError for a file of more than ``most_bytes``."""
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most_bytes:
            raise UserError(f"{path} has {size} bytes, more than the {most_bytes} that are read: remove it")
        return file.read()
