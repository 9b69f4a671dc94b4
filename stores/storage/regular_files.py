"""Opening files that somebody else may have put there: pipes, sockets and devices are refused, never waited for."""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

from stores.errors import UserError
from stores.storage.base import MOST_BYTES


def open_file(path: Path | str) -> BufferedReader:
    """Return a file opened for reading in binary; raises OSError as `open` does, UserError when it is no plain file."""
    try:
        # Opening a pipe that nobody writes to would wait for ever without O_NONBLOCK; plain files do not know it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.EOPNOTSUPP) and stat.S_ISSOCK(Path(path).stat().st_mode):
            raise UserError(f"{path} is a socket and not a file: remove it") from error
        raise
    kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
    if kind == stat.S_IFREG:
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if kind == stat.S_IFDIR:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise UserError(f"{path} is a device or a pipe and not a file: remove it")


def read_file(path: Path | str, most_bytes: int = MOST_BYTES) -> bytes:
    """Return a file's bytes; raises as `open_file` does, and UserError for a file of more than ``most_bytes``."""
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most_bytes:
            raise UserError(f"{path} has {size} bytes, more than the {most_bytes} that are read: remove it")
        return file.read()
