"""The images of a shard as rows of the plan."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pyarrow as pa

from cvbatch.sources.archives.members import ArchiveIndex, ArchiveMember
from cvbatch.sources.archives.streams import TAR, TAR_GZIP, TAR_ZSTD
from cvbatch.sources.archives.tars import TarIndex
from cvbatch.sources.archives.webdataset import WebDatasetSample, infer_extra_schema, iter_samples
from cvbatch.sources.archives.zips import ZipIndex
from cvbatch.sources.entries import CHUNK_ROWS, ListingReport, Span, member_table, readable_path
from cvbatch.sources.extra_columns import json_values_to_column
from cvbatch.sources.fetch.blob import BrokenContainerError, ByteBlob
from cvbatch.sources.suffixes import ImageSuffixes, skipped_kind

ARCHIVE_SUFFIXES: Final = (b".tar", b".tar.gz", b".tgz", b".tar.zst", b".tzst", b".zip")

END_MARK: Final = "end mark within a tar"
"""Marks behind which another tar was read are counted under these words."""
_ZIP: Final = "zip"
_MAGIC: Final = {b"\x1f\x8b": TAR_GZIP, b"\x28\xb5\x2f\xfd": TAR_ZSTD, b"PK\x03\x04": _ZIP, b"PK\x05\x06": _ZIP}
_SKIPPABLE: Final = range(0x184D2A50, 0x184D2A60)
"""What zstd passes over begins with one of these; `pzstd` begins its files so."""
_MAX_TABLE_ROWS: Final = 1 << 48
"""What a member says of itself may be no number of bytes that there is."""
_TYPICAL_SAMPLES: Final = 10_000
"""So many samples of the first shard decide which columns come along."""


class Archive:
    """A shard.

    Args:
        blob: Its bytes.
        suffixes: What is an image.
        metadata: Whether what lies beside an image comes along.
    """

    def __init__(self, blob: ByteBlob, suffixes: ImageSuffixes, *, metadata: bool) -> None:
        self._blob = blob
        self._suffixes = suffixes
        self._metadata = metadata

    @property
    def holds_images(self) -> bool:
        """Whether images are to be expected in it."""
        return True

    def extra_schema(self) -> pa.Schema | None:
        """What it offers besides images."""
        return (
            infer_extra_schema(_open_index(self._blob), self._suffixes, _TYPICAL_SAMPLES)
            if self._metadata
            else pa.schema([])
        )

    def entry_tables(self, modified: int | None, carried: pa.Schema, listing: ListingReport) -> Iterator[pa.Table]:
        """Yield tables of `ENTRY_FIELDS` and what is carried, which keep the names that the archive gives it.

        Args:
            modified: When the file was last changed, in nanoseconds.
            carried: The columns to fill.
            listing: Takes what is left out.

        Raises:
            BrokenContainerError: After what lies before the damage.
        """
        rows = _PendingRows(self._blob.location, modified, carried)
        index = _open_index(self._blob)
        try:
            for sample in iter_samples(index, self._suffixes, metadata=self._metadata):
                _count_skipped(sample, listing)
                for member, verdict in sample.image_members:
                    rows.add_member(member, verdict.refused, sample.extra_values)
                if len(rows) >= CHUNK_ROWS.current_value:
                    yield rows.take_table()
        except BrokenContainerError:
            yield rows.take_table()
            raise
        finally:
            if index.end_marks:
                listing.skipped[END_MARK] += index.end_marks
        yield rows.take_table()


def _open_index(blob: ByteBlob) -> ArchiveIndex:
    """By content, not by name: a `.tar` may well be packed."""
    start = blob.read_range(0, 4)
    how = next((how for magic, how in _MAGIC.items() if start.startswith(magic)), None)
    if int.from_bytes(start, "little") in _SKIPPABLE:
        how = TAR_ZSTD
    if how == _ZIP or (how is None and blob.location.lower().endswith(b".zip")):
        return ZipIndex(blob)
    return TarIndex(blob, how or TAR)


def _count_skipped(sample: WebDatasetSample, listing: ListingReport) -> None:
    listing.skipped.update(verdict.skipped_as for _, verdict in sample.members if verdict.skipped_as is not None)
    if not sample.image_members:
        # such as where an archive is not sorted by name
        listing.skipped.update(f"{skipped_kind(name)} without its image beside it" for name in sample.sidecar_count)


class _PendingRows:
    """Rows that wait to become a table."""

    def __init__(self, container: bytes, modified: int | None, carried: pa.Schema) -> None:
        self._container = container
        self._modified = modified
        self._carried = carried
        self._times: dict[bytes, int] = {}
        self._clear_rows()

    def __len__(self) -> int:
        return len(self._names)

    def add_member(self, member: ArchiveMember, refused: str | None, facts: dict[str, Any]) -> None:
        name = readable_path(member.name)
        times = self._times[member.name] = self._times.get(member.name, 0) + 1
        plain = times == 1 and member.name == name.encode()
        self._names.append(name)
        self._sizes.append(min(member.size, _MAX_TABLE_ROWS))
        self._facts.append(facts)
        self._spans.append(
            Span(
                how=member.how,
                offset=min(member.offset, _MAX_TABLE_ROWS),
                size=min(member.stored, _MAX_TABLE_ROWS),
                check=member.check,
                key=None if plain else b"%d\0%b" % (times, member.name),
                refused=refused,
            )
        )

    def take_table(self) -> pa.Table:
        table = member_table(self._container, self._modified, self._names, self._sizes, self._spans)
        for column in self._carried:
            values = [facts.get(column.name) for facts in self._facts]
            table = table.append_column(column, json_values_to_column(values, column.type))
        self._clear_rows()
        return table

    def _clear_rows(self) -> None:
        self._names: list[str] = []
        self._sizes: list[int | None] = []
        self._facts: list[dict[str, Any]] = []
        self._spans: list[Span] = []
