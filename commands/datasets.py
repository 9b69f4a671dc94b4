"""``patchbank datasets``: list supported data set layouts and the data found."""

from pathlib import Path
from typing import Any

from commands.terminal.options import DataOption, JsonOption
from commands.terminal.output import echo, echo_json
from stores.errors import UserError


def datasets(data: DataOption = Path("data"), as_json: JsonOption = False) -> None:
    """List the supported data set layouts, and which of them are found below --data."""
    from pipeline.datasets import DATASETS, open_dataset
    from pipeline.datasets.reading.files import is_folder

    found = []
    refused: list[UserError] = []
    for name, layout in DATASETS.items():
        here = next((data / folder for folder in layout.folders if is_folder(data / folder)), None)
        if name == "manifest":  # only an experiment file names the manifest
            here = None
        dataset = open_dataset(name, here or data)
        entry: dict[str, Any] = {
            "name": name,
            "folder": None if here is None else str(here),
            "tried": [str(data / folder) for folder in layout.folders],
            "layout": layout.files,
            "licence": dataset.licence,
            "official": dict(layout.official),
            "counted": layout.counted,
            "images": None,
            "notes": [],
        }
        if here is not None:
            try:
                entry["images"] = len(dataset.sources())
                entry["notes"] = list(dataset.notes())
            except UserError as error:
                entry["notes"] = [str(error)]
                if isinstance(error.__cause__, OSError):  # the system, and not what the files hold
                    refused.append(error)
        found.append(entry)
    if as_json:
        echo_json(found)
    else:
        _print(found)
    if refused:
        raise refused[0]


def _print(found: list[dict[str, Any]]) -> None:
    for entry in found:
        count = entry["images"]
        state = "not found" if entry["folder"] is None else "unreadable" if count is None else f"{count:,} images"
        echo(f"{entry['name']:<13} {state:<15} {entry['folder'] or ' or '.join(entry['tried'])}")
        echo(f"  layout: {entry['layout']}")
        if entry["official"]:
            official = ", ".join(f"{split} {number:,}" for split, number in entry["official"].items())
            echo(f"  official release: {official} {entry['counted']}")
        echo(f"  licence: {entry['licence']}")
        for note in entry["notes"]:
            echo(f"  note: {note}")
