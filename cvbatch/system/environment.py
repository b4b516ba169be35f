"""Numbers that an environment variable can override: timeouts, pauses and batch sizes.

They tune cvbatch to a slow disk or a strict service, so they are not part of a job. Each process reads its own
environment whenever it needs the number. A run checks all of them first, because a worker that meets an invalid one
could only report it as an error of each image.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from cvbatch.errors import JobError

Number = TypeVar("Number", int, float)

_NUMBERS: Final[list[EnvironmentNumber[Any]]] = []
"""Those of all modules that are imported."""


@dataclass(frozen=True, slots=True)
class EnvironmentNumber(Generic[Number]):
    """A number with its default and the environment variable that overrides it."""

    variable: str
    default: Number
    minimum: Number | float = 0

    def __post_init__(self) -> None:
        _NUMBERS.append(self)

    @property
    def current_value(self) -> Number:
        """The number in the environment, or the default.

        Raises:
            JobError: If the variable is not a number of the default's type, or is too small.
        """
        text = os.environ.get(self.variable)
        if text is None:
            return self.default
        try:
            number = type(self.default)(text)
        except ValueError:
            number = None
        if number is None or number < self.minimum or not math.isfinite(number):
            expected = "a whole number" if isinstance(self.default, int) else "a number"
            raise JobError(f"{self.variable}: expected {expected} of at least {self.minimum}, got {text!r}")
        return number


def check_environment() -> None:
    """Check the variables of all imported modules.

    Raises:
        JobError: A variable is invalid.
    """
    for number in _NUMBERS:
        _ = number.current_value
