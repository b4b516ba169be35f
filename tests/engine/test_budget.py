"""Time and cost budget of an attempt."""

from __future__ import annotations

from typing import Any

import pytest

from cvbatch.config.compute import ComputeConfig
from cvbatch.engine.budget import RunBudget


class Clock:
    """A clock that only moves when it is set."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def lasts(budget: RunBudget, clock: Clock) -> float | None:
    """Return the seconds until the budget is used up, in whole minutes; None for more than a month."""
    started = clock.now
    for minutes in range(31 * 24 * 60):
        clock.now = started + 60 * minutes
        if budget.exceeded_limit:
            return 60.0 * minutes
    return None


@pytest.mark.parametrize(
    ("asked", "nodes", "seconds"),
    [
        ({}, 4, None),
        ({"price_per_node_hour": 2.0}, 4, None),
        ({"stop_after": 60}, 4, 60),
        ({"max_cost": 10, "price_per_node_hour": 2.5}, 1, 4 * 3600),
        ({"max_cost": 10, "price_per_node_hour": 2.5}, 8, 1800),
        ({"max_cost": 10, "price_per_node_hour": 2.5, "stop_after": "20m"}, 8, 1200),
        ({"max_cost": 10, "price_per_node_hour": 2.5, "stop_after": "40m"}, 8, 1800),
    ],
)
def test_the_first_limit_reached_ends_the_attempt(
    clock: Clock, asked: dict[str, Any], nodes: int, seconds: float | None
) -> None:
    budget = RunBudget(clock)
    assert not budget.exceeded_limit
    budget.update_cost(ComputeConfig(**asked), nodes)
    assert lasts(budget, clock) == seconds


def test_nodes_that_join_later_cost_from_then_on(clock: Clock) -> None:
    compute = ComputeConfig(max_cost=10, price_per_node_hour=2.5, stop_after="3h")
    budget = RunBudget(clock)
    budget.update_cost(compute, 1)
    clock.now += 2 * 3600  # costs 5
    budget.update_cost(compute, 4)
    assert lasts(budget, clock) == 1800
    clock.now -= 1800
    budget.update_cost(compute, 1)
    assert lasts(budget, clock) == 3600, "what is left is for two hours, and the clock ends it before"
