"""Reading files of truth, on a disk or in a bucket."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from cvbatch.errors import UsageError
from cvbatch.storage.buckets import open_bucket
from cvbatch.storage.location import Location

_MAX_BYTES: Final = 4 << 30
IMAGE_SUFFIXES: Final = frozenset(
    f".{name}"
    for name in (
        "jpg",
        "jpeg",
        "png",
        "bmp",
        "gif",
        "tif",
        "tiff",
        "webp",
        "jp2",
        "j2k",
        "heic",
        "heif",
        "avif",
        "ppm",
        "pgm",
    )
)


def truth_path(location: Location) -> Path | None:
    """The path of a location on a disk, None for one in a bucket."""
    return Path(location.uri) if location.is_local else None


def read_truth_bytes(location: Location) -> bytes:
    """Read a whole file.

    Raises:
        UsageError: If it cannot be read.
    """
    try:
        if location.is_local:
            return Path(location.uri).read_bytes()
        return open_bucket(location).get_object(location.key, _MAX_BYTES).data
    except OSError as error:
        raise UsageError(f"{location}: expected a file with truth; {error.strerror or error}") from None


def parse_json(data: bytes, source: str, expected: str) -> Any:
    """Parse JSON.

    Args:
        data: Content of the file.
        source: The file in messages.
        expected: What should be in it, for the message.

    Raises:
        UsageError: If it is no JSON.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        begin = data[:40].decode("utf-8", "replace").replace("\n", " ")
        raise UsageError(f"{source}: expected {expected}; got {begin!r}, which is no JSON ({error})") from None


def read_lines(path: Path) -> list[str]:
    """Read a text file in lines.

    Raises:
        UsageError: If it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: expected a text file; {error}") from None
