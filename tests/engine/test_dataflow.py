"""How the stages depend on each other."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.conftest import Cvbatch, make_photo
from tests.rigs.web import Say, Web, answer

ROWS, UNIT_ROWS = 240, 8
MODEL = '''
"""Takes its time, once."""

import time
from pathlib import Path

import numpy as np

from cvbatch.images.preprocess import View


class Slow:
    task = "classification"
    view = View(resize=(8, 8))
    categories = ("one", "other")

    def __init__(self, begun):
        self.begun = Path(begun)

    def predict(self, images, sizes):
        if not self.begun.exists():
            self.begun.touch()
            time.sleep(5)
            self.begun.with_suffix(".over").touch()
        return np.zeros((len(images), 2))
'''


@pytest.mark.slow
def test_decoding_runs_ahead_only_as_far_as_planned(tmp_path: Path, web: Web, cvbatch_on_head: Cvbatch) -> None:
    (tmp_path / "slow.py").write_text(MODEL)
    photo = make_photo(tmp_path / "photo.jpg").read_bytes()
    begun, finished = tmp_path / "begun", tmp_path / "begun.over"
    early_requests = list[int]()

    def page(say: Say) -> None:
        # while the model loads there is no backpressure yet, so no more than two units are fetched
        while len(web.asked) > 2 * UNIT_ROWS and not begun.exists() and not web.closing.wait(0.01):
            pass
        if not finished.exists():
            early_requests.append(1)
        answer(photo)(say)

    web.pages = {f"/{number}.jpg": page for number in range(ROWS)}
    lines = [f"http://127.0.0.1:{web.port}/{number}.jpg" for number in range(ROWS)]
    (tmp_path / "list.csv").write_text("\n".join(["uri", *lines]) + "\n")
    (tmp_path / "job.yaml").write_text(
        textwrap.dedent(f"""
        source: {{uri: list.csv, http_hosts: ["127.0.0.1:{web.port}"], http_private: true}}
        models: [{{model: "python:slow:Slow", options: {{begun: {json.dumps(str(begun))}}}}}]
        compute: {{unit_rows: {UNIT_ROWS}}}
        output: {{uri: out}}
        """)
    )

    command = cvbatch_on_head("run", "job.yaml", "--json")

    assert command.code == 0, command.err
    assert command.json["ok"] == ROWS
    pools = json.loads((tmp_path / "out" / "_cvbatch" / "run.json").read_text())["pools"]
    planned = UNIT_ROWS * (2 * pools["units_in_flight"] * pools["num_actors"] + pools["decode_tasks"])
    assert planned < ROWS / 2
    assert len(early_requests) <= planned


def test_decode_processes_lower_their_priority_once() -> None:
    code = (
        "import os; from cvbatch.engine.dataflow import _lower_priority as lower; before = os.nice(0); "
        "lower(); lower(); print(os.nice(0) - before)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"10\n"
