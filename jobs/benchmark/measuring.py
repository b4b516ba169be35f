"""Times whole processes from outside."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from gpus import Utilization

from cvbatch.output.store import open_store
from cvbatch.storage.location import Location

_HERE = Path(__file__).resolve().parent
_STEADY_COMMITS = 3
_SAMPLE_SECONDS = 10.0
"""One sample of a dozen processes takes a tenth of a second."""


@dataclass(frozen=True, slots=True)
class Timed:
    """Measurements of a process that has ended."""

    output: str
    seconds: float
    megabytes: float
    """Peak memory of the process with all its children; shared memory counts once."""


def timed(command: Sequence[object], environment: Mapping[str, str] | None = None) -> Timed:
    """Run a command to its end.

    Raises:
        subprocess.CalledProcessError: The command failed.
    """
    started, peak, ended = time.monotonic(), [0.0], threading.Event()
    words = [str(part) for part in command]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        watcher = threading.Thread(target=_watch, args=(process.pid, peak, ended))
        watcher.start()
        output, errors = process.communicate()
        seconds = time.monotonic() - started
        ended.set()
        watcher.join()
    if process.returncode:
        sys.stderr.write(errors)
        raise subprocess.CalledProcessError(process.returncode, words, output, errors)
    return Timed(output, seconds, peak[0])


def _watch(pid: int, peak: list[float], ended: threading.Event) -> None:
    while not ended.wait(_SAMPLE_SECONDS):
        try:
            root = psutil.Process(pid)
            processes = [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        peak[0] = max(peak[0], sum(map(_megabytes, processes)))


def _megabytes(process: psutil.Process) -> float:
    try:
        return float(process.memory_full_info().pss) / 1e6
    except psutil.Error:
        return 0.0


def cvbatch(photos: Path | str, output: Path | str, *arguments: str) -> dict[str, Any]:
    """Run cvbatch into a new output; an output in a bucket must be unused.

    The steady rate is measured between the first commit and the last commit before the final second. At the end no
    work is in progress any more, so the last commits would count work from before the first commit.
    """
    if isinstance(output, Path):
        fresh(output)
    start_time = time.time()
    with Utilization() as utilization:
        timing = _command("run", photos, output, *arguments)
    store = open_store(Location.from_uri(str(output)))
    records = [json.loads(store.read_object(name)) for name in sorted(store.list_sizes("_cvbatch/log"))]
    commits = [
        (record["time"], sum(high - low for file in record["files"] for low, high in file["ranges"]))
        for record in records
        if record["type"] == "commit"
    ]
    first, last = commits[0][0], commits[-1][0]
    inner = [(moment, rows) for moment, rows in commits if moment < last - 1]
    steady = sum(rows for _, rows in inner[1:]) / (inner[-1][0] - first) if len(inner) >= _STEADY_COMMITS else None
    run = json.loads(store.read_object("_cvbatch/run.json"))
    return {
        "seconds": timing.seconds,
        "megabytes": timing.megabytes,
        "rate": sum(rows for _, rows in commits) / timing.seconds,
        "seconds_to_first_commit": first - start_time,
        "steady_rate": steady,
        "gpu_busy": utilization.mean(first, inner[-1][0]) if inner else None,
        "setting": run["pools"]["setting"],
        "parity": run["parity"],
        "pools": run["pools"],
        "stage_seconds": run["stage_seconds"],
        "busy_shares": run["busy_shares"],
    }


def tune(source: Path, output: Path, *arguments: str) -> Any:
    """Let `cvbatch plan` search for the best setting, which the following runs use."""
    return json.loads(_command("plan", source, output, *arguments).output)


def _command(name: str, source: Path | str, output: Path | str, *arguments: str) -> Timed:
    """Run a command of cvbatch on a source."""
    return timed([sys.executable, "-m", "cvbatch", name, "--source", source, "--output", output, *arguments, "--json"])


def script(name: str, *arguments: object) -> Any:
    """Run one of the scripts beside this one; returns the JSON that it prints."""
    return json.loads(timed_script(name, *arguments).output.strip().rpartition("\n")[2])


def timed_script(name: str, *arguments: object) -> Timed:
    """Run one of the scripts beside this one."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return timed([sys.executable, _HERE / name, *arguments], environment)


def limits_around(
    photos: Path, model: str, setting: Any, count: int, work: Callable[[], dict[str, Any]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Measure the limits before and after some work, because the speed of a shared machine changes.

    Returns:
        The means of both measurements, and the result of the work.
    """
    before = script("limits.py", photos, model, json.dumps(setting), count)
    result = work()
    after = script("limits.py", photos, model, json.dumps(setting), count)
    means = {name: (before[name] + after[name]) / 2 for name in ("decode_per_core", "decode", "predict", "limit")}
    return {**after, **means, "measured": [before, after]}, result


def fresh(folder: Path) -> Path:
    """Remove a folder, if it exists; return its path."""
    shutil.rmtree(folder, ignore_errors=True)
    return folder
