"""What a comparison answers, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cvbatch.comparison.against_truth import TruthDifference
from cvbatch.comparison.base import TaskAgreement
from cvbatch.comparison.pairing import PairedRows


@dataclass(frozen=True, kw_only=True)
class ComparisonReport:
    """The answer of `cvbatch.compare_runs`."""

    first: str
    second: str
    models: tuple[str, str]
    """Column prefix of the model of each run."""
    task: str
    pairs: PairedRows
    agreement: TaskAgreement
    truth: TruthDifference | None
    margin: float
    """Loss that does not matter."""
    notes: Sequence[str] = ()

    @property
    def verdict(self) -> str | None:
        """Whether the second run is better, by the main metric; None without truth."""
        if self.truth is None:
            return None
        return next(iter(self.truth.differences.values())).verdict(self.margin)

    def to_json(self) -> dict[str, Any]:
        """Plain data, as `cvbatch compare --json` prints it."""
        agreement = self.agreement
        answer: dict[str, Any] = {
            "first": self.first,
            "second": self.second,
            "models": list(self.models),
            "task": self.task,
            "alignment": self.pairs.to_json(),
            "notes": list(self.notes),
            "agreement": {
                "images": agreement.images,
                "values": dict(agreement.values),
                "per_class": {name: dict(numbers) for name, numbers in agreement.per_class.items()},
                "flips": [dict(row) for row in agreement.flips],
                "review": [dict(row) for row in agreement.review],
            },
        }
        if self.truth is not None:
            answer["truth"] = self._truth_to_json(self.truth)
        return answer

    def _truth_to_json(self, truth: TruthDifference) -> Mapping[str, Any]:
        differences = {name: one.to_json(self.margin) for name, one in truth.differences.items()}
        test = {} if truth.mcnemar is None else {"mcnemar": truth.mcnemar.to_json()}
        return {
            "images": truth.images,
            "interval": truth.interval,
            "margin": self.margin,
            "verdict": self.verdict,
            "differences": differences,
            **test,
        }
