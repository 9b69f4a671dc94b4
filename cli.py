"""The ``patchbank`` command line: parses, calls, prints."""


def main() -> None:
    """Entry point of the ``patchbank`` command."""
    raise SystemExit("not built yet")
