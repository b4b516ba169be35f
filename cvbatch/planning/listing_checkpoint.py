"""Checkpoints of a listing, stored beside the plan, so that an attempt can resume the listing of a killed one.

Each combination of source and reading options has one object, which every listing overwrites. It is always complete:
the paths of the plan parts so far, and the mark after the last of them. Two attempts may resume from the same
checkpoint; each writes its own parts, and `plan.json` names those of the attempt that wins.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from cvbatch.config.job import SourceConfig
from cvbatch.output.store import Store
from cvbatch.planning.parts import PARTS_FOLDER, Part
from cvbatch.sources.entries import ENTRY_FIELDS, ImageSource, ListingMark, ResumableSource
from cvbatch.system.formats import RecordFormat

_PREFIX: Final = "_cvbatch/listing-"
_LISTING: Final = RecordFormat("listing", dict[str, Any])
_MAX_AGE_SECONDS: Final = 86_400.0
"""Older checkpoints are ignored, because too much of the source may have changed."""


@dataclass(frozen=True, slots=True)
class PartialListing:
    """The finished part of a listing."""

    parts: tuple[Part, ...] = ()
    """Plan parts; their row ids start at 0."""
    mark: ListingMark | None = None
    """Position in the source after these parts."""

    @property
    def row_count(self) -> int:
        """Number of rows in the parts."""
        return sum(part["rows"] for part in self.parts)


class ListingCheckpoint:
    """Checkpoint of one listing.

    Args:
        store: The output.
        config: Options of the source; the checkpoint is valid for all of them except the limit.
        source: The opened source.
    """

    def __init__(self, store: Store, config: SourceConfig, source: ImageSource) -> None:
        self._store = store
        self._source = source
        self._written = False
        columns = [f"{column.name} {column.type}" for column in (*ENTRY_FIELDS, *source.extra_columns)]
        key = [_LISTING.major, config.model_dump(mode="json", exclude={"limit"}), columns]
        self._name = f"{_PREFIX}{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]}.json"

    def load_partial(self, limit: int | None) -> PartialListing:
        """Load the listing of an earlier attempt; empty if it cannot be resumed.

        Args:
            limit: Most rows of the plan.
        """
        if not isinstance(self._source, ResumableSource):
            return PartialListing()
        try:
            data = _LISTING.decode_record(self._store.read_object(self._name), f"{self._store.root}/{self._name}")
        except FileNotFoundError:
            return PartialListing()
        self._written = True
        partial = PartialListing(tuple(data["parts"]), data["mark"])
        too_old = time.time() - data["time"] > _MAX_AGE_SECONDS
        if too_old or (limit is not None and partial.row_count > limit):
            return PartialListing()
        stored_paths = self._store.list_sizes(PARTS_FOLDER)
        return partial if all(part["path"] in stored_paths for part in partial.parts) else PartialListing()

    def remaining_chunks(self, partial: PartialListing) -> Iterator[tuple[pa.Table, ListingMark | None]]:
        """Chunks of the source after a partial listing, each with its mark."""
        if isinstance(self._source, ResumableSource):
            return self._source.iter_marked_chunks(partial.mark)
        return ((chunk, None) for chunk in self._source.iter_chunks())

    def save_checkpoint(self, parts: Sequence[Part], mark: ListingMark) -> None:
        """Save a checkpoint after these parts, which must be written."""
        self._written = True
        self._store.put_object(
            self._name, _LISTING.encode_record({"time": time.time(), "parts": list(parts), "mark": mark})
        )

    def delete_checkpoint(self) -> None:
        """Delete the checkpoint; the plan must exist."""
        if self._written:
            self._store.delete_object(self._name)
