"""Measure cvbatch against its limit and its peers in one run, and write a dated report.

`make bench` does everything, in about 20 minutes on two cores; `python jobs/benchmark/run.py --images 300` is a
quick look.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from images import make_images
from peers import PEERS

from cvbatch.versions import versions

_HERE = Path(__file__).resolve().parent
_RESULTS = _HERE / "results"
_MODEL = "resnet50"


def main() -> None:
    """Run all measurements and write `results/<date>-<cores>-cores.{json,md}`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--plan-rows", type=int, default=1_000_000)
    parser.add_argument("--memory-rows", type=int, default=200_000)
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "cvbatch-bench")
    options = parser.parse_args()
    folder: Path = options.folder.resolve()
    photos, few = folder / f"photos-{options.images}", folder / "photos-100"
    make_images(photos, options.images)
    make_images(few, 100)
    report = {"about": _about(), "images": options.images, **_measure(photos, few, folder, options)}
    _RESULTS.mkdir(exist_ok=True)
    name = f"{report['about']['date']}-{report['about']['cores']}-cores"
    (_RESULTS / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n")
    (_RESULTS / f"{name}.md").write_text(_markdown(report))
    sys.stdout.write(_markdown(report))


def _measure(photos: Path, few: Path, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    resnet = ("--model", _MODEL, "--set", "models.0.weights=null")
    precision = _cvbatch(few, folder / "out", *resnet)["precision"]
    before = _limits(photos, precision)
    started = _cvbatch(photos, folder / "out", *resnet)
    after = _limits(photos, precision)
    # the machine may be shared: what it can do is taken from both sides of the run that is held against it
    limits = {name: (before[name] + after[name]) / 2 for name in ("decode_per_core", "predict", "limit")}
    report: dict[str, Any] = {"limits": {**after, **limits}, "limits_measured": [before, after]}
    report |= {"cvbatch": started, "peers": {}}
    for peer in options.peers:
        began = time.monotonic()
        _python("peers.py", peer, photos, _fresh(folder / peer))
        report["peers"][peer] = options.images / (time.monotonic() - began)
    report["hundred_photos"] = _cvbatch(few, folder / "hundred", "--model", "efficientnet_lite0")
    report["first_block"] = json.loads(_python("scale.py", "first_block", folder, options.plan_rows).stdout)
    report["listing"] = json.loads(_python("scale.py", "listing", folder, options.plan_rows).stdout)
    report["memory"] = json.loads(_python("scale.py", "memory", folder, options.memory_rows).stdout)
    return report


def _limits(photos: Path, precision: str) -> dict[str, Any]:
    measured: dict[str, Any] = json.loads(_python("limits.py", photos, _MODEL, precision).stdout)
    return measured


def _cvbatch(photos: Path, output: Path, *arguments: str) -> dict[str, Any]:
    """One whole process, timed from outside.

    The steady rate is that between the first commit and the last one that came while others were still under way:
    at the very end nothing is under way any more, which would count work from before the first commit.
    """
    _fresh(output)
    began, began_at = time.monotonic(), time.time()
    command = [sys.executable, "-m", "cvbatch", "run", "--source", photos, "--output", output, *arguments, "--json"]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    seconds = time.monotonic() - began
    records = [json.loads(path.read_text()) for path in sorted((output / "_cvbatch" / "log").iterdir())]
    commits = [
        (record["time"], sum(high - low for file in record["files"] for low, high in file["ranges"]))
        for record in records
        if record["type"] == "commit"
    ]
    first, last = commits[0][0], commits[-1][0]
    inner = [(at, rows) for at, rows in commits if at < last - 1]
    steady = sum(rows for _, rows in inner[1:]) / (inner[-1][0] - first) if len(inner) > 1 else None
    run = json.loads((output / "_cvbatch" / "run.json").read_text())
    return {
        "seconds": seconds,
        "rate": sum(rows for _, rows in commits) / seconds,
        "seconds_to_first_commit": first - began_at,
        "steady_rate": steady,
        "precision": run["precision"],
        "pools": run["pools"],
        "stage_seconds": run["stage_seconds"],
    }


def _python(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [sys.executable, str(_HERE / script), *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment)


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def _about() -> dict[str, Any]:
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", cpuinfo)
    return {
        "date": datetime.date.today().isoformat(),
        "processor": model.group(1) if model else platform.processor(),
        "bf16": "avx512_bf16" in cpuinfo,
        "cores": len(os.sched_getaffinity(0)),
        "versions": versions(),
        "command": "python jobs/benchmark/run.py " + " ".join(sys.argv[1:]),
    }


def _markdown(report: dict[str, Any]) -> str:
    about, ours, limits, peers = report["about"], report["cvbatch"], report["limits"], report["peers"]
    memory = {int(rows): size for rows, size in report["memory"]["driver_megabytes_by_rows"].items()}
    hundred, first_block = report["hundred_photos"], report["first_block"]
    listing = report["listing"]
    early = min(memory, key=lambda rows: abs(rows - 20_000))
    lines = [
        f"# {report['images']:,} JPEGs of about 500×375, {_MODEL} with random weights, {about['date']}",
        "",
        f"{about['cores']} cores {about['processor']}"
        f"{' with AVX512-BF16' if about['bf16'] else ''}; "
        + ", ".join(f"{name} {version}" for name, version in about["versions"].items()),
        "",
        f"    {about['command']}",
        "",
        "| whole process, from the shell | images/s | cvbatch ÷ it |",
        "|---|---|---|",
        f"| cvbatch ({ours['precision']}) | {ours['rate']:.1f} | |",
        *(f"| {name} | {rate:.1f} | {ours['rate'] / rate:.1f} |" for name, rate in peers.items()),
        "",
        "| limit and steady rate | images/s |",
        "|---|---|",
        f"| decode alone, one core | {limits['decode_per_core']:.0f} |",
        f"| model alone, {limits['cores']} cores, {limits['precision']} | {limits['predict']:.1f} |",
        f"| limit: both share the cores | {limits['limit']:.1f} |",
        f"| cvbatch after its first commit | {ours['steady_rate']:.1f} |",
        f"| ratio | {ours['steady_rate'] / limits['limit']:.2f} |",
        "",
        "| start-up and growth | |",
        "|---|---|",
        f"| {_MODEL}: from the shell to the first commit | {ours['seconds_to_first_commit']:.1f} s |",
        f"| 100 photos, efficientnet_lite0: whole process | {hundred['seconds']:.1f} s |",
        f"| the same: from the shell to the first commit | {hundred['seconds_to_first_commit']:.1f} s |",
        f"| plan of {first_block['rows']:,} rows written after | {first_block['seconds_to_plan']:.1f} s |",
        f"| its first block committed after another | {first_block['seconds_from_plan_to_first_commit']:.1f} s |",
        f"| {listing['rows']:,} local files listed and planned in | {listing['seconds']:.1f} s |",
        f"| with at most | {listing['megabytes_at_most']:.0f} MB |",
        f"| memory of the driver after {early:,} rows | {memory[early]:.0f} MB |",
        f"| after {max(memory):,} rows | {memory[max(memory)]:.0f} MB |",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
