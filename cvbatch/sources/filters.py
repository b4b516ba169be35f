"""What a listing leaves out besides other kinds of files: by size, by age, by glob."""

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
"""What is left out is counted under these words."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class FileFilters:
    """What is left out; by default nothing. What is not known of an image is no reason."""

    min_bytes: int | None = None
    max_bytes: int | None = None
    modified_since: int | None = None
    """Nanoseconds."""
    exclude: tuple[str, ...] = ()
    """A glob without a slash is any folder or file of that name, one with a slash begins where the source does."""

    @staticmethod
    def from_config(config: SourceConfig) -> FileFilters:
        """Those that a job asks for."""
        since = None if config.modified_since is None else to_nanoseconds(config.modified_since)
        return FileFilters(config.min_bytes, config.max_bytes, since, config.exclude)

    def skip_reason(self, size: int | None, modified: int | None) -> str | None:
        """Why a file or a member is left out; None if it is not.

        Args:
            size: In bytes, if known.
            modified: In nanoseconds, if known.
        """
        if size is not None and self.min_bytes is not None and size < self.min_bytes:
            return TOO_SMALL
        if size is not None and self.max_bytes is not None and size > self.max_bytes:
            return TOO_LARGE
        if modified is not None and self.modified_since is not None and modified < self.modified_since:
            return TOO_OLD
        return None

    def is_excluded(self, path: bytes) -> bool:
        """Whether a path is excluded; it counts from where the source begins, or is that of a member."""
        parts = path.split(b"/")
        return any(_glob_fits(glob, parts) for glob in self.exclude)

    def filter_chunk(self, chunk: pa.Table, listing: ListingReport, within: bytes | None = None) -> pa.Table:
        """The images of a chunk that are not left out; the others are counted.

        Args:
            chunk: Of a source.
            listing: Counts.
            within: The container that they are members of, if they are.
        """
        if self == NO_FILTERS:
            return chunk
        facts = zip(chunk[IMAGE_BYTES].to_pylist(), chunk[MODIFIED].to_pylist(), strict=True)
        refused = [self.skip_reason(size, modified) for size, modified in facts]
        if within is not None and self.exclude:
            start = len(readable_path(within)) + 1
            members = (uri[start:].encode() for uri in chunk[IMAGE_URI].to_pylist())
            refused = [EXCLUDED if self.is_excluded(name) else why for name, why in zip(members, refused, strict=True)]
        listing.skipped.update(why for why in refused if why is not None)
        return chunk.filter(pa.array([why is None for why in refused], pa.bool_()))


NO_FILTERS: Final = FileFilters()


def to_nanoseconds(moment: datetime) -> int:
    """A time as file systems have it."""
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def _glob_fits(glob: str, parts: Sequence[bytes]) -> bool:
    pattern = _compile_glob(glob)
    if "/" not in glob:
        return any(pattern.matches_file(pattern.start, part) for part in parts)
    states = pattern.start
    for part in parts:
        if pattern.matches_file(states, part):  # a folder takes all that is in it along
            return True
        states = pattern.enter_folder(states, part)
    return False


@lru_cache
def _compile_glob(glob: str) -> GlobPattern:
    return GlobPattern([os.fsencode(part) for part in glob.strip("/").split("/")])
