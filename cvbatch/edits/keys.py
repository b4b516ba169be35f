"""Which names of files a bucket can have."""

from __future__ import annotations

import os
from typing import Final

from cvbatch.storage.location import Location
from cvbatch.storage.unusual_keys import is_plain_key

_LONGEST_KEY: Final = 1_024
"""Bytes; of S3, Google Cloud Storage and Azure alike."""


def refuse_key(to: Location, path: str) -> str | None:
    """Why a bucket cannot have a file of this name; None if it can.

    Args:
        to: A place in a bucket.
        path: Relative path of the file.
    """
    key = f"{to.key.rstrip('/')}/{path}".lstrip("/")
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        return f"{os.fsencode(path)!r}: expected a name in UTF-8"
    if size > _LONGEST_KEY:
        return f"{path[:60]}…: expected a key of at most {_LONGEST_KEY} bytes, got {size}"
    return None if is_plain_key(key) else f"{path!r}: expected a name without control characters"
