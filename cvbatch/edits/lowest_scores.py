"""The scores from which on objects take part in an edit by default; light, since the command line imports it."""

from __future__ import annotations

RECALL_SCORE = 0.2
"""For `redact` and `remove`: what is missed can be seen by everybody."""
SURE_SCORE = 0.5
"""Where a wrong box costs more than a missed one."""
