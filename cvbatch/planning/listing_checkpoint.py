"""How far a listing has come, kept beside the plan, so that the start after a kill does not begin anew.

There is one object for each source and way of reading it, and whoever lists writes over it. What it holds is always
whole: the parts so far by their names, and the mark behind the last of them. Two starts may go on from the same one;
each adds parts of its own, and `plan.json` names those of the start that wins.
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
"""What was listed longer ago is listed again: too much may have changed."""


@dataclass(frozen=True, slots=True)
class PartialListing:
    """A part of a listing."""

    parts: tuple[Part, ...] = ()
    """Parts of the plan, whose row ids begin with 0."""
    mark: ListingMark | None = None
    """Where the source stands behind them."""

    @property
    def row_count(self) -> int:
        """How many rows they have."""
        return sum(part["rows"] for part in self.parts)


class ListingProgress:
    """The progress of one listing.

    Args:
        store: The output.
        config: The source as it was asked for; all but its limit matters.
        source: The same, opened.
    """

    def __init__(self, store: Store, config: SourceConfig, source: ImageSource) -> None:
        self._store = store
        self._source = source
        self._written = False
        columns = [f"{column.name} {column.type}" for column in (*ENTRY_FIELDS, *source.extra_columns)]
        key = [_LISTING.major, config.model_dump(mode="json", exclude={"limit"}), columns]
        self._name = f"{_PREFIX}{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]}.json"

    def load_partial(self, limit: int | None) -> PartialListing:
        """What an earlier start has listed, if that is of use.

        Args:
            limit: Rows that are wanted at most.
        """
        if not isinstance(self._source, ResumableSource):
            return PartialListing()
        try:
            data = _LISTING.decode_record(self._store.read_object(self._name), f"{self._store.root}/{self._name}")
        except FileNotFoundError:
            return PartialListing()
        self._written = True
        found = PartialListing(tuple(data["parts"]), data["mark"])
        too_old = time.time() - data["time"] > _MAX_AGE_SECONDS
        if too_old or (limit is not None and found.row_count > limit):
            return PartialListing()
        there = self._store.list_sizes(PARTS_FOLDER)
        return found if all(part["path"] in there for part in found.parts) else PartialListing()

    def remaining_chunks(self, begun: PartialListing) -> Iterator[tuple[pa.Table, ListingMark | None]]:
        """Chunks of the source, behind those that are there, each with its mark."""
        if isinstance(self._source, ResumableSource):
            return self._source.iter_marked_chunks(begun.mark)
        return ((chunk, None) for chunk in self._source.iter_chunks())

    def save_checkpoint(self, parts: Sequence[Part], mark: ListingMark) -> None:
        """Let other starts go on behind these parts, which must be written."""
        self._written = True
        self._store.put_object(
            self._name, _LISTING.encode_record({"time": time.time(), "parts": list(parts), "mark": mark})
        )

    def delete_checkpoint(self) -> None:
        """Forget it; there must be a plan."""
        if self._written:
            self._store.delete_object(self._name)
