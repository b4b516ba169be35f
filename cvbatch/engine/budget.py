"""When a start has worked for as long, or cost as much, as it may."""

from __future__ import annotations

import time
from collections.abc import Callable

from cvbatch.config.compute import ComputeConfig


class RunBudget:
    """The clock and the purse of one start; it begins when this is made.

    Args:
        clock: Seconds since any moment.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started = self._paid_until = clock()
        self._nodes = 0
        self._spent = 0.0
        self._deadline: float | None = None

    def update_cost(self, compute: ComputeConfig, nodes: int) -> None:
        """Take note that so many nodes have to be paid from now on."""
        now, price = self._clock(), compute.price_per_node_hour or 0.0
        self._spent += price * self._nodes * (now - self._paid_until) / 3600
        self._paid_until, self._nodes = now, max(1, nodes)
        limits = [] if compute.stop_after is None else [self._started + compute.stop_after]
        if compute.max_cost is not None and price:
            limits.append(now + 3600 * (compute.max_cost - self._spent) / (price * self._nodes))
        self._deadline = min(limits, default=None)

    @property
    def exceeded_limit(self) -> bool:
        """Whether one of them is."""
        return self._deadline is not None and self._clock() >= self._deadline
