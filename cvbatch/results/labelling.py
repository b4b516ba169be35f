"""Labelling images from Python, as a notebook or a script does it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from cvbatch.config.job import PYTHON, Job
from cvbatch.config.job_file import load_job
from cvbatch.results.elements import read_detections, read_segments
from cvbatch.results.predictions import read
from cvbatch.results.progress import fitting_progress
from cvbatch.results.summary import summarize_run
from cvbatch.storage.location import Location
from cvbatch.system.standard_streams import quiet_libraries

if TYPE_CHECKING:
    import pandas as pd

Section: TypeAlias = Mapping[str, Any]
"""A section of a job file."""
Path: TypeAlias = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class LabelledRun:
    """A run, and what it has left."""

    output: Location
    """Where it is."""
    summary: Mapping[str, Any]
    """What `cvbatch run --json` prints: counts, errors, the first failed images, the most frequent labels, times."""

    def read(self, **options: Any) -> pd.DataFrame:
        """The predictions; options as for `cvbatch.read`."""
        return read(self.output, **options)

    def detections(self, alias: str | None = None, **options: Any) -> pd.DataFrame:
        """One row per box; options as for `cvbatch.read_detections`."""
        return read_detections(self.output, alias, **options)

    def segments(self, alias: str | None = None, **options: Any) -> pd.DataFrame:
        """One row per class and image; options as for `cvbatch.read_segments`."""
        return read_segments(self.output, alias, **options)

    def __repr__(self) -> str:
        errors = sum(self.summary["errors"].values())
        return (
            f"<{self.summary['rows']:,} of {self.summary['rows_planned']:,} images, {errors:,} errors: {self.output}>"
        )

    def _repr_html_(self) -> str:
        """The table that the command prints, for a notebook."""
        from rich.console import Console

        from cvbatch.results.console import summary_table

        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            console = Console(file=nowhere, record=True, width=100, force_jupyter=False)
            console.print(summary_table(self.summary))
            return console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")


def label(
    source: Path | Sequence[Path] | Section,
    models: str | Sequence[str | Section],
    output: Path | Section,
    *,
    compute: Section | None = None,
    update: bool = False,
    wait: bool = False,
    takeover: bool = False,
    quiet: bool = False,
) -> LabelledRun:
    """Label every image of a source, or resume an unfinished run; a finished run returns at once.

    The progress is a bar on a terminal or in a notebook, and a line every 15 seconds elsewhere. If the call is
    interrupted, rows that are written are committed, and the same call resumes the run.

    Args:
        source: A folder, a glob, a bucket, an archive, a table or a manifest; several of them; or the section `source`
            of a job: `{"uri": "photos", "limit": 100}`.
        models: Names (see `cvbatch models`), or entries of the section `models`: `{"model": "…", "as": "birds"}`.
            Own models (`python:module:factory`) are imported from the current folder.
        output: Where the predictions go; or the section `output`.
        compute: The section `compute`, such as `{"precision": "fp32"}`.
        update: List the source again; label new and changed images.
        wait: Wait while another process works on this run.
        takeover: Take the run over at once from another process that works on it.
        quiet: Show no progress.

    Raises:
        UsageError: If the request is wrong; nothing was started.
        RunError: If the run did not finish; committed rows stay committed.
        KeyboardInterrupt: If it was interrupted; the message says how to go on.
    """
    from cvbatch.pipeline import run

    job = _job_of_arguments(source, models, output, compute)
    folder = _folder_of_own_models(job)
    try:
        with quiet_libraries(), fitting_progress(quiet=quiet) as progress:
            state = run(job, progress, pythonpath=folder, refresh=update, wait=wait, takeover=takeover)
            return LabelledRun(job.output.location, summarize_run(job.output.location, state))
    except KeyboardInterrupt:  # from None: a notebook would show a hundred lines of Ray's
        raise KeyboardInterrupt(
            f"interrupted; rows that are committed stay in {job.output.location}, and the same call resumes the run"
        ) from None


def _job_of_arguments(
    source: Path | Sequence[Path] | Section,
    models: str | Sequence[str | Section],
    output: Path | Section,
    compute: Section | None,
) -> Job:
    names = [models] if isinstance(models, str) else models
    job = {
        "source": {"uri": _text(source)} if not isinstance(source, Mapping) else dict(source),
        "models": [{"model": model} if isinstance(model, str) else dict(model) for model in names],
        "output": {"uri": _text(output)} if not isinstance(output, Mapping) else dict(output),
    }
    return load_job(defaults=job if compute is None else {**job, "compute": dict(compute)})


def _text(path: Path | Sequence[Path]) -> str | list[str]:
    return os.fspath(path) if isinstance(path, str | os.PathLike) else [os.fspath(part) for part in path]


def _folder_of_own_models(job: Job) -> str | None:
    """The folder that own models are imported from, also by this process; it hides none of Python's modules."""
    if not any(model.model.startswith(PYTHON) for model in job.models):
        return None
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.append(folder)
    return folder
