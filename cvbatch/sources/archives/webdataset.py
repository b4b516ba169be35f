"""WebDataset: consecutive members with one stem form a sample; files beside an image are its metadata."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from cvbatch.errors import ImageError
from cvbatch.sources.archives.members import ArchiveIndex, ArchiveMember, MemberDecision, decide_member
from cvbatch.sources.extra_columns import escape_surrogates, infer_json_type
from cvbatch.sources.fetch.blob import BrokenContainerError
from cvbatch.sources.suffixes import ImageSuffixes

SIDECAR_SUFFIXES: Final = (b"json", b"cls", b"txt")
MAX_SIDECAR_BYTES: Final = 1 << 20
"""Larger metadata files are skipped."""


@dataclass(slots=True)
class WebDatasetSample:
    """Consecutive members with the same stem."""

    members: list[tuple[ArchiveMember, MemberDecision]] = field(default_factory=list)
    extra_values: dict[str, Any] = field(default_factory=dict)
    """Values from the metadata files."""
    sidecar_names: list[bytes] = field(default_factory=list)
    """Names of the metadata files."""

    @property
    def image_members(self) -> list[tuple[ArchiveMember, MemberDecision]]:
        """The members that become rows."""
        return [(member, decision) for member, decision in self.members if decision.is_row]


def iter_samples(index: ArchiveIndex, suffixes: ImageSuffixes, *, metadata: bool) -> Iterator[WebDatasetSample]:
    """Read an archive sample by sample.

    Args:
        index: Members of the archive.
        suffixes: Suffixes of members that are images.
        metadata: Whether to read the metadata files beside images.

    Raises:
        BrokenContainerError: After the samples before the damage.
    """
    previous_stem, sample = None, WebDatasetSample()
    try:
        for member in index:
            decision, stem, suffix = decide_member(member, suffixes), *_split_stem(member.name)
            if stem != previous_stem:
                yield sample
                previous_stem, sample = stem, WebDatasetSample()
            if metadata and decision.skipped_as is not None and member.other is None and suffix in SIDECAR_SUFFIXES:
                sample.sidecar_names.append(member.name)
                sample.extra_values |= _read_sidecar(suffix, index, member)
            else:
                sample.members.append((member, decision))
    except BrokenContainerError:
        yield sample
        raise
    yield sample


def infer_extra_schema(index: ArchiveIndex, suffixes: ImageSuffixes, max_samples: int) -> pa.Schema:
    """Extra columns from the first `max_samples` samples with images.

    In a damaged archive, only samples before the damage count.
    """
    values_by_name: dict[str, list[Any]] = {}
    image_samples = (sample for sample in iter_samples(index, suffixes, metadata=True) if sample.image_members)
    with contextlib.suppress(BrokenContainerError):
        for sample in itertools.islice(image_samples, max_samples):
            for name, value in sample.extra_values.items():
                values_by_name.setdefault(name, []).append(value)
    return pa.schema([(name, infer_json_type(values)) for name, values in values_by_name.items()])


def _split_stem(name: bytes) -> tuple[bytes, bytes]:
    """Stem (up to the first dot of the file name) and the suffix after it in lower case."""
    folder, slash, file_name = name.rpartition(b"/")
    stem, _, suffix = file_name.partition(b".")
    return folder + slash + stem, suffix.lower()


def _read_sidecar(suffix: bytes, index: ArchiveIndex, member: ArchiveMember) -> dict[str, Any]:
    if member.size > MAX_SIDECAR_BYTES or member.refused is not None:
        return {}
    try:
        text = index.read_member(member).decode("utf-8", errors="backslashreplace")
        if suffix == b"txt":
            return {"txt": text}
        value = int(text) if suffix == b"cls" else json.loads(text)
    except (ImageError, ValueError, RecursionError):
        return {}
    if suffix == b"cls":
        return {"cls": value}
    return {escape_surrogates(name): field for name, field in value.items()} if isinstance(value, dict) else {}
