"""All targets in one table."""

from tests.fuzz import annotations, experiments, stored_records
from tests.fuzz.targets import Target


def targets() -> dict[str, Target]:
    """Return all targets by the name that the runner prints."""
    return annotations.TARGETS | experiments.TARGETS | stored_records.targets()
