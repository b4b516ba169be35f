"""Field types for durations, sizes and dates in a job file."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, ByteSize, Field, TypeAdapter

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?b)", re.IGNORECASE)
"""Pydantic alone would read 2.01KB as 2,009 bytes, and accept `20MB of what`; so it only converts the unit."""
_BYTE_SIZE: Final = TypeAdapter(ByteSize)


def _parse_duration(value: Any) -> Any:
    """Seconds of a text such as `8h`; numbers are seconds already."""
    if not isinstance(value, str):
        return value
    parts = _DURATION.findall(value)
    if not parts or _DURATION.sub("", value).strip():
        raise ValueError(f"expected a duration such as 8h, 90m or 1h 30m, got {value!r}")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def bytes_of(text: str) -> int:
    """Bytes of a text such as `20MB` (20,000,000) or `20MiB` (20 × 1024 × 1024).

    Raises:
        ValueError: If the text is not a size.
    """
    match = _SIZE.fullmatch(text.strip())
    try:
        if match is None:
            raise ValueError
        return round(float(match[1]) * _BYTE_SIZE.validate_python(f"1{match[2]}"))
    except ValueError:
        raise ValueError(f"expected a size such as 20MB, 512KiB or 100000, got {text!r}") from None


def _parse_bytes(value: Any) -> Any:
    return bytes_of(value) if isinstance(value, str) else value  # numbers are bytes already


def _parse_moment(value: Any) -> Any:
    """A date, with or without a time, as a time in UTC; without a time zone it is UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            raise ValueError(
                f"expected a date such as 2024-05-31 or 2024-05-31T18:00:00+02:00, got {value!r}"
            ) from None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if not isinstance(value, datetime):
        raise ValueError(f"expected a date such as 2024-05-31, got {value!r}")
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


Duration = Annotated[float, BeforeValidator(_parse_duration), Field(gt=0, strict=True)]
"""Seconds."""
Bytes = Annotated[int, BeforeValidator(_parse_bytes), Field(gt=0, strict=True)]
"""Bytes."""
Moment = Annotated[datetime, BeforeValidator(_parse_moment)]
"""A time in UTC."""
