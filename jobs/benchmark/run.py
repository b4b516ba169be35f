"""Measure cvbatch against its limits and its peers in one run, and write a dated report.

`make bench` measures everything; `python jobs/benchmark/run.py --only classification --images 300 --repeats 1` is a
quick check. A new measurement of a section replaces the one of the same day.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import gpus
from report import page, write_page
from sections import ALL_PEERS, MODELS, SECTIONS, Sizes

from cvbatch.system.cpu import cpu_has_bf16, processor_name
from cvbatch.system.versions import package_versions

_RESULTS = Path(__file__).resolve().parent / "results"


def main() -> None:
    """Run the sections and write `results/<date>-<cores>-cores.{json,md}`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS), help="sections to measure")
    parser.add_argument("--images", type=int, default=2_000, help="images of the classification section")
    parser.add_argument("--plan-rows", type=int, default=1_000_000, help="rows of the large plan")
    parser.add_argument("--rows", type=int, default=100_000, help="rows of the longest run of a trivial model")
    parser.add_argument("--peers", nargs="*", choices=ALL_PEERS, default=ALL_PEERS, help="peers to compare with")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS), help="models to measure")
    parser.add_argument("--repeats", type=int, default=3, help="repeats of each measurement")
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()) / "cvbatch-bench", help="images and outputs"
    )
    parser.add_argument("--results", type=Path, default=_RESULTS, help="folder of the reports")
    options = parser.parse_args()
    sizes = Sizes(
        folder=options.folder.resolve(),
        images=options.images,
        plan_rows=options.plan_rows,
        rows=options.rows,
        peers=tuple(options.peers),
        models=tuple(options.models),
        repeats=options.repeats,
    )
    about = _about()
    options.results.mkdir(exist_ok=True)
    figures = options.results / f"{about['date']}-{about['cores']}-cores{'-gpu' if about['gpu'] else ''}.json"
    report: dict[str, Any] = {}
    if figures.exists():
        report = json.loads(figures.read_text())
    commands = [*report.get("about", {}).get("commands", ()), f"python jobs/benchmark/run.py {' '.join(sys.argv[1:])}"]
    report["about"] = {**about, "commands": list(dict.fromkeys(commands))}
    for name in options.only:
        report[name] = report.get(name, {}) | SECTIONS[name](sizes)
        figures.write_text(json.dumps(report, indent=1) + "\n")
        write_page(figures)
    sys.stdout.write(page(report))


def _about() -> dict[str, Any]:
    return {
        "date": datetime.date.today().isoformat(),
        "processor": processor_name(),
        "bf16": cpu_has_bf16(),
        "gpu": gpus.names(),
        "cores": len(os.sched_getaffinity(0)),
        "versions": package_versions(),
    }


if __name__ == "__main__":
    main()
