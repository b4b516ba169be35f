"""Stages of `pipeline.run` and `retry`, with an engine that needs no Ray."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Literal

import pytest

from cvbatch.config.job import Job
from cvbatch.errors import JobError, OutputError, RunError, SourceError
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.lease import Heartbeat, describe_process
from cvbatch.output.log_records import RunState
from cvbatch.output.manifest import SUCCESS_FILE
from cvbatch.output.store import LocalStore
from cvbatch.pipeline import retry, run
from cvbatch.planning.plan import load_plan, make_plan
from cvbatch.results import predictions
from cvbatch.results.verify import verify_output
from cvbatch.sources import open_source
from cvbatch.storage.location import Location
from tests.engines import FakeEngine
from tests.samples import job, photos, spec

ROWS: Final = 20


class Seen:
    """An observer that records calls."""

    def __init__(self) -> None:
        self.planned_rows: list[int] = []
        self.commits = 0

    def on_phase(self, description: str) -> None:
        pass

    def on_planned(self, state: RunState) -> None:
        self.planned_rows.append(state.planned)

    def on_committed(self, state: RunState) -> None:
        self.commits += 1


class Attempts:
    """Attempts at one output, each with an engine of its own that needs no Ray."""

    def __init__(self, output: Location | str) -> None:
        self._output = output
        self.engines: list[FakeEngine] = []
        self.next: dict[str, Any] = {}
        """Attributes of the next engine."""

    @contextlib.contextmanager
    def start_engine(self, output: Location, *_: object) -> Iterator[FakeEngine]:
        self.engines.append(engine := FakeEngine(output, unit_rows=4))
        engine.change(self.next)
        self.next = {}
        yield engine

    def run(self, job: Job, observer: Seen | None = None, **options: Any) -> RunState:
        return run(job, observer or Seen(), start_engine=self.start_engine, **options)

    def retry(self, errors: Literal["transient", "all"], **options: Any) -> RunState:
        return retry(self._output, errors, Seen(), start_engine=self.start_engine, **options)


class Output(Attempts):
    """An output on a disk."""

    def __init__(self, folder: Path) -> None:
        self.source = photos(folder / "photos", ROWS)
        self.store = LocalStore(str(folder / "out"))
        super().__init__(self.store.root)

    def job(self, **parts: Any) -> Job:
        return job(self.source, self.store.root, **parts)

    @property
    def log(self) -> CommitLog:
        plan = load_plan(self.store)
        assert plan is not None
        return CommitLog(self.store, plan.rows, whole=True)

    @property
    def proven(self) -> bool:
        return verify_output(self.store, self.log, deep=True).is_proven

    def labelled_by(self, epoch: int) -> list[int]:
        frame = predictions.read(self.store.root)
        return frame.loc[frame["classification_label"] == f"epoch {epoch}", "row_id"].tolist()


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output(tmp_path)


def interrupt() -> None:
    raise KeyboardInterrupt


def test_a_finished_run_starts_no_engine(output: Output) -> None:
    seen = Seen()
    state = output.run(output.job(), seen)
    assert (state.is_final, state.planned, seen.planned_rows, seen.commits) == (True, ROWS, [ROWS], 6)
    assert output.proven
    assert output.run(output.job()).epoch == 1
    assert len(output.engines) == 1, "a finished run needs no engine"


@pytest.mark.parametrize("command", ["run", "retry"])
@pytest.mark.parametrize("variable", ["CVBATCH_HEARTBEAT_SECONDS", "CVBATCH_HTTP_PAUSE", "CVBATCH_STORAGE_TRIES"])
def test_an_invalid_number_in_the_environment_is_refused_before_anything_is_started(
    output: Output, monkeypatch: pytest.MonkeyPatch, variable: str, command: str
) -> None:
    monkeypatch.setenv(variable, "1s")
    with pytest.raises(JobError, match=f"{variable}: expected .* got '1s'"):
        output.run(output.job()) if command == "run" else output.retry("all")
    assert output.engines == []
    assert not Path(output.store.root).exists()


@pytest.mark.parametrize("command", ["run", "retry"])
def test_an_incomplete_finish_is_completed_without_a_new_epoch(output: Output, command: str) -> None:
    output.run(output.job())
    stray = f"data/e00000001-{'f' * 32}.parquet"
    output.store.create_object(stray, b"late")
    output.store.delete_object(SUCCESS_FILE)
    state = output.run(output.job()) if command == "run" else output.retry("all")
    assert (state.epoch, len(output.engines)) == (1, 1)
    assert output.proven


def test_an_interrupted_run_is_resumed(output: Output) -> None:
    output.next["after_unit"] = lambda: interrupt() if len(output.log.state.accepted) else None
    with pytest.raises(KeyboardInterrupt):
        output.run(output.job())
    first = output.labelled_by(1)
    assert 0 < len(first) < ROWS
    assert not output.store.local_path(SUCCESS_FILE).exists()
    output.run(output.job())
    assert sorted([*first, *output.engines[1].computed]) == list(range(ROWS))
    assert output.proven


def test_a_run_that_was_stopped_by_its_budget_is_resumed(output: Output) -> None:
    def stop() -> None:
        output.engines[0].over = True

    output.next["after_unit"] = stop
    with pytest.raises(RunError, match=r"stopped by compute\.stop_after"):
        output.run(output.job())
    assert len(output.log.state.accepted) > 0
    output.run(output.job())
    assert output.proven


def test_an_update_labels_new_and_changed_images(output: Output) -> None:
    output.run(output.job())
    (output.source / "0003.jpg").write_bytes(b"changed")
    (output.source / "new.jpg").write_bytes(b"new")
    (output.source / "0005.jpg").unlink()
    state = output.run(output.job(), refresh=True)
    assert sorted(output.engines[1].computed) == [3, ROWS]
    assert (state.planned, list(state.removed)) == (ROWS + 1, [(5, 6)])
    assert output.labelled_by(2) == [3, ROWS]
    assert output.proven


def test_an_interrupted_update_is_resumed_without_the_option(output: Output) -> None:
    output.run(output.job())
    (output.source / "0003.jpg").write_bytes(b"changed")
    output.next["after_unit"] = interrupt
    with pytest.raises(KeyboardInterrupt):
        output.run(output.job(), refresh=True)
    assert output.labelled_by(1) == list(range(ROWS)), "the old rows stay until then"
    output.run(output.job())
    assert output.labelled_by(3) == [3]
    assert output.proven


def test_an_update_of_an_empty_source_changes_nothing(output: Output) -> None:
    output.run(output.job())
    for path in output.source.iterdir():
        path.unlink()
    with pytest.raises(SourceError, match="holds no images any more"):
        output.run(output.job(), refresh=True)
    assert output.proven
    assert output.log.state.epoch == 1


def test_an_update_of_a_manifest_with_other_columns_changes_nothing(output: Output, tmp_path: Path) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_text("uri,plate\na,1\n")
    asked = job(manifest, output.store.root)
    output.run(asked)
    manifest.write_text("uri,colour\na,red\n")
    with pytest.raises(SourceError, match="columns of the manifest have changed"):
        output.run(asked, refresh=True)
    assert output.proven


def test_a_raised_limit_and_an_update_at_once(output: Output) -> None:
    output.run(output.job(source={"limit": 5}))
    (output.source / "0002.jpg").write_bytes(b"changed")
    state = output.run(output.job(source={"limit": 8}), refresh=True)
    assert (state.planned, sorted(output.engines[1].computed)) == (8, [2, 5, 6, 7])
    assert output.proven


def failed_run(output: Output, *failed: int) -> None:
    output.next["failed"] = set(failed)
    output.run(output.job())


def test_a_retry_computes_failed_rows(output: Output) -> None:
    failed_run(output, 3, 7, 11)
    output.next["failed"] = {7}
    state = output.retry("all")
    assert sorted(output.engines[1].computed) == [3, 7, 11]
    assert output.labelled_by(2) == [3, 11]
    assert +state.errors == {"TruncatedImage": 1}
    assert output.proven


@pytest.mark.parametrize(
    "models",
    [
        [{"model": "efficientnet_lite0"}, {"model": "efficientnet_lite0", "task": "embedding", "normalize": True}],
        [{"model": "ssdlite320_mobilenet_v3_large", "weights": None, "score_threshold": 0.3, "as": "boxes"}],
        [{"model": "resnet18", "weights": None, "seed": 7, "top_k": 2}],
    ],
    ids=lambda models: models[0]["model"],
)
def test_a_retry_uses_the_model_options_of_the_run(output: Output, models: list[dict[str, Any]]) -> None:
    output.next["failed"] = {3}
    output.run(output.job(models=models))
    assert output.retry("all").errors.total() == 0
    assert output.engines[1].computed == [3]
    assert output.proven


def test_a_retry_without_failed_rows_starts_no_engine(output: Output) -> None:
    failed_run(output, 3)
    state = output.retry("transient")
    assert (state.epoch, len(output.engines)) == (1, 1)
    assert output.proven


def test_a_retry_of_a_run_that_is_not_finished_is_refused(output: Output) -> None:
    output.next["after_unit"] = interrupt
    with pytest.raises(KeyboardInterrupt):
        output.run(output.job())
    with pytest.raises(OutputError, match=r"is not finished: .*; continue it with cvbatch run"):
        output.retry("all")
    assert output.log.state.epoch == 1


def test_an_interrupted_retry_is_repeated(output: Output) -> None:
    failed_run(output, 3, 7, 11)
    output.next["after_unit"] = interrupt
    with pytest.raises(KeyboardInterrupt):
        output.retry("all")
    output.retry("all")
    assert output.labelled_by(3) == [3, 7, 11]
    assert output.proven


def test_either_command_finishes_a_run_that_a_stopped_retry_opened(output: Output) -> None:
    failed_run(output, 3)
    output.log.open_epoch()
    assert output.retry("transient").is_final
    assert output.proven
    output.log.open_epoch()
    assert output.run(output.job()).is_final
    assert output.proven


def test_a_retry_in_which_all_images_fail_again_finishes(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVBATCH_ERROR_SHARE_ROWS", "2")
    output.next["failed"] = {3, 7, 11}
    with pytest.raises(RunError, match="max_error_share"):
        output.run(output.job(compute={"max_error_share": 0.0}))
    output.next["failed"] = {3, 7, 11}
    output.run(output.job(compute={"max_error_share": 1.0}))
    output.next["failed"] = {3, 7, 11}
    state = output.retry("all")
    assert +state.errors == {"TruncatedImage": 3}
    assert output.proven


@pytest.mark.parametrize("command", ["run", "retry"])
def test_other_weights_are_refused_before_anything_is_changed(output: Output, command: str) -> None:
    failed_run(output, 3)
    output.next["probe_models"] = lambda models, _: [spec(weights_sha256="other")]
    start = {
        "run": lambda: output.run(output.job(), refresh=True),
        "retry": lambda: output.retry("all"),
    }[command]
    with pytest.raises(OutputError, match=r"belongs to another run: classification\.weights_sha256"):
        start()
    assert output.log.state.epoch == 1
    assert output.proven


def test_another_job_is_refused_before_anything_is_started(output: Output) -> None:
    output.run(output.job())
    with pytest.raises(OutputError, match="belongs to another run: models"):
        output.run(output.job(models=[{"model": "python:m:other"}]), refresh=True)
    assert (len(output.engines), output.log.state.epoch) == (1, 1)


def held_elsewhere(output: Output) -> Heartbeat:
    """An attempt on another machine, with a heartbeat."""
    log = output.log
    log.open_epoch({**describe_process(), "host": "elsewhere"})
    return Heartbeat(output.store, log.state)


def test_the_later_of_two_simultaneous_attempts_is_refused(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    def probe(models: Any, _: Any) -> list[Any]:
        """Another attempt creates the plan and opens the log meanwhile."""
        asked = output.job()
        make_plan(output.store, asked, [spec()], open_source(asked.source))
        elsewhere.enter_context(held_elsewhere(output))
        return [spec()]

    output.next["probe_models"] = probe
    monkeypatch.setenv("CVBATCH_HEARTBEAT_SECONDS", "0.05")
    with ExitStack() as elsewhere, pytest.raises(OutputError, match="on elsewhere is working on it"):
        output.run(output.job())
    assert output.log.state.epoch == 1


@pytest.mark.parametrize("command", ["run", "retry"])
def test_a_run_with_a_live_holder_is_refused(output: Output, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    failed_run(output, 3)
    monkeypatch.setenv("CVBATCH_HEARTBEAT_SECONDS", "0.05")

    def start(**options: Any) -> RunState:
        if command == "run":
            return output.run(output.job(), **options)
        return output.retry("all", **options)

    with held_elsewhere(output):
        with pytest.raises(OutputError, match=rf"process {os.getpid()} on elsewhere is working on it"):
            start()
        assert len(output.engines) == 1, "nothing was started"
        assert start(takeover=True).is_final
    assert output.proven
