"""What went wrong: images that failed, by the reason, with examples and what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.report.page_data import ErrorGroup, Fact
from cvbatch.results.error_advice import advice_for_error
from cvbatch.schema import ERROR_MESSAGE, ERROR_TYPE, IMAGE_URI

_EXAMPLES: Final = 5
_MOST_TYPES: Final = 50
"""An own model may raise errors with any name."""


class ErrorCounter:
    """Counts failed images by error type, and keeps the first of each."""

    def __init__(self) -> None:
        self._counts, self._examples = Counter[str](), dict[str, list[Fact]]()

    @property
    def columns(self) -> tuple[str, ...]:
        """As a `RowCollector`."""
        return (IMAGE_URI, ERROR_TYPE, ERROR_MESSAGE)

    def add_rows(self, rows: pa.Table) -> None:
        """Count some rows."""
        counts = pc.value_counts(rows[ERROR_TYPE])
        for name, count in zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True):
            if name not in self._counts and len(self._counts) >= _MOST_TYPES:
                continue
            self._counts[name] += count
            examples = self._examples.setdefault(name, [])
            if len(examples) < _EXAMPLES:
                some = rows.filter(pc.equal(rows[ERROR_TYPE], name)).slice(0, _EXAMPLES - len(examples))
                uris, messages = (some[column].to_pylist() for column in (IMAGE_URI, ERROR_MESSAGE))
                examples += [Fact(uri, message or "") for uri, message in zip(uris, messages, strict=True)]

    def finish(self) -> list[ErrorGroup]:
        """The groups, the largest first."""
        ordered = sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))
        return [ErrorGroup(name, count, advice_for_error(name), self._examples[name]) for name, count in ordered]


def skipped_files(record: Mapping[str, object], plan_skipped: Mapping[str, int]) -> list[Fact]:
    """Other files of the source by suffix, the most frequent first.

    Args:
        record: The run record; empty if there is none yet.
        plan_skipped: What the first listing has skipped.
    """
    skipped = record.get("skipped", plan_skipped)
    counts: Mapping[str, int] = skipped if isinstance(skipped, Mapping) else {}
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [Fact(suffix or "without a suffix", f"{count:,}") for suffix, count in ordered]
