"""Images, models and processes that fail in the cluster: each costs what it must, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.faulty import DIES, HANGS, HANGS_IN_C, RAISES, SEGFAULTS
from tests.integration.trials import Trial, failed, wait_until


@pytest.fixture
def trial(tmp_path: Path, ray_head: str) -> Trial:
    """A job on the standing head."""
    return Trial(tmp_path, ray_head)


@pytest.mark.slow
@pytest.mark.parametrize("deed", [DIES, SEGFAULTS])
def test_a_poison_image_ends_as_one_error_row(trial: Trial, deed: int) -> None:
    trial.photos(12, {5: deed})
    trial.job(compute={"unit_rows": 4})

    start = trial.run()

    assert start.code == 0, start.err
    frame = trial.proven(12)
    assert failed(frame) == {5: "ProcessDied"}
    assert frame.loc[frame["status"] == "ok", "classification_score"].notna().all()


@pytest.mark.slow
def test_a_process_that_dies_once_costs_no_row(trial: Trial) -> None:
    trial.photos(48, {17: DIES})
    trial.job(compute={"unit_rows": 16}, once=str(trial.folder / "died"))

    start = trial.run()

    assert start.code == 0, start.err
    assert (trial.folder / "died").exists()
    assert failed(trial.proven(48)) == {}


@pytest.mark.slow
def test_an_image_on_which_the_model_raises_fails_alone(trial: Trial) -> None:
    trial.photos(48, {17: RAISES, 18: RAISES})
    trial.job(compute={"unit_rows": 16})

    start = trial.run()

    assert start.code == 0, start.err
    assert failed(trial.proven(48)) == {17: "ValueError", 18: "ValueError"}


@pytest.mark.slow
def test_a_model_that_does_not_load_at_a_restart_comes_back(trial: Trial) -> None:
    trial.photos(48, {17: DIES})
    starts = trial.folder / "starts"
    # the first is the look at what the model is, the second the actor's; then it is started anew
    trial.job(
        compute={"unit_rows": 8},
        once=str(trial.folder / "died"),
        starts=str(starts),
        broken_starts=[3, 4],
    )

    start = trial.run()

    assert start.code == 0, start.err
    assert failed(trial.proven(48)) == {}
    assert len(starts.read_text().splitlines()) == 5


@pytest.mark.slow
@pytest.mark.parametrize("deed", [HANGS, HANGS_IN_C])
def test_an_image_that_hangs_ends_as_one_error_row(trial: Trial, deed: int) -> None:
    trial.photos(48, {17: deed})
    starts = trial.folder / "starts"
    trial.job(compute={"unit_rows": 16, "stalled_after": "10s"}, starts=str(starts))

    def pids() -> list[str]:
        return starts.read_text().splitlines() if starts.exists() else []

    with trial.started() as start:
        wait_until(lambda: len(pids()) >= 2, "the look at what the model is, and the first actor")
        wait_until(lambda: not Path("/proc", pids()[1]).exists(), "the actor that hangs ends")
        assert start.process.poll() is None, "before the run does, as others need its CPUs"
        start.ended()

    assert start.code == 0, start.err
    assert failed(trial.proven(48)) == {17: "TimedOut"}
    assert len(pids()) < 16, "a process for each pass, and for the images of the unit that hung"
