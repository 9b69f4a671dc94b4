"""What notebooks show of stores and sets: HTML tables, and array names to complete."""

import html
from collections.abc import Iterable, Iterator
from typing import Any

from stores.canonical import read_checksummed
from stores.errors import PatchbankError
from stores.storage.base import Objects, read_if_present

MOST_LINES = 50
"""Lines of a table that are shown; the last one says how many there are beyond."""


def html_table(title: str, head: Iterable[str], lines: Iterable[Iterable[object]]) -> str:
    """Return a table as HTML, every cell escaped; of more than `MOST_LINES` lines the rest is counted."""
    listed = [list(line) for line in lines]
    cells = ["".join(f"<td>{html.escape(str(cell))}</td>" for cell in line) for line in listed[:MOST_LINES]]
    if len(listed) > MOST_LINES:
        cells.append(f"<td>and {len(listed) - MOST_LINES:,} more</td>")
    names = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    rows = "".join(f"<tr>{line}</tr>" for line in cells)
    return f"<p>{html.escape(title)}</p><table><thead><tr>{names}</tr></thead><tbody>{rows}</tbody></table>"


class ShownSet:
    """Base of sets: an HTML table of their arrays, and their names to complete in ``set["``."""

    layout: Any
    arrays: Any
    sealed: Any
    committed: Any

    def _repr_html_(self) -> str:
        lines = [
            (
                name,
                " x ".join(map(str, (self.layout.n_rows, *array.row_shape))),
                ", ".join(array.dimension_names),
                array.dtype,
                "sealed" if self.sealed(name) else f"{len(self.committed(name))}/{self.layout.n_ranges} ranges",
            )
            for name, array in sorted(self.arrays.items())
        ]
        return html_table(repr(self), ("array", "shape", "axes", "dtype", "state"), lines)

    def _ipython_key_completions_(self) -> list[str]:
        return sorted({name.removeprefix("tokens/") for name in self.arrays})


class ShownStore:
    """Base of stores: an HTML table of their sets, made from the sets' summaries."""

    objects: Objects
    set_folders: Any

    def __repr__(self) -> str:
        return f"<Store {self.objects.url}>"

    def _repr_html_(self) -> str:
        head = ("set", "kind", "data set", "model", "view", "rows", "arrays sealed")
        try:
            return html_table(repr(self), head, self._lines())
        except PatchbankError as error:
            return f"<p>{html.escape(f'{self!r}: {error}')}</p>"

    def _lines(self) -> Iterator[list[object]]:
        for kind, name in self.set_folders():
            summary = read_checksummed(read_if_present(self.objects, f"{kind}/{name}/summary.json"))
            if summary is None or not isinstance(summary.get("arrays"), dict):
                yield [name[:12], kind, "no summary that can be read: run `patchbank verify`"]
                continue
            sealed = sum("stored" in entry for entry in summary["arrays"].values())
            facts = [summary.get(key, "-") for key in ("data_set", "model", "view", "rows")]
            yield [name[:12], kind, *facts, f"{sealed}/{len(summary['arrays'])}"]
