"""Possible bytes of lost records and tables, from every copy in a store."""

from collections.abc import Iterator, Mapping

from stores.canonical import checksummed, read_checksummed, sha256_hex
from stores.errors import DamageError
from stores.format.commits import parse
from stores.format.creation import created_record
from stores.format.layout import Layout
from stores.format.paths import COMPUTE, COPIED, CREATED, GROUP, LAYOUT, PROVENANCE, SPEC
from stores.format.records import record_bytes
from stores.format.tables import read_table
from stores.maintenance.inventory import Inventory
from stores.store import Store


def candidates(
    store: Store, inventory: Inventory, name: str, given: Mapping[str, bytes]
) -> Iterator[tuple[str, bytes | None]]:
    """Yield where the bytes of a record or table come from with the bytes, None where that place has none.

    Bytes are yielded only if they are known to be those that were written: by the sha256 in ``created.json``, by the
    set's name, or, for ``created.json`` itself, because every file that it lists is known to be whole.

    Args:
        store: The store.
        inventory: Records of the set.
        name: File name of what is lost.
        given: Bytes of records and tables that were made again from a recipe, by file name.
    """
    yield "from the summary's copy", inventory.copy(name)
    if name == CREATED:
        yield "from the files that it lists", _created(store, inventory, given)
        return
    wanted = (inventory.created or {}).get(name, inventory.digest if name == SPEC else "")
    made = {"from the recipe": given.get(name), "from the set's name": inventory.metadata.get(name)}
    for how, data in made.items():
        yield how, data if data is not None and sha256_hex(data) == wanted else None
    if name.endswith(".parquet"):
        yield "from another set of the same samples", _table_elsewhere(store, inventory.prefix, name, wanted)
    if name == LAYOUT:
        yield "from the number of samples", _layout(inventory, wanted)


def _created(store: Store, inventory: Inventory, given: Mapping[str, bytes]) -> bytes | None:
    """Return the ``created.json`` of the files that are there, if each of them is known to be whole.

    A record is by its checksum, the spec by the set's name, a table by another set's ``created.json`` or the recipe.
    """
    names = sorted(child for child in inventory.names if child.endswith(".parquet") or child in (*COPIED, GROUP))
    written = {name: inventory.read(name) or b"" for name in names if name != CREATED}
    tables = {"samples.parquet", *(["classes.parquet"] if inventory.prefix.startswith("labels/") else [])}
    if not {SPEC, LAYOUT, GROUP, COMPUTE, PROVENANCE, *tables} <= written.keys():
        return None
    known = _listed_tables(store, inventory.prefix) | {sha256_hex(data) for data in given.values()}
    records = {name: read_checksummed(written[name]) for name in (LAYOUT, COMPUTE, PROVENANCE)}
    whole: dict[str, bool] = {LAYOUT: parse(Layout, records[LAYOUT]) is not None}
    # A record in the place of another one has a checksum too.
    for name in (COMPUTE, PROVENANCE):
        record = records[name]
        is_other = record is None or "files" in record or parse(Layout, record) is not None
        whole[name] = not is_other and ("device" in (record or {})) == (name == COMPUTE)
    whole |= {name: sha256_hex(data) in known for name, data in written.items() if name.endswith(".parquet")}
    whole |= {SPEC: sha256_hex(written[SPEC]) == inventory.digest, GROUP: written[GROUP] == inventory.metadata[GROUP]}
    return created_record(inventory.digest, written) if all(whole.values()) else None


def _listed_tables(store: Store, prefix: str) -> set[str]:
    """Return the sha256 of all tables of the other sets."""
    listed = set()
    for kind, digest in store.set_folders():
        record = read_checksummed(record_bytes(store.objects, f"{kind}/{digest}/{CREATED}"))
        if f"{kind}/{digest}" != prefix and record is not None and isinstance(record.get("files"), dict):
            listed |= {sha256 for name, sha256 in record["files"].items() if name.endswith(".parquet")}
    return listed


def _table_elsewhere(store: Store, prefix: str, name: str, wanted: str) -> bytes | None:
    for kind, digest in store.set_folders():
        key = f"{kind}/{digest}/{name}"
        data = None if key.startswith(f"{prefix}/") else record_bytes(store.objects, key)
        if data is not None and sha256_hex(data) == wanted:
            return data
    return None


def _layout(inventory: Inventory, wanted: str) -> bytes | None:
    """Return the layout of the set's number of samples whose sha256 is the recorded one; few are possible."""
    try:
        n_rows = len(read_table(inventory.read("samples.parquet") or b""))
    except DamageError:
        return None
    for exponent in range(max(1, n_rows).bit_length() + 1):
        for compression in ("none", "zstd"):
            layout = Layout.model_validate({"n_rows": n_rows, "range_rows": 1 << exponent, "compression": compression})
            data = checksummed(layout.canonical())
            if sha256_hex(data) == wanted:
                return data
    return None
