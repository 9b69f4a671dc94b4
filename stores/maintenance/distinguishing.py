"""Facts that tell sets of one data set and model apart in a list: input size, weights, date and experiment."""

from typing import Any


def distinguishing(spec: Any, provenance: Any) -> dict[str, str]:
    """Return the input size, the beginning of the weights' digest, the date and the experiment of a set.

    Both arguments are JSON values of records; what they lack is ``-``.
    """
    size = _value(spec, "frame", "input")
    height, width = _value(size, "height"), _value(size, "width")
    weights, date = _value(spec, "model", "weights"), _value(provenance, "date")
    experiment = _value(provenance, "experiment")
    return {
        "input": f"{width}x{height}" if isinstance(height, int) and isinstance(width, int) else "-",
        "weights": weights[:8] if isinstance(weights, str) else "-",
        "date": date[:10] if isinstance(date, str) else "-",
        "experiment": experiment if isinstance(experiment, str) else "-",
    }


def _value(record: Any, *keys: str) -> Any:
    for key in keys:
        record = record.get(key) if isinstance(record, dict) else None
    return record
