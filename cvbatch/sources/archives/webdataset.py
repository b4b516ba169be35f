"""WebDataset: members that lie together and share a stem are one sample, and what is beside an image describes it."""

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
"""Metadata of an image that is larger is left out."""


@dataclass(slots=True)
class WebDatasetSample:
    """Consecutive members of one stem."""

    members: list[tuple[ArchiveMember, MemberDecision]] = field(default_factory=list)
    extra_values: dict[str, Any] = field(default_factory=dict)
    """What the members beside the images say."""
    sidecar_count: list[bytes] = field(default_factory=list)
    """The names of those."""

    @property
    def image_members(self) -> list[tuple[ArchiveMember, MemberDecision]]:
        """The members that become rows."""
        return [(member, verdict) for member, verdict in self.members if verdict.is_row]


def iter_samples(index: ArchiveIndex, suffixes: ImageSuffixes, *, metadata: bool) -> Iterator[WebDatasetSample]:
    """Read an archive sample by sample.

    Args:
        index: Its members.
        suffixes: What is an image.
        metadata: Whether to read what lies beside the images.

    Raises:
        BrokenContainerError: After the samples that lie before the damage.
    """
    before, sample = None, WebDatasetSample()
    try:
        for member in index:
            verdict, stem, kind = decide_member(member, suffixes), *_split_stem(member.name)
            if stem != before:
                yield sample
                before, sample = stem, WebDatasetSample()
            if metadata and verdict.skipped_as is not None and member.other is None and kind in SIDECAR_SUFFIXES:
                sample.sidecar_count.append(member.name)
                sample.extra_values |= _read_sidecar(kind, index, member)
            else:
                sample.members.append((member, verdict))
    except BrokenContainerError:
        yield sample
        raise
    yield sample


def infer_extra_schema(index: ArchiveIndex, suffixes: ImageSuffixes, most: int) -> pa.Schema:
    """The columns that the first samples of an archive give, at most so many.

    An archive that is damaged has those of the samples before the damage.
    """
    found: dict[str, list[Any]] = {}
    with_images = (sample for sample in iter_samples(index, suffixes, metadata=True) if sample.image_members)
    with contextlib.suppress(BrokenContainerError):
        for sample in itertools.islice(with_images, most):
            for name, value in sample.extra_values.items():
                found.setdefault(name, []).append(value)
    return pa.schema([(name, infer_json_type(values)) for name, values in found.items()])


def _split_stem(name: bytes) -> tuple[bytes, bytes]:
    """The stem, up to the first dot of the last part, and what follows in lower case."""
    folder, slash, base = name.rpartition(b"/")
    stem, _, rest = base.partition(b".")
    return folder + slash + stem, rest.lower()


def _read_sidecar(kind: bytes, index: ArchiveIndex, member: ArchiveMember) -> dict[str, Any]:
    if member.size > MAX_SIDECAR_BYTES or member.refused is not None:
        return {}
    try:
        text = index.read_member(member).decode("utf-8", errors="backslashreplace")
        if kind == b"txt":
            return {"txt": text}
        value = int(text) if kind == b"cls" else json.loads(text)
    except (ImageError, ValueError, RecursionError):
        return {}
    if kind == b"cls":
        return {"cls": value}
    return {escape_surrogates(name): fact for name, fact in value.items()} if isinstance(value, dict) else {}
