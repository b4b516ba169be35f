"""What is stored says in which format: one mechanism for every record, so that each can grow.

A record is JSON with `"format": "MAJOR.MINOR"` among its fields. Whoever reads it leaves out fields that it does not
know, and takes the default for those that are missing; what has a newer major number it does not read at all. So a
field that others may pass over is a new minor format, and one that they must not a new major one.

The fields of a record have the names of the attributes of its class. Where an attribute is renamed, its stored name
stays: `new_name: Annotated[str, Field(alias="stored_name")]`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Final, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from cvbatch.errors import CorruptionError, OutputError

T = TypeVar("T")

FORMAT: Final = "format"
"""Field with the format of a record; without it a record is of an earlier version, and has format 1.0."""


class RecordFormat(Generic[T]):
    """How one kind of record is stored.

    Args:
        title: What people call it, such as `plan`.
        kind: Its class: a dataclass, or `dict[str, Any]`.
        major: Raised where earlier versions must not read what is written now.
        minor: Raised where they may.
    """

    def __init__(self, title: str, kind: type[T], major: int = 1, minor: int = 0) -> None:
        self.title, self.kind, self.major, self.minor = title, kind, major, minor

    def __str__(self) -> str:
        """Major and minor number."""
        return f"{self.major}.{self.minor}"

    def to_json(self, record: T) -> dict[str, Any]:
        """Plain data, with the format."""
        return {FORMAT: str(self), **self.to_plain_fields(record)}

    def to_plain_fields(self, record: T) -> dict[str, Any]:
        """Plain data, without the format."""
        data: dict[str, Any] = self._type_adapter.dump_python(record, mode="json", by_alias=True, warnings=False)
        data.pop(FORMAT, None)  # of the version that wrote it before
        return data

    def encode_record(self, record: T) -> bytes:
        """The record as it is stored."""
        return json.dumps(self.to_json(record)).encode()

    def from_json(self, data: Any, where: str) -> T:
        """The inverse of `to_json`, for any minor format.

        Args:
            data: Plain data.
            where: Where it was read, for messages.

        Raises:
            OutputError: If its format is newer than what this version reads.
            CorruptionError: If it is no such record.
        """
        self.check_version(data, where)
        try:
            return self._type_adapter.validate_python(data)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            raise CorruptionError(f"{where}: expected a {self.title}, and {field}: {first['msg']}") from None

    def decode_record(self, content: bytes | str, where: str) -> T:
        """The inverse of `encode_record`; raises what `from_json` raises."""
        try:
            data = json.loads(content)
        except ValueError:
            raise CorruptionError(f"{where}: expected a {self.title}, and it is no JSON") from None
        return self.from_json(data, where)

    def check_version(self, data: Any, where: str) -> None:
        """Refuse what cannot be read; see `from_json`."""
        written = str(data.get(FORMAT, "1.0")) if isinstance(data, Mapping) else "1.0"
        major = written.partition(".")[0]
        if not major.isdecimal():
            raise CorruptionError(f"{where}: expected a {self.title} with a format such as {self}, got {written!r}")
        if int(major) > self.major:
            raise OutputError(
                f"{where}: this {self.title} was written with format {written}, and this cvbatch reads up to {self}: "
                "use a newer cvbatch"
            )

    @cached_property
    def _type_adapter(self) -> TypeAdapter[T]:
        return TypeAdapter(self.kind)
