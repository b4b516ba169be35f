"""Outputs of cvbatch that lie within a source: what a run has written is never taken for images."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Final

STATE: Final = "_cvbatch"
"""What has a folder of this name is an output."""
DATA: Final = "data"
OWN: Final = frozenset({STATE, DATA, "_SUCCESS"})
"""What a run writes into its output."""
OUTPUT: Final = "output of cvbatch"
"""Outputs that are left out are counted under these words."""


def is_output_folder(folder: bytes) -> bool:
    """Whether a local folder is an output."""
    return os.path.isdir(os.path.join(folder, STATE.encode()))


def output_around(parts: Sequence[str], is_one: Callable[[Sequence[str]], bool]) -> Sequence[str] | None:
    """The output whose own files a path leads to; None if there is none.

    Args:
        parts: What stands between the slashes of the path.
        is_one: Whether the folder that some of these lead to is an output.
    """
    for at, part in enumerate(parts):
        if part in (STATE, DATA) and is_one(parts[:at]):
            return parts[:at]
    return None


def output_source_advice(place: str, output: str) -> str:
    """What is said of a source that is a part of an output."""
    return (
        f"{place} belongs to {output}, which is an output of cvbatch and holds no images: "
        "name the images, or a manifest with source.uri_column"
    )
