"""Types of columns that come along: what Arrow knows and not every reader of Parquet becomes what they all hold.

pandas, DuckDB, Polars and Spark are meant. Spark refuses a whole file for one column of float16, of times of day, of
nanoseconds or of binary values of a fixed size.
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
"""Decimals of more digits are no numbers for anybody but Arrow, and become text."""
_INTERVAL: Final = (("months", pa.int32()), ("days", pa.int32()), ("nanoseconds", pa.int64()))
_TEXT: Final = pa.string()
_MAX_NESTING: Final = 90
"""Parquet files whose columns are nested deeper are refused by those that read them."""


class UnportableError(Exception):
    """A type cannot be kept in any form."""


def portable_type(kind: pa.DataType) -> pa.DataType:
    """The type that a column of this type becomes; most stay as they are.

    Raises:
        UnportableError: If there is none.
    """
    if _is_too_deep(kind):
        raise UnportableError("nested too deeply")
    if special := _convert_special_type(kind):
        return special[0]
    if pa.types.is_map(kind):
        return pa.map_(portable_type(kind.key_type), portable_type(kind.item_type))
    if _is_list_type(kind):
        return (pa.large_list if _is_large_list(kind) else pa.list_)(portable_type(kind.value_type))
    if pa.types.is_struct(kind):
        if len({column.name for column in kind}) < len(kind):
            raise UnportableError("fields of one name")
        return pa.struct([(column.name, portable_type(column.type)) for column in kind])
    if pa.types.is_nested(kind) or kind.id not in _KNOWN:
        raise UnportableError("a type that is not known")
    return kind


def to_portable_array(array: pa.Array) -> pa.Array:
    r"""Values as `portable_type` says of their type; what they are does not change.

    But for nanoseconds, which are cut, and for bytes in text that are not UTF-8: they become `\xNN`.

    Raises:
        ArrowException: If a value is not of its type.
    """
    wanted = portable_type(array.type)
    if wanted == array.type and _is_valid_array(array):
        return array
    if _is_text_type(array.type):
        return _escape_invalid_text(array)
    if wanted == array.type and not pa.types.is_nested(array.type):
        return array
    if special := _convert_special_type(array.type):
        return special[1](array)
    if pa.types.is_map(array.type):
        offsets = _list_offsets(array, pa.int32())
        low, high = array.offsets[0].as_py(), array.offsets[-1].as_py()
        keys, items = (to_portable_array(part.slice(low, high - low)) for part in (array.keys, array.items))
        return pa.MapArray.from_arrays(offsets, keys, items, mask=array.is_null())
    if _is_list_type(array.type):
        made = pa.LargeListArray if _is_large_list(array.type) else pa.ListArray
        offsets = _list_offsets(array, pa.int64() if _is_large_list(array.type) else pa.int32())
        return made.from_arrays(offsets, to_portable_array(pc.list_flatten(array)), mask=array.is_null())
    fields = [to_portable_array(array.field(at)) for at in range(array.type.num_fields)]
    return pa.StructArray.from_arrays(fields, fields=list(wanted), mask=array.is_null())


def _is_valid_array(array: pa.Array) -> bool:
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _escape_invalid_text(array: pa.Array) -> pa.Array:
    values = array.cast(pa.large_binary() if pa.types.is_large_string(array.type) else pa.binary()).to_pylist()
    return pa.array([None if each is None else _bytes_to_text(each) for each in values], array.type)


def _is_text_type(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_too_deep(kind: pa.DataType, remaining_levels: int = _MAX_NESTING) -> bool:
    """Whether its values lie deeper in the schema of a Parquet file than readers go."""
    if not pa.types.is_nested(kind) or pa.types.is_union(kind):
        return remaining_levels < 1
    remaining_levels -= 1 if pa.types.is_struct(kind) else 2
    return remaining_levels < 1 or any(
        _is_too_deep(kind.field(at).type, remaining_levels) for at in range(kind.num_fields)
    )


_Special = tuple[pa.DataType, Callable[[pa.Array], pa.Array]]


def _convert_special_type(kind: pa.DataType) -> _Special | None:
    """What a type that is no list and no struct of others becomes, and how."""
    if isinstance(kind, pa.BaseExtensionType):
        return _convert_extension(kind)
    if pa.types.is_run_end_encoded(kind):
        return portable_type(kind.value_type), lambda array: to_portable_array(pc.run_end_decode(array))
    if pa.types.is_dictionary(kind):
        return portable_type(kind.value_type), _decode_dictionary
    if pa.types.is_union(kind) and "extension<" in str(kind):
        raise UnportableError("a union of extensions, whose values libraries may act upon")
    if pa.types.is_union(kind) or (pa.types.is_struct(kind) and not len(kind)):
        return _TEXT, _to_json_text
    if kind == pa.month_day_nano_interval():
        return pa.struct(_INTERVAL), _interval_to_struct
    if pa.types.is_decimal(kind):
        return _convert_decimal(kind)
    to = _SIMPLE.get(kind.id)
    if pa.types.is_timestamp(kind):
        to = pa.timestamp({"s": "ms", "ns": "us"}.get(kind.unit, kind.unit), _portable_zone(kind.tz))
        to = None if to == kind else to
    return None if to is None else (to, lambda array: pc.cast(array, to, safe=False))


def _portable_zone(name: str | None) -> str | None:
    """The time zone; the same moments in UTC where it is an offset, or not known to everybody: Polars panics."""
    known = zoneinfo.available_timezones()
    return name if not name or name in known or not known else "UTC"


def _convert_extension(kind: pa.BaseExtensionType) -> _Special:
    if isinstance(kind, pa.UuidType):
        return _TEXT, lambda array: pa.array(
            [each and str(uuid.UUID(bytes=each)) for each in array.storage.to_pylist()], _TEXT
        )
    if isinstance(kind, pa.Bool8Type):
        return pa.bool_(), lambda array: array.storage.cast(pa.bool_())
    return portable_type(kind.storage_type), lambda array: to_portable_array(array.storage)


def _convert_decimal(kind: pa.DataType) -> _Special | None:
    digits = kind.precision - min(0, kind.scale)
    if digits > _MAX_DECIMAL_DIGITS:
        return _TEXT, lambda array: array.cast(_TEXT)
    to = pa.decimal128(digits, max(0, kind.scale))
    return None if to == kind else (to, lambda array: array.cast(to))


def _decode_dictionary(array: pa.DictionaryArray) -> pa.Array:
    # with values that are portable before they are taken: not every type can be taken
    return to_portable_array(array.dictionary).take(array.indices)


def _interval_to_struct(array: pa.Array) -> pa.Array:
    names = [name for name, _ in _INTERVAL]
    return pa.array([each and dict(zip(names, each, strict=True)) for each in array.to_pylist()], pa.struct(_INTERVAL))


def _to_json_text(array: pa.Array) -> pa.Array:
    return pa.array(
        [
            None if each is None else json.dumps(each, default=_bytes_to_text, ensure_ascii=False)
            for each in array.to_pylist()
        ],
        _TEXT,
    )


def _bytes_to_text(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _list_offsets(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Where each list begins among the values that are not below a null."""
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
