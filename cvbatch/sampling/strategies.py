"""The ways to choose: which candidates are collected, in which order they are chosen, and the reason that is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cvbatch.sampling.choice import Explain
from cvbatch.sampling.measures import SCORE
from cvbatch.sampling.pool import PoolRequest, Priority, by_chance, most_uncertain
from cvbatch.sampling.selection import Selection


def choose_in_order(selection: Selection, count: int) -> None:
    """Choose the best candidates that are open, in their order."""
    for index in range(len(selection.open)):
        if len(selection.indices) >= count:
            break
        if selection.open[index]:
            selection.add(index)


def _explain_uncertainty(request: PoolRequest, row: Mapping[str, Any]) -> tuple[float | None, str]:
    reason = "" if request.measure is None or request.model is None else request.measure.describe(request.model, row)
    return row[SCORE], reason


def _explain_chance(request: PoolRequest, row: Mapping[str, Any]) -> tuple[float | None, str]:
    return None, "by chance"


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """One way to choose."""

    priority: Priority
    choose: Callable[[Selection, int], None]
    explain: Explain
    needs_measure: bool = False


STRATEGIES: Final[Mapping[str, Strategy]] = {
    "uncertainty": Strategy(
        priority=most_uncertain, choose=choose_in_order, explain=_explain_uncertainty, needs_measure=True
    ),
    "random": Strategy(priority=by_chance, choose=choose_in_order, explain=_explain_chance),
}
"""By name, the usual one first."""
