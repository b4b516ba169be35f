"""Portable types of extra columns: Arrow types that pandas, DuckDB, Polars and Spark all read from Parquet.

Spark refuses a whole file for one column of float16, of times of day, of nanoseconds or of fixed-size binary values.
"""

from __future__ import annotations

import json
import uuid
import zoneinfo
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_MAX_DECIMAL_DIGITS: Final = 38
"""Only Arrow supports decimals with more digits; they become text."""
_INTERVAL: Final = (("months", pa.int32()), ("days", pa.int32()), ("nanoseconds", pa.int64()))
_TEXT: Final = pa.string()
_MAX_NESTING: Final = 90
"""Readers refuse Parquet files with columns that are nested deeper."""


class UnportableError(Exception):
    """A type cannot be kept in any form."""


def portable_type(kind: pa.DataType) -> pa.DataType:
    """Portable type for a column type; most types stay as they are.

    Raises:
        UnportableError: If there is no such type.
    """
    if _is_too_deep(kind):
        raise UnportableError("nested too deeply")
    if conversion := _convert_special_type(kind):
        return conversion[0]
    if pa.types.is_map(kind):
        return pa.map_(portable_type(kind.key_type), portable_type(kind.item_type))
    if _is_list_type(kind):
        return (pa.large_list if _is_large_list(kind) else pa.list_)(portable_type(kind.value_type))
    if pa.types.is_struct(kind):
        if len({column.name for column in kind}) < len(kind):
            raise UnportableError("several fields with one name")
        return pa.struct([(column.name, portable_type(column.type)) for column in kind])
    if pa.types.is_nested(kind) or kind.id not in _KNOWN:
        raise UnportableError("an unknown type")
    return kind


def to_portable_array(array: pa.Array) -> pa.Array:
    r"""Convert values to the portable type of their type.

    Values do not change, with two exceptions: nanoseconds are truncated, and bytes in text that are not UTF-8 become
    `\xNN`.

    Raises:
        ArrowException: If a value is not of its type.
    """
    target_type = portable_type(array.type)
    if target_type == array.type and _is_valid_array(array):
        return array
    if is_text_type(array.type):
        return _escape_invalid_text(array)
    if target_type == array.type and not pa.types.is_nested(array.type):
        return array
    if conversion := _convert_special_type(array.type):
        return conversion[1](array)
    if pa.types.is_map(array.type):
        offsets = _list_offsets(array, pa.int32())
        start, end = array.offsets[0].as_py(), array.offsets[-1].as_py()
        keys, items = (to_portable_array(part.slice(start, end - start)) for part in (array.keys, array.items))
        return pa.MapArray.from_arrays(offsets, keys, items, mask=array.is_null())
    if _is_list_type(array.type):
        array_class = pa.LargeListArray if _is_large_list(array.type) else pa.ListArray
        offsets = _list_offsets(array, pa.int64() if _is_large_list(array.type) else pa.int32())
        return array_class.from_arrays(offsets, to_portable_array(pc.list_flatten(array)), mask=array.is_null())
    fields = [to_portable_array(array.field(index)) for index in range(array.type.num_fields)]
    return pa.StructArray.from_arrays(fields, fields=list(target_type), mask=array.is_null())


def _is_valid_array(array: pa.Array) -> bool:
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _escape_invalid_text(array: pa.Array) -> pa.Array:
    values = array.cast(pa.large_binary() if pa.types.is_large_string(array.type) else pa.binary()).to_pylist()
    return pa.array([None if value is None else _bytes_to_text(value) for value in values], array.type)


