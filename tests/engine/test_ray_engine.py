"""The engine on a real Ray: processes that die or hang, lost nodes, and an attempt out of time."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray
from ray.cluster_utils import Cluster

from cvbatch.config.job_file import load_job
from cvbatch.engine.ray_engine import RayEngine
from cvbatch.engine.starting_ray import start_ray
from cvbatch.errors import ChangedModelError, RunError
from cvbatch.models.resolve import resolve_models
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.data_files import WriteResult, read_data_file
from cvbatch.output.store import open_store
from cvbatch.planning.plan import Plan, all_plan_parts, make_plan
from cvbatch.planning.units import RowUnit, cut_into_units
from cvbatch.runs.passes import compute_missing_rows
from cvbatch.sources import open_source
from tests.integration.faulty import DIES, HANGS
from tests.integration.trials import Trial


class Attempt:
    """A plan with some harmful images, an open log, and a prepared engine."""

    def __init__(self, trial: Trial, plan: Plan, log: CommitLog, engine: RayEngine) -> None:
        self.trial, self.plan, self.log, self.engine = trial, plan, log, engine

    def units(self, rows: int) -> list[RowUnit]:
        """All rows in units of `rows`."""
        return list(
            cut_into_units(self.log.store, all_plan_parts(self.plan, self.log.state), [(0, self.plan.rows)], rows)
        )

    def missing(self) -> list[tuple[int, int]]:
        """Rows that are not committed."""
        return self.log.state.accepted.missing_ranges(self.log.state.planned)

    def run_units(self, units: Sequence[RowUnit], *, max_lost_units: int = 10) -> dict[int, str | None]:
        """Return the `outcome` of one wave."""
        return self.outcome(self.engine.run_units(units, self.log.epoch, max_lost_units=max_lost_units))

    def run_isolated(self, rows: int = 1) -> dict[int, str | None]:
        """Return the `outcome` of isolated images."""
        return self.outcome(self.engine.run_isolated(self.units(rows), self.log.epoch))

    def outcome(
        self, written: Iterable[list[WriteResult]], after_commit: Callable[[], object] = lambda: None
    ) -> dict[int, Any]:
        """Commit the files and call `after_commit` each time; return the error type of each row, or None."""
        for results in written:
            self.log.commit_files(file for result in results for file in result.files)
            after_commit()
        tables = [read_data_file(self.log.store, file) for file in self.log.state.files.values()]
        table = pa.concat_tables(tables) if tables else pa.table({"row_id": [], "error_type": []})
        return dict(sorted(zip(table["row_id"].to_pylist(), table["error_type"].to_pylist(), strict=True)))


pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray's own code


Prepare = Callable[..., Attempt]


@pytest.fixture
def prepare(tmp_path: Path, ray_head: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Prepare]:
    """Prepare an attempt on the running head; `deeds` maps an image to its fault."""
    with contextlib.ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(
            prepared(tmp_path, ray_head, monkeypatch, *arguments, **options)
        )


@contextlib.contextmanager
def prepared(
    folder: Path,
    address: str,
    monkeypatch: pytest.MonkeyPatch,
    rows: int,
    deeds: Mapping[int, int] = {},
    compute: Mapping[str, Any] = {},
    **options: Any,
) -> Iterator[Attempt]:
    ray.shutdown()  # other tests of this process may have attached it
    monkeypatch.setenv("RAY_ADDRESS", address)
    trial = Trial(folder, address)
    trial.photos(rows, deeds)
    trial.job(source=str(folder / "photos"), compute={"num_actors": 1, **compute}, **options)
    job, place = load_job(str(folder / "job.yaml")), str(folder)
    models, store = resolve_models(job.models, folder=place), open_store(job.output.location)
    with start_ray(job.output.location, models, job.compute, place) as starting:
        models = starting.probe_models(models, job.compute)
        store.check_writable()
        plan = make_plan(store, job, models, open_source(job.source), pythonpath=place)
        log = CommitLog(store, plan.rows)
        engine = starting.prepare_engine(models, plan, log.state, job, rows=rows)
        log.open_epoch()
        yield Attempt(trial, plan, log, engine)


def test_an_image_that_kills_its_process_is_isolated_and_becomes_one_error_row(prepare: Prepare) -> None:
    attempt = prepare(12, {5: DIES}, {"unit_rows": 8})
    outcome = attempt.outcome(compute_missing_rows(attempt.engine, attempt.log, attempt.plan, attempt.missing))
    assert outcome == {row: "ProcessDied" if row == 5 else None for row in range(12)}


def test_a_killed_process_loses_no_rows(prepare: Prepare, tmp_path: Path) -> None:
    starts, hurry = tmp_path / "starts", tmp_path / "hurry"
    attempt = prepare(24, starts=str(starts), hurry=str(hurry), seconds=0.5)
    killed = list[int]()

    def kill() -> None:
        if not killed:
            killed.append(int(starts.read_text().split()[-1]))
            os.kill(killed[0], signal.SIGKILL)
            hurry.touch()

    wave = attempt.engine.run_units(attempt.units(4), attempt.log.epoch, max_lost_units=0)
    assert attempt.outcome(wave, kill) == dict.fromkeys(range(24))
    assert int(starts.read_text().split()[-1]) != killed[0]


def test_too_many_lost_units_stop_the_run(prepare: Prepare) -> None:
    attempt = prepare(4, dict.fromkeys(range(4), DIES))
    with pytest.raises(RunError, match=r"the run stopped: .*; run the same command to resume"):
        attempt.run_units(attempt.units(1), max_lost_units=1)


def test_lost_units_within_the_limit_are_missing(prepare: Prepare) -> None:
    attempt = prepare(6, {3: DIES})
    found = attempt.run_units(attempt.units(2))
    assert not {2, 3} & found.keys()  # the process worked on another unit, too, which may be lost with it
    assert not any(found.values())
    assert not attempt.engine.has_stalled


def test_a_wave_that_stalls_is_given_up(prepare: Prepare) -> None:
    attempt = prepare(4, {2: HANGS}, {"stalled_after": "3s"})
    found = attempt.run_units(attempt.units(1))
    assert attempt.engine.has_stalled
    assert 2 not in found
    assert not attempt.engine.rebalance(), "the cluster is as it was"


def test_an_attempt_out_of_time_ends_the_wave_after_its_first_result(prepare: Prepare) -> None:
    attempt = prepare(60, compute={"stop_after": "0.1s"}, seconds=0.2)
    outcome = attempt.run_units(attempt.units(2))
    assert attempt.engine.time_is_up
    assert 0 < len(outcome) < 60


@pytest.mark.slow
def test_an_isolated_image_that_kills_its_process_is_an_error_row(prepare: Prepare) -> None:
    attempt = prepare(2, {0: DIES})
    assert attempt.run_isolated() == {0: "ProcessDied", 1: None}


def test_an_isolated_image_that_hangs_is_an_error_row(prepare: Prepare) -> None:
    attempt = prepare(1, {0: HANGS}, {"stalled_after": "1s"})
    assert attempt.run_isolated() == {0: "TimedOut"}


def test_no_more_images_are_isolated_once_time_is_up(prepare: Prepare) -> None:
    attempt = prepare(20, compute={"stop_after": "0.1s"})
    assert len(attempt.run_isolated()) == 1


def test_a_cvbatch_error_that_ray_only_logs_stops_the_run(prepare: Prepare, tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    attempt = prepare(60, starts=str(starts), seconds=0.2)

    def edit_and_kill() -> None:
        if len(attempt.log.state.files) == 1:
            with (tmp_path / "faulty.py").open("a") as source:
                source.write("# edited\n")
            os.kill(int(starts.read_text().split()[-1]), signal.SIGKILL)

    wave = attempt.engine.run_units(attempt.units(4), attempt.log.epoch, max_lost_units=20)
    with pytest.raises(ChangedModelError, match=r"faulty\.py in .* has changed since this run started") as caught:
        attempt.outcome(wave, edit_and_kill)
    assert "\n" not in str(caught.value), "nothing of Ray's advice about itself"


@pytest.mark.slow
def test_other_nodes_compute_the_units_of_a_lost_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVBATCH_CLUSTER_LOOK_SECONDS", "0.2")
    monkeypatch.setenv("CVBATCH_CLUSTER_SETTLED_SECONDS", "1")
    ray.shutdown()  # other tests of this process may have attached it
    hurry, nodes = tmp_path / "hurry", Cluster()
    _, second = (nodes.add_node(num_cpus=2, object_store_memory=100_000_000, include_dashboard=False) for _ in range(2))
    with contextlib.ExitStack() as stack:
        stack.callback(nodes.shutdown)
        attempt = stack.enter_context(
            prepared(
                tmp_path, nodes.address, monkeypatch, 100, compute={"num_actors": 2}, seconds=0.3, hurry=str(hurry)
            )
        )
        engine = attempt.engine

        def lose_a_node() -> None:
            if len(nodes.list_all_nodes()) == 2:
                nodes.remove_node(second, allow_graceful=False)

        units = attempt.units(4)
        outcome = attempt.outcome(engine.run_units(units, attempt.log.epoch, max_lost_units=len(units)), lose_a_node)
        assert 0 < len(outcome) < 100, "the wave ends early"
        assert engine.rebalance(), "what is left is to be cut anew"
        assert len(engine.nodes()) == 1
        assert engine.cluster.cpus == 2
        remaining_units = list(
            cut_into_units(attempt.log.store, all_plan_parts(attempt.plan, attempt.log.state), attempt.missing(), 4)
        )
        hurry.touch()
        assert attempt.run_units(remaining_units) == dict.fromkeys(range(100))
