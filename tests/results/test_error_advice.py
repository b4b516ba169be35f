"""What to do about an error is said once: the page about results says the same as the code."""

from __future__ import annotations

import re

from cvbatch.results.error_advice import advice_for_error
from tests.pages import table_rows
from tests.test_pages import RESULTS


def test_the_page_gives_the_same_advice() -> None:
    rows, before = table_rows(RESULTS, "Error types"), ""
    for names, _, advice in rows:
        plain = re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", advice).replace("`", "")
        before = before if plain == "the same" else plain
        for name in re.findall(r"`(\w+)`", names) if not names.startswith("any other") else ["ValueError"]:
            assert name in ("error_type", "what to do") or advice_for_error(name) == before, name
    assert len(rows) > 35
