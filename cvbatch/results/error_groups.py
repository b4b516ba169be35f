"""Images that failed, by the reason, with examples and what to do."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.results.error_advice import advice_for_error
from cvbatch.schema import ERROR_MESSAGE, ERROR_TYPE, IMAGE_URI

_MOST_TYPES: Final = 50
"""An own model may raise errors with any name."""


@dataclass(frozen=True, slots=True)
class FailedImage:
    """An image that failed."""

    image_uri: str
    message: str
    """Why; may be empty."""


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """Images that failed for one reason."""

    error_type: str
    images: int
    advice: str
    """What to do about it."""
    examples: list[FailedImage]


class ErrorCounter:
    """Counts failed images by error type, and keeps the first of each.

    Args:
        examples: Most images to keep of one type.
    """

    def __init__(self, examples: int) -> None:
        self._most_examples = examples
        self._counts, self._examples = Counter[str](), dict[str, list[FailedImage]]()

    @property
    def columns(self) -> tuple[str, ...]:
        """What `add_rows` reads."""
        return (IMAGE_URI, ERROR_TYPE, ERROR_MESSAGE)

    def add_rows(self, rows: pa.Table) -> None:
        """Count some rows in error.

        Args:
            rows: With `columns`; all have an error type.
        """
        counts = pc.value_counts(rows[ERROR_TYPE])
        for name, count in zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True):
            if name not in self._counts and len(self._counts) >= _MOST_TYPES:
                continue
            self._counts[name] += count
            examples = self._examples.setdefault(name, [])
            if len(examples) < self._most_examples:
                some = rows.filter(pc.equal(rows[ERROR_TYPE], name)).slice(0, self._most_examples - len(examples))
                uris, messages = (some[column].to_pylist() for column in (IMAGE_URI, ERROR_MESSAGE))
                examples += [FailedImage(uri, message or "") for uri, message in zip(uris, messages, strict=True)]

    def finish(self) -> list[ErrorKind]:
        """The reasons, the most frequent first."""
        ordered = sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))
        return [ErrorKind(name, count, advice_for_error(name), self._examples[name]) for name, count in ordered]
