"""Numbers that an environment variable can override: timeouts, pauses and batch sizes.

They tune cvbatch to a slow disk or a strict service, so they are not part of a job. Each process reads its own
environment whenever it needs the number.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Generic, TypeVar

from cvbatch.errors import JobError

Number = TypeVar("Number", int, float)


@dataclass(frozen=True, slots=True)
class EnvironmentNumber(Generic[Number]):
    """A number with its default and the environment variable that overrides it."""

    variable: str
    default: Number
    least: Number | float = 0

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
        if number is None or number < self.least or not math.isfinite(number):
            expected = "a whole number" if isinstance(self.default, int) else "a number"
            raise JobError(f"{self.variable}: expected {expected} of at least {self.least}, got {text!r}")
        return number
