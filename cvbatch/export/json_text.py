"""JSON as Arrow text: many small objects are made at once, without a Python object for each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Text: TypeAlias = pa.Array
"""(n,) string: a JSON value each."""


def encode_json(value: Any) -> str:
    """One JSON value in one line; text that is not ASCII stays as it is."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def numbers_to_json(numbers: npt.NDArray[Any] | pa.Array) -> Text:
    """Numbers, floats as the shortest text that gives the same number back.

    Args:
        numbers: (n,) finite.
    """
    return pc.cast(numbers if isinstance(numbers, pa.Array) else pa.array(numbers), pa.string())


def texts_to_json(texts: pa.Array) -> Text:
    """Texts in quotes; those with characters that JSON cannot have are escaped one by one."""
    needs_escape = pc.match_substring_regex(texts, r'[\x00-\x1f"\\]')
    quoted = pc.binary_join_element_wise('"', texts, '"', "")
    if not pc.any(needs_escape).as_py():
        return quoted
    escaped = pa.array([encode_json(text) for text in texts.filter(needs_escape).to_pylist()], pa.string())
    return pc.replace_with_mask(quoted, needs_escape, escaped)


def names_to_json(names: pa.DictionaryArray) -> Text:
    """Texts of which many are the same, such as labels."""
    return texts_to_json(names.dictionary).take(names.indices)


def arrays_to_json(columns: list[Text]) -> Text:
    """`[first, second, …]` for each row."""
    return pc.binary_join_element_wise("[", pc.binary_join_element_wise(*columns, ","), "]", "")


def lists_to_json(values: Text, offsets: npt.NDArray[np.integer[Any]]) -> Text:
    """`[value, value, …]` for each row, of lists of any length.

    Args:
        values: The values of all rows.
        offsets: (n + 1,): row `i` has the values from `offsets[i]` up to `offsets[i + 1]`.
    """
    lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)
    return pc.binary_join_element_wise("[", pc.binary_join(lists, ","), "]", "")


def objects_to_json(columns: Mapping[str, Text | str]) -> Text:
    """`{"name": value, …}` for each row.

    Args:
        columns: Values of each field, or one JSON value for all rows.
    """
    texts: list[Text | str] = []
    for name, values in columns.items():
        before = f"{',' if texts else '{'}{encode_json(name)}:"
        texts += [before + values] if isinstance(values, str) else [before, values]
    return pc.binary_join_element_wise(*texts, "}", "")


def write_texts(file: IO[bytes], texts: Text, *, first: bool, separator: str = ",\n") -> None:
    """Write texts one after the other.

    Args:
        file: Opened for writing.
        texts: (n,)
        first: Whether nothing precedes them; else they begin with a separator.
        separator: Between two texts.
    """
    if not len(texts):
        return
    parts = pc.binary_join_element_wise(separator, texts, "")
    _, offsets, values = parts.buffers()
    bounds = np.frombuffer(offsets, np.int32)[parts.offset : parts.offset + len(parts) + 1]
    skipped = len(separator.encode()) if first else 0
    file.write(memoryview(values)[int(bounds[0]) + skipped : int(bounds[-1])])
