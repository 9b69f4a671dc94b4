"""Reading annotation files that strangers wrote: text, JSON and numbers, each problem one sentence."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stores.errors import MissingError, UserError

MOST_BYTES = 1 << 30
"""Size of the largest text that is read, in bytes; reading it takes about ten times as much memory."""


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file in UTF-8; raises UserError when it is none, MissingError when it is gone."""
    return read_text(path).splitlines()


def read_text(path: Path) -> str:
    """Return a text file in UTF-8, a byte order mark left out; raises UserError or MissingError like `read_lines`."""
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
    """Return what a JSON file holds; raises UserError when it is no JSON, MissingError when it is gone."""
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


def first_twice(names: Iterable[str]) -> str | None:
    """Return the first name that came before, None when all differ; a million names take no longer each than ten."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
