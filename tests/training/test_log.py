from __future__ import annotations

from pathlib import Path

import pytest

from cvbatch.errors import FencedError
from cvbatch.output.store import LocalStore
from cvbatch.training.log import Position, TrainingLog


def test_records_add_up_to_the_state(tmp_path: Path) -> None:
    log = TrainingLog(LocalStore(str(tmp_path)))
    attempt = log.open_attempt()
    best = {"epoch": 1, "metric": 0.5, "weights": "w"}
    log.append_record(attempt, "checkpoint", position=[1, 0], file="c1", best=best, history=[{"epoch": 1}])
    log.append_record(attempt, "checkpoint", position=[1, 7], file="c2", best=best, history=[])
    state = TrainingLog(log.store).state
    assert (state.position, state.checkpoint, state.best, state.is_final) == (Position(1, 7), "c2", best, False)
    assert state.files == {"c2", "w"}
    log.append_record(attempt, "final")
    assert TrainingLog(log.store).state.is_final


def test_a_worker_of_an_earlier_attempt_cannot_write(tmp_path: Path) -> None:
    old = TrainingLog(LocalStore(str(tmp_path)))
    first = old.open_attempt()
    new = TrainingLog(LocalStore(str(tmp_path)))
    assert new.open_attempt() == first + 1
    with pytest.raises(FencedError, match="attempt 2 has taken the training over"):
        old.append_record(first, "checkpoint", position=[9, 9], file="late", best=None, history=[])
    assert TrainingLog(old.store).state.checkpoint is None
