"""The summary of a set: the one small object that `ls` reads, and the second copy of the set's records.

It is rewritten whenever arrays are declared or sealed, so it may lag behind what is on disk for a moment or after
a kill, but only in one direction: arrays enter it before they are declared and become sealed in it after their seal
is written. A summary whose arrays are all sealed is therefore the truth; any other sends the reader to the set.
Because it lists what was sealed, a seal that is lost is noticed, and made again from the bytes it vouched for.
"""

from collections.abc import Mapping
from typing import Any

from stores.canonical import checksummed, read_checksummed
from stores.format.commits import Seal
from stores.format.layout import Layout
from stores.format.paths import SUMMARY
from stores.specs import ArraySpec, FeatureSpec, LabelSpec
from stores.storage.base import Objects, read_if_present

KEYS = frozenset({"set", "kind", "data_set", "model", "view", "rows", "ranges", "arrays", "notes", "records"})
"""What a summary holds beside its checksum."""


def summary_bytes(
    spec: FeatureSpec | LabelSpec,
    layout: Layout,
    records: Mapping[str, bytes],
    arrays: Mapping[str, Any] | None = None,
    notes: Mapping[str, Mapping[str, str]] | None = None,
) -> bytes:
    """Return a set's summary; ``records`` are its other records byte for byte, ``arrays`` are `array_entries`."""
    return checksummed(
        {
            "set": spec.digest,
            "kind": spec.kind,
            "data_set": spec.dataset.name,
            "model": spec.model.name if isinstance(spec, FeatureSpec) else "-",
            "view": spec.view.name,
            "rows": layout.n_rows,
            "ranges": layout.n_ranges,
            "arrays": dict(arrays or {}),
            "notes": dict(notes or {}),
            "records": {name: data.decode() for name, data in records.items()},
        }
    )


def read_summary(objects: Objects, prefix: str) -> dict[str, Any] | None:
    """Return the summary of the set in folder ``prefix``, None when it is absent, torn or another set's."""
    record = read_checksummed(read_if_present(objects, f"{prefix}/{SUMMARY}"))
    whole = record is not None and record.keys() == KEYS and record["set"] == prefix.rpartition("/")[2]
    return record if whole and _sound(record) else None


def _sound(record: Any) -> bool:
    """Return whether every value has the type that readers rely on; the checksum alone does not say so."""
    texts = all(isinstance(record[key], str) for key in ("kind", "data_set", "model", "view"))
    counts = all(type(record[key]) is int and record[key] >= 0 for key in ("rows", "ranges"))
    tables = all(isinstance(record[key], dict) for key in ("arrays", "notes", "records"))
    return (
        texts
        and counts
        and tables
        and all(map(_sound_entry, record["arrays"].values()))
        and all(_texts(note) for note in record["notes"].values())
        and _texts(record["records"])
    )


def _texts(record: Any) -> bool:
    return isinstance(record, dict) and all(isinstance(value, str) for value in record.values())


def _sound_entry(entry: Any) -> bool:
    if not isinstance(entry, dict):
        return False
    if "spec" in entry:
        return entry.keys() == {"spec"} and isinstance(entry["spec"], dict)
    return entry.keys() == {"content", "stored", "bytes"} and type(entry["bytes"]) is int


def array_entries(arrays: Mapping[str, ArraySpec], seals: Mapping[str, Seal]) -> dict[str, Any]:
    """Return what a summary says of arrays: digests and bytes of sealed ones, the spec of the others."""
    entries: dict[str, Any] = {name: {"spec": array.canonical()} for name, array in arrays.items()}
    for name, seal in seals.items():
        entries[name] = {"content": seal.content, "stored": seal.stored, "bytes": seal.n_bytes}
    return entries


def update_summary(objects: Objects, prefix: str, changes: Mapping[str, Any]) -> bool:
    """Replace some keys of a summary; return whether it was written. One that is torn is left for `repair`."""
    before = read_summary(objects, prefix)
    if before is None or all(before[key] == value for key, value in changes.items()):
        return False
    objects.put(f"{prefix}/{SUMMARY}", [checksummed({**before, **changes})])
    return True


def invalid_rows(provenance: Any) -> int:
    """Return how many rows a set's provenance calls invalid, 0 where it says nothing or no number."""
    said = provenance.get("invalid_rows") if isinstance(provenance, dict) else None
    return said if type(said) is int and said > 0 else 0


def all_sealed(summary: Mapping[str, Any]) -> bool:
    """Return whether every array the summary lists is sealed; then nothing else need be read to list the set."""
    return all("stored" in entry for entry in summary["arrays"].values())
