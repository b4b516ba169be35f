"""`cvbatch demo`: a small archive of real photos, labelled with all four tasks by the embedded models."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import pandas as pd
import pyarrow.dataset as pads
from rich.console import Console
from rich.style import Style
from rich.text import Text

from cvbatch.config.job import Job
from cvbatch.config.job_file import load_job
from cvbatch.demo.archive import BROKEN_FILES, archive_names, make_photo_archive
from cvbatch.demo.contact_sheet import draw_contact_sheet
from cvbatch.errors import OutputError, RunError
from cvbatch.pipeline import run
from cvbatch.report.write import write_report
from cvbatch.results.console import summary_table
from cvbatch.results.predictions import read
from cvbatch.results.progress import TerminalProgress
from cvbatch.results.summary import summarize_run
from cvbatch.runs.supervisor import seconds_since_command
from cvbatch.schema import ERROR, IMAGE_URI, OK, STATUS
from cvbatch.tasks import DETECTION, TASKS

BOX_SCORE: Final = 0.4
"""Least score of a box; more of them than a person can see on a photo are weaker."""


def run_demo(output: str, console: Console) -> int:
    """Make the archive, label it and show the results; a second call resumes the run or shows the results again.

    Args:
        output: Local folder for the photos, the predictions and the contact sheet.
        console: Where the results are printed.

    Returns:
        The exit code: 0 if exactly the three broken files failed, else 1.

    Raises:
        UsageError: scikit-image is missing, or the folder holds something else.
        RunError: The run did not finish.
    """
    if "://" in output:
        raise OutputError(f"the demo writes to a local folder, got {output}; choose another --output")
    folder = Path(output)
    photos, predictions, sheet = folder / "photos", folder / "predictions", folder / "contact_sheet.png"
    make_photo_archive(photos)
    job = build_demo_job(photos, predictions)
    with TerminalProgress() as terminal:
        try:
            state = run(job, terminal)
        except KeyboardInterrupt:
            raise RunError("stopped; rows that are written are committed. The same command resumes the run") from None
    console.print(summary_table(summarize_run(str(predictions), state, seconds_since_command())))
    show_query(str(predictions), console)
    names = archive_names()
    title = (
        f"cvbatch demo: {len(names) - state.errors.total()} of {len(names)} images labelled by {_names_of_models(job)}"
    )
    labelled = read(str(predictions), filter=pads.field(STATUS) == OK)
    draw_contact_sheet(labelled, title).save(sheet, optimize=True)
    report = write_report(str(predictions), picture=str(sheet))
    for name, path in (("photos", photos), ("predictions", predictions), ("contact sheet", sheet)):
        console.out(f"{name + ':':15}{path}", highlight=False)
    console.print(Text("report:        ").append(str(report.link), Style(link=report.link)), soft_wrap=True)
    difference = describe_unexpected_failures(read_failed_names(photos, predictions))
    if difference:
        console.out(difference, highlight=False)
    return 1 if difference else 0


def build_demo_job(photos: Path, predictions: Path) -> Job:
    """All tasks that embedded models do, as in `jobs/all_tasks.yaml`."""
    models: list[dict[str, str | float]] = [
        {"task": task.name} for task in TASKS.own_rows() if task.default_model is not None
    ]
    for model in models:
        if model["task"] == DETECTION.name:
            model["score_threshold"] = BOX_SCORE
    return load_job(defaults={"source": {"uri": str(photos)}, "models": models, "output": {"uri": str(predictions)}})


def _names_of_models(job: Job) -> str:
    return " and ".join(dict.fromkeys(model.model for model in job.models))


def read_failed_names(photos: Path, predictions: Path) -> list[str]:
    """Names of the images that failed, below the archive's folder."""
    rows = read(str(predictions), columns=[IMAGE_URI, STATUS])
    root = os.path.abspath(photos)
    return [Path(os.path.relpath(uri, root)).as_posix() for uri in rows[IMAGE_URI][rows[STATUS] == ERROR]]


def describe_unexpected_failures(failed: Iterable[str]) -> str:
    """How the failed images differ from the broken ones; empty if they are the same."""
    failed, broken = set(failed), set(BROKEN_FILES)
    parts = [
        f"{difference}: {', '.join(sorted(names))}"
        for difference, names in (("did not fail", broken - failed), ("failed too", failed - broken))
        if names
    ]
    return "; ".join([f"expected exactly the {len(broken)} broken files to fail", *parts]) if parts else ""


def sure_labels(output: str) -> pd.DataFrame:
    """Which labels is the model sure of, and how often?"""
    photos = pd.read_parquet(output)
    sure = photos[photos.classification_score > 0.5]
    labels = sure.groupby("classification_label").classification_score
    return labels.agg(["count", "mean"]).sort_values("count", ascending=False).head(8).round(2)


def show_query(predictions: str, console: Console) -> None:
    """Print a query on the predictions, as code, and its result."""
    console.out(f"\n{inspect.getsource(sure_labels)}\n>>> sure_labels({predictions!r})", highlight=False)
    console.out(f"{sure_labels(predictions).to_string()}\n", highlight=False)
