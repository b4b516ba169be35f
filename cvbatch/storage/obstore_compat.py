"""All code that depends on texts of obstore's errors, which have no attributes for status and code.

All were checked with obstore 0.12.1; `tests/storage/test_obstore_compat.py` fails if an upgrade changes the texts.
"""

from __future__ import annotations

import re
from typing import Final

_STATUS: Final = re.compile(r"non-2xx status code: (\d{3})")
_CODE: Final = re.compile(r"<Code>(\w{1,60})</Code>")
_NO_ANSWER: Final = re.compile(r"error sending request|request or response body error|HTTP error|timed? ?out", re.I)
_DEBUG: Final = "Debug source"


def status_in(text: str) -> tuple[int, str]:
    """HTTP status and the service's error code in the text of an error; 0 and an empty text without a response."""
    status, code = _STATUS.search(text), _CODE.search(text)
    return int(status[1]) if status else 0, code[1] if code else ""


def is_no_answer(text: str) -> bool:
    """Whether the text of an error means that there was no usable response."""
    return _NO_ANSWER.search(text) is not None


def message_in(text: str) -> str:
    """The message of an error in one line, without the debug output that follows it."""
    return " ".join(text.partition(_DEBUG)[0].split())
