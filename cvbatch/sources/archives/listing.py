"""Images of an archive as rows of the plan."""

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
"""Reason under which end marks between concatenated tars are counted."""
_ZIP: Final = "zip"
_MAGIC: Final = {b"\x1f\x8b": TAR_GZIP, b"\x28\xb5\x2f\xfd": TAR_ZSTD, b"PK\x03\x04": _ZIP, b"PK\x05\x06": _ZIP}
_SKIPPABLE: Final = range(0x184D2A50, 0x184D2A60)
"""Magic numbers of skippable zstd frames; files of `pzstd` start with one."""
_MAX_BYTES: Final = 1 << 48
"""Upper limit for the numbers in a row: a hostile archive can name sizes that no int64 column holds."""
_TYPICAL_SAMPLES: Final = 10_000
"""Number of samples of the first archive that decide the extra columns."""


class Archive:
    """A tar or zip archive.

    Args:
        blob: Bytes of the archive.
        suffixes: Suffixes of members that are images.
        metadata: Whether to keep the metadata files beside images.
    """

    def __init__(self, blob: ByteBlob, suffixes: ImageSuffixes, *, metadata: bool) -> None:
        self._blob = blob
        self._suffixes = suffixes
        self._metadata = metadata

    @property
    def holds_images(self) -> bool:
        """Whether it should contain images."""
        return True

    def extra_schema(self) -> pa.Schema | None:
        """The extra columns that it offers."""
        return (
            infer_extra_schema(_open_index(self._blob), self._suffixes, _TYPICAL_SAMPLES)
            if self._metadata
            else pa.schema([])
        )

    def entry_tables(
        self, modified: int | None, extra_columns: pa.Schema, listing: ListingReport
    ) -> Iterator[pa.Table]:
        """Yield tables of `ENTRY_FIELDS` and the extra columns, under their names in the archive.

        Args:
            modified: Modification time of the archive in nanoseconds.
            extra_columns: Extra columns to fill.
            listing: Report that receives skipped members.

        Raises:
            BrokenContainerError: After the entries before the damage.
        """
        rows = _PendingRows(self._blob.location, modified, extra_columns)
        index = _open_index(self._blob)
        try:
            for sample in iter_samples(index, self._suffixes, metadata=self._metadata):
                _count_skipped(sample, listing)
                for member, decision in sample.image_members:
                    rows.add_member(member, decision.refused, sample.extra_values)
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
    """Detect the format by content: a `.tar` can be compressed."""
    head = blob.read_range(0, 4)
    container_format = next(
        (container_format for magic, container_format in _MAGIC.items() if head.startswith(magic)), None
    )
    if int.from_bytes(head, "little") in _SKIPPABLE:
        container_format = TAR_ZSTD
    if container_format == _ZIP or (container_format is None and blob.location.lower().endswith(b".zip")):
        return ZipIndex(blob)
    return TarIndex(blob, container_format or TAR)


def _count_skipped(sample: WebDatasetSample, listing: ListingReport) -> None:
    listing.skipped.update(decision.skipped_as for _, decision in sample.members if decision.skipped_as is not None)
    if not sample.image_members:
        # for example, if the archive is not sorted by name
        listing.skipped.update(f"{skipped_kind(name)} without its image beside it" for name in sample.sidecar_names)


class _PendingRows:
    """Rows that are collected for the next table."""

    def __init__(self, container: bytes, modified: int | None, extra_columns: pa.Schema) -> None:
        self._container = container
        self._modified = modified
        self._extra_columns = extra_columns
        self._name_counts: dict[bytes, int] = {}
        self._clear_rows()

    def __len__(self) -> int:
        return len(self._names)

    def add_member(self, member: ArchiveMember, refusal: str | None, extra_values: dict[str, Any]) -> None:
        name = readable_path(member.name)
        occurrence = self._name_counts[member.name] = self._name_counts.get(member.name, 0) + 1
        is_unique = occurrence == 1 and member.name == name.encode()
        self._names.append(name)
        self._sizes.append(min(member.size, _MAX_BYTES))
        self._extra_values.append(extra_values)
        self._spans.append(
            Span(
                how=member.how,
                offset=min(member.offset, _MAX_BYTES),
                size=min(member.stored, _MAX_BYTES),
                check=member.check,
                key=None if is_unique else b"%d\0%b" % (occurrence, member.name),
                refused=refusal,
            )
        )

    def take_table(self) -> pa.Table:
        table = member_table(self._container, self._modified, self._names, self._sizes, self._spans)
        for column in self._extra_columns:
            values = [extra_values.get(column.name) for extra_values in self._extra_values]
            table = table.append_column(column, json_values_to_column(values, column.type))
        self._clear_rows()
        return table

    def _clear_rows(self) -> None:
        self._names: list[str] = []
        self._sizes: list[int | None] = []
        self._extra_values: list[dict[str, Any]] = []
        self._spans: list[Span] = []
