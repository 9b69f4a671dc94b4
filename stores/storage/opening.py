"""Opening storage by a path or URL."""

from pathlib import Path

from stores.storage.base import Objects
from stores.storage.local import LocalObjects
from stores.storage.remote import RemoteObjects
from stores.storage.s3 import S3Objects


def open_objects(location: str | Path) -> Objects:
    """Return the storage at a path or an fsspec URL."""
    text = str(location)
    if text.startswith(("s3://", "s3a://")):
        return S3Objects(text)
    if "://" in text and not text.startswith("file://"):
        return RemoteObjects(text)
    return LocalObjects(text.removeprefix("file://"))
