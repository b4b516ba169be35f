"""The report as a page: medians, ratios, and the figures that were asked for."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from typing import Any

from cvbatch.setting import Setting


def page(report: dict[str, Any]) -> str:
    """Markdown of all sections that were measured."""
    about = report["about"]
    processor = f"{about['cores']} cores {about['processor']}{' with AVX512-BF16' if about['bf16'] else ''}"
    lines = [
        f"# Benchmark of {about['date']}",
        "",
        f"{processor}; " + ", ".join(f"{name} {version}" for name, version in about["versions"].items()),
        "",
        f"    {about['command']}",
        "",
    ]
    for name, section in _SECTIONS.items():
        if name in report:
            lines += [*section(report[name]), ""]
    return "\n".join(lines)


def _classification(found: dict[str, Any]) -> Iterable[str]:
    runs, limits = found["cvbatch"], found["limits"]
    rate, steady = _median(runs, "rate"), _median(runs, "steady_rate")
    limit = _median(limits, "limit")
    ratios = [run["steady_rate"] / each["limit"] for run, each in zip(runs, limits, strict=True)]
    yield f"## {found['images']:,} JPEGs of about 500×375, ResNet-50 with random weights; medians of {len(runs)}"
    yield from ("", "| whole process, from the shell | images/s | cvbatch ÷ it |", "|---|---|---|")
    yield f"| cvbatch ({Setting(**runs[0]['setting'])}) | {rate:.1f} | |"
    for peer, rates in found["peers"].items():
        ratio = statistics.median(run["rate"] / each for run, each in zip(runs, rates, strict=True))
        yield f"| {peer} | {statistics.median(rates):.1f} | {ratio:.1f} |"
    yield from ("", "| limit and steady rate | images/s |", "|---|---|")
    yield f"| decode alone, one core | {_median(limits, 'decode_per_core'):.0f} |"
    yield f"| model alone, {limits[0]['cores']} cores, {limits[0]['setting']} | {_median(limits, 'predict'):.1f} |"
    yield f"| limit: both share the cores | {limit:.1f} |"
    yield f"| cvbatch after its first commit | {steady:.1f} |"
    yield f"| ratio | {statistics.median(ratios):.2f} ({', '.join(f'{ratio:.2f}' for ratio in ratios)}) |"
    yield f"| from the shell to the first commit | {_median(runs, 'seconds_to_first_commit'):.1f} s |"
    plan = found["plan"]
    yield from ("", f"Tried by `cvbatch plan` in {plan['tuning_seconds']:.0f} s; {plan['parity']['reason']}.", "")
    yield from ("| setting | images | decode, one core | alone | together |", "|---|---|---|---|---|")
    for each in plan["parity"]["candidates"]:
        rates = [f"{each['rates'].get(name, 0):.1f}" for name in ("decode_per_core", "predict", "together")]
        yield f"| {Setting(**each['setting'])} | {each['images']} | {' | '.join(rates)} |"


def _models(found: dict[str, Any]) -> Iterable[str]:
    yield from ("## Other networks, images/s", "")
    yield "| model | images | setting | decode, one core | alone | limit | cvbatch steady | ÷ limit | whole process |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for model, each in found.items():
        ours, limits = each["cvbatch"], each["limits"]
        steady = ours["steady_rate"]
        ratio = f"{steady:.2f} | {steady / limits['limit']:.2f}" if steady else "too few commits | "
        yield (
            f"| {model} | {each['images']:,} | {Setting(**ours['setting'])} | {limits['decode_per_core']:.0f} "
            f"| {limits['predict']:.2f} | {limits['limit']:.2f} | {ratio} | {ours['rate']:.2f} |"
        )


def _large(found: dict[str, Any]) -> Iterable[str]:
    scaled, full = found["scaled"], found["full"]
    yield f"## {found['images']:,} photos of 12 megapixels, ResNet-50 with random weights, images/s"
    yield from ("", "| | whole process | steady |", "|---|---|---|")
    for name, each in (("scaled while decoding", scaled), ("decoded in full", full)):
        yield f"| {name} | {each['rate']:.1f} | {each['steady_rate'] or 0:.1f} |"
    yield f"| ratio | {scaled['rate'] / full['rate']:.1f} | {(scaled['steady_rate'] or 0) / full['steady_rate']:.1f} |"


def _four_tasks(found: dict[str, Any]) -> Iterable[str]:
    alone, together = found["alone"], found["together"]
    yield f"## Four tasks of efficientnet_lite0 on {found['images']:,} photos"
    yield from ("", "| | whole process | steady |", "|---|---|---|")
    for task, each in alone.items():
        yield f"| {task} alone | {each['seconds']:.1f} s | {each['steady_rate'] or 0:.1f} images/s |"
    whole = sum(each["seconds"] for each in alone.values())
    steady = [each["steady_rate"] for each in alone.values()]
    summed = 1 / sum(1 / rate for rate in steady) if all(steady) else 0
    yield f"| one after the other | {whole:.1f} s | {summed:.1f} images/s |"
    yield f"| in one pass | {together['seconds']:.1f} s | {together['steady_rate'] or 0:.1f} images/s |"
    ratio = f"{together['steady_rate'] / summed:.1f}" if summed and together["steady_rate"] else ""
    yield f"| ratio | {whole / together['seconds']:.1f} | {ratio} |"


def _growth(found: dict[str, Any]) -> Iterable[str]:
    hundred, first_block, listing = found["hundred_photos"], found["first_block"], found["listing"]
    memory = {int(rows): size for rows, size in found["memory"]["driver_megabytes_by_rows"].items()}
    early = min(memory, key=lambda rows: abs(rows - 20_000))
    yield from ("## Start-up and growth", "", "| | |", "|---|---|")
    yield f"| 100 photos, efficientnet_lite0: whole process | {hundred['seconds']:.1f} s |"
    yield f"| the same: from the shell to the first commit | {hundred['seconds_to_first_commit']:.1f} s |"
    yield f"| plan of {first_block['rows']:,} rows written after | {first_block['seconds_to_plan']:.1f} s |"
    yield f"| its first block committed after another | {first_block['seconds_from_plan_to_first_commit']:.1f} s |"
    yield f"| {listing['rows']:,} local files listed and planned in | {listing['seconds']:.1f} s |"
    yield f"| with at most | {listing['megabytes_at_most']:.0f} MB |"
    yield f"| memory of the driver after {early:,} rows | {memory[early]:.0f} MB |"
    yield f"| after {max(memory):,} rows | {memory[max(memory)]:.0f} MB |"
    yield f"| those rows, with a model that costs nothing | {max(memory) / found['memory']['seconds']:.0f} images/s |"


def _buckets(found: dict[str, Any]) -> Iterable[str]:
    fetching, disk = found["fetching"], [found["disk"], found["disk_again"]]
    yield f"## A bucket on the same two cores, {found['images']:,} photos"
    yield from ("", "| fetching alone | images/s | cvbatch ÷ it |", "|---|---|---|")
    for name, each in fetching.items():
        yield f"| {name.replace('_', ' ')} | {each:.0f} | {fetching['cvbatch'] / each:.1f} |"
    yield from ("", "| whole runs, efficientnet_lite0 | whole process | steady |", "|---|---|---|")
    for name, each in (("disk", disk[0]), ("bucket", found["bucket"]), ("disk again", disk[1])):
        yield f"| {name} | {each['rate']:.1f} | {each['steady_rate'] or 0:.1f} |"
    ratio = 2 * found["bucket"]["rate"] / sum(each["rate"] for each in disk)
    yield f"| bucket ÷ disk | {ratio:.2f} | |"
    yield from ("", f"{found['keys']:,} keys in 50 prefixes are listed at {found['keys_per_second']:,.0f} a second.")


def _nodes(found: dict[str, Any]) -> Iterable[str]:
    yield from ("## Logical nodes on this machine, a model that sleeps for 20 ms an image", "")
    yield from ("| nodes | images/s | of what the sleeping allows |", "|---|---|---|")
    for count, each in found.items():
        yield f"| {count} | {each['rate']:.0f} | {each['efficiency']:.0%} |"


_SECTIONS: dict[str, Callable[[dict[str, Any]], Iterable[str]]] = {
    "classification": _classification,
    "models": _models,
    "large": _large,
    "four_tasks": _four_tasks,
    "growth": _growth,
    "buckets": _buckets,
    "nodes": _nodes,
}


def _median(runs: Iterable[dict[str, Any]], name: str) -> float:
    return statistics.median(run[name] for run in runs)
