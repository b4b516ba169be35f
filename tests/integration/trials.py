"""What the fault tests share: a job in a folder of its own, and its log, starts and processes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from PIL import Image

import cvbatch as api
from cvbatch.cli.parser import main
from cvbatch.output.store import open_store
from cvbatch.storage.location import Location
from tests.integration import faulty
from tests.integration.faulty import PLAIN, size_of

_PATIENCE_SECONDS = 240.0


def wait_until(condition: Callable[[], Any], what: str) -> None:
    """Look until something has happened."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.05)


@dataclass
class Start:
    """A command that is under way, or has ended."""

    process: subprocess.Popen[bytes]
    out_path: Path
    err_path: Path

    @property
    def code(self) -> int:
        """Its exit code, once it has ended."""
        return self.ended()

    def ended(self, patience: float = _PATIENCE_SECONDS) -> int:
        """Wait for its end; its exit code."""
        return self.process.wait(timeout=patience)

    @property
    def err(self) -> str:
        """What it said on standard error."""
        return self.err_path.read_text()

    @property
    def json(self) -> Any:
        """What it printed."""
        return json.loads(self.out_path.read_text())

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait()


class Trial:
    """Images, the model that fails on purpose, and the command line.

    Args:
        folder: An empty folder.
        address: Of a Ray head; without one each start has its own.
        output: Where the predictions go, if not into the folder.
    """

    def __init__(self, folder: Path, address: str | None, output: str | None = None) -> None:
        self.folder, self.address = folder, address
        self.output = output or str(folder / "out")
        self._starts = 0
        shutil.copy(faulty.__file__, folder)

    def photos(self, count: int, deeds: Mapping[int, int] = {}) -> None:
        """Write images; `deeds` says what happens to which."""
        (self.folder / "photos").mkdir()
        for number in range(count):
            image = Image.new("L", size_of(number, deeds.get(number, PLAIN)), number % 256)
            image.save(self.folder / "photos" / f"{number:05d}.png", compress_level=1)

    def job(
        self,
        *,
        source: str = "photos",
        compute: Mapping[str, Any] = {},
        greedy: Sequence[str] = (),
        **options: Any,
    ) -> None:
        """Write the job file.

        Args:
            source: Where the images are.
            compute: Of the job.
            greedy: Names of models that do not fit beside each other, in place of a single one.
            options: Of the model, or of all of them.
        """
        models = [{"model": "python:faulty:Faulty", "options": options}]
        if greedy:
            common = {"model": "python:faulty:Greedy", "task": "classification"}
            models = [{**common, "as": name, "options": {**options, "name": name}} for name in greedy]
        content = {
            "source": {"uri": source},
            "models": models,
            "compute": dict(compute),
            "output": {"uri": self.output},
        }
        (self.folder / "job.yaml").write_text(yaml.safe_dump(content))

    @contextlib.contextmanager
    def started(self, *arguments: str) -> Iterator[Start]:
        """Start `cvbatch run` on the job; it does not outlive the block."""
        self._starts += 1
        out, err = (self.folder / f"start-{self._starts}.{end}" for end in ("out", "err"))
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        if self.address is not None:
            environment["RAY_ADDRESS"] = self.address
        command = [sys.executable, "-m", "cvbatch", "run", "job.yaml", "--json", *arguments]
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=stdout, stderr=stderr)
        try:
            yield Start(process, out, err)
        finally:
            process.kill()
            process.wait()

    def run(self, *arguments: str, patience: float = _PATIENCE_SECONDS) -> Start:
        """`cvbatch run` on the job, to its end."""
        with self.started(*arguments) as start:
            start.ended(patience)
        return start

    def proven(self, rows: int) -> pd.DataFrame:
        """Have `cvbatch verify --deep` prove the run, and return its rows in the order of the images."""
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            code = main(["verify", self.output, "--deep", "--json"])
        verdict = json.loads(said.getvalue())
        assert (code, verdict["proven"], verdict["problems"], verdict["strays"]) == (0, True, [], [])
        frame = api.read(self.output)
        assert frame["row_id"].tolist() == list(range(rows))
        return frame

    def records(self, *kinds: str) -> list[dict[str, Any]]:
        """Records of the commit log, in order; of these types only."""
        store = open_store(Location.from_uri(self.output))
        found = [json.loads(store.read_object(name)) for name in sorted(store.list_sizes("_cvbatch/log"))]
        return [record for record in found if not kinds or record["type"] in kinds]

    def wait_for_commits(self, count: int = 1) -> None:
        """Until so many commits are in the log."""
        wait_until(lambda: len(self.records("commit")) >= count, f"{count} commits")


def failed(frame: pd.DataFrame) -> dict[int, str]:
    """Type of error by number of the image; the order of the names is that of the numbers."""
    wrong = frame[frame["status"] == "error"]
    return dict(zip(wrong["row_id"].tolist(), wrong["error_type"].tolist(), strict=True))


def one_line(start: Start) -> str:
    """The last words of a start, which must be its only ones but for the progress."""
    lines = start.err.splitlines()
    assert "Traceback" not in start.err
    (line,) = [line for line in lines if line.startswith("cvbatch: ")]
    assert line == lines[-1], start.err
    return line


def send(start: Start, number: signal.Signals) -> None:
    """Send a signal to a start, but not to what it has started."""
    os.kill(start.process.pid, number)
