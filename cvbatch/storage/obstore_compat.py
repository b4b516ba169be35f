"""Everything that rests on texts of obstore's errors, in one place: they have no status and no code of their own.

All were seen with obstore 0.12.1, and `tests/storage/test_obstore_compat.py` fails when an upgrade changes their words.
"""

from __future__ import annotations

import re
from typing import Final

_STATUS: Final = re.compile(r"non-2xx status code: (\d{3})")
_CODE: Final = re.compile(r"<Code>(\w{1,60})</Code>")
_NO_ANSWER: Final = re.compile(r"error sending request|request or response body error|HTTP error|timed? ?out", re.I)
_DEBUG: Final = "Debug source"


def status_in(text: str) -> tuple[int, str]:
    """HTTP status and the service's own code in the text of an error; 0 and nothing where there was no answer."""
    status, code = _STATUS.search(text), _CODE.search(text)
    return int(status[1]) if status else 0, code[1] if code else ""


def is_no_answer(text: str) -> bool:
    """Whether no usable answer came, by the text of an error."""
    return _NO_ANSWER.search(text) is not None


def message_in(text: str) -> str:
    """What the text of an error says to people, in one line; behind that stands the same for programmers."""
    return " ".join(text.partition(_DEBUG)[0].split())
