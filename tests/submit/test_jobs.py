"""Following a job whose log breaks off, over a connection that does; real clusters are asked in `tests/integration`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import pytest

from cvbatch.config.job import Job
from cvbatch.errors import OutputError, RunError
from cvbatch.submit.client import JobClient, JobInfo
from cvbatch.submit.jobs import (
    FORMAT_OF_JOB,
    OUTPUT,
    PollIntervals,
    find_submitted_job,
    follow_job,
    job_name_of,
    latest_attempt,
)

RUNNING = JobInfo("cvbatch-1", "RUNNING", "", None, {}, 0.0, None)
OVER = replace(RUNNING, status="SUCCEEDED", exit_code=0)
BROKEN = RunError("nobody answers")
AT_ONCE = PollIntervals(poll=0.0, settle=0.0)


class Scripted:
    """A cluster that answers as a test wants: what each connection to the log gives, and what the job is in between.

    Args:
        tails: What each connection gives.
        answers: To each question for the job; the last one holds from then on.
        log: All that the job says.
    """

    def __init__(self, tails: list[list[str]], answers: list[JobInfo | RunError], log: str) -> None:
        self._tails, self._answers, self._log = tails, answers, log

    def tail_log(self, _: str) -> Iterator[str]:
        yield from self._tails.pop(0) if self._tails else []

    def get_job(self, _: str) -> JobInfo:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, RunError):
            raise answer
        return answer

    def job_log(self, _: str) -> str:
        return self._log


def at(uri: str = "s3://box/out", **more: Any) -> str:
    source, models = {"uri": "s3://box/in"}, [{"model": "resnet50"}]
    return job_name_of(Job.model_validate({"source": source, "models": models, "output": {"uri": uri, **more}}))


def test_a_job_has_its_own_name_at_each_output() -> None:
    names = [at(), at("s3://box/other"), at(endpoint_url="http://one:9000"), at(endpoint_url="http://two:9000")]
    assert len(set(names)) == 4
    assert at() == names[0]


def heard(*script: Any) -> list[str]:
    lines = list[str]()
    assert follow_job(cast(JobClient, Scripted(*script)), RUNNING, lines.append, AT_ONCE) == OVER
    return lines


@pytest.mark.parametrize(
    "tails",
    [
        [["one\n", "two\nthr", "ee\n"]],
        [["one\ntw"], ["one\n", "two\n"]],
        [["one\n"], [], ["one\ntwo\nthree\n"]],
        [],
    ],
    ids=["whole", "broken in a line", "broken twice", "nothing can be tailed"],
)
@pytest.mark.parametrize("end", ["", "\n"], ids=["no end", "an end"])
def test_each_line_is_heard_once_whatever_breaks(tails: list[list[str]], end: str) -> None:
    answers = [RUNNING] * (len(tails) - 1) + [OVER]
    assert heard([*tails], answers, f"one\ntwo\nthree{end}") == ["one", "two", "three"]


def test_what_else_ends_lines_does_not_make_some_be_heard_twice() -> None:
    log = "a\x0cb\x85c\u2028d\ne\n"
    assert heard([[log]], [OVER], log) == ["a\x0cb\x85c\u2028d", "e"]


def test_a_job_is_heard_before_it_is_over_where_its_log_cannot_be_tailed() -> None:
    scripted, lines = cast(JobClient, Scripted([], [RUNNING, BROKEN], "one\ntwo")), list[str]()
    with pytest.raises(RunError, match="nobody answers"):
        follow_job(scripted, RUNNING, lines.append, replace(AT_ONCE, broken=0.0))
    assert lines == ["one"]


def test_a_cluster_that_cannot_be_asked_for_a_moment_is_asked_again() -> None:
    assert heard([["one\n"]], [BROKEN, BROKEN, OVER], "one\n") == ["one"]


class Listed:
    """A cluster that knows some jobs."""

    def __init__(self, *known: JobInfo) -> None:
        self._known = known

    def list_jobs(self) -> list[JobInfo]:
        return list(self._known)


def test_a_job_that_a_newer_version_submitted_is_refused() -> None:
    kept = {OUTPUT: "s3://bucket/out"}
    older, minor, major = (
        replace(RUNNING, metadata={**kept, **more}) for more in ({}, {FORMAT_OF_JOB: "1.4"}, {FORMAT_OF_JOB: "2.0"})
    )
    for job in (older, minor):
        client = cast(JobClient, Listed(job))
        assert (
            latest_attempt(client, job.id)
            == find_submitted_job(client, job.id)
            == find_submitted_job(client, "s3://bucket/out")
            == job
        )
    client = cast(JobClient, Listed(major))
    for asked in (
        lambda: latest_attempt(client, major.id),
        lambda: find_submitted_job(client, major.id),
        lambda: find_submitted_job(client, kept[OUTPUT]),
    ):
        with pytest.raises(OutputError, match=r"cvbatch-1: this job was written with format 2\.0"):
            asked()


def test_a_job_has_the_name_that_earlier_versions_gave_it() -> None:
    """Or a job that one of them submitted would run twice."""
    parts = {"models": [{"model": "resnet50"}], "output": {"uri": "s3://bucket/o"}}
    asked = Job.model_validate({"source": {"uri": "s3://bucket/a", "anonymous": True}, **parts})
    assert job_name_of(asked) == "cvbatch-2f9cf5ce4237dc37"
