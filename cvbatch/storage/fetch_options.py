"""How images are got that do not lie on a disk, and how large they may be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from cvbatch.storage.http_hosts import HttpOptions
from cvbatch.storage.options import StorageOptions


@dataclass(frozen=True, slots=True)
class FetchOptions:
    """What those who fetch must know besides a location; may be pickled, and holds no secret."""

    storage: StorageOptions = field(default=StorageOptions())
    """The way to objects."""
    http: HttpOptions = field(default=HttpOptions())
    """Web hosts that may be asked."""
    max_bytes: int | None = None
    """Encoded images with more bytes are error rows."""


LOCAL_FETCH: Final = FetchOptions()
"""Nothing needs to be known for a disk."""
