"""Versioned formats of stored records.

A record is JSON with a field `"format": "MAJOR.MINOR"`. A reader ignores unknown fields, uses defaults for missing
ones, and refuses a newer major format. Raise the minor number for a new field that older versions may ignore, and the
major number for one that they must not ignore.

The fields of a record have the names of its class's attributes. If an attribute is renamed, its stored name stays:
`new_name: Annotated[str, Field(alias="stored_name")]`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Final, Generic, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from cvbatch.errors import CorruptionError, OutputError

T = TypeVar("T")

FORMAT: Final = "format"
"""Field with the format of a record; a record of an early version lacks it and has format 1.0."""


class RecordFormat(Generic[T]):
    """Stored format of one kind of record.

    Args:
        title: Name in messages, such as `plan`.
        kind: Class of the record: a dataclass, or `dict[str, Any]`.
        major: Raised for a change that earlier versions must not read.
        minor: Raised for a change that earlier versions may ignore.
    """

    def __init__(self, title: str, kind: type[T], major: int = 1, minor: int = 0) -> None:
        self.title, self.kind, self.major, self.minor = title, kind, major, minor

    def __str__(self) -> str:
        """Return `MAJOR.MINOR`."""
        return f"{self.major}.{self.minor}"

    def to_json(self, record: T) -> dict[str, Any]:
        """Return the record as plain data with the format."""
        return {FORMAT: str(self), **self.to_plain_fields(record)}

    def to_plain_fields(self, record: T) -> dict[str, Any]:
        """Return the record as plain data without the format."""
        data: dict[str, Any]
        (data,) = self._dump_adapter.dump_python((record,), mode="json", by_alias=True, warnings=False)
        data.pop(FORMAT, None)  # a record that was read may carry an older format
        return data

    def encode_record(self, record: T) -> bytes:
        """Return the record as JSON bytes."""
        return json.dumps(self.to_json(record)).encode()

    def from_json(self, data: Any, where: str) -> T:
        """Return the record in plain data of any minor format.

        Args:
            data: Plain data.
            where: Path of the record, for messages.

        Raises:
            OutputError: If the format is newer than this version can read.
            CorruptionError: If the data is not a record of this kind.
        """
        self.check_version(data, where)
        try:
            return self._type_adapter.validate_python(data)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            raise CorruptionError(f"{where}: expected a {self.title}, got a bad {field}: {first['msg']}") from None

    def decode_record(self, content: bytes | str, where: str) -> T:
        """Return the record in JSON bytes or text; raises the errors of `from_json`."""
        try:
            data = json.loads(content)
        except ValueError:
            raise CorruptionError(f"{where}: expected a {self.title}, got invalid JSON") from None
        return self.from_json(data, where)

    def check_version(self, data: Any, where: str) -> None:
        """Refuse a format that this version cannot read; see `from_json`."""
        version = str(data.get(FORMAT, "1.0")) if isinstance(data, Mapping) else "1.0"
        major = version.partition(".")[0]
        if not major.isdecimal():
            raise CorruptionError(f"{where}: expected a {self.title} with a format such as {self}, got {version!r}")
        if int(major) > self.major:
            raise OutputError(
                f"{where}: this {self.title} was written with format {version}, and this cvbatch reads up to {self}: "
                "use a newer cvbatch"
            )

    @cached_property
    def _type_adapter(self) -> TypeAdapter[T]:
        return TypeAdapter(self.kind)

    @cached_property
    def _dump_adapter(self) -> TypeAdapter[tuple[T]]:
        """By default pydantic replaces infinity and NaN by null; only a type around a dataclass can configure that."""
        return TypeAdapter(tuple[self.kind], config=ConfigDict(ser_json_inf_nan="constants"))  # type: ignore[name-defined]
