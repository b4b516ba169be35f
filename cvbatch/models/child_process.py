"""Ask a question that needs torch in another process, so that the driver does not import it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from cvbatch.errors import ModelError

_ROOT: Final = Path(__file__).parents[2]
_SITE_FOLDERS: Final = ("site-packages", "dist-packages")
_LONGEST: Final = 400
"""Characters of an error in a message."""


def ask_child(module: str, arguments: Sequence[str], title: str) -> Any:
    """Run a module of ours, and return what it printed as JSON in its last line.

    Args:
        module: Dotted name; it is run as a program.
        arguments: Its arguments.
        title: Of the model, for messages.

    Raises:
        ModelError: The program failed; the message is the last line that it printed about it.
    """
    known = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if _ROOT.name not in _SITE_FOLDERS:
        known.append(str(_ROOT))
    done = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-m", module, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(known)},
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        raise ModelError(f"{title}: {lines[-1].strip()[:_LONGEST]}")
    return json.loads(done.stdout.splitlines()[-1])
