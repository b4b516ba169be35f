"""Arguments, and wrong arguments in one line; no test starts Ray."""

from __future__ import annotations

import argparse
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cvbatch.cli import commands
from cvbatch.cli.common import output_from_options, overrides_from_options
from cvbatch.cli.parser import argument_parser, main
from cvbatch.config.job_file import load_job
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.manifest import finish_run
from cvbatch.storage.location import Location
from cvbatch.storage.options import StorageOptions
from tests.samples import commit, photos, planned, started


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    try:
        code = main(arguments)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    return err.strip()


def parsed(name: str, *arguments: str) -> argparse.Namespace:
    """The options that a command receives."""
    options = argument_parser().parse_args([name, *arguments])
    assert options.command is getattr(commands, f"{name}_command")
    return options


def test_run_alone_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, "run")
    assert message.startswith("cvbatch: source: missing (set it with --source); models: missing")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "COMMAND"),
        (["submit", "--driver-cpus", "-1"], "argument --driver-cpus: expected a number of 0 or more, got '-1'"),
        (["submit", "--driver-cpus", "nan"], "argument --driver-cpus: expected a number of 0 or more, got 'nan'"),
        (["sing"], "invalid choice: 'sing'"),
        (["run", "--limit", "0"], "argument --limit: expected a positive whole number, got '0'"),
        (["run", "--limit", "²"], "argument --limit: expected a positive whole number, got '²'"),
        (["run", "--speed", "9"], "unrecognized arguments: --speed"),
        (["run", "nowhere.yaml"], "cannot read the job file nowhere.yaml: No such file or directory"),
        (["run", "--set", "compute.device"], "expected KEY=VALUE"),
        (["status"], "the following arguments are required: OUTPUT"),
        (["models", "poetry"], "argument task: invalid choice: 'poetry'"),
        (["run", "--task", "poetry"], "argument --task: invalid choice: 'poetry'"),
        (["run", "--wait", "--takeover"], "argument --takeover: not allowed with argument --wait"),
        (["status", "out", "--watch", "--json"], "argument --json: not allowed with argument --watch"),
        (["retry"], "the following arguments are required: OUTPUT"),
        (["retry", "out", "--errors", "some"], "argument --errors: invalid choice: 'some'"),
        (["retry", "out", "--update"], "unrecognized arguments: --update"),
        (["duplicates", "out", "--treshold", "0.9"], "(did you mean --threshold?); see cvbatch duplicates --help"),
    ],
)
def test_wrong_arguments(capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str) -> None:
    assert expected in refused(capsys, *arguments)


@pytest.mark.parametrize("given", [["--watch"], ["--storage", "region=eu-central-1"]], ids=" ".join)
def test_a_cluster_is_asked_for_a_status_once(capsys: pytest.CaptureFixture[str], given: list[str]) -> None:
    message = refused(capsys, "status", "out", "--address", "http://127.0.0.1:1", *given)
    assert message.startswith("cvbatch: --address asks the cluster once")


def test_an_interruption_is_one_line() -> None:
    """Ctrl-C while a cluster does not answer."""
    with socket.create_server(("127.0.0.1", 0)) as cluster:
        address = f"http://127.0.0.1:{cluster.getsockname()[1]}"
        command = [sys.executable, "-m", "cvbatch", "stop", "out", "--address", address]
        waiting = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        with waiting, cluster.accept()[0]:
            waiting.send_signal(signal.SIGINT)
            said = waiting.communicate()
    assert (waiting.returncode, *said) == (1, "", "cvbatch: stopped\n")


@pytest.mark.parametrize("job", [[], ["job.yaml"]])
def test_storage_is_refused_without_a_job_file_in_a_bucket(capsys: pytest.CaptureFixture[str], job: list[str]) -> None:
    message = refused(capsys, "run", *job, "--storage", "region=x")
    assert message == (
        "cvbatch: --storage: expected only with a job file in a bucket; for what the job names use --set"
    )


