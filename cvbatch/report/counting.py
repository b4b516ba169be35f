"""What is counted over all rows, and which images may be shown, in two passes over the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cvbatch.report.candidates import (
    FAILED,
    RANDOM,
    RARE,
    SURE,
    UNSURE,
    FailedCandidates,
    LabelCandidates,
    LeadCandidates,
    RandomCandidates,
    by_doubt,
    by_sureness,
)
from cvbatch.report.choosing import CANDIDATES_FOR_EACH, SHARES, Candidates
from cvbatch.report.image_names import ImageNames
from cvbatch.report.label_counts import LabelCounter
from cvbatch.report.label_shares import (
    CAPTURED_AT,
    MOST_GROUPS,
    FolderGroups,
    GroupCounter,
    ShareCounter,
    group_by_month,
)
from cvbatch.report.label_values import LabelReader, label_readers
from cvbatch.report.page_data import LabelSection
from cvbatch.report.scanning import RowCounts, scan_rows
from cvbatch.results.committed import OpenedOutput
from cvbatch.results.error_groups import ErrorCounter, ErrorKind
from cvbatch.schema import IMAGE_URI

FOLDER: Final = "folder"
MONTH: Final = "month of capture"
_SMALLEST_LIMIT: Final = 50
_ERROR_EXAMPLES: Final = 5
"""Images that are named for each reason of errors."""


@dataclass(frozen=True, slots=True)
class RunCounts:
    """What was counted."""

    rows: RowCounts
    labels: list[LabelSection]
    errors: list[ErrorKind]
    candidates: list[Candidates]
    notes: list[str]


def count_run(opened: OpenedOutput, names: ImageNames, most_images: int) -> RunCounts:
    """Count labels and errors, and collect candidates for the gallery.

    Args:
        opened: The run.
        names: Of its sources.
        most_images: Most images of the gallery.
    """
    readers = label_readers(opened.plan.models)
    has_time = CAPTURED_AT in opened.schema.names
    counters, errors = [LabelCounter(reader) for reader in readers], ErrorCounter(_ERROR_EXAMPLES)
    groups = GroupCounter(names, has_time=has_time)
    by_chance, failed = (
        RandomCandidates(_limit_of(RANDOM, most_images)),
        FailedCandidates(_limit_of(FAILED, most_images)),
    )
    sure, unsure = (
        [LeadCandidates(reader, _limit_of(kind, most_images), rank) for reader in readers if reader.has_scores]
        for kind, rank in ((SURE, by_sureness), (UNSURE, by_doubt))
    )
    counts = scan_rows(opened, [*counters, groups, by_chance, *sure, *unsure], [errors, failed])
    folders, months = FolderGroups(names, groups.folders), sorted(groups.months)[-MOST_GROUPS:]
    shares = {counter.reader.model.alias: _share_counters(counter, folders, months) for counter in counters}
    rare = [_rare_candidates(counter, most_images) for counter in counters]
    if counters:
        scan_rows(opened, [*(share for parts in shares.values() for share in parts), *rare])
    return RunCounts(
        rows=counts,
        labels=[
            counter.to_section([share.finish() for share in shares[counter.reader.model.alias]]) for counter in counters
        ],
        errors=errors.finish(),
        candidates=[
            Candidates(FAILED, [failed.finish()]),
            Candidates(RARE, [part.finish() for part in rare]),
            Candidates(UNSURE, [part.finish() for part in unsure]),
            Candidates(SURE, [part.finish() for part in sure]),
            Candidates(RANDOM, [by_chance.finish()]),
        ],
        notes=_notes(folders, groups, months),
    )


def _share_counters(counter: LabelCounter, folders: FolderGroups, months: list[str]) -> list[ShareCounter]:
    parts = []
    if len(folders.groups) > 1:
        parts.append(ShareCounter(counter, FOLDER, folders.groups, folders.group_rows, [IMAGE_URI]))
    if months:
        parts.append(ShareCounter(counter, MONTH, months, group_by_month(months), [CAPTURED_AT]))
    return parts


def _rare_candidates(counter: LabelCounter, most_images: int) -> LabelCandidates:
    reader: LabelReader = counter.reader
    labels = counter.rarest(max(1, round(SHARES[RARE] * most_images)))
    return LabelCandidates(reader, labels, _limit_of(RARE, most_images))


def _limit_of(kind: str, most_images: int) -> int:
    return max(_SMALLEST_LIMIT, round(CANDIDATES_FOR_EACH * SHARES[kind] * most_images))


def _notes(folders: FolderGroups, groups: GroupCounter, months: list[str]) -> list[str]:
    notes = []
    if not folders.is_complete:
        notes.append(f"Shares over folders are those of the {len(folders.groups)} folders with the most images.")
    if len(groups.months) > len(months):
        notes.append(f"Shares over time are those of the last {len(months)} months with images.")
    return notes
