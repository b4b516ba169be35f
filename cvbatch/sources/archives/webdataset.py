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
from cvbatch.sources.archives.members import Index, Member, Verdict, judge
from cvbatch.sources.extra_columns import found_type, whole_text
from cvbatch.sources.fetch.blob import BrokenContainerError
from cvbatch.sources.suffixes import Suffixes

BESIDE: Final = (b"json", b"cls", b"txt")
MAX_BESIDE_BYTES: Final = 1 << 20
"""Metadata of an image that is larger is left out."""


@dataclass(slots=True)
class Sample:
    """Consecutive members of one stem."""

    members: list[tuple[Member, Verdict]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    """What the members beside the images say."""
    beside: list[bytes] = field(default_factory=list)
    """The names of those."""

    @property
    def images(self) -> list[tuple[Member, Verdict]]:
        """The members that become rows."""
        return [(member, verdict) for member, verdict in self.members if verdict.row]


def samples(index: Index, suffixes: Suffixes, *, metadata: bool) -> Iterator[Sample]:
    """Read an archive sample by sample.

    Args:
        index: Its members.
        suffixes: What is an image.
        metadata: Whether to read what lies beside the images.

    Raises:
        BrokenContainerError: After the samples that lie before the damage.
    """
    before, sample = None, Sample()
    try:
        for member in index:
            verdict, stem, kind = judge(member, suffixes), *_split(member.name)
            if stem != before:
                yield sample
                before, sample = stem, Sample()
            if metadata and verdict.counted is not None and member.other is None and kind in BESIDE:
                sample.beside.append(member.name)
                sample.facts |= _facts(kind, index, member)
            else:
                sample.members.append((member, verdict))
    except BrokenContainerError:
        yield sample
        raise
    yield sample


def columns(index: Index, suffixes: Suffixes, most: int) -> pa.Schema:
    """The columns that the first samples of an archive give, at most so many.

    An archive that is damaged has those of the samples before the damage.
    """
    found: dict[str, list[Any]] = {}
    with_images = (sample for sample in samples(index, suffixes, metadata=True) if sample.images)
    with contextlib.suppress(BrokenContainerError):
        for sample in itertools.islice(with_images, most):
            for name, value in sample.facts.items():
                found.setdefault(name, []).append(value)
    return pa.schema([(name, found_type(values)) for name, values in found.items()])


def _split(name: bytes) -> tuple[bytes, bytes]:
    """The stem, up to the first dot of the last part, and what follows in lower case."""
    folder, slash, base = name.rpartition(b"/")
    stem, _, rest = base.partition(b".")
    return folder + slash + stem, rest.lower()


def _facts(kind: bytes, index: Index, member: Member) -> dict[str, Any]:
    if member.size > MAX_BESIDE_BYTES or member.refused is not None:
        return {}
    try:
        text = index.read(member).decode("utf-8", errors="backslashreplace")
        if kind == b"txt":
            return {"txt": text}
        value = int(text) if kind == b"cls" else json.loads(text)
    except (ImageError, ValueError, RecursionError):
        return {}
    if kind == b"cls":
        return {"cls": value}
    return {whole_text(name): fact for name, fact in value.items()} if isinstance(value, dict) else {}
