"""Standard streams that never raise, so that a closed terminal or a full disk does not stop a run."""

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
"""Errors of a pipe whose reader has ended, as with `| head`, or of a closed terminal: no message is necessary."""


class ForgivingFileIO(io.FileIO):
    """Writes to a file descriptor and drops bytes that cannot be written.

    Args:
        descriptor: Stays open when this object is closed.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.first_error: OSError | None = None
        """First error of a write."""

    def write(self, data: object, /) -> int | None:  # type: ignore[override]  # typeshed uses a private type
        """Write or drop bytes; return the number of bytes written or dropped."""
        try:
            return super().write(data)  # type: ignore[arg-type]  # as above
        except OSError as error:
            self.first_error = self.first_error or error
            return memoryview(data).nbytes  # type: ignore[arg-type]  # as above


_guarded_streams: dict[int, ForgivingFileIO] = {}
_terminal_stream: IO[str] | None = None


def guard_streams() -> None:
    """Make standard output and standard error safe to write to.

    Closed descriptors (`>&-`) are opened on the null device. Otherwise the next opened file would take their number,
    and printed text would end up in it.
    """
    for descriptor in (_INPUT, _OUTPUT, _ERROR):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest free number
    if sys.stdin is None:
        sys.stdin = open(_INPUT, closefd=False)  # noqa: SIM115 - open until the process ends
    sys.stdout, sys.stderr = _open_text_stream(_OUTPUT, sys.stdout), _open_text_stream(_ERROR, sys.stderr)


def flush_streams() -> None:
    """Flush the streams, and report in one line if standard output could not be written."""
    sys.stdout.flush()
    failure = _guarded_streams[_OUTPUT].first_error if _OUTPUT in _guarded_streams else None
    if failure is not None and failure.errno not in _READER_GONE_ERRORS:
        sys.stderr.write(f"cvbatch: standard output could not be written: {(failure.strerror or '').lower()}\n")
    sys.stderr.flush()


def is_output_closed() -> bool:
    """Whether a write to standard output has failed."""
    return _OUTPUT in _guarded_streams and _guarded_streams[_OUTPUT].first_error is not None


def get_terminal_stream() -> IO[str]:
    """Return the stream for messages to the user while libraries are silenced."""
    return _terminal_stream or sys.stderr


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Drop the output of libraries, from Python and native code, on standard output and standard error.

    Ray's tracebacks reach the console in several ways: from threads, the event loop, destructors, and C++ code.
    Messages of this package go to `get_terminal_stream()`; streams that were obtained before are not redirected.
    """
    global _terminal_stream
    previous_stream, stderr_copy = _terminal_stream, os.dup(_ERROR)
    try:
        with _open_text_stream(stderr_copy, sys.stderr) as terminal, open(os.devnull, "w") as null_device:
            os.dup2(null_device.fileno(), _ERROR)
            _terminal_stream = terminal
            try:
                with contextlib.redirect_stdout(null_device), contextlib.redirect_stderr(null_device):
                    yield
            finally:
                terminal.flush()
                os.dup2(stderr_copy, _ERROR)
                _terminal_stream = previous_stream
                if _guarded_streams:  # in a command's process: tracebacks of threads during its exit are noise
                    threading.excepthook = sys.unraisablehook = _ignore_exception
    finally:
        os.close(stderr_copy)


@contextlib.contextmanager
def report_if_killed(line: str) -> Iterator[None]:
    """Print a line on standard error if this process ends inside the block.

    Ray ends this process from native code, without a message, when Ray's own processes on this machine have died. A
    forked child waits for that and prints the line.

    Args:
        line: Line to print.
    """
    if not _guarded_streams:  # not a command's process
        yield
        return
    read_end, write_end = os.pipe()
    with warnings.catch_warnings(
        action="ignore"
    ):  # about a fork in a threaded process: the child runs only the code below
        child = os.fork()
    if not child:
        for signal_number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signal_number, signal.SIG_IGN)
        os.close(write_end)
        if not os.read(read_end, 1):
            with contextlib.suppress(OSError):
                os.write(_ERROR, f"cvbatch: {line}\n".encode())
        os._exit(0)
    os.close(read_end)
    try:
        yield
    finally:
        os.write(write_end, b"x")
        os.close(write_end)
        os.waitpid(child, 0)


def _ignore_exception(_: object) -> None:
    """Hook that replaces the printing of tracebacks of threads and destructors."""


def _open_text_stream(descriptor: int, template: IO[str] | None) -> IO[str]:
    """Return a text stream on a descriptor with the encoding of `template`."""
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
