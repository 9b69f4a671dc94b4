"""The summary of a set: the small object that `ls` reads, with a second copy of the set's records.

It is rewritten whenever arrays are declared or sealed, so it may be out of date for a moment or after a kill, but only
in one direction: arrays enter it before they are declared and become sealed in it after their seal is written. A
summary whose arrays are all sealed is therefore up to date; with any other the set itself has to be read. Because it
lists what was sealed, a lost seal is noticed, and written again if the array's bytes have the digest listed here.

Two processes may rewrite it at the same time, and the later one then writes back what it read before the earlier one.
So a process that wrote it compares it with what is on disk afterwards (`ZarrSet.summarise`): the last one to write
leaves a summary that is true.
"""

import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import Any

from stores.canonical import checksummed, read_checksummed
from stores.errors import MissingError
from stores.format.commits import Seal, parse, read_seal
from stores.format.layout import Layout
from stores.format.paths import SUMMARY, seal_path
from stores.format.records import TRIES, record_bytes
from stores.specs import ArraySpec, FeatureSpec, LabelSpec
from stores.storage.base import Objects

KEYS = frozenset({"set", "kind", "data_set", "model", "view", "rows", "ranges", "arrays", "notes", "records"})
"""What a summary holds beside its checksum."""


def summary_bytes(
    spec: FeatureSpec | LabelSpec,
    layout: Layout,
    records: Mapping[str, bytes],
    arrays: Mapping[str, Any] | None = None,
    notes: Mapping[str, Mapping[str, str]] | None = None,
) -> bytes:
    """Return a set's summary as stored bytes.

    Args:
        spec: The record that names the set.
        layout: Its layout.
        records: The bytes of its other records, by file name.
        arrays: `array_entries` of its arrays, by address.
        notes: The notes in ``index/`` that name the set, by key.
    """
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
    """Return the summary of the set in folder ``prefix``, None when it is absent, torn or of another set."""
    return parse_summary(record_bytes(objects, f"{prefix}/{SUMMARY}"), prefix.rpartition("/")[2])


def parse_summary(data: bytes | None, set_digest: str) -> dict[str, Any] | None:
    """Return a summary from its stored bytes, None when they are absent, torn or of another set."""
    record = read_checksummed(data)
    own = record is not None and record.keys() == KEYS and record["set"] == set_digest
    return record if own and _has_valid_types(record) else None


def _has_valid_types(record: Any) -> bool:
    """Return whether every value has the type that readers rely on, which the checksum does not tell."""
    texts = all(isinstance(record[key], str) for key in ("kind", "data_set", "model", "view"))
    counts = all(type(record[key]) is int and record[key] >= 0 for key in ("rows", "ranges"))
    tables = all(isinstance(record[key], dict) for key in ("arrays", "notes", "records"))
    return (
        texts
        and counts
        and tables
        and all(map(_is_valid_entry, record["arrays"].values()))
        and all(_holds_texts(note) for note in record["notes"].values())
        and _holds_texts(record["records"])
    )


def _holds_texts(record: Any) -> bool:
    return isinstance(record, dict) and all(isinstance(value, str) for value in record.values())


def _is_valid_entry(entry: Any) -> bool:
    if not isinstance(entry, dict):
        return False
    if not isinstance(entry.get("spec"), dict):
        return False
    if entry.keys() == {"spec"}:
        return True
    digests = isinstance(entry.get("content"), str) and isinstance(entry.get("stored"), str)
    return digests and entry.keys() == {"spec", "content", "stored", "bytes"} and type(entry["bytes"]) is int


def array_entries(arrays: Mapping[str, ArraySpec], seals: Mapping[str, Seal]) -> dict[str, Any]:
    """Return the entries of arrays in a summary: their spec, and digests and bytes of sealed ones."""
    entries: dict[str, Any] = {name: {"spec": array.canonical()} for name, array in arrays.items()}
    for name, seal in seals.items():
        sealed = {"content": seal.content, "stored": seal.stored, "bytes": seal.n_bytes}
        entries[name] = {"spec": seal.array.canonical(), **sealed}
    return entries


