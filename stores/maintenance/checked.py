"""Sets that are compared with their records while they are read: chunks with seals, tables with ``created.json``."""

import pandas as pd

from stores.arrays import ZarrArray
from stores.canonical import sha256_hex
from stores.errors import DamageError, MissingError
from stores.format.paths import CREATED, LAYOUT
from stores.format.seal_checks import SealChecks
from stores.format.tables import read_table, unreadable
from stores.sets import ZarrSet


class CheckedSet(ZarrSet):
    """An opened set in which nothing is believed that its records do not list under its name, size and sha256.

    Reading a chunk tests its checksum, which a chunk of another array or position passes too. Here the first time that
    this process reads a chunk of a sealed array, its bytes are compared with the seal, and again after it was replaced;
    tables are compared with ``created.json`` every time. Raises DamageError, also when it is made, for what differs.
    """

    def __init__(self, stored_set: ZarrSet) -> None:
        vars(self).update(vars(stored_set))
        self._recorded(LAYOUT)

    def __getitem__(self, name: str) -> ZarrArray:
        array = super().__getitem__(name)
        if array.spec.name in self.seals:
            array.checks = SealChecks(self.objects, array.folder, self.seals[array.spec.name].objects)
        return array

    def table(self, name: str) -> pd.DataFrame:
        """Return one of the set's tables; raises MissingError for an unknown name and DamageError for other bytes."""
        file = f"{name}.parquet"
        key = f"{self.objects.url}/{self.prefix}/{file}"
        data = self._recorded(file)
        try:
            return read_table(data, key)
        except DamageError as error:
            raise unreadable(key, error) from error

    def _recorded(self, name: str) -> bytes:
        """Return a file's bytes, which are those that ``created.json`` lists."""
        data = self.objects.read(f"{self.prefix}/{name}")
        try:
            created = self._checked(CREATED)
        except MissingError as error:
            raise DamageError(f"{self.objects.url}/{self.prefix}/{CREATED} is gone: run `patchbank repair`") from error
        files = created.get("files")
        listed = files.get(name) if isinstance(files, dict) and created.get("set") == self.digest else None
        if listed != sha256_hex(data):
            raise DamageError(
                f"{self.objects.url}/{self.prefix}/{name} is not the file that the set was created with: run "
                "`patchbank repair`"
            )
        return data


def checked(stored_set: ZarrSet) -> ZarrSet:
    """Return the set as a `CheckedSet`."""
    return stored_set if isinstance(stored_set, CheckedSet) else CheckedSet(stored_set)
