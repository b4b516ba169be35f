"""The report as a Markdown page: medians, ratios and the other figures.

Text is in `notes` of the JSON; `python jobs/benchmark/report.py results/X.json` writes the page again from it.
"""

from __future__ import annotations

import itertools
import json
import math
import statistics
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from cvbatch.inference.settings import InferenceSettings


def page(report: dict[str, Any]) -> str:
    """Markdown of all sections that were measured."""
    about = report["about"]
    processor = f"{about['cores']} cores {about['processor']}{' with AVX512-BF16' if about['bf16'] else ''}"
    if about.get("gpu"):
        processor += f", {about['gpu']}"
    lines = [
        f"# Benchmark of {about['date']}",
        "",
        f"{processor}; " + ", ".join(f"{name} {version}" for name, version in about["versions"].items()),
        "",
        *(f"    {command}" for command in about["commands"]),
        "",
    ]
    for name, section in _SECTIONS.items():
        if name in report:
            lines += [*section(report[name]), ""]
    for note in report.get("notes", ()):
        lines += [note, ""]
    return "\n".join(lines)


def write_page(figures: Path) -> None:
    """Write the page beside its JSON file."""
    figures.with_suffix(".md").write_text(page(json.loads(figures.read_text())))


def _classification(results: dict[str, Any]) -> Iterable[str]:
    runs, limits = results["cvbatch"], results["limits"]
    yield f"## {results['images']:,} JPEGs of about 500×375, ResNet-50 with random weights; medians of {len(runs)}"
    yield from ("", "| whole process, from the shell | images/s | cvbatch ÷ it | memory, MB |", "|---|---|---|---|")
    yield f"| cvbatch ({_setting(runs)}) | {_median(runs, 'rate'):.1f} | | {_median(runs, 'megabytes'):,.0f} |"
    for peer, others in results["peers"].items():
        ratio = _ratio(runs, others, "rate")
        yield f"| {peer} | {_median(others, 'rate'):.1f} | {ratio:.1f} | {_median(others, 'megabytes'):,.0f} |"
    yield from ("", "| limit and steady rate | images/s |", "|---|---|")
    yield f"| decode alone, one core | {_median(limits, 'decode_per_core'):.0f} |"
    if "decode" in limits[0]:
        yield f"| decode alone, {limits[0]['cores']} cores | {_median(limits, 'decode'):.0f} |"
    yield f"| model alone, {limits[0]['cores']} cores, {limits[0]['setting']} | {_median(limits, 'predict'):.1f} |"
    yield f"| limit | {_median(limits, 'limit'):.1f} |"
    yield f"| cvbatch after its first commit | {_format_rate(_median(runs, 'steady_rate'))} |"
    yield f"| ratio | {_of_limits(runs, limits)} |"
    yield f"| from the shell to the first commit | {_median(runs, 'seconds_to_first_commit'):.1f} s |"
    if any(run.get("gpu_busy") for run in runs):
        yield f"| share of the time in which the GPU computed | {_median(runs, 'gpu_busy'):.0%} |"
    plan = results["plan"]
    yield from ("", f"Tried by `cvbatch plan` in {plan['tuning_seconds']:.0f} s; {plan['parity']['reason']}.", "")
    yield from ("| setting | images | decode, one core | alone | together |", "|---|---|---|---|---|")
    for candidate in plan["parity"]["candidates"]:
        rates = [f"{candidate['rates'].get(name, 0):.1f}" for name in ("decode_per_core", "predict", "together")]
        yield f"| {InferenceSettings(**candidate['setting'])} | {candidate['images']} | {' | '.join(rates)} |"


def _gpu_bound(results: dict[str, Any]) -> Iterable[str]:
    if not results:
        return
    runs, limits = results["cvbatch"], results["limits"]
    yield f"## The GPU as the bottleneck: {results['model']}, {results['images']:,} images, medians of {len(runs)}"
    yield from ("", "| | images/s |", "|---|---|")
    yield f"| decode alone, {limits[0]['cores']} cores | {_median(limits, 'decode'):.0f} |"
    yield f"| model alone, {limits[0]['setting']} | {_median(limits, 'predict'):.0f} |"
    yield f"| cvbatch after its first commit | {_format_rate(_median(runs, 'steady_rate'), 0)} |"
    yield f"| ratio to the lower limit | {_of_limits(runs, limits)} |"
    yield f"| share of the time in which the GPU computed | {_median(runs, 'gpu_busy'):.0%} |"


