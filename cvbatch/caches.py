"""Where this machine keeps what it measured or built for its next runs."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(name: str) -> Path:
    """A folder below `$XDG_CACHE_HOME/cvbatch`, made for this user alone: compiled networks are executed."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = home / "cvbatch" / name
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder
