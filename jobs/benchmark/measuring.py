"""Whole processes, timed from outside."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from cvbatch.storage.places import Place
from cvbatch.writing.store import open_store

_HERE = Path(__file__).resolve().parent
_STEADY_COMMITS = 3


def cvbatch(photos: Path | str, output: Path | str, *arguments: str) -> dict[str, Any]:
    """Run cvbatch into a fresh output; of a bucket it must be one that nobody has used.

    The steady rate is that between the first commit and the last one that came while others were still under way:
    at the very end nothing is under way any more, which would count work from before the first commit.
    """
    if isinstance(output, Path):
        fresh(output)
    began, began_at = time.monotonic(), time.time()
    _command("run", photos, output, *arguments)
    seconds = time.monotonic() - began
    store = open_store(Place.of(str(output)))
    records = [json.loads(store.read(name)) for name in sorted(store.sizes("_cvbatch/log"))]
    commits = [
        (record["time"], sum(high - low for file in record["files"] for low, high in file["ranges"]))
        for record in records
        if record["type"] == "commit"
    ]
    first, last = commits[0][0], commits[-1][0]
    inner = [(at, rows) for at, rows in commits if at < last - 1]
    steady = sum(rows for _, rows in inner[1:]) / (inner[-1][0] - first) if len(inner) >= _STEADY_COMMITS else None
    run = json.loads(store.read("_cvbatch/run.json"))
    return {
        "seconds": seconds,
        "rate": sum(rows for _, rows in commits) / seconds,
        "seconds_to_first_commit": first - began_at,
        "steady_rate": steady,
        "setting": run["pools"]["setting"],
        "parity": run["parity"],
        "pools": run["pools"],
        "stage_seconds": run["stage_seconds"],
        "busy_shares": run["busy_shares"],
    }


def tune(source: Path, output: Path, *arguments: str) -> Any:
    """Let `cvbatch plan` search for the best setting, which is kept for the runs that follow."""
    return _command("plan", source, output, *arguments)


def _command(name: str, source: Path | str, output: Path | str, *arguments: str) -> Any:
    """Run a command of cvbatch on a source; returns what it prints."""
    command = [sys.executable, "-m", "cvbatch", name, "--source", source, "--output", output, *arguments, "--json"]
    done = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def script(name: str, *arguments: object) -> Any:
    """Run one of the scripts beside this one; returns the JSON that it prints, or None."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [sys.executable, str(_HERE / name), *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    last = done.stdout.strip().rpartition("\n")[2]
    return json.loads(last) if last.startswith("{") else None


def limits_around(photos: Path, model: str, setting: Any, count: int, work: Any) -> tuple[dict[str, Any], Any]:
    """Measure the limits before and after some work.

    The machine may be shared, so what it can do is taken from both sides of what is held against it.
    """
    before = script("limits.py", photos, model, json.dumps(setting), count)
    done = work()
    after = script("limits.py", photos, model, json.dumps(setting), count)
    means = {name: (before[name] + after[name]) / 2 for name in ("decode_per_core", "predict", "limit")}
    return {**after, **means, "measured": [before, after]}, done


def fresh(folder: Path) -> Path:
    """Make sure that a folder is not there."""
    shutil.rmtree(folder, ignore_errors=True)
    return folder
