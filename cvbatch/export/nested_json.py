"""Columns of any type as JSON text, and lists of elements by image."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.export.json_text import Text, lists_to_json, texts_to_json
from cvbatch.export.texts import numbers_to_text


def values_to_json(values: pa.Array) -> Text:
    """Values of any type as JSON; null, NaN and infinity become `null`, bytes base64, times and decimals text.

    Args:
        values: (n,)
    """
    kind = values.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        text = _lists_to_json(values)
    elif pa.types.is_floating(kind):
        values = values.cast(pa.float32()) if pa.types.is_float16(kind) else values
        text = pc.if_else(pc.is_finite(values), numbers_to_text(values), None)
    elif pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        text = numbers_to_text(values)
    elif _is_written_as_text(kind):
        text = _texts_or_null(values.cast(pa.string()))
    else:
        text = pa.array([_encode_value(value) for value in values.to_pylist()], pa.string())
    return pc.fill_null(text, "null")


def _is_written_as_text(kind: pa.DataType) -> bool:
    checks = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_timestamp,
        pa.types.is_date,
        pa.types.is_decimal,
    )
    return any(check(kind) for check in checks)


def _lists_to_json(values: pa.Array) -> Text:
    lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    joined = lists_to_json(values_to_json(pc.list_flatten(values)), offsets)
    return pc.if_else(pc.is_valid(values), joined, None)


def _texts_or_null(texts: pa.Array) -> Text:
    return pc.if_else(pc.is_valid(texts), texts_to_json(pc.fill_null(texts, "")), None)


def _encode_value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=_encode_other)


def _encode_other(value: Any) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)
