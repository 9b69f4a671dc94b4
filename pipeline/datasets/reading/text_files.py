"""Reads annotation files: text, JSON and numbers, with errors of one sentence."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stores.errors import MissingError, UserError

MOST_BYTES = 1 << 30
"""Maximum size of a text file in bytes; reading it takes about ten times as much memory."""


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file in UTF-8; raises UserError when it is not UTF-8, MissingError without a file."""
    return read_text(path).splitlines()


def read_text(path: Path) -> str:
    """Return a text file in UTF-8 without a byte order mark; raises UserError or MissingError like `read_lines`."""
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path} cannot be read (it is not a file); put the file in its place")
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path} has more than {MOST_BYTES >> 20} MiB, which is no annotation; cut it into parts")
        return path.read_text(encoding="utf-8-sig")
    except UserError:
        raise
    except FileNotFoundError as error:
        raise MissingError(f"{path} is missing; restore it") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); make it readable") from error
    except ValueError as error:
        raise UserError(f"{path} is not a text file in UTF-8; save it as UTF-8 or fetch it again") from error


def read_json(path: Path) -> Any:
    """Return the content of a JSON file; raises UserError when it is not JSON, MissingError when it is missing."""
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}); fetch it again") from error


def number(value: Any, where: str) -> float:
    """Return a coordinate, from a JSON number or a word of text; raises UserError, beginning with ``where``."""
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    raise UserError(f"{where} has {value!r} where a number belongs; correct or remove the object")


def first_duplicate(names: Iterable[str]) -> str | None:
    """Return the first repeated name, None when all differ; takes linear time."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
