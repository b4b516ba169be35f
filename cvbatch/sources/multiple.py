"""Several sources as one: images in the order of the sources, each image once."""

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
"""Reason under which repeated images of later sources are counted."""


class MultipleSources:
    """Several sources of one run.

    The extra columns are those of the first source; for manifests, those of all of them.

    Args:
        uris: Sources as the job names them.
        sources: Opened sources, in the same order; either all of them are manifests or none.

    Raises:
        SourceError: If only some are manifests, if a manifest or the target of a link is named twice, or if a column
            of the manifests has several types.
    """

    def __init__(self, uris: Sequence[str], sources: Sequence[ImageSource]) -> None:
        self._uris, self.sources = uris, sources
        self.positional = all(source.positional for source in sources)
        if not self.positional and any(source.positional for source in sources):
            uri_by_kind = {source.positional: uri for uri, source in zip(uris, sources, strict=True)}
            raise SourceError(
                f"{uri_by_kind[True]} is a manifest and {uri_by_kind[False]} is not: expected only manifests, or none; "
                "give each kind a run and an output of its own"
            )
        if self.positional:
            _refuse_repeated_manifests(uris)
        else:
            _refuse_linked_folders(uris)
        self.extra_columns = _merge_extra_columns(uris, sources)
        self._listed_sources = range(1)
        """Positions of the listed sources; the last one may be listed in part."""
        # the lines of manifests are rows, repeats included
        self._may_repeat = not self.positional and any(_may_overlap(*pair) for pair in combinations(uris, 2))
        self._previous_report = ListingReport()
        """Report on sources that another process listed, and on repeated images."""

    @property
    def listing(self) -> ListingReport:
        """Report on the listing so far, over all sources."""
        total = ListingReport()
        for number in self._listed_sources:
            total.merge_report(self.sources[number].listing)
        total.merge_report(self._previous_report)
        return total

    def iter_chunks(self) -> Iterator[pa.Table]:
        """Yield the images, source by source.

        Raises:
            SourceError: If one of the sources holds no images.
        """
        return (chunk for chunk, _ in self.iter_marked_chunks())

    def iter_marked_chunks(self, mark: ListingMark | None = None) -> Iterator[tuple[pa.Table, ListingMark | None]]:
        """Yield each chunk of images with a mark to resume after it; see `ResumableSource`.

        Args:
            mark: Resume after the chunk that this mark came with.

        Raises:
            SourceError: If one of the sources holds no images.
        """
        first = 0 if mark is None else mark["source"]
        seen = set[bytes]()
        self._previous_report = _listing_from_json(mark["before"]) if mark is not None else ListingReport()
        for number, source in enumerate(self.sources[first:], first):
            report, row_count = self._listing_to_json(first, number), 0
            self._listed_sources = range(first, number + 1)
            source_mark = mark["mark"] if mark is not None and number == first else None
            for chunk, mark_after in _marked_chunks_of(source, source_mark):
                row_count += chunk.num_rows
                # a resumed listing does not know the images of its first part, so repeats would not be dropped
                is_resumable = mark_after is not None and not self._may_repeat
                yield (
                    self._drop_seen(self._fill_extra_columns(chunk), seen),
                    {"source": number, "mark": mark_after, "before": report} if is_resumable else None,
                )
            if row_count <= source.listing.lost and source_mark is None:
                raise SourceError(
                    f"{self._uris[number]} holds no images, and is one of {len(self.sources)} sources: "
                    "check it, or remove it"
                )

    def _listing_to_json(self, first: int, end: int) -> ListingMark:
        total = ListingReport()
        for source in self.sources[first:end]:
            total.merge_report(source.listing)
        total.merge_report(self._previous_report)
        return {"skipped": dict(total.skipped), "unreadable": dict(total.unreadable), "lost": total.lost}

    def _fill_extra_columns(self, chunk: pa.Table) -> pa.Table:
        """The chunk with the extra columns of all sources; missing ones are null."""
        names = chunk.column_names
        for column in self.extra_columns:
            if column.name not in names:
                chunk = chunk.append_column(column, pa.nulls(chunk.num_rows, column.type))
        entry_columns = [name for name in names if name not in self.extra_columns.names]
        return chunk.select([*entry_columns, *self.extra_columns.names])

    def _drop_seen(self, chunk: pa.Table, seen: set[bytes]) -> pa.Table:
        if not self._may_repeat:
            return chunk
        keys = identity_keys(chunk)
        is_new = [key not in seen for key in keys]
        seen.update(keys)
        if not all(is_new):
            self._previous_report.skipped[LISTED_TWICE] += is_new.count(False)
        return chunk.filter(pa.array(is_new, pa.bool_()))


def _marked_chunks_of(source: ImageSource, mark: ListingMark | None) -> Iterator[tuple[pa.Table, ListingMark | None]]:
    if isinstance(source, ResumableSource):
        return source.iter_marked_chunks(mark)
    return ((chunk, None) for chunk in source.iter_chunks())


def _listing_from_json(data: ListingMark) -> ListingReport:
    report = ListingReport()
    report.skipped.update(data["skipped"])
    report.unreadable.update(data["unreadable"])
    report.lost = data["lost"]
    return report


def _merge_extra_columns(uris: Sequence[str], sources: Sequence[ImageSource]) -> pa.Schema:
    merged = sources[0].extra_columns
    for uri, source in zip(uris[1:], sources[1:], strict=True):
        for column in source.extra_columns if source.positional else ():
            if column.name not in merged.names:
                alike = [name for name in merged.names if name.lower() == column.name.lower()]
                if alike:
                    raise SourceError(
                        f"{uri}: the column {column.name!r} is {alike[0]!r} in the manifests before, and Spark and "
                        "DuckDB do not tell upper from lower case: write both alike, or leave them out with "
                        "source.metadata: off"
                    )
                merged = merged.append(column)
            elif merged.field(column.name).type != column.type:
                merged_type = merged.field(column.name).type
                raise SourceError(
                    f"{uri}: the column {column.name!r} is {column.type}, and in the manifests before {merged_type}; "
                    "write it as one type, or leave it out with source.metadata: off"
                )
    return merged


def _refuse_repeated_manifests(uris: Sequence[str]) -> None:
    seen = set[str]()
    for uri in uris:
        real_location = os.path.realpath(path) if (path := to_local_path(uri)) is not None else uri
        if real_location in seen:
            raise SourceError(f"{uri} is named twice, so each line would become two rows: name it once")
        seen.add(real_location)


def _refuse_linked_folders(uris: Sequence[str]) -> None:
    """Refuse links to the same folder: an image with two paths would become two rows."""
    for pair in combinations(uris, 2):
        paths = [to_local_path(uri) for uri in pair]
        if None in paths or _may_overlap(*pair) or any(map(glob.has_magic, pair)):
            continue
        if _may_overlap(*(os.path.realpath(path) for path in paths if path is not None)):
            raise SourceError(
                f"{pair[0]} and {pair[1]} lead to the same folder, so each image would become two rows: name it once"
            )


def _may_overlap(first_uri: str, second_uri: str) -> bool:
    """Whether two sources can share images: one location contains the other."""
    shorter, longer = sorted(map(_fixed_prefix, (first_uri, second_uri)), key=len)
    return longer.startswith(shorter)


def _fixed_prefix(uri: str) -> str:
    path = to_local_path(uri) or uri
    glob_start = min((path.find(character) for character in "*?[" if character in path), default=None)
    return os.path.join(path, "") if glob_start is None else path[:glob_start]
