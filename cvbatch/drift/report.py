"""What a comparison says: one sentence, the shifts, what moved most, and examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from cvbatch.drift.compare import ClassShift, Comparison, SignalShift
from cvbatch.drift.groups import GroupShift
from cvbatch.drift.run_sample import RunSample
from cvbatch.schema import IMAGE_URI, ROW_ID

MOST_EXAMPLES: Final = 5
MOST_CLASSES: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReport:
    """Whether the images of a run are like those of a reference."""

    sentence: str
    """The answer."""
    shifts: tuple[SignalShift, ...]
    """All signals that were compared: flagged ones first, then by effect."""
    classes: tuple[ClassShift, ...]
    """The classes that moved most."""
    groups: tuple[GroupShift, ...]
    """The folders, or values of a column, that are farthest from the reference; empty if they were not asked for."""
    examples: tuple[Mapping[str, Any], ...]
    """Images that are most unlike the reference: `row_id`, `image_uri` and `reason`; none if nothing is flagged."""
    counts: Mapping[str, Mapping[str, int]]
    """Of the run and of the reference: rows `usable`, `error`, `removed` and `compared`, images with `pixels`."""
    notes: tuple[str, ...]
    """What was not compared, and why."""

    @property
    def is_flagged(self) -> bool:
        """Whether any signal is flagged."""
        return any(shift.is_flagged for shift in self.shifts)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "sentence": self.sentence,
            "flagged": self.is_flagged,
            "shifts": [{**asdict(shift), "flagged": shift.is_flagged} for shift in self.shifts],
            "classes": [asdict(shift) for shift in self.classes],
            "groups": [{**asdict(group), "flagged": group.is_flagged} for group in self.groups],
            "examples": [dict(example) for example in self.examples],
            "counts": {name: dict(counts) for name, counts in self.counts.items()},
            "notes": list(self.notes),
        }


def make_report(
    reference: RunSample,
    sample: RunSample,
    comparison: Comparison,
    groups: Sequence[GroupShift],
    notes: Sequence[str],
) -> DriftReport:
    """Describe a comparison."""
    return DriftReport(
        sentence=_sentence(reference, sample, comparison.shifts),
        shifts=comparison.shifts,
        classes=comparison.classes[:MOST_CLASSES],
        groups=tuple(groups),
        examples=tuple(_examples(sample, comparison)),
        counts={
            name: {**part.counts, "compared": len(part)} for name, part in (("run", sample), ("reference", reference))
        },
        notes=tuple(notes),
    )


def _sentence(reference: RunSample, sample: RunSample, shifts: Sequence[SignalShift]) -> str:
    sizes = f"{len(sample):,} images against {len(reference):,} of the reference"
    flagged = [shift for shift in shifts if shift.is_flagged]
    if not shifts:
        return f"There was nothing to compare in {sizes}."
    if not flagged:
        largest = max(shifts, key=lambda shift: shift.effect)
        return (
            f"No difference worth a check was seen in {sizes}; the largest effect is {largest.effect:.2f} "
            f"({largest.signal})."
        )
    others = ", ".join(shift.signal for shift in flagged[1:4])
    more = f"; then {others}" if others else ""
    return (
        f"The images are not like the reference, so check answers on some of them by hand: {_name_shift(flagged[0])} "
        f"differs most{more} ({sizes})."
    )


def _name_shift(shift: SignalShift) -> str:
    if shift.value is None or shift.reference is None:
        return f"{shift.signal} (effect {shift.effect:.2f})"
    return f"{shift.signal} (median {shift.value:.3g} instead of {shift.reference:.3g}, effect {shift.effect:.2f})"


def _examples(sample: RunSample, comparison: Comparison) -> list[dict[str, Any]]:
    """The images that are most unlike the reference by the first flagged signal that tells this of an image."""
    for shift in comparison.shifts:
        if not shift.is_flagged:
            continue
        if shift.signal in comparison.unlikeness:
            order = np.argsort(-comparison.unlikeness[shift.signal], kind="stable")
            return [_example(sample, int(row), f"{shift.signal} unlike the reference") for row in order[:MOST_EXAMPLES]]
        if shift.value is not None and shift.reference is not None and shift.value != shift.reference:
            values = sample.values[shift.signal]
            order = np.argsort(values if shift.value < shift.reference else -values, kind="stable")
            return [_example(sample, int(row), f"{shift.signal} {values[row]:.3g}") for row in order[:MOST_EXAMPLES]]
    return []


def _example(sample: RunSample, row: int, reason: str) -> dict[str, Any]:
    return {ROW_ID: int(sample.row_ids[row]), IMAGE_URI: sample.uris[row].as_py(), "reason": reason}
