"""Opening an exported HDF5 file with all checks that are needed before data from an unknown source is used.

Every link must be a hard link to something that the file's manifest lists, with the dtype and shape of its spec and
storage that can hold them; external, virtual and object data are refused before a byte of them is read.
stores/README.md describes the layout, `stores.hdf5.exporting` writes it.
"""

import contextlib
import errno
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stores.canonical import read_checksummed, sha256_hex
from stores.errors import DamageError, MissingError, PatchbankError, UserError
from stores.format.layout import Layout
from stores.format.paths import COMPUTE, COPIED, CREATED, LAYOUT, PROVENANCE, SPEC
from stores.format.records import check_format
from stores.hdf5.records import EXCHANGE_FORMAT, FORMAT_ATTRIBUTE, MANIFEST, RECORDS, Manifest
from stores.sets import KINDS
from stores.specs import FeatureSpec, LabelSpec
from stores.storage.os_errors import ADVICE
from stores.storage.os_errors import explained as explained_by_system
from stores.storage.regular_files import open_file

_LOCKED = (errno.EAGAIN, errno.EDEADLK, errno.ENOLCK)
_TABLE = re.compile(r"[a-z][a-z0-9_]{0,40}\.parquet")
_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
_RECORD_BYTES = 16 << 20
_DEFLATE_RATIO = 1100  # deflate reaches 1032 at most
_PIECE_BYTES = 64 << 20


