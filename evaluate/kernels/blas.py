"""Matrix products that accumulate into their output and release the interpreter lock, by SciPy's BLAS.

numpy has no product that accumulates into its output, and `scipy.linalg.blas` holds the interpreter lock.
SciPy publishes the BLAS routines themselves in `scipy.linalg.cython_blas` for compiled callers; their addresses
are in that module's ``__pyx_capi__`` table (numba calls them the same way, `numba.extending
.get_cython_function_address`), and ctypes releases the lock around a call.

``torch.addmm(out=)`` on views of the same arrays gives the same neighbours in 1.19 to 1.29 times the processor time of
the whole search (torch 2.15 with MKL against OpenBLAS, AMD processor; benchmarks/README.md).
"""

import ctypes
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Float64
from scipy.linalg import cython_blas


def _routine(name: str, n_arguments: int = 13) -> Callable[..., None]:
    """Return a BLAS routine of SciPy; raises ImportError when its integers are not C ints."""
    capsule = dict(cython_blas.__pyx_capi__)[name]
    get_name = ctypes.pythonapi.PyCapsule_GetName
    get_name.restype, get_name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    signature = get_name(capsule)
    if not signature.startswith(b"void (char *, char *, int *, int *, "):
        raise ImportError(f"scipy.linalg.cython_blas.{name} has the unknown signature {signature!r}")
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype, get_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * n_arguments)(get_pointer(capsule, signature))


_ROUTINES = {
    np.dtype(np.float32): (_routine("sgemm"), ctypes.c_float),
    np.dtype(np.float64): (_routine("dgemm"), ctypes.c_double),
}


_SYRK = _routine("dsyrk", 10)


def add_second_moment(rows: Float64[np.ndarray, "row channel"], out: Float64[np.ndarray, "channel channel"]) -> None:
    """Add the lower triangle of ``rows.T @ rows`` to ``out``, whose upper triangle stays as it is.

    `numpy.matmul` computes half of such a product too, but copies it to the other half each time.

    Args:
        rows: C-contiguous rows.
        out: C-contiguous sums, changed in place.
    """
    if not (rows.flags.c_contiguous and out.flags.c_contiguous) or not rows.dtype == out.dtype == np.float64:
        raise ValueError("operands of a second moment must be C-contiguous and float64")
    n_rows, n_channels = rows.shape
    if out.shape != (n_channels, n_channels):
        raise ValueError(f"shapes {rows.shape} and {out.shape} do not fit")
    if not rows.size:
        return
    # Read column by column as BLAS does, both are transposed, and the lower triangle is the upper one.
    n, k, one = ctypes.c_int(n_channels), ctypes.c_int(n_rows), ctypes.c_double(1.0)
    upper, plain = ctypes.c_char(b"U"), ctypes.c_char(b"N")
    by_reference = [ctypes.byref(value) for value in (upper, plain, n, k, one)]
    _SYRK(*by_reference, rows.ctypes.data, ctypes.byref(n), ctypes.byref(one), out.ctypes.data, ctypes.byref(n))


def product(
    left: Float[np.ndarray, "row inner"],
    right: Float[np.ndarray, "column inner"],
    out: Float[np.ndarray, "row column"],
    *,
    add: bool,
) -> None:
    """Write ``left @ right.T`` to ``out``, or add it to ``out``.

    All three are C-contiguous and of one type, float32 or float64; anything else raises ValueError.

    Args:
        left: first factor.
        right: second factor, transposed.
        out: result, changed in place.
        add: whether the product is added to ``out`` instead of replacing it.
    """
    arrays = (left, right, out)
    if any(array.dtype != out.dtype or not array.flags.c_contiguous for array in arrays):
        raise ValueError("operands of a product must be C-contiguous and of one type")
    (rows, inner), columns = left.shape, right.shape[0]
    if right.shape[1] != inner or out.shape != (rows, columns):
        raise ValueError(f"shapes {left.shape}, {right.shape} and {out.shape} do not fit")
    if not out.size:
        return
    routine, real = _ROUTINES[out.dtype]
    # BLAS is column-major: it reads these arrays as their transposes, and computes right @ left.T.
    m, n, k = ctypes.c_int(columns), ctypes.c_int(rows), ctypes.c_int(inner)
    one, beta = real(1.0), real(1.0 if add else 0.0)
    transposed, plain = ctypes.c_char(b"T"), ctypes.c_char(b"N")
    routine(
        ctypes.byref(transposed),
        ctypes.byref(plain),
        ctypes.byref(m),
        ctypes.byref(n),
        ctypes.byref(k),
        ctypes.byref(one),
        right.ctypes.data,
        ctypes.byref(k),
        left.ctypes.data,
        ctypes.byref(k),
        ctypes.byref(beta),
        out.ctypes.data,
        ctypes.byref(m),
    )
