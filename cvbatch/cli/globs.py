"""A glob that was not quoted: the shell has put files into the place of the job file."""

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


def refuse_expanded_glob(job: str | None, more: Sequence[str], sources: Sequence[str]) -> None:
    """Refuse what can only come from a glob that the shell has replaced by its matches.

    Args:
        job: What stands in the place of the job file.
        more: What else stands there, with unknown options.
        sources: What `--source` names.

    Raises:
        JobError: With the glob to quote.
    """
    paths = [path for path in (job, *more) if path is not None and not path.startswith("-")]
    wrong = [path for path in paths if not _looks_like_job_file(path, sources, alone=len(paths) == 1)]
    if not wrong:
        return
    glob = shlex.quote(
        _guess_pattern([path for path in (*sources, *paths) if os.path.dirname(path) == os.path.dirname(wrong[0])])
    )
    others = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    if not sources and len(paths) == 1:
        raise JobError(f"expected a job file, got {job}; images are given with --source {shlex.quote(wrong[0])}")
    raise JobError(
        f"expected a job file, got {wrong[0]}{others}: a glob is quoted, such as --source {glob}, "
        "and several sources are named with --source before each"
    )


def _looks_like_job_file(path: str, sources: Sequence[str], *, alone: bool) -> bool:
    name, kind = os.fsencode(path), suffix_of(os.fsencode(path))
    if kind in _JOB_SUFFIXES or not os.path.exists(path):
        return kind not in IMAGE_SUFFIXES
    if kind in IMAGE_SUFFIXES or f".{kind}" in MANIFEST_SUFFIXES or ContainerOpener.is_container(name):
        return False
    if os.path.isdir(path) or not alone:
        return not sources and alone
    folder = os.path.dirname(path)
    return not folder or all(os.path.dirname(source) != folder for source in sources)


def _guess_pattern(paths: Sequence[str]) -> str:
    """What all these were matched by, as far as that can be told."""
    suffixes = {os.path.splitext(path)[1] for path in paths}
    return os.path.join(os.path.dirname(paths[0]), f"*{suffixes.pop() if len(suffixes) == 1 else ''}")