def _models(results: dict[str, Any]) -> Iterable[str]:
    times = len(next(iter(results.values()))["cvbatch"])
    yield from (f"## Other networks, images/s, medians of {times}", "")
    yield "| model | images | setting | decode, one core | alone | limit | cvbatch steady | ÷ limit | whole process |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for model, result in results.items():
        runs, limits = result["cvbatch"], result["limits"]
        yield (
            f"| {model} | {result['images']:,} | {_setting(runs)} | {_median(limits, 'decode_per_core'):.0f} "
            f"| {_median(limits, 'predict'):.2f} | {_median(limits, 'limit'):.2f} "
            f"| {_format_rate(_median(runs, 'steady_rate'), 2)} | {_of_limits(runs, limits)} "
            f"| {_median(runs, 'rate'):.2f} |"
        )


def _large(results: dict[str, Any]) -> Iterable[str]:
    yield f"## {results['images']:,} photos of 12 megapixels, ResNet-50 with random weights, images/s"
    yield from _compared(results, {"scaled": "scaled while decoding", "full": "decoded in full"})


def _mixed(results: dict[str, Any]) -> Iterable[str]:
    yield f"## {results['images']:,} photos of which a tenth is broken, efficientnet_lite0, rows/s"
    yield from _compared(results, {"mixed": "a tenth broken", "good": "none broken"})


def _compared(results: dict[str, Any], names: dict[str, str]) -> Iterable[str]:
    """Rows for two kinds of runs, and their ratio, first to second."""
    yield from ("", "| | whole process | steady | memory, MB |", "|---|---|---|---|")
    for name, words in names.items():
        runs = results[name]
        rates = f"{_median(runs, 'rate'):.1f} | {_format_rate(_median(runs, 'steady_rate'))}"
        yield f"| {words} | {rates} | {_median(runs, 'megabytes'):,.0f} |"
    ratios = [_format_rate(_ratio(*(results[name] for name in names), rate), 2) for rate in ("rate", "steady_rate")]
    yield f"| ratio | {' | '.join(ratios)} | |"


def _four_tasks(results: dict[str, Any]) -> Iterable[str]:
    together = results["together"]
    alone = {name: runs for name, runs in results.items() if name not in ("images", "together")}
    yield f"## Four tasks of efficientnet_lite0 on {results['images']:,} photos, medians of {len(together)}"
    yield from ("", "| | whole process | steady, images/s |", "|---|---|---|")
    for task, runs in alone.items():
        yield f"| {task} alone | {_median(runs, 'seconds'):.1f} s | {_format_rate(_median(runs, 'steady_rate'))} |"
    whole = [sum(run["seconds"] for run in runs) for runs in zip(*alone.values(), strict=True)]
    steady = 1 / sum(1 / _median(runs, "steady_rate") for runs in alone.values())
    yield f"| one after the other | {statistics.median(whole):.1f} s | {_format_rate(steady)} |"
    seconds, rate = _median(together, "seconds"), _median(together, "steady_rate")
    yield f"| in one pass | {seconds:.1f} s | {_format_rate(rate)} |"
    ratio = statistics.median(seconds / run["seconds"] for seconds, run in zip(whole, together, strict=True))
    yield f"| ratio | {ratio:.1f} | {_format_rate(rate / steady)} |"


def _growth(results: dict[str, Any]) -> Iterable[str]:
    hundred, first_block, listing = results["hundred_photos"], results["first_block"], results["listing"]
    yield from ("## Start-up and growth", "", "| | |", "|---|---|")
    yield f"| 100 photos, efficientnet_lite0: whole process | {hundred['seconds']:.1f} s |"
    yield f"| the same: from the shell to the first commit | {hundred['seconds_to_first_commit']:.1f} s |"
    yield f"| plan of {first_block['rows']:,} rows written after | {first_block['seconds_to_plan']:.1f} s |"
    yield f"| its first block committed after another | {first_block['seconds_from_plan_to_first_commit']:.1f} s |"
    yield f"| {listing['rows']:,} local files listed and planned in | {listing['seconds']:.1f} s |"
    yield f"| with at most | {listing['megabytes_at_most']:.0f} MB |"
    yield from ("", "With a model that costs nothing:", "")
    yield from (
        "| rows | seconds | rows/s | of them after the first commit | memory of the driver, MB |",
        "|---|---|---|---|---|",
    )
    for run in results["rows"]:
        memory = list(run["driver_megabytes_by_rows"].values())
        remaining_seconds = run["seconds"] - run["seconds_to_plan"] - run["seconds_from_plan_to_first_commit"]
        first = int(next(iter(run["driver_megabytes_by_rows"])))
        yield (
            f"| {run['rows']:,} | {run['seconds']:.1f} | {run['rows'] / run['seconds']:.0f} "
            f"| {(run['rows'] - first) / remaining_seconds:.0f} | {memory[0]:.0f}, at the end {memory[-1]:.0f} |"
        )


