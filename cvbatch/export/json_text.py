"""JSON as Arrow text: many small objects are made at once, without a Python object for each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cvbatch.export.texts import concatenate_by_image, escape_texts, join_texts

Text: TypeAlias = pa.Array
"""(n,) string: a JSON value each."""
_SPECIAL: Final = r'[\x00-\x1f"\\]'


def encode_json(value: Any) -> str:
    """One JSON value in one line; text that is not ASCII stays as it is."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def texts_to_json(texts: pa.Array) -> Text:
    """Texts in quotes; those with characters that JSON cannot have are escaped one by one."""
    return join_texts('"', escape_texts(texts, _SPECIAL, lambda text: encode_json(text)[1:-1]), '"')


def arrays_to_json(columns: list[Text]) -> Text:
    """`[first, second, …]` for each row."""
    separated = [part for column in columns for part in (",", column)][1:]
    return join_texts("[", *separated, "]")


def lists_to_json(values: Text, offsets: npt.NDArray[np.integer[Any]]) -> Text:
    """`[value, value, …]` for each row, of lists of any length.

    Args:
        values: The values of all rows.
        offsets: (n + 1,): row `i` has the values from `offsets[i]` up to `offsets[i + 1]`.
    """
    return join_texts("[", concatenate_by_image(values, offsets, ","), "]")


def objects_to_json(fields: Mapping[str, Text | str]) -> Text:
    """`{"name": value, …}` for each row.

    Args:
        fields: Values of each field, or one JSON value for all rows.
    """
    parts: list[Text | str] = []
    for name, values in fields.items():
        before = f"{',' if parts else '{'}{encode_json(name)}:"
        parts += [before + values] if isinstance(values, str) else [before, values]
    return join_texts(*parts, "}")
