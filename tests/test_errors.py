"""An exception for one image becomes the error of its row."""

from __future__ import annotations

import errno
import os
from typing import NoReturn

import pyarrow as pa
import pytest

from cvbatch import errors
from cvbatch.errors import ImageError, RowError, capture_row_error


def failing(error: BaseException) -> RowError:
    def work() -> NoReturn:
        raise error

    result = capture_row_error("decode", work)
    assert isinstance(result, RowError)
    return result


def test_results_are_returned() -> None:
    assert capture_row_error("fetch", lambda: 5) == 5


def test_image_errors_keep_their_kind() -> None:
    assert failing(ImageError("TruncatedImage", "cut\noff")) == RowError("decode", "TruncatedImage", "cut off")


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (ValueError("x"), False),
        (MemoryError(), True),
        (TimeoutError("x"), True),
        (ConnectionResetError("x"), True),
        (OSError(errno.EIO, "x"), True),
        (OSError(errno.ENOENT, "x"), False),
        (OSError("x"), False),
    ],
)
def test_which_errors_are_transient(error: Exception, transient: bool) -> None:
    result = failing(error)
    assert (result.type, result.transient) == (type(error).__name__, transient)


def test_messages_are_short_lines_that_arrow_can_store() -> None:
    assert failing(ValueError()).message == "ValueError"
    assert failing(ValueError("a\n\tb  c")).message == "a b c"
    assert len(failing(ValueError("x" * 10_000)).message) == 500
    message = failing(ValueError(os.fsdecode(b"caf\xe9.jpg"))).message
    assert pa.array([message]).to_pylist() == ["caf\\udce9.jpg"]


def test_interruptions_are_not_row_errors() -> None:
    with pytest.raises(KeyboardInterrupt):
        failing(KeyboardInterrupt())


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("JobError", 2),
        ("SourceError", 2),
        ("ModelError", 2),
        ("OutputError", 2),
        ("RunError", 1),
        ("FencedError", 1),
        ("CorruptionError", 1),
    ],
)
def test_exit_codes(name: str, code: int) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, errors.CvbatchError)
    assert kind("x").exit_code == code
    assert name in (errors.__doc__ or "")
