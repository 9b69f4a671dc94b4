"""Storage in S3 and its likes: what s3fs does in two requests or more, in one.

s3fs asks for an object's size before it reads it, and where something is not there, whether it is a folder.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from stores.storage.remote import AT_ONCE, RemoteObjects


class S3Objects(RemoteObjects):
    """A bucket, or a folder in one: ``s3://bucket/folder``."""

    _lacking = "install the extra s3 (`uv pip install -e '.[s3]'`)"

    def _opened(self, fsspec: Any) -> tuple[Any, str]:
        # As many connections as requests at a time, unless the user's configuration of fsspec says something of them.
        told = fsspec.config.conf.get("s3", {}).get("config_kwargs", {})
        config = {"max_pool_connections": AT_ONCE, **told}
        return fsspec.core.url_to_fs(self.url, use_listings_cache=False, config_kwargs=config)

    def _get(self, path: str) -> bytes:
        return bytes(self.filesystem.cat_file(path, max_concurrency=1))

    def _head(self, path: str) -> tuple[int, str]:
        bucket, key, _ = self.filesystem.split_path(path)
        found = self.filesystem.call_s3("head_object", Bucket=bucket, Key=key)
        return int(found["ContentLength"]), f"{found.get('ETag')} {found.get('VersionId')} {found.get('LastModified')}"

    def _names(self, path: str) -> Iterable[str]:
        bucket, key, _ = self.filesystem.split_path(path)
        prefix = f"{key}/" if key else ""
        for page in self._pages(Bucket=bucket, Prefix=prefix, Delimiter="/"):
            yield from (entry["Prefix"][len(prefix) :].rstrip("/") for entry in page.get("CommonPrefixes", []))
            yield from (entry["Key"][len(prefix) :] for entry in page.get("Contents", []) if entry["Key"] != prefix)

    def _pages(self, **asked: str) -> Iterator[dict[str, Any]]:
        page = self.filesystem.call_s3("list_objects_v2", **asked)
        yield page
        while page.get("IsTruncated"):
            page = self.filesystem.call_s3("list_objects_v2", ContinuationToken=page["NextContinuationToken"], **asked)
            yield page
