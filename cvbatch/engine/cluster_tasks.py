"""Functions that run on the nodes of a Ray cluster, for answers that one machine would be too slow for."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from cvbatch.engine.address import cluster_address
from cvbatch.engine.ray_errors import to_cvbatch_error
from cvbatch.engine.startup import RayStartup
from cvbatch.errors import UsageError

_TASK_RETRIES: Final = 3
_TASKS_FOR_EACH_CPU: Final = 2
"""In progress at once, so that no CPU waits for its next task."""


class ClusterTasks:
    """Runs functions on a cluster that this process is attached to.

    Args:
        cpus: CPUs of the cluster.
        machines: How many it has.
    """

    def __init__(self, cpus: float, machines: int = 1) -> None:
        self.machines: Final = machines
        self._in_progress = max(1, int(cpus * _TASKS_FOR_EACH_CPU))

    def put(self, value: Any) -> Any:
        """Put a value, such as an array, into the object store; returns a reference that `run_all` resolves."""
        import ray

        return ray.put(value)

    def run_all(self, function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, Any]]:
        """Call a function once for each tuple of arguments, on one CPU each.

        Args:
            function: A function of a module that all nodes have.
            arguments: Values or references.

        Yields:
            Position in `arguments`, and the result; in the order in which they are done.

        Raises:
            RunError: If a call has failed several times because its process died.
        """
        import ray
        from ray.exceptions import RayError

        task = ray.remote(num_cpus=1, max_retries=_TASK_RETRIES)(function)
        waiting, running = deque(enumerate(arguments)), dict[Any, int]()
        try:
            while waiting or running:
                while waiting and len(running) < self._in_progress:
                    number, values = waiting.popleft()
                    running[task.remote(*values)] = number
                done, _ = ray.wait(list(running))
                for reference in done:
                    yield running.pop(reference), ray.get(reference)
        except RayError as error:
            raise to_cvbatch_error(error) from None


@contextlib.contextmanager
def attach_to_cluster(purpose: str) -> Iterator[ClusterTasks]:
    """Attach to the cluster that `RAY_ADDRESS` names, until the end of the block.

    Args:
        purpose: What it is for, such as `cvbatch duplicates --cluster`.

    Raises:
        UsageError: If `RAY_ADDRESS` names none.
        RunError: If the cluster does not answer.
    """
    if cluster_address() is None:
        raise UsageError(f"{purpose}: expected RAY_ADDRESS to name a cluster, such as 10.0.0.5:6379")
    startup = RayStartup()
    try:
        cluster = startup.wait_until_ready()
        yield ClusterTasks(cluster.cpus, cluster.machine_count)
    finally:
        startup.stop_ray()