def update_summary(
    objects: Objects, prefix: str, change: Callable[[dict[str, Any]], Mapping[str, Any]], *, tries: int = TRIES
) -> bool:
    """Replace some keys of a summary; return whether it was written. A torn summary is left for `repair`.

    ``change`` returns the new values from the present summary. Another process may replace the summary between the two,
    so it is read again until nothing is left to change, ``tries`` times at most.
    """
    written = False
    for _ in range(tries):
        before = read_summary(objects, prefix)
        if before is None:
            break
        changes = change(before)
        if all(before[key] == value for key, value in changes.items()):
            break
        objects.put(f"{prefix}/{SUMMARY}", [checksummed({**before, **changes})])
        written = True
    return written


def list_unsealed(objects: Objects, prefix: str, arrays: Mapping[str, ArraySpec]) -> None:
    """Note in a summary that these arrays are no longer sealed."""
    update_summary(objects, prefix, lambda before: {"arrays": before["arrays"] | array_entries(arrays, {})})


def layers_without_records(objects: Objects, prefix: str, arrays: Container[str]) -> frozenset[int]:
    """Return the layers, from 0, of token arrays and means that a summary lists and that are not among ``arrays``."""
    summary = read_summary(objects, prefix)
    names = [] if summary is None else [name for name in summary["arrays"] if name not in arrays]
    found = [re.fullmatch(r"(?:tokens|means)/(?:block|stage)\.(\d+)(?:\.norm)?", name) for name in names]
    return frozenset(int(match[1]) for match in found if match is not None)


def invalid_rows(provenance: Any) -> int:
    """Return how many rows a set's provenance calls invalid, 0 where it names no number."""
    count = provenance.get("invalid_rows") if isinstance(provenance, dict) else None
    return count if type(count) is int and count > 0 else 0


def all_sealed(summary: Mapping[str, Any]) -> bool:
    """Return whether every array in the summary is sealed, so that the summary alone is enough to list the set."""
    return all("stored" in entry for entry in summary["arrays"].values())


def sealed_entries(summary: Mapping[str, Any] | None, seals: Iterable[str]) -> dict[str, Any] | None:
    """Return the entries of a set's arrays where its summary says that all are sealed and every seal is there.

    What a summary says of a sealed array is true (stores/README.md), but its seal may have been lost or torn since: a
    lost one is noticed here, by its name, and a torn one where it is read. ``seals`` are the names in ``seals/``.
    """
    if summary is None or not summary["arrays"] or not all_sealed(summary):
        return None
    entries = dict(sorted(summary["arrays"].items()))
    arrays = {name: parse(ArraySpec, entry["spec"]) for name, entry in entries.items()}
    if any(array is None or array.name != name for name, array in arrays.items()):
        return None
    names = {seal_path(name).rpartition("/")[2] for name in entries}
    return entries if names <= set(seals) else None


class SealsOnDemand(Mapping[str, Seal]):
    """The seals of a set that is opened from its summary, each read when it is asked for first.

    Args:
        objects: Storage of the store.
        prefix: Folder of the set.
        entries: `sealed_entries` of the set.
    """

    def __init__(self, objects: Objects, prefix: str, entries: Mapping[str, Any]) -> None:
        self.objects, self.prefix, self.entries = objects, prefix, entries
        self._read: dict[str, Seal] = {}

    def __getitem__(self, name: str) -> Seal:
        if name not in self._read:
            entry = self.entries[name]
            seal = read_seal(self.objects, self.prefix, name)
            if seal is None or seal.content != entry["content"]:
                raise MissingError(_not_sealed(name, self.objects, self.prefix))
            self._read[name] = seal
        return self._read[name]

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


class SealedDigests(dict[str, str]):
    """Digests by address, which say what to do about an array that has none."""

    def __init__(self, objects: Objects, prefix: str, digests: Mapping[str, str]) -> None:
        super().__init__(digests)
        self.objects, self.prefix = objects, prefix

    def __missing__(self, name: str) -> str:
        raise MissingError(_not_sealed(name, self.objects, self.prefix))


def _not_sealed(name: str, objects: Objects, prefix: str) -> str:
    return (
        f"{name} of set {prefix.rpartition('/')[2][:12]} in {objects.url} is not sealed: `patchbank verify` says "
        "whether it is damaged, and `patchbank extract` completes it"
    )