@pytest.mark.parametrize("command", ["status", "verify", "retry"])
def test_options_of_storage_that_are_wrong(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert "expected one of endpoint_url, region" in refused(capsys, command, "s3://box/o", "--storage", "secret=x")
    assert "hush" not in refused(capsys, command, "s3://key:hush@b/o")


@pytest.mark.parametrize("command", ["status", "verify", "retry"])
def test_an_output_without_a_run(capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str) -> None:
    assert "holds no run; expected the output of cvbatch run" in refused(capsys, command, str(tmp_path))
    assert "absent does not exist; expected the output" in refused(capsys, command, str(tmp_path / "absent"))
    (tmp_path / "file").touch()
    assert "holds no run" in refused(capsys, command, str(tmp_path / "file"))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("--source", "nowhere"), "nowhere: no such file or folder; check --source or source.uri"),
        (("--source", "ftp://bucket"), "source ftp://… cannot be read"),
        (("--output", "https://example.org/x"), "output: https://… is not known: expected a local path, s3://"),
        (("--output", "s3://key:hush@bucket/x"), "output: s3://…: expected s3://bucket/key without credentials"),
        (("--set", "output.endpoint=http://host"), "output.endpoint: unknown key; did you mean 'endpoint_url'?"),
        (("--model", "resnet5"), "resnet50"),
        (
            ("--set", "compute.precision=fp23"),
            "compute.precision: expected 'auto', 'fp32', 'bf16' or 'fp16', got 'fp23'",
        ),
        (("--set", "compute.stop_after=soon"), "compute.stop_after: expected a duration such as 8h, 90m or 1h 30m"),
        (("--set", "compute.max_cost=5"), "compute: max_cost needs price_per_node_hour"),
    ],
)
def test_wrong_requests(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: tuple[str, str],
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    photos(tmp_path / "photos", 2)
    options = {"--source": "photos", "--model": "efficientnet_lite0", "--output": "out", change[0]: change[1]}
    arguments = [part for pair in options.items() for part in pair]
    assert expected in refused(capsys, "run", *arguments)
    assert not (tmp_path / "out").exists()


def test_options_of_run() -> None:
    line = (
        "job.yaml --source s --model a --model b --output o --limit 5 --set x.y=1 --set z=2 --strict --json --retries 2"
    )
    options = parsed("run", *line.split())
    assert (options.job, options.model, options.limit) == ("job.yaml", ["a", "b"], 5)
    assert (options.set, options.strict, options.json, options.retries) == (["x.y=1", "z=2"], True, True, 2)
    job = load_job(defaults=overrides_from_options(options))
    assert (job.source.uri, job.source.limit, job.output.uri) == ("s", 5, "o")
    assert [model.model for model in job.models] == ["a", "b"]


@pytest.mark.parametrize(
    ("words", "models"),
    [
        ("--task detection", [("nanodet_g", "detection")]),
        ("--task embedding --task detection", [("efficientnet_lite0", "embedding"), ("nanodet_g", "detection")]),
        ("--task detection --model efficientnet_lite0", [("efficientnet_lite0", "detection")]),
        ("--model a --task embedding --task classification", [("a", "embedding"), ("a", "classification")]),
    ],
)
def test_tasks_with_and_without_a_model(words: str, models: list[tuple[str, str]]) -> None:
    options = parsed("run", "--source", "s", "--output", "o", *words.split())
    job = load_job(defaults=overrides_from_options(options))
    assert [(model.model, model.task) for model in job.models] == models


def test_a_job_file_says_which_models_do_which_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, "run", "job.yaml", "--task", "detection")
    assert message == (
        "cvbatch: --task: job.yaml says which models do which tasks: add --model NAME, or change the task of one with "
        "--set models.0.task=detection"
    )


