"""Detects a glob without quotes, whose matches the shell has put in the place of the job file."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from typing import Final

from cvbatch.errors import JobError
from cvbatch.sources.containers import ContainerOpener
from cvbatch.sources.manifest import MANIFEST_SUFFIXES
from cvbatch.sources.suffixes import IMAGE_SUFFIXES, suffix_of

_JOB_SUFFIXES: Final = ("yaml", "yml")


def refuse_expanded_glob(job: str | None, unknown: Sequence[str], sources: Sequence[str]) -> None:
    """Refuse arguments that can only be matches of a glob without quotes.

    Args:
        job: The argument in the place of the job file.
        unknown: Further arguments there, and unknown options.
        sources: Values of `--source`.

    Raises:
        JobError: There are such arguments; its message has the glob in quotes.
    """
    paths = [path for path in (job, *unknown) if path is not None and not path.startswith("-")]
    wrong = [path for path in paths if not _looks_like_job_file(path, sources, is_only_argument=len(paths) == 1)]
    if not wrong:
        return
    glob = shlex.quote(
        _guess_pattern([path for path in (*sources, *paths) if os.path.dirname(path) == os.path.dirname(wrong[0])])
    )
    others = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    if not sources and len(paths) == 1:
        raise JobError(f"expected a job file, got {job}; images are given with --source {shlex.quote(wrong[0])}")
    raise JobError(
        f"expected a job file, got {wrong[0]}{others}: put a glob in quotes, such as --source {glob}, "
        "and write --source before each of several sources"
    )


def _looks_like_job_file(path: str, sources: Sequence[str], *, is_only_argument: bool) -> bool:
    name, kind = os.fsencode(path), suffix_of(os.fsencode(path))
    if kind in _JOB_SUFFIXES or not os.path.exists(path):
        return kind not in IMAGE_SUFFIXES
    if kind in IMAGE_SUFFIXES or f".{kind}" in MANIFEST_SUFFIXES or ContainerOpener.is_container(name):
        return False
    if os.path.isdir(path) or not is_only_argument:
        return not sources and is_only_argument
    folder = os.path.dirname(path)
    return not folder or all(os.path.dirname(source) != folder for source in sources)


def _guess_pattern(paths: Sequence[str]) -> str:
    """A glob that matches all these paths."""
    suffixes = {os.path.splitext(path)[1] for path in paths}
    return os.path.join(os.path.dirname(paths[0]), f"*{suffixes.pop() if len(suffixes) == 1 else ''}")
