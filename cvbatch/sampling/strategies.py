"""The ways to choose: which candidates are collected, in which order they are chosen, and the reason that is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from cvbatch.sampling.choice import COSINE, NEIGHBOUR, Explain
from cvbatch.sampling.gradients import GradientDistances
from cvbatch.sampling.measures import SCORE
from cvbatch.sampling.pool import (
    Pool,
    PoolRequest,
    Priority,
    by_chance,
    by_weighted_chance,
    most_uncertain,
)
from cvbatch.sampling.selection import NO_COSINE, Selection

Choose = Callable[[Selection, int, Pool, PoolRequest], None]
"""Adds candidates to the selection until it has as many as asked, or none is open."""
_FEW: Final = 1000
_MANY: Final = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """One way to choose."""

    priority: Priority
    choose: Choose
    explain: Explain
    candidates: int
    """Usual number of candidates at least; at least ten times the images that are chosen."""
    needs_measure: bool = False
    needs_embedding: bool = False
    needs_gradients: bool = False
    compares_models: bool = False


def _choose_in_order(selection: Selection, count: int, pool: Pool, request: PoolRequest) -> None:
    """The best candidates that are open, in their order."""
    for index in range(len(selection.open)):
        if len(selection.indices) >= count:
            break
        if selection.open[index]:
            selection.add(index)


def _choose_spread(selection: Selection, count: int, pool: Pool, request: PoolRequest) -> None:
    """The candidate that is farthest from all that are chosen: k-center greedy (Sener and Savarese 2018).

    Rows that are labelled already are centres, too. Without any, the first one is that nearest to the mean.
    """
    if selection.open.any() and not pool.excluded.num_rows:
        centre = selection.vectors.mean(axis=0)
        selection.add(int(np.where(selection.open, selection.vectors @ centre, -np.inf).argmax()))
    while len(selection.indices) < count and selection.open.any():
        selection.add(int(np.where(selection.open, selection.nearest, np.inf).argmin()))


def _choose_mixed(selection: Selection, count: int, pool: Pool, request: PoolRequest) -> None:
    """By k-means++ over gradients (BADGE): by chance in proportion to the squared distance from those chosen.

    The first one is that with the longest gradient.
    """
    if request.measure is None or request.model is None:
        return
    random = np.random.default_rng(request.seed)
    distances = GradientDistances(request.measure.weigh_classes(pool.candidates, request.model), selection.vectors)
    while len(selection.indices) < count and selection.open.any():
        chances = np.where(selection.open, distances.nearest, 0.0)
        total = chances.sum()
        if total <= 0:  # the model is sure of all that are open
            return _choose_in_order(selection, count, pool, request)
        draw = int(chances.argmax()) if not selection.indices else int(random.choice(len(chances), p=chances / total))
        selection.add(draw)
        distances.add(draw)
    return None


def _explain_measure(request: PoolRequest, row: Mapping[str, Any]) -> tuple[float | None, str]:
    reason = "" if request.measure is None or request.model is None else request.measure.describe(request.model, row)
    return row[SCORE], reason


def _explain_chance(request: PoolRequest, row: Mapping[str, Any]) -> tuple[float | None, str]:
    return None, "by chance"


def _explain_distance(request: PoolRequest, row: Mapping[str, Any]) -> tuple[float | None, str]:
    return 1 - row[COSINE] if row[COSINE] != NO_COSINE else None, _name_neighbour(row)


def _explain_both(request: PoolRequest, row: Mapping[str, Any]) -> tuple[float | None, str]:
    score, reason = _explain_measure(request, row)
    return score, f"{reason}; {_name_neighbour(row)}"


def _name_neighbour(row: Mapping[str, Any]) -> str:
    """What is nearest to the row among what was chosen before it."""
    if row[COSINE] == NO_COSINE:
        return "the first one"
    neighbour = "a labelled image" if row[NEIGHBOUR] is None else f"row {row[NEIGHBOUR]}"
    return f"cosine {row[COSINE]:.2f} to {neighbour}"


STRATEGIES: Final[Mapping[str, Strategy]] = {
    "uncertainty": Strategy(
        priority=most_uncertain,
        choose=_choose_in_order,
        explain=_explain_measure,
        candidates=_FEW,
        needs_measure=True,
    ),
    "diversity": Strategy(
        priority=by_chance, choose=_choose_spread, explain=_explain_distance, candidates=_MANY, needs_embedding=True
    ),
    "mixed": Strategy(
        priority=by_weighted_chance,
        choose=_choose_mixed,
        explain=_explain_both,
        candidates=_MANY,
        needs_measure=True,
        needs_embedding=True,
        needs_gradients=True,
    ),
    "disagreement": Strategy(
        priority=most_uncertain,
        choose=_choose_in_order,
        explain=_explain_measure,
        candidates=_FEW,
        needs_measure=True,
        compares_models=True,
    ),
    "random": Strategy(priority=by_chance, choose=_choose_in_order, explain=_explain_chance, candidates=_FEW),
}
"""By name, the usual one first."""
