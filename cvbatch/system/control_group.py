"""Limits of this process's control group, such as a container: memory, CPU time, and kills for memory.

Source: the kernel's admin guide, `cgroup-v2.rst` and `cgroup-v1/memory.rst`. Unreadable files count as no limit.
"""

from __future__ import annotations

import math
import os
import re
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path("/")
"""Root folder of the system's files."""
_NO_LIMIT: Final = 1 << 60
"""Version 1 expresses "no limit" as a number just below 2^63."""
_MOUNT_LINE: Final = re.compile(r"\S+ \S+ \S+ (\S+) (\S+) .* - (cgroup2?) \S+ (\S+)")
"""Root, mount point, kind and options of a line of `mountinfo` (proc(5))."""


def memory_limit(root: Path = ROOT) -> int | None:
    """Return the bytes that all processes of this control group may use together, without swap.

    None if there is no limit below the memory of the machine.

    Args:
        root: Root folder of the system's files.
    """
    limits = [
        limit
        for folder, name in _iter_group_folders(root, "memory", "memory.max", "memory.limit_in_bytes")
        if (limit := _read_limit_value(folder / name)) is not None and limit < _NO_LIMIT
    ]
    smallest = min(limits, default=None)
    return smallest if smallest is not None and smallest < _memory_info(root, "MemTotal") else None


def available_memory(root: Path = ROOT) -> int:
    """Return the bytes that this process can still use, without swap: of the machine, and within its control group.

    Of the group, only the memory of this process counts as used.

    Args:
        root: Root folder of the system's files.
    """
    free = _memory_info(root, "MemAvailable")
    limit = memory_limit(root)
    if limit is None:
        return free
    resident_pages = _read_system_file(root / "proc/self/statm").split()[1:2] or ["0"]
    return max(0, min(free, limit - int(resident_pages[0]) * os.sysconf("SC_PAGE_SIZE")))


def cpu_quota(root: Path = ROOT) -> float | None:
    """Return the CPU time that this control group gets, in CPUs; None if it is not limited."""
    quotas = []
    for folder, name in _iter_group_folders(root, "cpu", "cpu.max", "cpu.cfs_quota_us"):
        if name == "cpu.max":
            quota, _, period = _read_system_file(folder / name).partition(" ")
        else:
            quota, period = _read_system_file(folder / name), _read_system_file(folder / "cpu.cfs_period_us")
        if quota.isdecimal() and period.isdecimal() and int(period):
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def count_memory_kills(root: Path = ROOT) -> int:
    """Return the number of processes that the kernel killed because this control group had used up its memory.

    0 without a memory limit: the kills of the whole machine include those of all containers.
    """
    if memory_limit(root) is None:
        return 0
    for folder, name in _iter_group_folders(root, "memory", "memory.events", "memory.oom_control"):
        if (kill_count := re.search(r"^oom_kill (\d+)", _read_system_file(folder / name), re.M)) is not None:
            return int(kill_count[1])
    return 0


def has_group_oom_kill(root: Path = ROOT) -> bool:
    """Whether the kernel kills all processes of this control group together, as in Kubernetes."""
    return any(
        _read_system_file(folder / name) == "1"
        for folder, name in _iter_group_folders(root, "memory", "memory.oom.group", "")
    )


def address_space_limit() -> int | None:
    """Return the bytes that each process may map (`ulimit -v`); None if not limited."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else limit


def usable_cores(root: Path = ROOT) -> int:
    """Return the number of cores that this process may use: its CPU affinity, at most its CPU quota rounded up."""
    cores, quota = len(os.sched_getaffinity(0)), cpu_quota(root)
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def _iter_group_folders(root: Path, controller: str, v2_file: str, v1_file: str) -> Iterator[tuple[Path, str]]:
    """Yield folder and file name for each control group of this process, from the innermost to the outermost visible.

    Args:
        root: Root folder of the system's files.
        controller: Name of the controller, such as `memory`.
        v2_file: File to look for in version 2.
        v1_file: File to look for in version 1.
    """
    groups = [
        line.split(":", 2) for line in _read_system_file(root / "proc/self/cgroup").splitlines() if line.count(":") > 1
    ]
    for line in _read_system_file(root / "proc/self/mountinfo").splitlines():
        if (mount := _MOUNT_LINE.match(line)) is None:
            continue
        mounted_group, mount_path, kind, options = mount.groups()
        if kind == "cgroup" and controller not in options.split(","):
            continue
        name = v2_file if kind == "cgroup2" else v1_file
        wanted_controller = "" if kind == "cgroup2" else controller
        for _, controllers, path in groups:
            if wanted_controller not in controllers.split(","):
                continue
            # inside a container its own group may be mounted as the root, under the name that it has outside
            relative_path = (
                Path(path).relative_to(mounted_group) if Path(path).is_relative_to(mounted_group) else Path()
            )
            mount_point = root / mount_path.lstrip("/")
            for folder in (mount_point / relative_path, *(mount_point / relative_path).parents):
                if folder.is_relative_to(mount_point) and (folder / name).is_file():
                    yield folder, name


def _memory_info(root: Path, name: str) -> int:
    """A value of `meminfo` in bytes."""
    value = re.search(rf"^{name}:\s+(\d+) kB", _read_system_file(root / "proc/meminfo"), re.M)
    return int(value[1]) * 1024 if value else _NO_LIMIT


def _read_limit_value(path: Path) -> int | None:
    text = _read_system_file(path)
    return int(text) if text.isdecimal() else None


def _read_system_file(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
