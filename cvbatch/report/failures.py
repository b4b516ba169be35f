"""Files of the source that are no images."""

from __future__ import annotations

from collections.abc import Mapping

from cvbatch.report.page_data import Fact


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
