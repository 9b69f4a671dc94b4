"""Errors of the operating system and of object stores as one sentence with advice."""

import contextlib
import errno
from collections.abc import Iterator

from stores.errors import PatchbankError, UserError

_GONE = "the file system went away: mount it again"
_REFUSED = "permission is denied: choose another --store or change its owner"

ADVICE = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "your quota is used up: free some space",
    errno.EFBIG: "the file system or `ulimit -f` allows no file of this size: raise the limit",
    errno.EMFILE: "too many files are open: raise `ulimit -n`",
    errno.ENFILE: "too many files are open on this machine: close some",
    errno.EROFS: "the file system is read-only: choose another --store",
    errno.EACCES: _REFUSED,
    errno.EPERM: _REFUSED,
    errno.ENOTDIR: "there is a file where a folder should be: choose another --store",
    errno.EISDIR: "there is a folder where a file should be: choose another --store",
    errno.ENOENT: "its folder is gone: restore it",
    errno.ESTALE: _GONE,
    errno.ENOTCONN: _GONE,
    errno.ENODEV: _GONE,
    errno.ENXIO: _GONE,
    errno.EHOSTDOWN: _GONE,
    errno.ETIMEDOUT: _GONE,
    errno.EIO: "the disk reports an input/output error: check the disk",
}
"""What is wrong and what to do, by error number."""

_AGAIN = "then run the same command again (what is committed is kept)"


@contextlib.contextmanager
def explained(doing: str, path: str) -> Iterator[None]:
    """Raise UserError with one sentence for any OSError; ``doing`` is "read" or "write"."""
    try:
        yield
    except PatchbankError:
        raise
    except OSError as error:
        advice = ADVICE.get(error.errno or 0) or f"the system says {error.strerror or error!s}: fix that"
        raise UserError(f"cannot {doing} {path}: {advice}, {_AGAIN}") from error


@contextlib.contextmanager
def explained_remote(doing: str, url: str) -> Iterator[None]:
    """Raise UserError with one sentence for any error of an object store's client, except FileNotFoundError.

    Clients raise errors of their own libraries, so every Exception is caught.
    """
    try:
        yield
    except (PatchbankError, FileNotFoundError):
        raise
    except Exception as error:
        lines = str(error).strip().splitlines() or ["no reason given"]
        raise UserError(
            f"cannot {doing} {url}: the object store says {type(error).__name__}: {lines[0][:200]}: fix that, {_AGAIN}"
        ) from error
