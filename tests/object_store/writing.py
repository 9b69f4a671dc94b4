"""A writer as a process of its own: ``python -m tests.object_store.writing URL SEED``, told what to do by lines.

Each line names a range; the answer is the line ``True``, ``False`` or the type of an error. It says ``ready`` first.
"""

import sys

from stores.errors import PatchbankError
from stores.sets import ZarrSet
from stores.storage.opening import open_objects
from stores.writing.writer import SetWriter
from tests.stores.specs_for_tests import FEATURES, layout, samples, token_array, values

ARRAYS = [token_array(), token_array("prefix/block.0", patches=1), token_array("tokens/block.1", patches=3)]
NAMES = [array.name for array in ARRAYS]


def create(url, n_ranges, rows=2):
    """Return a set of small arrays with nothing in it."""
    n_rows = n_ranges * rows
    made = ZarrSet.create(open_objects(url), FEATURES, layout(n_rows, rows), {"samples": samples(n_rows)}, {}, {})
    made.add_arrays(ARRAYS)
    return made


def write(stored_set, number, seed):
    """Write one range with the values of a seed; return whether its commit was the first."""
    rows, n_rows = stored_set.layout.range(number), stored_set.layout.n_rows
    with SetWriter(stored_set, NAMES) as writer:
        one = writer.range(rows)
        for array in ARRAYS:
            one.write(array.name, values(array, n_rows, seed)[rows.start : rows.stop])
        return one.commit().result()


def main():
    """Write the ranges that are named on standard input."""
    url, seed = sys.argv[1], int(sys.argv[2])
    stored_set = ZarrSet(open_objects(url), f"features/{FEATURES.digest}")
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        try:
            said = str(write(stored_set, int(line), seed))
        except PatchbankError as error:
            said = type(error).__name__
        sys.stdout.write(f"{said}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
