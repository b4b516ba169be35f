"""Drivers that are killed, stopped or doubled: every row is there once, and nothing is done twice for nothing."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.integration.faulty import RAISES
from tests.integration.trials import Trial, failed, one_line, send


@pytest.fixture
def trial(tmp_path: Path, ray_head: str) -> Trial:
    """A job on the standing head."""
    return Trial(tmp_path, ray_head)


def kill_and_go_on(trial: Trial, kills: int, rows: int, seed: int) -> None:
    """Kill the driver at random moments until it has had so many chances; then let it come to its end."""
    draw = random.Random(seed)
    bad = draw.sample(range(rows), 3)
    trial.photos(rows, dict.fromkeys(bad, RAISES))
    diary = trial.folder / "diary"
    trial.job(compute={"unit_rows": 8}, seconds=0.02, diary=str(diary))
    for _ in range(kills):
        with trial.started() as start:
            with contextlib.suppress(subprocess.TimeoutExpired):
                start.process.wait(draw.uniform(4.0, 12.0))
            start.kill()
    start = trial.run(patience=60 + 0.2 * rows)
    assert start.code == 0, start.err
    assert failed(trial.proven(rows)) == dict.fromkeys(sorted(bad), "ValueError")
    # a row that was committed is never looked at again: each look comes before the end of its commit
    committed = {
        row: record["time"]
        for record in trial.records("commit")
        for file in record["files"]
        for low, high in file["ranges"]
        for row in range(low, high)
    }
    opened = [record["time"] for record in trial.records("open")]
    for line in diary.read_text().splitlines():
        moment, number = float(line.split()[0]), int(line.split()[1])
        later_starts = [at for at in opened if committed[number] < at < moment]
        assert not later_starts, f"row {number} was computed again by a start that knew of it"


@pytest.mark.slow
def test_a_driver_that_is_killed_again_and_again(trial: Trial) -> None:
    kill_and_go_on(trial, kills=3, rows=400, seed=1)


@pytest.mark.slow
def test_twenty_kills(trial: Trial) -> None:
    kill_and_go_on(trial, kills=20, rows=3_000, seed=2)


@pytest.mark.soak
def test_a_hundred_kills(trial: Trial) -> None:
    kill_and_go_on(trial, kills=100, rows=12_000, seed=3)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("--takeover",), ()])
def test_a_driver_that_slept_through_its_replacement_commits_nothing_more(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    trial = Trial(tmp_path, None)  # on one head the sleeping one would keep its share of the CPUs
    trial.photos(300)
    trial.job(compute={"unit_rows": 8}, seconds=0.03)
    with trial.started() as old:
        trial.wait_for_commits(1)
        send(old, signal.SIGSTOP)
        new = trial.run(*arguments)
        assert new.code == 0, new.err
        trial.proven(300)
        send(old, signal.SIGCONT)
        assert old.code == 1
        assert "another attempt has taken over" in one_line(old)
    trial.proven(300)
    kinds = [(record["type"], record["epoch"]) for record in trial.records()]
    assert [epoch for _, epoch in kinds] == sorted(epoch for _, epoch in kinds)
    assert Counter(kind for kind, _ in kinds)["open"] == 2


@pytest.mark.slow
def test_of_two_starts_one_works_and_the_other_says_who(trial: Trial) -> None:
    trial.photos(200)
    trial.job(compute={"unit_rows": 8}, seconds=0.03)
    with trial.started() as first:
        trial.wait_for_commits(1)
        second = trial.run()
        assert second.code == 2
        assert f"process {first.process.pid} on" in one_line(second)
        assert first.code == 0, first.err
    trial.proven(200)


@pytest.mark.slow
def test_a_start_may_wait_for_the_other(trial: Trial) -> None:
    trial.photos(200)
    trial.job(compute={"unit_rows": 8}, seconds=0.03)
    with trial.started() as first:
        trial.wait_for_commits(1)
        second = trial.run("--wait")
        assert (first.code, second.code) == (0, 0), second.err
        assert second.json["rows_this_start"] in (0, 200)
    trial.proven(200)
    assert len(trial.records("open")) == 1
