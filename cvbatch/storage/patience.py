"""Repeating what botocore's client does: its own repetition leaves out 429 and what breaks off within a body."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from cvbatch.errors import UnavailableError
from cvbatch.storage.access import ATTEMPTS
from cvbatch.storage.failures import translated

T = TypeVar("T")


def patiently(uri: str, work: Callable[[], T]) -> T:
    """Do the work; what may pass by is tried again after growing pauses of random length.

    Args:
        uri: What it is about, for the message.
        work: Harmless to repeat.

    Raises:
        UnavailableError: After all tries.
    """
    again = Retrying(
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_random_exponential(multiplier=0.1, max=15),
        retry=retry_if_exception_type(UnavailableError),
        reraise=True,
    )
    return again(translated(uri)(work))
