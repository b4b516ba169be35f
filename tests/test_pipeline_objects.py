"""A whole run with an output in a bucket, with an engine without Ray, and the commands for that output."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from cvbatch.cli.parser import main
from cvbatch.config.job import Job
from cvbatch.errors import OutputError, RunError
from cvbatch.results import predictions
from cvbatch.storage.location import Location
from cvbatch.storage.options import StorageOptions
from tests.rigs.faults import Fault, FaultProxy
from tests.rigs.objects import ObjectServer
from tests.samples import job, photos
from tests.test_pipeline import Attempts

ROWS = 20
NO_DELETE = Fault("status", status=403, method="DELETE", times=9999)
"""As if the job had no right to."""


class Output(Attempts):
    """An output in a bucket."""

    def __init__(self, folder: Path, bucket: str, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.source = photos(folder / "photos", ROWS)
        self.uri, self.endpoint = f"s3://{bucket}/{folder.name}", endpoint
        self.place = Location.from_uri(self.uri, StorageOptions(endpoint_url=endpoint))
        super().__init__(self.place)
        monkeypatch.setenv("CVBATCH_CREATE_PAUSE", "0")

    def job(self, **storage: Any) -> Job:
        output = {"uri": self.uri, "endpoint_url": self.endpoint, **storage}
        return Job.model_validate({**job(self.source).model_dump(by_alias=True, exclude_unset=True), "output": output})

    def command(self, capsys: pytest.CaptureFixture[str], name: str, *more: str) -> tuple[int, Any]:
        code = main([name, self.uri, "--storage", f"endpoint_url={self.endpoint}", "--json", *more])
        return code, json.loads(capsys.readouterr().out or "null")


@pytest.fixture
def output(
    tmp_path: Path, out: str, as_job: ObjectServer, faults: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> Output:
    return Output(tmp_path, out, faults.endpoint, monkeypatch)


def test_run_status_verify_retry_and_read(
    output: Output, out: str, as_job: ObjectServer, capsys: pytest.CaptureFixture[str]
) -> None:
    output.next["failed"] = {7}
    assert output.run(output.job()).is_final
    assert output.command(capsys, "status")[1]["finished"] is True
    assert output.command(capsys, "verify")[0] == 0
    assert output.run(output.job(region="us-east-1")).epoch == 1, "the way to it is no part of what it is"
    assert output.retry("all").epoch == 2
    code, verdict = output.command(capsys, "verify", "--deep")
    assert (code, verdict["proven"], verdict["errors"]) == (0, True, 0)
    frame = predictions.read(output.uri, storage={"endpoint_url": output.endpoint})
    assert frame["row_id"].tolist() == list(range(ROWS))
    assert predictions.open_dataset(output.place).count_rows() == ROWS
    content = as_job.content(out, output.place.key)
    secrets = [who.secret.encode() for who in (as_job.admin, as_job.job)]
    assert not any(secret in data for data in content.values() for secret in secrets)


def test_an_interrupted_run_in_a_bucket_is_resumed(output: Output, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    output.next["after_unit"] = interrupt
    with pytest.raises(KeyboardInterrupt):
        output.run(output.job())
    assert output.command(capsys, "status")[1]["finished"] is False
    output.run(output.job())
    assert output.command(capsys, "verify")[0] == 0


def test_server_errors_and_lost_answers_neither_lose_nor_duplicate_rows(
    output: Output, faults: FaultProxy, capsys: pytest.CaptureFixture[str]
) -> None:
    storm = [Fault("status", status=503, times=3), Fault("lost", method="PUT", path="log/", times=3)]
    storm += [Fault("lost", method="PUT", path="data/", times=2), Fault("reset", method="GET", after=40, times=3)]
    with faults.doing(*storm):
        assert output.run(output.job()).is_final
        assert [fault.times for fault in storm] == [0, 0, 0, 0]
    code, verdict = output.command(capsys, "verify", "--deep")
    assert (code, verdict["strays"]) == (0, [])


def test_without_permission_to_delete_a_run_is_created_but_not_changed(output: Output, faults: FaultProxy) -> None:
    with faults.doing(NO_DELETE):
        output.next["failed"] = {7}
        assert output.run(output.job()).is_final
        assert output.run(output.job()).epoch == 1
        for change in (
            lambda: output.retry("all"),
            lambda: output.run(output.job(), refresh=True),
        ):
            with pytest.raises(OutputError, match="requires the right to delete"):
                change()
    assert output.retry("all").epoch == 2


def test_strays_that_may_not_be_deleted_are_left_to_the_operator(
    output: Output, out: str, as_job: ObjectServer, faults: FaultProxy, capsys: pytest.CaptureFixture[str]
) -> None:
    stray = f"data/e00000001-{'f' * 32}.parquet"
    with faults.doing(NO_DELETE):
        output.next["after_unit"] = lambda: as_job.put(out, {f"{output.place.key}/{stray}": b"late"})
        with pytest.raises(RunError, match=f"remove {stray} and run the same command again"):
            output.run(output.job())
        assert main(["verify", output.uri, "--storage", f"endpoint_url={output.endpoint}"]) == 1
        assert "may not" in capsys.readouterr().out
        with contextlib.closing(as_job.client()) as operator:
            operator.delete_object(Bucket=out, Key=f"{output.place.key}/{stray}")
        assert output.run(output.job()).epoch == 1
        assert output.command(capsys, "verify")[0] == 0


def test_a_service_without_conditional_create_is_refused_before_the_listing(output: Output, faults: FaultProxy) -> None:
    with (
        faults.doing(Fault("answer", method="PUT", path="created-once", times=2)),
        pytest.raises(OutputError, match="ignores If-None-Match"),
    ):
        output.run(output.job())
    assert not [request for request in faults.requests if "plan/" in request.path]
