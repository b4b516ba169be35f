"""Outputs of cvbatch within a source: files that a run wrote are never treated as images."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Final

STATE: Final = "_cvbatch"
"""Name of the folder that marks an output."""
DATA: Final = "data"
REPORT: Final = "_report"
"""Folder of the page that shows a run, with small pictures."""
OWN: Final = frozenset({STATE, DATA, REPORT, "_SUCCESS"})
"""Names that a run and its report write into its output."""
OUTPUT: Final = "output of cvbatch"
"""Reason under which skipped outputs are counted."""


def is_output_folder(folder: bytes) -> bool:
    """Whether a local folder is an output."""
    return os.path.isdir(os.path.join(folder, STATE.encode()))


def output_around(parts: Sequence[str], is_output: Callable[[Sequence[str]], bool]) -> Sequence[str] | None:
    """Parts of the output folder whose own files a path leads to; None if there is none.

    Args:
        parts: Parts of the path between the slashes.
        is_output: Whether the folder with these parts is an output.
    """
    for index, part in enumerate(parts):
        if part in (STATE, DATA, REPORT) and is_output(parts[:index]):
            return parts[:index]
    return None


def output_source_advice(source: str, output_folder: str) -> str:
    """Message about a source that is part of an output."""
    return (
        f"{source} belongs to {output_folder}, which is an output of cvbatch and holds no images: "
        "name the images, or a manifest with source.uri_column"
    )
