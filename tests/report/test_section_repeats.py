"""Repeats on the page are named by folders below the source."""

from __future__ import annotations

from pathlib import Path

import cvbatch
from cvbatch.report.collect import ReportOptions, collect_page_data
from cvbatch.report.folder import place_report
from tests.report.runs import small_run


def test_folders_are_those_below_the_source(tmp_path: Path) -> None:
    names = [f"{folder}{row:02d}.jpg".encode() for folder in ("", "a/b c/") for row in range(12)]
    run = small_run(tmp_path, names)
    cvbatch.find_repeats(run.output, images=3, max_area=0.5)
    answers = collect_page_data(run.opened, place_report(run.opened, None), ReportOptions()).data.answers
    (section,) = [answer for answer in answers if answer.name == "repeats"]
    assert {row[-1] for row in section.tables[0].rows} == {"top", "a/b c"}
    assert {group.title.rpartition(" images of ")[2] for group in section.groups} <= {"top", "a/b c"}
