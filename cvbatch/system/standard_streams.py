"""Where the output of this process goes, and that a run does not suffer where it can go nowhere."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import IO, Final

_INPUT, _OUTPUT, _ERROR = 0, 1, 2
_READER_GONE_ERRORS: Final = (errno.EPIPE, errno.EBADF, errno.EIO)
"""`| head` has read enough, or the terminal was closed: nobody is left to be told."""


class ForgivingFileIO(io.FileIO):
    """A descriptor that drops what it cannot write.

    Args:
        descriptor: Stays open when this is closed.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.first_error: OSError | None = None
        """The first thing that went wrong."""

    def write(self, data: object, /) -> int | None:  # type: ignore[override]  # typeshed names a type of its own
        """Write, or drop what cannot be written; returns how many bytes are done with."""
        try:
            return super().write(data)  # type: ignore[arg-type]  # as above
        except OSError as error:
            self.first_error = self.first_error or error
            return memoryview(data).nbytes  # type: ignore[arg-type]  # as above


_guarded_streams: dict[int, ForgivingFileIO] = {}
_terminal_stream: IO[str] | None = None


def guard_streams() -> None:
    """Make standard output and standard error safe to write to, whatever they are.

    Descriptors that were closed (`>&-`) are opened on nothing: the next file that is opened would else take their
    numbers, and what is printed would end up in it.
    """
    for descriptor in (_INPUT, _OUTPUT, _ERROR):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest number that is free
    if sys.stdin is None:
        sys.stdin = open(_INPUT, closefd=False)  # noqa: SIM115 - as long as the process lives
    sys.stdout, sys.stderr = _open_text_stream(_OUTPUT, sys.stdout), _open_text_stream(_ERROR, sys.stderr)


def flush_streams() -> None:
    """Write what is still to be written, and say in one line if standard output could not take it."""
    sys.stdout.flush()
    failure = _guarded_streams[_OUTPUT].first_error if _OUTPUT in _guarded_streams else None
    if failure is not None and failure.errno not in _READER_GONE_ERRORS:
        sys.stderr.write(f"cvbatch: standard output could not be written: {(failure.strerror or '').lower()}\n")
    sys.stderr.flush()


def is_output_closed() -> bool:
    """Whether nobody reads standard output any more."""
    return _OUTPUT in _guarded_streams and _guarded_streams[_OUTPUT].first_error is not None


def get_terminal_stream() -> IO[str]:
    """Where a person is told things while libraries are kept quiet."""
    return _terminal_stream or sys.stderr


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Drop what libraries print, in Python or natively, on standard output and standard error.

    Ray's tracebacks would reach the console in several ways: from its threads, its event loop, its destructors, and its
    C++ side. What we say goes to `get_terminal_stream()`; a stream that was taken before goes on as it was.
    """
    global _terminal_stream
    before, copy = _terminal_stream, os.dup(_ERROR)
    try:
        with _open_text_stream(copy, sys.stderr) as ours, open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), _ERROR)
            _terminal_stream = ours
            try:
                with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
                    yield
            finally:
                ours.flush()
                os.dup2(copy, _ERROR)
                _terminal_stream = before
                if (
                    _guarded_streams
                ):  # this is the process of a command: what threads have to say while it ends is no news
                    threading.excepthook = sys.unraisablehook = _ignore_exception
    finally:
        os.close(copy)


@contextlib.contextmanager
def report_if_killed(line: str) -> Iterator[None]:
    """Say a line on standard error if this process ends while it is in here.

    Ray ends it natively, without a word of ours, when its own processes on this machine are gone. A child that waits
    for that stays behind for a moment, and says it.

    Args:
        line: What to say.
    """
    if not _guarded_streams:  # not the process of a command
        yield
        return
    reading, writing = os.pipe()
    with warnings.catch_warnings(action="ignore"):  # of forking beside threads: the child runs nothing but this
        child = os.fork()
    if not child:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        os.close(writing)
        if not os.read(reading, 1):
            with contextlib.suppress(OSError):
                os.write(_ERROR, f"cvbatch: {line}\n".encode())
        os._exit(0)
    os.close(reading)
    try:
        yield
    finally:
        os.write(writing, b"x")
        os.close(writing)
        os.waitpid(child, 0)


def _ignore_exception(_: object) -> None:
    """Takes the place of what prints the tracebacks of threads and destructors."""


def _open_text_stream(descriptor: int, template: IO[str] | None) -> IO[str]:
    """A text stream on a descriptor, with the encoding of another one."""
    raw = ForgivingFileIO(descriptor)
    if descriptor in (_OUTPUT, _ERROR):
        _guarded_streams[descriptor] = raw
    errors = getattr(template, "errors", None)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(template, "encoding", None) or "utf-8",
        errors=errors if errors == "surrogateescape" else "backslashreplace",
        line_buffering=descriptor != _OUTPUT or raw.isatty(),
        write_through=bool(getattr(template, "write_through", False)),
    )
