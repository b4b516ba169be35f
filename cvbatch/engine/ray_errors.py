"""Capture Ray's error output and convert its errors into the errors of this package."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from cvbatch.errors import CvbatchError, RunError
from cvbatch.system.ray_compat import cause_of, root_line, writes_log_files


class RayErrorCapture(logging.Handler):
    """Replaces Ray Data's console output and stores the last failure of a task."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.last: BaseException | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Store the exception of a log record, without its traceback, which would keep the actors of a pass alive."""
        if record.exc_info and record.exc_info[1] is not None:
            self.last = record.exc_info[1]
            error: BaseException | None = self.last
            while error is not None:
                error.__traceback__ = None
                error = error.__cause__ or error.__context__

    @contextlib.contextmanager
    def capture_errors(self) -> Iterator[RayErrorCapture]:
        """Replace the console handlers inside the block; Ray's log files are not affected."""
        logger = logging.getLogger("ray.data")
        previous_handlers = list(logger.handlers)
        for handler in previous_handlers:
            if not writes_log_files(handler):
                logger.removeHandler(handler)
        logger.addHandler(self)
        try:
            yield self
        finally:
            logger.handlers[:] = previous_handlers


def to_cvbatch_error(error: BaseException) -> CvbatchError:
    """Return the `CvbatchError` that a worker raised, or a one-line `RunError` with Ray's full text as its details."""
    from ray.exceptions import RayTaskError

    chain = [error]
    while (cause := cause_of(chain[-1])) is not None:
        chain.append(cause)
    for candidate in reversed(chain):
        # Ray's wrapper also has the class of the exception that it wraps, but its text is a traceback
        if isinstance(candidate, CvbatchError) and not isinstance(candidate, RayTaskError):
            # Ray has appended lines of advice about itself to what the worker raised
            candidate.args = (str(candidate).partition("\n")[0], *candidate.args[1:])
            return candidate
    message = f"the run stopped: {root_line(str(error)) or type(error).__name__}; run the same command to resume"
    return RunError(message, details=str(error))


def is_system_failure(error: BaseException) -> bool:
    """Whether a process or node died, and no exception was raised in a task's own code."""
    from ray.exceptions import RayTaskError

    return not isinstance(error, RayTaskError) and not isinstance(getattr(error, "cause", None), RayTaskError)
