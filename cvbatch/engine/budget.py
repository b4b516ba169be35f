"""Time and cost budget of one run attempt."""

from __future__ import annotations

import time
from collections.abc import Callable

from cvbatch.config.compute import ComputeConfig


class RunBudget:
    """Time and cost budget of one attempt, counted from the creation of this object.

    Args:
        clock: Returns seconds since an arbitrary moment.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started = self._paid_until = clock()
        self._nodes = 0
        self._spent = 0.0
        self._deadline: float | None = None

    def update_cost(self, compute: ComputeConfig, node_count: int) -> None:
        """Set the number of nodes to pay for from now on."""
        now, price = self._clock(), compute.price_per_node_hour or 0.0
        self._spent += price * self._nodes * (now - self._paid_until) / 3600
        self._paid_until, self._nodes = now, max(1, node_count)
        limits = [] if compute.stop_after is None else [self._started + compute.stop_after]
        if compute.max_cost is not None and price:
            limits.append(now + 3600 * (compute.max_cost - self._spent) / (price * self._nodes))
        self._deadline = min(limits, default=None)

    @property
    def exceeded_limit(self) -> bool:
        """Whether the time or the cost limit is reached."""
        return self._deadline is not None and self._clock() >= self._deadline
