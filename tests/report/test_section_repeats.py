"""Repeats on the page are named by folders below the source, and the command names what is on the page."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

import cvbatch
from cvbatch.cli.answers.report_command import render_answer
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


@pytest.mark.parametrize("is_terminal", [False, True])
def test_the_page_is_a_link_of_a_terminal_and_else_only_text(tmp_path: Path, is_terminal: bool) -> None:
    run = small_run(tmp_path, [f"{row:02d}.jpg".encode() for row in range(12)])
    cvbatch.find_repeats(run.output, images=3, max_area=0.5)
    answer, printed = cvbatch.write_report(run.output), io.StringIO()
    Console(file=printed, force_terminal=is_terminal, width=400).print(render_answer(answer))
    lines = printed.getvalue().splitlines()
    assert lines[0] == "12 images, 12 of them drawn now"
    assert lines[1] == "answers on the page: Repeats"
    assert answer.link is not None
    assert answer.link in lines[2]
    assert ("\x1b]8;" in lines[2]) == is_terminal
