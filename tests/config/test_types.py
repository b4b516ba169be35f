"""Times, sizes and dates as people write them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from cvbatch.config.types import Bytes, Duration, Moment

MAY = datetime(2024, 5, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [
        ("20MB", 20_000_000),
        ("20 MB", 20_000_000),
        ("1.5GB", 1_500_000_000),
        ("512KiB", 524_288),
        ("2.01KB", 2_010),
        ("10kb", 10_000),
        ("1 MiB", 1_048_576),
        ("7B", 7),
        (7, 7),
    ],
)
def test_sizes(text: Any, bytes_: int) -> None:
    assert TypeAdapter(Bytes).validate_python(text) == bytes_


@pytest.mark.parametrize(
    "text", ["20", "MB", "20M", "-1MB", "7iB", "1e3B", "20MB or so", "8bit", "0MB", 0, -1, 1.5, True, None, []]
)
def test_invalid_sizes(text: Any) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Bytes).validate_python(text)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-05-31", MAY),
        ("2024-05-31T18:00:00", MAY + timedelta(hours=18)),
        ("2024-05-31 18:00", MAY + timedelta(hours=18)),
        ("2024-05-31T18:00:00Z", MAY + timedelta(hours=18)),
        ("2024-05-31T18:00:00+02:00", MAY + timedelta(hours=16)),
        (date(2024, 5, 31), MAY),
        (datetime(2024, 5, 31), MAY),
        (datetime(2024, 5, 31, 2, tzinfo=timezone(timedelta(hours=2))), MAY),
    ],
)
def test_moments(text: Any, moment: datetime) -> None:
    found = TypeAdapter(Moment).validate_python(text)
    assert (found, found.tzinfo) == (moment, UTC)


@pytest.mark.parametrize("text", ["2024-05-31", "2024-05-31 02:00:00+02:00", "'2024-05-31'", "2024-05-31T00:00:00Z"])
def test_moments_in_yaml(text: str) -> None:
    assert TypeAdapter(Moment).validate_python(yaml.safe_load(text)) == MAY


@pytest.mark.parametrize("text", ["yesterday", "", "31.5.2024", "2024-13-01", 2024, 1.5, True, None])
def test_invalid_dates(text: Any) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Moment).validate_python(text)


@pytest.mark.parametrize(("text", "seconds"), [("8h", 28_800), ("1h 30m", 5_400), ("1.5d", 129_600), (7, 7)])
def test_durations(text: Any, seconds: float) -> None:
    assert TypeAdapter(Duration).validate_python(text) == seconds
