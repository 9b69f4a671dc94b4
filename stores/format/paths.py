"""Names of the files and folders of a store; stores/README.md describes each."""

FOLDERS = ("features", "labels")
"""Folders of sets, one for each kind."""

INDEX = "index"
"""Folder of notes: the sets that were made for an experiment, model and view."""
SOURCES = "sources"
"""Folder of the sha256 of source files, by size and time; a cache."""
LOGS = "logs"
"""Folder of the seconds that each stage of an extraction took, as JSON lines; no result depends on it."""
ARROW = ".arrow"
"""Suffix of the tables in `LOGS` that workers of an extraction read while it runs."""
NOTES = ".notes"
"""Suffix of the notes on files in `SOURCES`: Parquet, followed by the sha256 of it."""

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
MACHINES = "machines"
"""Folder of the records of other kinds of machine that made some of a set's ranges."""


def seal_path(array: str) -> str:
    """Return where the seal of an array is inside its set's folder: ``seals/tokens__block.11.json``."""
    return f"{SEALS}/{array.replace('/', '__')}.json"


MEANS = "means"
"""Group of the arrays that hold the mean of a row's patch tokens."""

DEVIATIONS = "deviations"
"""Group of the arrays that hold the standard deviation of a row's patch tokens."""

COVARIANCES = "covariances"
"""Group of means and covariances of each input's patch tokens."""

OF_LAYERS = ("tokens", MEANS, DEVIATIONS, "prefix")
"""Groups of what a model's layers put out: patch tokens, their means and deviations, prefix tokens."""
