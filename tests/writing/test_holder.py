"""A living holder is told from a dead one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cvbatch.errors import OutputError
from cvbatch.writing.holder import describe, holder_lives, refuse_if_held, this_process
from cvbatch.writing.log import Log
from cvbatch.writing.records import State
from cvbatch.writing.store import LocalStore

CHILD = """
import json, sys
from cvbatch.writing.holder import this_process
print(json.dumps(this_process()), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def child() -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())


def held_by(holder: dict[str, Any], tmp_path: Path) -> State:
    log = Log(LocalStore(str(tmp_path)), 1)
    log.open(holder)
    return log.state


def test_a_living_process_and_a_dead_one(child: tuple[subprocess.Popen[str], dict[str, Any]], tmp_path: Path) -> None:
    process, holder = child
    state = held_by(holder, tmp_path)
    assert holder_lives(state)
    with pytest.raises(OutputError, match=f"out: .*process {process.pid} on"):
        refuse_if_held(state, "out")
    assert describe(state) == f"process {process.pid} on {holder['host']}"
    assert process.stdin is not None
    process.stdin.close()
    while process.poll() is None:
        pass
    assert not holder_lives(state)
    refuse_if_held(state, "out")


@pytest.mark.parametrize(
    "change", [{"host": "elsewhere"}, {"boot_id": "another"}, {"started": "1"}, {"started": None}, {"pid": 2**30}]
)
def test_others_do_not_count(
    child: tuple[subprocess.Popen[str], dict[str, Any]], tmp_path: Path, change: dict[str, Any]
) -> None:
    assert not holder_lives(held_by({**child[1], **change}, tmp_path))


def test_a_start_does_not_stand_in_its_own_way(tmp_path: Path) -> None:
    state = held_by(this_process(), tmp_path)
    assert holder_lives(state)
    refuse_if_held(state, "out")


def test_nobody(tmp_path: Path) -> None:
    state = Log(LocalStore(str(tmp_path)), 1).state
    assert not holder_lives(state)
    assert describe(state) == "nobody holds it"


def test_a_finished_run_is_held_by_nobody(child: tuple[subprocess.Popen[str], dict[str, Any]], tmp_path: Path) -> None:
    log = Log(LocalStore(str(tmp_path)), 0)
    log.open(child[1])
    log.finalise()
    assert not holder_lives(log.state)
