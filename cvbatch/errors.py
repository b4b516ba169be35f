"""Everything that can go wrong, and whose fault it is.

    CvbatchError
    ├── UsageError            the request was wrong; nothing was started   exit code 2
    │   ├── JobError          the job file or an option
    │   ├── SourceError       the images cannot be found or listed
    │   ├── ModelError        the model, its weights or its categories
    │   └── OutputError       the output location belongs to something else
    └── RunError              the run did not finish                       exit code 1
        ├── FencedError       another start took the run over
        ├── HaltError         somebody has to decide before it can go on
        │   └── ChangedModelError  a file of a model was edited meanwhile
        ├── CorruptionError   what is stored contradicts the commit log
        └── StorageError      an object store does not do what it was asked for
            ├── DeniedError        no right to it                          exit code 2
            ├── UnavailableError   no answer after all tries; may pass by
            └── TooLargeError      an object has more bytes than were wanted

A bad image is none of these. It becomes a row with a `RowError`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from cvbatch.deprecated import renamed_names

T = TypeVar("T")
if not TYPE_CHECKING:
    __getattr__ = renamed_names("cvbatch.errors")

_TRANSIENT_ERRNOS = frozenset(
    {errno.EIO, errno.EAGAIN, errno.ETIMEDOUT, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
)
_MESSAGE_LIMIT = 500


class CvbatchError(Exception):
    """Base of all errors; the message is one line that says what to do."""

    exit_code = 1


class UsageError(CvbatchError):
    """The request was wrong; nothing was started."""

    exit_code = 2


class JobError(UsageError):
    """A job file or an option is wrong."""


class SourceError(UsageError):
    """The images cannot be found or listed."""


class ModelError(UsageError):
    """A model, its weights or its categories are wrong or missing."""


class OutputError(UsageError):
    """The output location cannot be used for this request."""


class RunError(CvbatchError):
    """The run did not finish; what is committed stays.

    Args:
        message: One line.
        details: What is known besides, for the run record.
    """

    again = True
    """Whether the same command may come further by itself."""

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


class FencedError(RunError):
    """Another start has taken this run over."""

    again = False


class HaltError(RunError):
    """The run stopped where somebody has to decide how it goes on."""

    again = False


class ChangedModelError(HaltError):
    """A file of a model is another one than when this start began."""


class CorruptionError(RunError):
    """What is stored contradicts the commit log."""

    again = False


class StorageError(RunError):
    """An object store does not do what it was asked for."""


class DeniedError(StorageError):
    """There are no credentials, or no rights, for what was asked."""

    exit_code = 2


class UnavailableError(StorageError):
    """No usable answer after all tries; another time it may go better."""


class TooLargeError(StorageError):
    """An object has more bytes than were wanted.

    Args:
        size: Its bytes.
        wanted: At most so many.
    """

    def __init__(self, size: int, wanted: int) -> None:
        super().__init__(f"expected at most {wanted} bytes, got {size}")
        self.size = size


class AmbiguousError(Exception):
    """A request got no answer: it may or may not have taken effect."""


class DeviceLostError(BaseException):
    """The device gives no answers any more until this process is started anew.

    Not an `Exception`, because it is no fault of the image that was worked on.
    """


class ImageError(Exception):
    """One image cannot be used, for a reason that we can name.

    Args:
        kind: A stable word for `error_type`, such as `TruncatedImage`.
        message: One line for `error_message`.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class UnlistedError(ImageError):
    """A folder, an archive or a table could not be listed: its images have no rows of their own."""


LIST: Final = "list"
"""The `error_stage` of rows that stand for what could not be listed."""


@dataclass(frozen=True, slots=True)
class RowError:
    """Why one image has no predictions; the four `error_*` columns of its row."""

    stage: str
    type: str
    message: str
    transient: bool = False


def capture_row_error(stage: str, work: Callable[[], T]) -> T | RowError:
    """Do the work on one image; whatever it raises becomes that row's error.

    Args:
        stage: `list`, `fetch`, `decode` or `predict`; goes to `error_stage`.
        work: The work, without arguments.

    Returns:
        What `work` returned, or the `RowError` that stands for what it raised.
    """
    done = try_call(work)
    if isinstance(done, ImageError):
        stage = LIST if isinstance(done, UnlistedError) else stage
        return RowError(stage, done.kind, _one_line_of(done))
    if isinstance(done, Exception):  # one bad image must never take its neighbours along
        return RowError(stage, type(done).__name__, _one_line_of(done), _is_transient_error(done))
    return done


def try_call(work: Callable[[], T]) -> T | Exception:
    """Do the work; an exception is returned instead of raised."""
    try:
        return work()
    except Exception as error:
        return error


def _one_line_of(error: BaseException) -> str:
    """The message as text that Arrow can hold: names that are not UTF-8 reach Python as lone surrogates."""
    text = " ".join(str(error).split()).encode("utf-8", "backslashreplace").decode()
    return text[:_MESSAGE_LIMIT] or type(error).__name__


def _is_transient_error(error: BaseException) -> bool:
    if isinstance(error, ConnectionError | TimeoutError | MemoryError | UnavailableError):
        return True
    return isinstance(error, OSError) and error.errno in _TRANSIENT_ERRNOS