class CheckedFile:
    """An open file whose manifest, records, arrays and links have passed every check.

    Raises MissingError when there is no file, UserError when it is not an export or of a newer format, and
    DamageError when it is not what an export writes.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).expanduser()
        if not self.path.is_file():
            raise MissingError(f"there is no file {self.path}: `patchbank export` makes such files")
        with explained_by_system("read", str(self.path)):
            open_file(self.path).close()
        if not h5py.is_hdf5(self.path):
            raise UserError(f"{self.path} is not an HDF5 file: `patchbank export` makes files that can be read")
        self._open()
        try:
            with explained(self.path, "its contents"):
                self._check_records()
                for name in self.manifest.arrays:
                    self._check_array(name)
                self._check_nothing_else()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        with explained(self.path, "its beginning"):
            self._file = h5py.File(self.path, "r", locking="best-effort")
        self._process = os.getpid()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def dataset(self, address: str) -> h5py.Dataset:
        """Return the h5py dataset of an array, from a file handle of this process."""
        if self._process != os.getpid():  # HDF5 handles do not survive a fork
            self._open()
        return self._file[address]

    def _check_records(self) -> None:
        version = self._file.attrs.get(FORMAT_ATTRIBUTE)
        if not isinstance(version, np.integer):
            raise UserError(
                f"{self.path} is an HDF5 file of another program: `patchbank export` makes files that can be read"
            )
        if version != EXCHANGE_FORMAT:
            advice = "install a newer patchbank" if version > EXCHANGE_FORMAT else "export the set again"
            raise UserError(
                f"{self.path} is of exchange format {version} and this version of patchbank reads format "
                f"{EXCHANGE_FORMAT}: {advice}"
            )
        self._group(RECORDS)
        manifest = read_checksummed(self._bytes(MANIFEST, _RECORD_BYTES))
        if manifest is None:
            raise self._damage("its manifest is torn or edited")
        self.manifest = Manifest.model_validate(manifest, strict=False)
        spec = self._json(SPEC)
        check_format(spec.get("format"), f"the set in {self.path}")
        self.spec: FeatureSpec | LabelSpec = KINDS[self.manifest.kind].model_validate(spec, strict=False)
        self.layout = Layout.model_validate(self._checked(LAYOUT), strict=False)
        self.compute: dict[str, Any] = self._checked(COMPUTE)
        self.provenance: dict[str, Any] = self._checked(PROVENANCE)
        created = self._checked(CREATED)
        if self.spec.digest != self.manifest.set or created.get("set") != self.manifest.set:
            raise self._damage("its spec does not have the digest in its manifest")
        if self.layout.range_rows & (self.layout.range_rows - 1):
            raise self._damage(f"its ranges hold {self.layout.range_rows} rows, which is not a power of two")
        listed = {name: sha for name, sha in created["files"].items() if name.endswith(".parquet")}
        self.table_files = {name: sha for name, sha in self.manifest.files.items() if _TABLE.fullmatch(name)}
        if listed != self.table_files or "samples.parquet" not in listed:
            raise self._damage("its tables are not those of the set")
        if set(self.manifest.files) - set(self.table_files) != set(COPIED):
            raise self._damage("its records are not those of a set")

    def _check_array(self, name: str) -> None:
        array = self.manifest.arrays[name].spec
        if array.name != name or array.group == RECORDS:
            raise self._damage(f"its manifest lists array {name[:80]!r} with the record of another one")
        self._group(array.group)
        dataset = self._dataset(name)
        if dataset.dtype != np.dtype(array.dtype).newbyteorder("<"):
            raise self._damage(f"array {name} is {dataset.dtype} and not {array.dtype} as in its manifest")
        shape = (self.layout.n_rows, *array.row_shape)
        if dataset.shape != shape:
            raise self._damage(f"array {name} has the shape {dataset.shape} and not {shape} as in its manifest")
        ratio = _DEFLATE_RATIO if self._filters(dataset) & {h5py.h5z.FILTER_DEFLATE} else 1
        if self.layout.n_rows * array.row_bytes > ratio * dataset.id.get_storage_size():
            raise self._damage(f"array {name} has fewer bytes in the file than its shape needs")
        chunk_bytes = np.dtype(array.dtype).itemsize
        for extent in dataset.chunks or ():
            chunk_bytes *= int(extent)
        if chunk_bytes > max(_PIECE_BYTES, array.row_bytes):
            raise self._damage(f"array {name} has chunks of {chunk_bytes} bytes")

    def _check_nothing_else(self) -> None:
        expected = {RECORDS: {MANIFEST, *self.manifest.files}}
        for name in self.manifest.arrays:
            group, _, child = name.partition("/")
            expected.setdefault(group, set()).add(child)
        for group in self._file:
            extra = set(self._file[group]) - expected[group] if group in expected else {""}
            if extra:
                raise self._damage(
                    f"it holds {f'{group}/{min(extra)}'.rstrip('/')[:80]!r}, which its manifest does not list"
                )

    def _hard_link(self, parent: h5py.Group, name: str, kind: type) -> None:
        if not isinstance(parent.get(name, getlink=True), h5py.HardLink) or parent.get(name, getclass=True) is not kind:
            raise self._damage(f"{name[:80]!r} is missing, or is a link or another kind of object")

    def _group(self, name: str) -> None:
        self._hard_link(self._file, name, h5py.Group)

    def _dataset(self, name: str) -> h5py.Dataset:
        group, _, child = name.partition("/")
        self._hard_link(self._file[group], child, h5py.Dataset)
        dataset = self._file[group][child]
        if dataset.external or dataset.is_virtual or dataset.dtype.hasobject:
            raise self._damage(f"{name} points out of the file or holds objects")
        if self._filters(dataset) - _FILTERS:
            raise self._damage(f"{name} is compressed by a filter that exports do not use")
        if dataset.id.get_storage_size() > self.path.stat().st_size:
            raise self._damage(f"{name} declares more bytes than the file has")
        return dataset

    @staticmethod
    def _filters(dataset: h5py.Dataset) -> set[int]:
        properties = dataset.id.get_create_plist()
        return {properties.get_filter(index)[0] for index in range(properties.get_nfilters())}

    def _bytes(self, name: str, limit: int) -> bytes:
        dataset = self._dataset(f"{RECORDS}/{name}")
        if dataset.dtype != np.uint8 or len(dataset.shape) != 1 or dataset.chunks or dataset.size > limit:
            raise self._damage(f"{name} is not a record of at most {limit} bytes")
        if dataset.size != dataset.id.get_storage_size():
            raise self._damage(f"{name} has fewer bytes in the file than its shape needs")
        return bytes(dataset[:].data)

    def _damage(self, what: str) -> DamageError:
        return DamageError(f"{self.path} is not what `patchbank export` writes ({what}): get the file again")

    def record(self, name: str) -> bytes:
        """Return the bytes of a record or table; raises DamageError when they are not those that were exported."""
        limit = _RECORD_BYTES if name.endswith(".json") else self.path.stat().st_size
        with explained(self.path, name):
            data = self._bytes(name, limit)
            if sha256_hex(data) != self.manifest.files[name]:
                raise self._damage(f"{name} holds other bytes than were exported")
        return data

    def _json(self, name: str) -> dict[str, Any]:
        record = json.loads(self.record(name))
        if not isinstance(record, dict):
            raise self._damage(f"{name} is not a record")
        return record

    def _checked(self, name: str) -> dict[str, Any]:
        record = read_checksummed(self.record(name))
        if record is None:
            raise self._damage(f"{name} is torn or edited")
        return record


@contextlib.contextmanager
def explained(path: Path, what: str) -> Iterator[None]:
    """Raise an error in one sentence for any error of the HDF5 library.

    UserError for a lock, a shortage or an error of the disk, which say nothing of the file; DamageError for all others.
    """
    try:
        yield
    except PatchbankError:
        raise
    except MemoryError as error:
        raise UserError(f"{path}: memory ran out while {what} was read: free some, then run it again") from error
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
        number = getattr(error, "errno", None)
        if number in _LOCKED:
            raise UserError(
                f"{path} is locked by a process that writes it: wait until that closed it (where nothing writes it, "
                "its file system offers no locks: set HDF5_USE_FILE_LOCKING=FALSE), then run the same command again"
            ) from error
        if number in ADVICE:
            raise UserError(f"cannot read {path}: {ADVICE[number]}, then run the same command again") from error
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise DamageError(f"{path}: {what} cannot be read ({first[:200]}): get the file again") from error
