"""Names of the files and folders of a store; stores/README.md says what each holds."""

FOLDERS = ("features", "labels")
"""One folder a kind of set."""

INDEX = "index"
"""Folder of notes that lead from a recipe to the sets that were made for it."""
SOURCES = "sources"
"""Folder of notes of source files' sha256; a cache."""
LOGS = "logs"
"""Folder of stage seconds, one JSON line an extraction; nothing that counts reads it."""

SPEC = "spec.json"
LAYOUT = "layout.json"
COMPUTE = "compute.json"
PROVENANCE = "provenance.json"
CREATED = "created.json"
SUMMARY = "summary.json"
GROUP = "zarr.json"
COPIED = (SPEC, LAYOUT, COMPUTE, PROVENANCE, CREATED)
"""Records of which the summary holds a copy."""
COMMITS = "commits"
SEALS = "seals"


def seal_path(array: str) -> str:
    """Return where the seal of an array is inside its set's folder: ``seals/tokens__block.11.json``."""
    return f"{SEALS}/{array.replace('/', '__')}.json"
