"""Filters of a listing: by size, by modification time, by glob."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

import pyarrow as pa

from cvbatch.config.job import SourceConfig
from cvbatch.schema import IMAGE_BYTES, IMAGE_URI, MODIFIED
from cvbatch.sources.entries import ListingReport, readable_path
from cvbatch.sources.glob import GlobPattern
from cvbatch.sources.output_folders import OUTPUT

TOO_SMALL: Final = "below min_bytes"
TOO_LARGE: Final = "above max_bytes"
TOO_OLD: Final = "before modified_since"
EXCLUDED: Final = "excluded"
REASONS: Final = (TOO_SMALL, TOO_LARGE, TOO_OLD, EXCLUDED, OUTPUT)
"""Reasons under which skipped items are counted."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class FileFilters:
    """Files and members to skip; by default none. An unknown size or time never excludes an image."""

    min_bytes: int | None = None
    max_bytes: int | None = None
    modified_since: int | None = None
    """Nanoseconds since the epoch."""
    exclude: tuple[str, ...] = ()
    """A glob without a slash matches any folder or file name, with a slash it matches from the top of the source."""

    @staticmethod
    def from_config(config: SourceConfig) -> FileFilters:
        """Filters that a job requests."""
        since = None if config.modified_since is None else to_nanoseconds(config.modified_since)
        return FileFilters(config.min_bytes, config.max_bytes, since, config.exclude)

    def skip_reason(self, size: int | None, modified: int | None) -> str | None:
        """Reason to skip a file or a member; None to keep it.

        Args:
            size: Bytes, if known.
            modified: Modification time in nanoseconds, if known.
        """
        if size is not None and self.min_bytes is not None and size < self.min_bytes:
            return TOO_SMALL
        if size is not None and self.max_bytes is not None and size > self.max_bytes:
            return TOO_LARGE
        if modified is not None and self.modified_since is not None and modified < self.modified_since:
            return TOO_OLD
        return None

    def is_excluded(self, path: bytes) -> bool:
        """Whether a path is excluded; it is relative to the top of the source, or the name of a member."""
        parts = path.split(b"/")
        return any(_glob_fits(glob, parts) for glob in self.exclude)

    def filter_chunk(self, chunk: pa.Table, listing: ListingReport, container: bytes | None = None) -> pa.Table:
        """Rows of a chunk that pass the filters; the others are counted.

        Args:
            chunk: Chunk of a source.
            listing: Report that counts the skipped rows.
            container: Container of the rows, if they are members.
        """
        if self == NO_FILTERS:
            return chunk
        sizes_and_times = zip(chunk[IMAGE_BYTES].to_pylist(), chunk[MODIFIED].to_pylist(), strict=True)
        reasons = [self.skip_reason(size, modified) for size, modified in sizes_and_times]
        if container is not None and self.exclude:
            prefix_length = len(readable_path(container)) + 1
            members = (uri[prefix_length:].encode() for uri in chunk[IMAGE_URI].to_pylist())
            reasons = [
                EXCLUDED if self.is_excluded(name) else reason for name, reason in zip(members, reasons, strict=True)
            ]
        listing.skipped.update(reason for reason in reasons if reason is not None)
        return chunk.filter(pa.array([reason is None for reason in reasons], pa.bool_()))


NO_FILTERS: Final = FileFilters()


def to_nanoseconds(moment: datetime) -> int:
    """Nanoseconds since the epoch, as file systems count."""
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def _glob_fits(glob: str, path_parts: Sequence[bytes]) -> bool:
    pattern = _compile_glob(glob)
    if "/" not in glob:
        return any(pattern.matches_file(pattern.start, part) for part in path_parts)
    states = pattern.start
    for part in path_parts:
        if pattern.matches_file(states, part):  # a matching folder excludes its whole content
            return True
        states = pattern.enter_folder(states, part)
    return False


@lru_cache
def _compile_glob(glob: str) -> GlobPattern:
    return GlobPattern([os.fsencode(part) for part in glob.strip("/").split("/")])
