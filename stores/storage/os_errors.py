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
    errno.ENAMETOOLONG: "a name in it is longer than the 255 bytes a file system takes: shorten it",
    errno.ELOOP: "its links lead in a circle: remove one of them",
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


_EXPIRED = "the credentials have expired: get new ones"
_UNKNOWN = "the credentials are not known there: check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or the profile"
_DENIED = "permission is denied: ask for the right to {doing} there, or choose another --store"

REMOTE_ADVICE = {
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "RequestExpired": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "InvalidAccessKeyId": _UNKNOWN,
    "InvalidToken": _UNKNOWN,
    "SignatureDoesNotMatch": _UNKNOWN,
    "NoCredentialsError": "there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or a profile",
    "AccessDenied": _DENIED,
    "403": _DENIED,
    "PermissionError": _DENIED,
    "RequestTimeTooSkewed": "this machine's clock is wrong: set it",
    "NoSuchBucket": "there is no such bucket: create it, or choose another --store",
    "400": "the object store refuses the request, mostly because credentials have expired: get new ones",
    "SlowDown": "the object store asks for fewer requests: wait a while",
    "EndpointConnectionError": "the object store does not answer: check the network and its address",
    "ClientConnectorError": "the object store does not answer: check the network and its address",
}
"""What is wrong and what to do, by the error code of S3 or by the type of the client's error."""


def remote_code(error: BaseException) -> str:
    """Return the error code that S3 has answered, or the HTTP status; empty where the error has none."""
    for one in (error, error.__cause__):
        answer = getattr(one, "response", None)
        if isinstance(answer, dict):
            return str(answer.get("Error", {}).get("Code", ""))
    return ""


@contextlib.contextmanager
def explained_remote(doing: str, url: str) -> Iterator[None]:
    """Raise UserError with one sentence for any error of an object store's client, except FileNotFoundError.

    Clients raise errors of their own libraries, so every Exception is caught. A bucket that is not there is no missing
    object.
    """
    try:
        yield
    except PatchbankError:
        raise
    except Exception as error:
        code = remote_code(error)
        if isinstance(error, FileNotFoundError) and code != "NoSuchBucket":
            raise
        lines = str(error).strip().splitlines() or ["no reason given"]
        name = code if code in REMOTE_ADVICE else type(error).__name__
        advice = REMOTE_ADVICE.get(name, f"{lines[0][:200]}: fix that").replace("{doing}", doing)
        raise UserError(f"cannot {doing} {url}: the object store says {name}: {advice}, {_AGAIN}") from error