def test_a_run_that_is_not_finished_cannot_be_retried(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    store, plan = planned(tmp_path, 4)
    commit(started(store, plan.rows), 0, 2, failed=[1])
    message = refused(capsys, "retry", store.root, "--errors", "all")
    assert message == f"cvbatch: {store.root} is not finished: expected a finished run; continue it with cvbatch run"


def test_a_retry_without_anything_to_do_returns_at_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    store, plan = planned(tmp_path, 4)
    log = started(store, plan.rows)
    commit(log, 0, 4, failed=[1])
    finish_run(log)
    assert main(["retry", store.root, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["rows"], answer["errors"], answer["finished"]) == (4, {"TruncatedImage": 1}, True)
    assert main(["retry", store.root, "--errors", "transient", "--strict"]) == 3
    assert CommitLog(store, plan.rows).state.epoch == 1


def test_watching_ends_when_the_run_is_finished(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, plan = planned(tmp_path, 4)
    log = started(store, plan.rows)
    commit(log, 0, 2)

    def go_on() -> None:
        commit(log, 2, 4)
        finish_run(log)

    monkeypatch.setenv("CVBATCH_HEARTBEAT_SECONDS", "0.05")
    working = threading.Timer(0.5, go_on)
    working.start()
    assert main(["status", store.root, "--watch"]) == 0
    working.join()
    assert "4 of 4, 0 to go" in capsys.readouterr().out


def test_missing_options_override_nothing() -> None:
    assert overrides_from_options(parsed("run", "job.yaml")) == {}


def test_options_of_other_commands() -> None:
    assert parsed("status", "out").output == "out"
    assert parsed("verify", "out", "--deep").deep is True
    assert parsed("status", "out", "--watch").watch is True
    for name in ("status", "verify", "retry"):
        given = parsed(name, "s3://box/o", "--storage", "region=x", "--storage", "anonymous=true")
        assert output_from_options(given) == Location("s3://box/o", StorageOptions(region="x", anonymous=True))
    assert parsed("models").task is None
    assert parsed("models", "detection", "--json").task == "detection"
    shared = overrides_from_options(parsed("plan", "job.yaml", "--shared-filesystem"))
    assert shared == {"compute": {"shared_filesystem": True}}
    assert parsed("demo").output == "cvbatch-demo"


def test_options_of_retry() -> None:
    options = parsed("retry", "out")
    assert (options.output, options.errors, options.takeover, options.strict, options.json) == (
        "out",
        "transient",
        False,
        False,
        False,
    )
    options = parsed("retry", "out", "--errors", "all", "--takeover", "--strict", "--json")
    assert (options.errors, options.takeover, options.strict, options.json) == ("all", True, True, True)


@pytest.mark.parametrize("given", ["update", "wait", "takeover"])
def test_options_for_a_run_that_another_process_may_hold(given: str) -> None:
    options = parsed("run", f"--{given}")
    assert {name: getattr(options, name) for name in ("update", "wait", "takeover")} == {
        name: name == given for name in ("update", "wait", "takeover")
    }


def test_help_explains_every_command_and_option(capsys: pytest.CaptureFixture[str]) -> None:
    subparsers = next(action for action in argument_parser()._actions if isinstance(action.choices, dict))
    assert isinstance(subparsers.choices, dict)
    unexplained = [
        (name, action.dest)
        for name, parser in subparsers.choices.items()
        for action in parser._actions
        if not action.help
    ]
    assert unexplained == []
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    for name, parser in subparsers.choices.items():
        assert parser.description.endswith(".")
        assert re.search(rf"^    {name}\s", shown, re.M), name


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, expected in ((["--help"], "COMMAND"), (["run", "--help"], "JOB.yaml"), (["--version"], "cvbatch ")):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 0
        assert expected in capsys.readouterr().out


def test_errors_at_the_end_of_python_do_not_change_the_exit_code() -> None:
    code = "import atexit, os; atexit.register(os.abort); from cvbatch.__main__ import run; run()"
    command = [sys.executable, "-c", code, "models", "detection", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert all("detection" in model["tasks"] for model in json.loads(done.stdout))
