"""Retries of requests after transient errors.

The clients' own retries are not enough: botocore does not retry after status 429, and obstore not if the body of a
listing or of an error breaks off. So those are off or short, and this module waits longer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from cvbatch.errors import UnavailableError
from cvbatch.storage.error_mapping import map_storage_errors
from cvbatch.system.environment import EnvironmentNumber

T = TypeVar("T")

_MAX_TRIES: Final = EnvironmentNumber("CVBATCH_STORAGE_TRIES", 8, minimum=1)
_FIRST_PAUSE: Final = EnvironmentNumber("CVBATCH_STORAGE_PAUSE", 1.0)
"""Maximum of the first pause in seconds; it doubles with each further pause."""
_LONGEST_PAUSE: Final = 30.0


def with_retries(uri: str, work: Callable[[], T]) -> T:
    """Do work, and repeat it after transient errors, with growing random pauses.

    Args:
        uri: URI for error messages.
        work: Function that is safe to repeat.

    Returns:
        The result of `work`.

    Raises:
        UnavailableError: If all tries fail.
    """
    retrying = Retrying(
        stop=stop_after_attempt(_MAX_TRIES.current_value),
        wait=wait_random_exponential(multiplier=_FIRST_PAUSE.current_value, max=_LONGEST_PAUSE),
        retry=retry_if_exception_type(UnavailableError),
        reraise=True,
    )
    return retrying(map_storage_errors(uri)(work))
