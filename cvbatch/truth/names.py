"""Names of classes, as truth and models spell them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_EXAMPLES: Final = 5


def comparable_name(name: str) -> str:
    """A name without what spellings differ in: `Traffic_Light` and `traffic light` are one name."""
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def list_examples(names: Sequence[str]) -> str:
    """The first names in one line, for messages."""
    shown = ", ".join(names[:_EXAMPLES])
    return f"{shown} …" if len(names) > _EXAMPLES else shown or "none"
