"""Ray kept quiet, and what it complains of turned into one of our errors."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from cvbatch.errors import CvbatchError, RunError
from cvbatch.system.ray_compat import cause_of, root_line, writes_log_files


class RayErrorCapture(logging.Handler):
    """Takes the place of Ray Data's console output and remembers the last failure of a task."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.last: BaseException | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Remember what a record reports."""
        if record.exc_info and record.exc_info[1] is not None:
            self.last = record.exc_info[1]

    @contextlib.contextmanager
    def capture_errors(self) -> Iterator[RayErrorCapture]:
        """Listen instead of the console for a while; Ray's own log files go on."""
        logger = logging.getLogger("ray.data")
        before = list(logger.handlers)
        for handler in before:
            if not writes_log_files(handler):
                logger.removeHandler(handler)
        logger.addHandler(self)
        try:
            yield self
        finally:
            logger.handlers[:] = before


def to_cvbatch_error(error: BaseException) -> CvbatchError:
    """Return the error of ours that a worker raised, or one line with all that Ray knows behind it."""
    from ray.exceptions import RayTaskError

    chain = [error]
    while (cause := cause_of(chain[-1])) is not None:
        chain.append(cause)
    for each in reversed(chain):
        # what Ray wraps around an exception is of its class, too, but speaks in tracebacks
        if isinstance(each, CvbatchError) and not isinstance(each, RayTaskError):
            return each
    message = f"the run stopped: {root_line(str(error)) or type(error).__name__}; the same command goes on"
    return RunError(message, details=str(error))


def is_system_failure(error: BaseException) -> bool:
    """Whether a process or node died, as against an exception in our own code."""
    from ray.exceptions import RayTaskError

    return not isinstance(error, RayTaskError) and not isinstance(getattr(error, "cause", None), RayTaskError)
