"""Trying again what may pass by.

The clients' own repetition is not enough: botocore's leaves out 429, and obstore's what breaks off within the body of
a listing or of an error. So theirs is off, or quick and short, and the patience is here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from cvbatch.errors import UnavailableError
from cvbatch.storage.error_mapping import map_storage_errors
from cvbatch.system.environment import EnvironmentNumber

T = TypeVar("T")

_TRIES: Final = EnvironmentNumber("CVBATCH_STORAGE_TRIES", 8, least=1)
_FIRST_PAUSE: Final = EnvironmentNumber("CVBATCH_STORAGE_PAUSE", 1.0)
"""Upper end of the first pause, in seconds; it doubles each time."""
_LONGEST_PAUSE: Final = 30.0


def with_retries(uri: str, work: Callable[[], T]) -> T:
    """Do the work; what may pass by is tried again after growing pauses of random length.

    Args:
        uri: What it is about, for the message.
        work: Harmless to repeat.

    Raises:
        UnavailableError: After all tries.
    """
    again = Retrying(
        stop=stop_after_attempt(_TRIES.current_value),
        wait=wait_random_exponential(multiplier=_FIRST_PAUSE.current_value, max=_LONGEST_PAUSE),
        retry=retry_if_exception_type(UnavailableError),
        reraise=True,
    )
    return again(map_storage_errors(uri)(work))
