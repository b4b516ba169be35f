"""The images of a shard as rows of the plan."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pyarrow as pa

from cvbatch.sources.archives.members import Index, Member
from cvbatch.sources.archives.streams import TAR, TAR_GZIP, TAR_ZSTD
from cvbatch.sources.archives.tars import TarIndex
from cvbatch.sources.archives.webdataset import Sample, columns, samples
from cvbatch.sources.archives.zips import ZipIndex
from cvbatch.sources.entries import CHUNK_ROWS, Listing, Span, member_table, readable
from cvbatch.sources.extra_columns import as_column
from cvbatch.sources.fetch.blob import Blob, BrokenContainerError
from cvbatch.sources.suffixes import Suffixes, counted_as

ARCHIVE_SUFFIXES: Final = (b".tar", b".tar.gz", b".tgz", b".tar.zst", b".tzst", b".zip")

END_MARK: Final = "end mark within a tar"
"""Marks behind which another tar was read are counted under these words."""
_ZIP: Final = "zip"
_MAGIC: Final = {b"\x1f\x8b": TAR_GZIP, b"\x28\xb5\x2f\xfd": TAR_ZSTD, b"PK\x03\x04": _ZIP, b"PK\x05\x06": _ZIP}
_SKIPPABLE: Final = range(0x184D2A50, 0x184D2A60)
"""What zstd passes over begins with one of these; `pzstd` begins its files so."""
_LARGEST: Final = 1 << 48
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

    def __init__(self, blob: Blob, suffixes: Suffixes, *, metadata: bool) -> None:
        self._blob = blob
        self._suffixes = suffixes
        self._metadata = metadata

    @property
    def holds_images(self) -> bool:
        """Whether images are to be expected in it."""
        return True

    def columns(self) -> pa.Schema | None:
        """What it offers besides images."""
        return columns(_index(self._blob), self._suffixes, _TYPICAL_SAMPLES) if self._metadata else pa.schema([])

    def pieces(self, modified: int | None, carried: pa.Schema, listing: Listing) -> Iterator[pa.Table]:
        """Yield tables of `ENTRY_FIELDS` and what is carried, which keep the names that the archive gives it.

        Args:
            modified: When the file was last changed, in nanoseconds.
            carried: The columns to fill.
            listing: Takes what is left out.

        Raises:
            BrokenContainerError: After what lies before the damage.
        """
        rows = _Rows(self._blob.location, modified, carried)
        index = _index(self._blob)
        try:
            for sample in samples(index, self._suffixes, metadata=self._metadata):
                _count(sample, listing)
                for member, verdict in sample.images:
                    rows.add(member, verdict.refused, sample.facts)
                if len(rows) >= CHUNK_ROWS.value:
                    yield rows.taken()
        except BrokenContainerError:
            yield rows.taken()
            raise
        finally:
            if index.end_marks:
                listing.skipped[END_MARK] += index.end_marks
        yield rows.taken()


def _index(blob: Blob) -> Index:
    """By content, not by name: a `.tar` may well be packed."""
    start = blob.read(0, 4)
    how = next((how for magic, how in _MAGIC.items() if start.startswith(magic)), None)
    if int.from_bytes(start, "little") in _SKIPPABLE:
        how = TAR_ZSTD
    if how == _ZIP or (how is None and blob.location.lower().endswith(b".zip")):
        return ZipIndex(blob)
    return TarIndex(blob, how or TAR)


def _count(sample: Sample, listing: Listing) -> None:
    listing.skipped.update(verdict.counted for _, verdict in sample.members if verdict.counted is not None)
    if not sample.images:
        # such as where an archive is not sorted by name
        listing.skipped.update(f"{counted_as(name)} without its image beside it" for name in sample.beside)


class _Rows:
    """Rows that wait to become a table."""

    def __init__(self, container: bytes, modified: int | None, carried: pa.Schema) -> None:
        self._container = container
        self._modified = modified
        self._carried = carried
        self._times: dict[bytes, int] = {}
        self._clear()

    def __len__(self) -> int:
        return len(self._names)

    def add(self, member: Member, refused: str | None, facts: dict[str, Any]) -> None:
        name = readable(member.name)
        times = self._times[member.name] = self._times.get(member.name, 0) + 1
        plain = times == 1 and member.name == name.encode()
        self._names.append(name)
        self._sizes.append(min(member.size, _LARGEST))
        self._facts.append(facts)
        self._spans.append(
            Span(
                how=member.how,
                offset=min(member.offset, _LARGEST),
                size=min(member.stored, _LARGEST),
                check=member.check,
                key=None if plain else b"%d\0%b" % (times, member.name),
                refused=refused,
            )
        )

    def taken(self) -> pa.Table:
        table = member_table(self._container, self._modified, self._names, self._sizes, self._spans)
        for column in self._carried:
            values = [facts.get(column.name) for facts in self._facts]
            table = table.append_column(column, as_column(values, column.type))
        self._clear()
        return table

    def _clear(self) -> None:
        self._names: list[str] = []
        self._sizes: list[int | None] = []
        self._facts: list[dict[str, Any]] = []
        self._spans: list[Span] = []