def _buckets(results: dict[str, Any]) -> Iterable[str]:
    fetching, disk, bucket, keys = (results[name] for name in ("fetching", "disk", "bucket", "keys_per_second"))
    yield f"## A bucket on the same two cores, {results['images']:,} photos"
    yield from ("", "| fetching alone | images/s | cvbatch ÷ it |", "|---|---|---|")
    for name, rate in fetching.items():
        yield f"| {name.replace('_', ' ')} | {rate:.0f} | {fetching['cvbatch'] / rate:.1f} |"
    yield from (
        "",
        f"Whole runs of efficientnet_lite0, each from a bucket between two from the disk, medians of {len(bucket)}:",
        "",
    )
    yield from ("| | whole process | steady | to the first commit |", "|---|---|---|---|")
    for name, runs in (("disk", disk), ("bucket", bucket)):
        rates = f"{_median(runs, 'rate'):.1f} | {_format_rate(_median(runs, 'steady_rate'))}"
        yield f"| {name} | {rates} | {_median(runs, 'seconds_to_first_commit'):.1f} s |"
    around = [{rate: _median(pair, rate) for rate in ("rate", "steady_rate")} for pair in itertools.pairwise(disk)]
    ratios = [_format_rate(_ratio(bucket, around, rate), 2) for rate in ("rate", "steady_rate")]
    yield f"| ratio | {' | '.join(ratios)} | |"
    serial, parallel = keys["server_alone_one_request"], keys["server_alone_16_requests"]
    yield from (
        "",
        f"{results['keys']:,} keys in 50 prefixes are listed at {keys['cvbatch']:,.0f} a second. To somebody",
    )
    yield f"who reads no page the server gives {serial:,.0f}, one by one, and {parallel:,.0f} to 16 requests at once."


def _nodes(results: dict[str, Any]) -> Iterable[str]:
    yield from ("## Logical nodes on this machine, a model that sleeps for 20 ms an image", "")
    yield from ("| nodes | images/s | of what the sleeping allows |", "|---|---|---|")
    for count, result in results.items():
        yield f"| {count} | {result['rate']:.0f} | {result['efficiency']:.0%} |"


_SECTIONS: dict[str, Callable[[dict[str, Any]], Iterable[str]]] = {
    "classification": _classification,
    "gpu_bound": _gpu_bound,
    "models": _models,
    "large": _large,
    "mixed": _mixed,
    "four_tasks": _four_tasks,
    "growth": _growth,
    "buckets": _buckets,
    "nodes": _nodes,
}


_NO_RATE = "too few commits"


def _setting(runs: list[dict[str, Any]]) -> InferenceSettings:
    return InferenceSettings(**runs[0]["setting"])


def _median(runs: Iterable[dict[str, Any]], name: str) -> float:
    """Median over the runs that have the figure: very short runs have no steady rate."""
    return statistics.median([run[name] for run in runs if run[name] is not None] or [math.nan])


def _format_rate(rate: float, digits: int = 1) -> str:
    """A rate or ratio as text; see `_median`."""
    return _NO_RATE if math.isnan(rate) else f"{rate:.{digits}f}"


def _ratio(runs: list[dict[str, Any]], others: list[dict[str, Any]], name: str) -> float:
    pairs = [(run[name], other_run[name]) for run, other_run in zip(runs, others, strict=True)]
    return statistics.median([first / second for first, second in pairs if first and second] or [math.nan])


def _of_limits(runs: list[dict[str, Any]], limits: list[dict[str, Any]]) -> str:
    """Median of the ratios of steady rates to their limits, and all these ratios."""
    ratios = [
        run["steady_rate"] / limit["limit"] for run, limit in zip(runs, limits, strict=True) if run["steady_rate"]
    ]
    if not ratios:
        return _NO_RATE
    return f"{statistics.median(ratios):.2f} ({', '.join(f'{ratio:.2f}' for ratio in ratios)})"


if __name__ == "__main__":
    write_page(Path(sys.argv[1]))
