"""Arrow arrays from NumPy and plain values, and back, without pandas.

``pyarrow.array`` and ``to_numpy`` import pandas wherever it is installed, to recognise its objects: 36 MiB
and 0.4 s that a driver of a long sweep and most commands have no other use for. These share NumPy's memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa


def numbers(values: np.ndarray, missing: np.ndarray | None = None) -> pa.Array:
    """Return integers or floats of any width as an array of the same type.

    Args:
        values: shape (n,).
        missing: bool, shape (n,); true where the array is null.
    """
    kind, valid = pa.from_numpy_dtype(values.dtype), None
    if missing is not None and missing.any():
        valid = _bits(~missing)
    return pa.Array.from_buffers(kind, len(values), [valid, pa.py_buffer(np.ascontiguousarray(values))])


def texts(values: Sequence[str | None]) -> pa.Array:
    encoded = [b"" if v is None else v.encode() for v in values]
    offsets = np.zeros(len(values) + 1, dtype=np.int32)
    np.cumsum([len(e) for e in encoded], out=offsets[1:])
    valid = _bits(np.array([v is not None for v in values], dtype=bool)) if None in values else None
    return pa.Array.from_buffers(
        pa.string(), len(values), [valid, pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    )


def lists(lengths: Sequence[int], values: pa.Array) -> pa.ListArray:
    """Return ``values`` cut into lists of so many entries each."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.ListArray.from_arrays(numbers(offsets), values)


def array(values: Sequence[Any], name: str = "column") -> pa.Array:
    """Return truth values, whole numbers, numbers, texts or lists of one of them as an array of that type.

    ``None`` is null; whole and other numbers together are floats; nothing but ``None`` is an array of nulls.

    Raises:
        TypeError: for values of several kinds, or of another kind.
    """
    kinds = {type(v) for v in values if v is not None}
    if not kinds:
        return pa.nulls(len(values))
    if kinds == {str}:
        return texts(values)
    if kinds == {list}:
        missing = np.array([v is None for v in values], dtype=bool)
        inner = array([x for v in values if v is not None for x in v], name)
        whole = lists([0 if v is None else len(v) for v in values], inner)
        return _masked(whole, missing) if missing.any() else whole
    if not kinds <= {bool} and not kinds <= {int, float}:
        shown = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise TypeError(f"{name}: holds {shown}; give numbers, texts, truth values or lists of one of them")
    missing = np.array([v is None for v in values], dtype=bool)
    dtype = np.bool_ if bool in kinds else np.float64 if float in kinds else np.int64
    filled = np.array([0 if v is None else v for v in values], dtype=dtype)
    if bool not in kinds:
        return numbers(filled, missing)
    valid = _bits(~missing) if missing.any() else None
    return pa.Array.from_buffers(pa.bool_(), len(values), [valid, _bits(filled)])


def as_numpy(values: pa.Array | pa.ChunkedArray, null: int | None = None) -> np.ndarray:
    """Return integers or floats as NumPy sees them, shape (n,), with ``null`` where there is none.

    Raises:
        ValueError: for an array with nulls, unless ``null`` says what stands for them.
    """
    if isinstance(values, pa.ChunkedArray):
        if values.num_chunks != 1:
            empty = np.empty(0, values.type.to_pandas_dtype())
            return np.concatenate([empty, *(as_numpy(chunk, null) for chunk in values.chunks)])
        values = values.chunk(0)
    valid, data = values.buffers()
    rows = slice(values.offset, values.offset + len(values))
    stored = np.frombuffer(data or b"", values.type.to_pandas_dtype())[rows]
    if not values.null_count:
        return stored
    if null is None:
        raise ValueError(f"{values.null_count} of {len(values)} values are null")
    there = np.unpackbits(np.frombuffer(valid, np.uint8), bitorder="little")[rows].astype(bool)
    return np.where(there, stored, stored.dtype.type(null))


def _bits(flags: np.ndarray) -> pa.Buffer:
    return pa.py_buffer(np.packbits(flags, bitorder="little"))


def _masked(whole: pa.ListArray, missing: np.ndarray) -> pa.ListArray:
    _, offsets = whole.buffers()[:2]
    return pa.Array.from_buffers(whole.type, len(whole), [_bits(~missing), offsets], children=[whole.values])
