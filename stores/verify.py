"""Comparing every stored byte of sets with what was committed."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass

from stores.canonical import read_checksummed
from stores.chunks import group_metadata
from stores.commits import COMMITS, SEALS, StoredObject, read_commits, read_seals, seal_name
from stores.errors import DamageError, MissingError, PatchbankError
from stores.objects import PARTIAL
from stores.sets import COMPUTE, CREATED, GROUP, LAYOUT, PROVENANCE, SPEC, ZarrSet
from stores.store import Store


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be."""

    set: str
    """Digest of the set, or the folder's name where no set can be read."""
    key: str
    """The object, relative to the store."""
    problem: str


@dataclass(frozen=True)
class Verdict:
    """What `verify` saw of one set."""

    set: str
    n_objects: int
    n_bytes: int
    findings: tuple[Finding, ...]


def verify(store: Store, executor: Executor | None = None, only: str | None = None) -> Iterator[Verdict]:
    """Yield a verdict for every set of the store, or for the one whose digest begins with ``only``."""
    for kind, name in store.set_folders():
        if only is None or name.startswith(only):
            yield _verify_set(store, f"{kind}/{name}", executor)


def _verify_set(store: Store, prefix: str, executor: Executor | None) -> Verdict:
    objects = store.objects
    name = prefix.rpartition("/")[2]
    try:
        stored_set = ZarrSet(objects, prefix)
    except PatchbankError as error:
        if not isinstance(error, DamageError | MissingError):
            raise
        return Verdict(name, 0, 0, (Finding(name, prefix, str(error)),))
    findings: list[Finding] = []
    expected: dict[str, StoredObject] = {}
    for address, seal in read_seals(objects, prefix, name).items():
        expected.update({f"{address}/{child}": entry for child, entry in seal.objects.items()})
    commits = read_commits(objects, prefix, name)
    for commit in commits.values():
        for address, chunks in commit.objects.items():
            for chunk, entry in chunks.items():
                expected.setdefault(f"{address}/{chunk}", entry)

    def check(item: tuple[str, StoredObject]) -> Finding | None:
        key, entry = item
        try:
            data = objects.read(f"{prefix}/{key}")
        except MissingError:
            return Finding(name, f"{prefix}/{key}", "is gone")
        if len(data) != entry.size:
            return Finding(name, f"{prefix}/{key}", f"has {len(data)} bytes, {entry.size} were committed")
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            return Finding(name, f"{prefix}/{key}", "holds other bytes than were committed")
        return None

    results = executor.map(check, expected.items()) if executor else map(check, expected.items())
    findings += [finding for finding in results if finding is not None]
    findings += _records(stored_set, set(commits))
    findings += _unlisted(stored_set, set(expected))
    n_bytes = sum(entry.size for entry in expected.values())
    return Verdict(name, len(expected), n_bytes, tuple(findings))


def _records(stored_set: ZarrSet, valid_commits: set[str]) -> list[Finding]:
    """Check the records of a set: self-checksummed files, tables, metadata, commits and seals."""
    objects, prefix, name = stored_set.objects, stored_set.prefix, stored_set.digest
    findings = []
    for record in (LAYOUT, COMPUTE, PROVENANCE, CREATED):
        key = f"{prefix}/{record}"
        if objects.size(key) is None:
            findings.append(Finding(name, key, "is gone"))
        elif read_checksummed(objects.read(key)) is None:
            findings.append(Finding(name, key, "is torn or edited"))
    created = None
    if objects.size(f"{prefix}/{CREATED}") is not None:
        created = read_checksummed(objects.read(f"{prefix}/{CREATED}"))
    for file_name, checksum in (created or {}).get("files", {}).items():
        key = f"{prefix}/{file_name}"
        if objects.size(key) is None:
            findings.append(Finding(name, key, "is gone"))
        elif hashlib.sha256(objects.read(key)).hexdigest() != checksum:
            findings.append(Finding(name, key, "holds other bytes than were written"))
    for group in {address.partition("/")[0] for address in stored_set.arrays}:
        key = f"{prefix}/{group}/{GROUP}"
        if objects.size(key) is None:
            findings.append(Finding(name, key, "is gone"))
        elif objects.read(key) != group_metadata({}):
            findings.append(Finding(name, key, "holds other bytes than were written"))
    valid = {f"{COMMITS}/{child}" for child in valid_commits}
    valid |= {f"{SEALS}/{seal_name(address)}" for address in stored_set.seals}
    findings += [
        Finding(name, f"{prefix}/{folder}/{child}", "is a torn or foreign record")
        for folder in (COMMITS, SEALS)
        for child in objects.children(f"{prefix}/{folder}")
        if child.endswith(".json") and f"{folder}/{child}" not in valid
    ]
    for address, array in stored_set.arrays.items():
        if stored_set.committed(address):
            continue
        chunks = [child for child in objects.children(f"{prefix}/{address}") if child.startswith("c.")]
        chunks = [child for child in chunks if not child.endswith(PARTIAL)]
        if len(chunks) == stored_set.layout.n_objects(array):
            findings.append(Finding(name, f"{prefix}/{address}", "is complete but its seal is gone"))
    return findings


def _unlisted(stored_set: ZarrSet, expected: set[str]) -> list[Finding]:
    """Name objects that nothing vouches for; partial files of a live writer are left alone."""
    objects, prefix, name = stored_set.objects, stored_set.prefix, stored_set.digest
    known = {SPEC, LAYOUT, COMPUTE, PROVENANCE, CREATED, GROUP}
    known |= {f"{table}.parquet" for table in ("samples", "classes")}
    groups = {address.partition("/")[0] for address in stored_set.arrays}
    known |= {f"{group}/{GROUP}" for group in groups}
    known |= {f"{address}/{record}" for address in stored_set.arrays for record in (GROUP, SPEC)}
    findings = []
    for key in objects.keys(prefix):
        child = key[len(prefix) + 1 :]
        if child in expected or child in known or child.endswith(PARTIAL):
            continue
        if child.startswith((f"{COMMITS}/", f"{SEALS}/")) and child.endswith(".json"):
            continue
        array = child.rpartition("/")[0]
        if array in stored_set.arrays and not stored_set.sealed(array) and child.rpartition("/")[2].startswith("c."):
            continue  # written, not yet committed
        findings.append(Finding(name, key, "belongs to nothing this set lists"))
    return findings
