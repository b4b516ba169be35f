"""The error tree with its exit codes.

    CvbatchError
    ├── UsageError            the request is wrong; nothing was started    exit code 2
    │   ├── JobError          the job file or an option
    │   ├── SourceError       the images cannot be found or listed
    │   ├── ModelError        the model, its weights or its categories
    │   └── OutputError       the output location cannot be used
    └── RunError              the run did not finish                       exit code 1
        ├── FencedError       another attempt took the run over
        ├── HaltError         the run stopped and needs a decision
        │   └── ChangedModelError  a file of a model changed during the attempt
        ├── NoMemoryForModelsError  models do not fit beside each other
        ├── CorruptionError   stored data contradicts the commit log
        └── StorageError      a request to an object store failed
            ├── DeniedError        no permission                           exit code 2
            ├── UnavailableError   no answer after all retries; may be temporary
            └── TooLargeError      an object has more bytes than allowed

A bad image is none of these: it becomes a row with a `RowError`.
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
    """Base class of all errors; the message is one line that says what to do."""

    exit_code = 1


class UsageError(CvbatchError):
    """The request is wrong; nothing was started."""

    exit_code = 2


class JobError(UsageError):
    """A job file or an option is wrong."""


class SourceError(UsageError):
    """The images cannot be found or listed."""


class ModelError(UsageError):
    """A model, its weights or its categories are invalid or missing."""


class OutputError(UsageError):
    """The output location cannot be used for this request."""


class OtherModelsError(OutputError):
    """The output holds a run that differs from the request in nothing but its models."""


class RunError(CvbatchError):
    """The run did not finish; committed rows stay committed.

    Args:
        message: One line.
        details: More information for the run record.
    """

    again = True
    """Whether another attempt with the same command may succeed."""

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


class FencedError(RunError):
    """Another attempt has taken the run over."""

    again = False


class HaltError(RunError):
    """The run stopped and needs a decision before it can continue."""

    again = False


class ChangedModelError(HaltError):
    """A file of a model has changed since this attempt started."""


class NoMemoryForModelsError(RunError):
    """The models of a process do not fit into its memory beside each other."""


class CorruptionError(RunError):
    """Stored data contradicts the commit log."""

    again = False


class StorageError(RunError):
    """A request to an object store failed."""


class DeniedError(StorageError):
    """Credentials or permissions for the request are missing."""

    exit_code = 2


class UnavailableError(StorageError):
    """No usable answer after all retries; the problem may be temporary."""


class TooLargeError(StorageError):
    """An object has more bytes than allowed.

    Args:
        size: Size of the object, in bytes.
        max_size: Allowed size, in bytes.
    """

    def __init__(self, size: int, max_size: int) -> None:
        super().__init__(f"expected at most {max_size} bytes, got {size}")
        self.size = size


class AmbiguousError(Exception):
    """A request got no answer, so it is unknown whether it took effect."""


class DeviceLostError(BaseException):
    """The device fails all work until this process is restarted.

    Not an `Exception`, because the image that was being processed is not the cause.
    """


class ImageError(Exception):
    """One image cannot be used, for a known reason.

    Args:
        kind: Stable value of `error_type`, such as `TruncatedImage`.
        message: One line for `error_message`.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class UnlistedError(ImageError):
    """A folder, an archive or a table could not be listed, so its images have no rows."""


class PageError(ImageError):
    """A page of a file cannot be decoded; that is noticed while its bytes are fetched."""


LIST: Final = "list"
"""`error_stage` of rows that stand for a folder, an archive or a table that could not be listed."""


@dataclass(frozen=True, slots=True)
class RowError:
    """The four `error_*` columns of an image without predictions."""

    stage: str
    type: str
    message: str
    transient: bool = False


def capture_row_error(stage: str, work: Callable[[], T]) -> T | RowError:
    """Call a function that processes one image; an exception becomes the error of its row.

    Args:
        stage: `list`, `fetch`, `decode` or `predict`; goes to `error_stage`.
        work: The function, without arguments.

    Returns:
        The result of `work`, or a `RowError` for the exception that it raised.
    """
    result = try_call(work)
    if isinstance(result, ImageError):
        stage = LIST if isinstance(result, UnlistedError) else "decode" if isinstance(result, PageError) else stage
        return RowError(stage, result.kind, _one_line_of(result))
    if isinstance(result, Exception):  # one bad image must never fail other images
        return RowError(stage, type(result).__name__, _one_line_of(result), _is_transient_error(result))
    return result


def try_call(work: Callable[[], T]) -> T | Exception:
    """Call a function and return its result, or the exception that it raised."""
    try:
        return work()
    except Exception as error:
        return error


def _one_line_of(error: BaseException) -> str:
    """Message as text that Arrow can store: file names that are not UTF-8 contain lone surrogates in Python."""
    text = " ".join(str(error).split()).encode("utf-8", "backslashreplace").decode()
    return text[:_MESSAGE_LIMIT] or type(error).__name__


def _is_transient_error(error: BaseException) -> bool:
    if isinstance(error, ConnectionError | TimeoutError | MemoryError | UnavailableError):
        return True
    return isinstance(error, OSError) and error.errno in _TRANSIENT_ERRNOS
