from hypothesis import given
from hypothesis import strategies as st

from stores.format.layout import CHUNK_BYTES, RANGE_BYTES, plan_layout
from tests.stores.specs_for_tests import token_array


@given(
    n_rows=st.integers(1, 10**8),
    patches=st.integers(1, 2000),
    channels=st.integers(1, 2048),
    dtype=st.sampled_from(["float16", "float32"]),
    smaller=st.integers(1, 4096),
)
def test_ranges_and_chunks_have_the_promised_sizes(n_rows, patches, channels, dtype, smaller):
    largest = token_array(patches=patches, channels=channels, dtype=dtype)
    layout = plan_layout(n_rows, largest.row_bytes)
    range_bytes = layout.range_rows * largest.row_bytes
    assert range_bytes <= RANGE_BYTES or layout.range_rows == 1
    assert range_bytes * 2 > RANGE_BYTES or layout.range_rows >= n_rows
    for array in (largest, token_array(patches=1, channels=smaller)):
        rows = layout.chunk_rows(array)
        assert layout.range_rows % rows == 0
        assert rows * array.row_bytes <= CHUNK_BYTES or rows == 1
        assert rows * array.row_bytes * 2 > CHUNK_BYTES or rows == layout.range_rows
    # Ranges tile the rows.
    assert layout.range(0).start == 0
    assert layout.range(layout.n_ranges - 1).stop == n_rows


def test_ranges_are_consecutive():
    layout = plan_layout(1000, 150_528, range_bytes=16 << 20)
    rows = [row for r in layout.ranges() for row in range(r.start, r.stop)]
    assert rows == list(range(1000))
    assert layout.n_ranges > 5


def test_bytes_on_disk_are_those_of_whole_chunks():
    """80 rows take as many bytes as 128 where a chunk has 64: `plan` told of 6 MB and 9.6 were written."""
    array = token_array(patches=196, channels=192)
    layout = plan_layout(80, array.row_bytes)
    assert (layout.range_rows, layout.chunk_rows(array)) == (128, 64)
    assert sum(layout.stored_bytes(array, one) for one in layout.ranges()) == 128 * array.row_bytes
    assert layout.n_objects(array) * layout.chunk_rows(array) == 128
