"""Makes the tables of a label set: samples, classes, and objects of the sources."""

from collections.abc import Iterator

import pandas as pd

from pipeline.rows.samples import Samples

OBJECT_COLUMNS = [
    *("source", "video", "frame", "seconds", "track", "category", "ignore", "flags", "visibility"),
    *("left", "top", "right", "bottom", "polygon"),
]


def class_table(samples: Samples) -> pd.DataFrame:
    """Return the class table: id, name, supercategory, red, green, blue, easy."""
    return pd.DataFrame(
        [(entry.id, entry.name, entry.supercategory, *entry.colour, entry.easy) for entry in samples.dataset.classes()],
        columns=["id", "name", "supercategory", "red", "green", "blue", "easy"],
    )


def object_table(samples: Samples) -> pd.DataFrame:
    """Return the object table, in source pixels: one row per annotated object of the sources that are not bad.

    ``polygon`` contains x and y of one corner after another, where pixel i covers i..i+1.
    """
    with samples.noticing_changes():
        lines = list(_object_lines(samples))
    return pd.DataFrame(lines, columns=OBJECT_COLUMNS)


def _object_lines(samples: Samples) -> Iterator[dict[str, object]]:
    return (
        {
            "source": name,
            "video": source.video,
            "frame": source.frame,
            "seconds": source.seconds,
            "track": entry.track,
            "category": entry.category,
            "ignore": entry.ignore,
            "flags": " ".join(entry.flags),
            "visibility": entry.visibility,
            **dict(zip(("left", "top", "right", "bottom"), entry.box, strict=True)),
            "polygon": [float(value) for corner in entry.polygon for value in corner],
        }
        for name, source in samples.sources.items()
        if name not in samples.bad
        for entry in samples.dataset.objects(source)
    )


def tables_of(samples: Samples) -> dict[str, pd.DataFrame]:
    """Return the tables of a label set by name: samples, classes, and objects if the data set has any."""
    tables = {"samples": samples.label_table, "classes": class_table(samples)}
    if "objects" in samples.dataset.labels:
        tables["objects"] = object_table(samples)
    return tables
