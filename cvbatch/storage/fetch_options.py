"""Options for fetching image bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from cvbatch.storage.http_hosts import HttpOptions
from cvbatch.storage.options import StorageOptions


@dataclass(frozen=True, slots=True)
class FetchOptions:
    """Options for fetching image bytes; picklable, without secrets."""

    storage: StorageOptions = field(default=StorageOptions())
    """Access to object stores."""
    http: HttpOptions = field(default=HttpOptions())
    """Web hosts from which images may be fetched."""
    max_bytes: int | None = None
    """Size limit of an encoded image; larger images become error rows."""


LOCAL_FETCH: Final = FetchOptions()
"""Options for local files, which need none."""
