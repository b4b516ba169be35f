"""Several sources as one: their images in the order in which the sources are named, each image once."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Final

import pyarrow as pa

from cvbatch.errors import SourceError
from cvbatch.sources.entries import ImageSource, ListingMark, ListingReport, ResumableSource, identity_keys
from cvbatch.storage.local_paths import to_local_path

LISTED_TWICE: Final = "listed twice"
"""What a second source names again is counted under these words."""


class MultipleSources:
    """Sources that are one run.

    Columns that come along are those of the first source; of manifests, those of all of them.

    Args:
        uris: What the job calls them.
        sources: The same, opened; all of them manifests, or none.

    Raises:
        SourceError: If some are manifests and some are not, a manifest or what a link leads to is named twice, or a
            column of manifests has several types.
    """

    def __init__(self, uris: Sequence[str], sources: Sequence[ImageSource]) -> None:
        self._uris, self.sources = uris, sources
        self.positional = all(source.positional for source in sources)
        if not self.positional and any(source.positional for source in sources):
            numbered = {source.positional: uri for uri, source in zip(uris, sources, strict=True)}
            raise SourceError(
                f"{numbered[True]} is a manifest and {numbered[False]} is none: expected manifests only, or none; "
                "give each kind a run and an output of its own"
            )
        if self.positional:
            _refuse_repeated_manifests(uris)
        else:
            _refuse_linked_folders(uris)
        self.extra_columns = _merge_extra_columns(uris, sources)
        self._listed = range(1)
        """Positions of the sources that were listed, the last of them perhaps in part."""
        # the lines of manifests are rows, repeats included
        self._overlap = not self.positional and any(_may_overlap(*pair) for pair in combinations(uris, 2))
        self._before = ListingReport()
        """What was met in sources that were listed by another process, and what was listed twice."""

    @property
    def listing(self) -> ListingReport:
        """What the listing met so far, in all of them."""
        total = ListingReport()
        for number in self._listed:
            total.merge_report(self.sources[number].listing)
        total.merge_report(self._before)
        return total

    def iter_chunks(self) -> Iterator[pa.Table]:
        """Yield the images, source by source.

        Raises:
            SourceError: If one of them holds none.
        """
        return (chunk for chunk, _ in self.iter_marked_chunks())

    def iter_marked_chunks(self, mark: ListingMark | None = None) -> Iterator[tuple[pa.Table, ListingMark | None]]:
        """Yield the images, each chunk with what a listing can go on from; see `Resumable`.

        Args:
            mark: Go on behind that chunk.

        Raises:
            SourceError: If one of the sources holds no images.
        """
        first = 0 if mark is None else mark["source"]
        seen = set[bytes]()
        self._before = _listing_from_json(mark["before"]) if mark is not None else ListingReport()
        for number, source in enumerate(self.sources[first:], first):
            before, rows = self._listing_to_json(first, number), 0
            self._listed = range(first, number + 1)
            inner = mark["mark"] if mark is not None and number == first else None
            for chunk, behind in _marked_chunks_of(source, inner):
                rows += chunk.num_rows
                # an image that was seen in a part of the listing that is gone on with is not known here
                can_go_on = behind is not None and not self._overlap
                yield (
                    self._drop_seen(self._fill_extra_columns(chunk), seen),
                    {"source": number, "mark": behind, "before": before} if can_go_on else None,
                )
            if rows <= source.listing.lost and inner is None:
                raise SourceError(
                    f"{self._uris[number]} holds no images, and is one of {len(self.sources)} sources: "
                    "check it, or leave it out"
                )

    def _listing_to_json(self, first: int, end: int) -> ListingMark:
        total = ListingReport()
        for source in self.sources[first:end]:
            total.merge_report(source.listing)
        total.merge_report(self._before)
        return {"skipped": dict(total.skipped), "unreadable": dict(total.unreadable), "lost": total.lost}

    def _fill_extra_columns(self, chunk: pa.Table) -> pa.Table:
        """With all the columns that come along from any of the sources."""
        names = chunk.column_names
        for column in self.extra_columns:
            if column.name not in names:
                chunk = chunk.append_column(column, pa.nulls(chunk.num_rows, column.type))
        facts = [name for name in names if name not in self.extra_columns.names]
        return chunk.select([*facts, *self.extra_columns.names])

    def _drop_seen(self, chunk: pa.Table, seen: set[bytes]) -> pa.Table:
        if not self._overlap:
            return chunk
        keys = identity_keys(chunk)
        new = [key not in seen for key in keys]
        seen.update(keys)
        if not all(new):
            self._before.skipped[LISTED_TWICE] += new.count(False)
        return chunk.filter(pa.array(new, pa.bool_()))


def _marked_chunks_of(source: ImageSource, mark: ListingMark | None) -> Iterator[tuple[pa.Table, ListingMark | None]]:
    if isinstance(source, ResumableSource):
        return source.iter_marked_chunks(mark)
    return ((chunk, None) for chunk in source.iter_chunks())


def _listing_from_json(facts: ListingMark) -> ListingReport:
    found = ListingReport()
    found.skipped.update(facts["skipped"])
    found.unreadable.update(facts["unreadable"])
    found.lost = facts["lost"]
    return found


def _merge_extra_columns(uris: Sequence[str], sources: Sequence[ImageSource]) -> pa.Schema:
    together = sources[0].extra_columns
    for uri, source in zip(uris[1:], sources[1:], strict=True):
        for column in source.extra_columns if source.positional else ():
            if column.name not in together.names:
                alike = [name for name in together.names if name.lower() == column.name.lower()]
                if alike:
                    raise SourceError(
                        f"{uri}: the column {column.name!r} is {alike[0]!r} in the manifests before, and Spark and "
                        "DuckDB do not tell upper from lower case: write both alike, or leave them out with "
                        "source.metadata: off"
                    )
                together = together.append(column)
            elif together.field(column.name).type != column.type:
                there = together.field(column.name).type
                raise SourceError(
                    f"{uri}: the column {column.name!r} is {column.type}, and in the manifests before {there}; "
                    "write it as one type, or leave it out with source.metadata: off"
                )
    return together


def _refuse_repeated_manifests(uris: Sequence[str]) -> None:
    seen = set[str]()
    for uri in uris:
        place = os.path.realpath(path) if (path := to_local_path(uri)) is not None else uri
        if place in seen:
            raise SourceError(f"{uri} is named twice, and each of its lines would be a row twice: name it once")
        seen.add(place)


def _refuse_linked_folders(uris: Sequence[str]) -> None:
    """Images that are known by two paths would be two rows."""
    for pair in combinations(uris, 2):
        paths = [to_local_path(uri) for uri in pair]
        if None in paths or _may_overlap(*pair) or any(map(glob.has_magic, pair)):
            continue
        if _may_overlap(*(os.path.realpath(path) for path in paths if path is not None)):
            raise SourceError(
                f"{pair[0]} and {pair[1]} lead to the same folder, and its images would be rows twice: name it once"
            )


def _may_overlap(one: str, other: str) -> bool:
    """Whether an image can be in both: where one location lies within the other."""
    shorter, longer = sorted(map(_fixed_prefix, (one, other)), key=len)
    return longer.startswith(shorter)


def _fixed_prefix(uri: str) -> str:
    path = to_local_path(uri) or uri
    magic = min((path.find(each) for each in "*?[" if each in path), default=None)
    return os.path.join(path, "") if magic is None else path[:magic]