def is_text_type(kind: pa.DataType) -> bool:
    """Whether values of a type are text, plain and not encoded."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_too_deep(kind: pa.DataType, remaining_levels: int = _MAX_NESTING) -> bool:
    """Whether the values are nested deeper in a Parquet schema than readers accept."""
    if not pa.types.is_nested(kind) or pa.types.is_union(kind):
        return remaining_levels < 1
    remaining_levels -= 1 if pa.types.is_struct(kind) else 2
    return remaining_levels < 1 or any(
        _is_too_deep(kind.field(index).type, remaining_levels) for index in range(kind.num_fields)
    )


_Special = tuple[pa.DataType, Callable[[pa.Array], pa.Array]]


def _convert_special_type(kind: pa.DataType) -> _Special | None:
    """Target type of a type that is neither list nor struct, with the conversion; None if the type stays."""
    if isinstance(kind, pa.BaseExtensionType):
        return _convert_extension(kind)
    if pa.types.is_run_end_encoded(kind):
        return portable_type(kind.value_type), lambda array: to_portable_array(pc.run_end_decode(array))
    if pa.types.is_dictionary(kind):
        return portable_type(kind.value_type), _decode_dictionary
    if pa.types.is_union(kind) and "extension<" in str(kind):
        raise UnportableError("a union of extension types, whose values libraries may interpret")
    if pa.types.is_union(kind) or (pa.types.is_struct(kind) and not len(kind)):
        return _TEXT, _to_json_text
    if kind == pa.month_day_nano_interval():
        return pa.struct(_INTERVAL), _interval_to_struct
    if pa.types.is_decimal(kind):
        return _convert_decimal(kind)
    target_type = _SIMPLE.get(kind.id)
    if pa.types.is_timestamp(kind):
        target_type = pa.timestamp({"s": "ms", "ns": "us"}.get(kind.unit, kind.unit), _portable_zone(kind.tz))
        target_type = None if target_type == kind else target_type
    return None if target_type is None else (target_type, lambda array: pc.cast(array, target_type, safe=False))


def _portable_zone(name: str | None) -> str | None:
    """The time zone, or UTC (the same instants) for offsets and unknown zones, on which Polars panics."""
    known_zones = zoneinfo.available_timezones()
    return name if not name or name in known_zones or not known_zones else "UTC"


def _convert_extension(kind: pa.BaseExtensionType) -> _Special:
    if isinstance(kind, pa.UuidType):
        return _TEXT, lambda array: pa.array(
            [value and str(uuid.UUID(bytes=value)) for value in array.storage.to_pylist()], _TEXT
        )
    if isinstance(kind, pa.Bool8Type):
        return pa.bool_(), lambda array: array.storage.cast(pa.bool_())
    return portable_type(kind.storage_type), lambda array: to_portable_array(array.storage)


def _convert_decimal(kind: pa.DataType) -> _Special | None:
    digits = kind.precision - min(0, kind.scale)
    if digits > _MAX_DECIMAL_DIGITS:
        return _TEXT, lambda array: array.cast(_TEXT)
    target_type = pa.decimal128(digits, max(0, kind.scale))
    return None if target_type == kind else (target_type, lambda array: array.cast(target_type))


def _decode_dictionary(array: pa.DictionaryArray) -> pa.Array:
    # values become portable before `take`, which does not support every type
    return to_portable_array(array.dictionary).take(array.indices)


def _interval_to_struct(array: pa.Array) -> pa.Array:
    names = [name for name, _ in _INTERVAL]
    return pa.array(
        [interval and dict(zip(names, interval, strict=True)) for interval in array.to_pylist()], pa.struct(_INTERVAL)
    )


def _to_json_text(array: pa.Array) -> pa.Array:
    return pa.array(
        [
            None if value is None else json.dumps(value, default=_bytes_to_text, ensure_ascii=False)
            for value in array.to_pylist()
        ],
        _TEXT,
    )


def _bytes_to_text(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _list_offsets(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Offset of each list among the values of the lists that are not null."""
    if pa.types.is_map(array.type):
        return pc.subtract(array.offsets, array.offsets[0])
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    return pa.array(np.concatenate(([0], np.cumsum(lengths))), kind)


def _is_list_type(kind: pa.DataType) -> bool:
    return kind.id in _LISTS


def _is_large_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_large_list(kind) or pa.types.is_large_list_view(kind))


def _type_ids(*kinds: pa.DataType) -> frozenset[int]:
    return frozenset(kind.id for kind in kinds)


_LISTS: Final = _type_ids(
    pa.list_(_TEXT), pa.large_list(_TEXT), pa.list_(_TEXT, 1), pa.list_view(_TEXT), pa.large_list_view(_TEXT)
)
_SIMPLE: Final[dict[int, pa.DataType]] = {
    pa.null().id: _TEXT,
    pa.float16().id: pa.float32(),
    pa.string_view().id: _TEXT,
    pa.binary_view().id: pa.binary(),
    pa.binary(1).id: pa.binary(),
    pa.date64().id: pa.date32(),
    pa.time32("s").id: _TEXT,
    pa.time64("us").id: _TEXT,
}
_KNOWN: Final = _type_ids(
    *(pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
    *(pa.float32(), pa.float64(), _TEXT, pa.large_string(), pa.binary(), pa.large_binary(), pa.date32()),
    *(pa.timestamp("us"), pa.duration("us"), pa.decimal128(1)),
)
